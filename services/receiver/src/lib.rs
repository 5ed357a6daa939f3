//! Devices, their acknowledged positions, live streams.

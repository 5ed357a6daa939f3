//! Listeners, tried with real clients.

//! What is identical in all services: start, stop, settings, telemetry, token checks, errors.

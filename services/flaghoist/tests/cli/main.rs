//! The binary as a person or a script uses it: a real server on free ports, commands run as processes of their own, their
//! output and exit codes checked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod account;
mod admin;
mod browser;
mod check;
mod client;
mod pods;
mod server;
mod services;
mod smoke;
mod spans;
mod stage;
mod talk;
mod terminal;
mod tls;
mod traces;
mod usage;

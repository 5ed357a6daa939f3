//! Tests against real servers. Each promise of the design has one that is named after it (`promise_…`), as have the faults
//! that other systems met (`fault_…`) and the requests that must be refused (`case_…`).
//!
//! Tests that disturb nobody share one server; those that restart, kill or limit it start their own.

mod prelude;

mod accounts;
mod admin;
mod bounds;
mod contacts;
mod conversations;
mod deletion;
mod disk;
mod erasure;
mod forged;
mod grants;
mod growing;
mod limits;
mod lists;
mod oauth;
mod order;
mod others;
mod repetition;
mod resets;
mod restore;
mod revocation;
mod sidecar;
mod sign_in;
mod stopping;
mod streams;
mod tokens;
mod watermarks;
mod web;
mod well_signed;

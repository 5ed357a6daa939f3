//! Login through its generated clients, in the words of those who use it. Numbers are those of the cases that must be
//! refused or must work.

pub(crate) mod issuer;
mod key;
mod known_browsers;
pub(crate) mod others;
mod world;

mod account_contacts;
mod account_pages;
mod account_sessions;
mod accounts;
mod administration;
mod contacts;
mod erasure;
mod factors;
mod guessing;
mod history;
mod logins;
mod page_keys;
mod pages;
mod passwords;
mod pods;
mod public_issuer;
mod reset_pages;
mod resets;
mod security_keys;
mod signed_in;

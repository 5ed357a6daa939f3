//! Login through its generated clients, in the words of those who use it. Numbers are those of the cases that must be
//! refused or must work.

pub(crate) mod issuer;
mod world;

mod accounts;
mod administration;
mod contacts;
mod factors;
mod guessing;
mod history;
mod logins;
mod pages;
mod passwords;
mod pods;
mod resets;
mod security_keys;

//! Accounts and the factors that prove them.
mod account;
mod handle;
mod hashing;
mod invitation;
mod password;
mod throttle;

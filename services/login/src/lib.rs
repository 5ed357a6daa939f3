//! Accounts and the factors that prove them.

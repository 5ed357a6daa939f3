//! The service as its callers meet it: the generated clients, the real store, and a log in memory.

mod calls;
mod ends;
mod fake_log;
mod streams;
mod world;

//! The service as its callers meet it: the generated clients, the real store, and a log in memory.

mod calls;
mod disk;
mod ends;
mod fake_log;
mod pods;
mod streams;
mod subject;
mod world;

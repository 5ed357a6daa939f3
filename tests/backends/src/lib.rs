#![doc = include_str!("../README.md")]

mod find;
mod nats;
mod postgres;
mod process;

pub use find::{installed, left_out};
pub use nats::Nats;
pub use postgres::{Postgres, Stop};
pub use process::{Ending, Exit, Process};

/// Runs what blocks beside the runtime; a panic there is a panic here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A port of 127.0.0.1 that nobody had a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

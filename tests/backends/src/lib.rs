#![doc = include_str!("../README.md")]

mod citus;
mod disk;
mod envoy;
mod find;
mod link;
mod nats;
mod postgres;
mod process;

pub use citus::{Scan, Shards, statements_elsewhere};
pub use disk::SmallDisk;
pub use envoy::Envoy;
pub use find::{aloud, installed, left_out};
pub use link::Link;
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

/// A port of 127.0.0.1 that nobody had a moment ago. It is none of those that the system gives to outgoing connections, so that
/// a server that is stopped finds it free when it starts again.
fn free_port() -> u16 {
    let mut tries = 0;
    loop {
        let port = rand::random_range(10_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
        tries += 1;
        assert!(tries < 1_000, "127.0.0.1 has no free port");
    }
}

/// Between two looks at a server that is starting.
#[expect(clippy::disallowed_methods, reason = "it runs on a thread that may block")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(15));
}

//! The harness that starts real servers and speaks the words of the domain.
//!
//! A test reads as a story: a [`World`] is one running server with a data folder of its own, a [`Person`] is registered
//! and signed in over the real port, `alice.sends("hi").to(&bob)` sends, `bob.listens()` opens a stream. Whatever waits,
//! waits with [`eventually`]. The server's log is shown when a test fails.
//!
//! ```no_run
//! # async fn story() {
//! use flaghoist_tests::World;
//!
//! let world = World::start().await;
//! let (alice, bob) = (world.person("alice").await, world.person("bob").await);
//! let mut phone = bob.listens().await;
//! alice.sends("hi").to(&bob).await;
//! let event = phone.next_message("hi").await;
//! phone.ack(&event).await;
//! # }
//! ```
//!
//! The same crate holds what `make bench`, `make crash-test` and `make fuzz` run: [`bench`], [`crash`] and [`fuzz`].

mod binary;
mod calls;
mod check;
mod listening;
mod person;
mod server;
mod wait;
mod world;

pub mod bench;
pub mod crash;
pub mod forge;
pub mod fuzz;
pub mod http1;
pub mod syscalls;

pub use binary::{Profile, server_binary};
pub use calls::{Authorized, Bearer, Calls};
pub use check::{reason, refused, retry_after, violations};
pub use listening::{Listening, Opening, TIME_TO_ARRIVE};
pub use person::{Group, PASSWORD, Person, Recipient, Sending, cli_asks};
pub use server::{Exit, Server};
pub use wait::{eventually, eventually_within, skip};
pub use world::{World, WorldBuilder};

/// A new id for a request.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

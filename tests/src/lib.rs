#![doc = include_str!("../README.md")]

mod backup;
mod binary;
mod calls;
mod check;
mod cluster;
mod listening;
mod person;
mod server;
mod tool;
mod wait;
mod world;

pub mod bench;
pub mod crash;
pub mod fault;
pub mod forge;
pub mod fuzz;
pub mod http1;
pub mod letters;
pub mod mesh;
pub mod release;
pub mod syscalls;
pub mod talk;
pub mod upgrade;

pub use flaghoist_backends::{Exit, left_out as skip};

pub use backup::Backup;
pub use binary::{Profile, server_binary};
pub use calls::{Authorized, Bearer, Calls, RawCodec};
pub use check::{reason, refused, retry_after, violations};
pub use cluster::{Alone, Cluster, Pod, Service, Stores};
pub use listening::{Listening, Opening, TIME_TO_ARRIVE};
pub use person::{Group, PASSWORD, Person, Recipient, Sending, cli_asks};
pub use server::Server;
pub use tool::tool;
pub use wait::{eventually, eventually_within};
pub use world::{World, WorldBuilder, only_embedded};

/// A new id for a request.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Twelve random letters and digits, for names that nobody else in a shared world has.
pub fn unique() -> String {
    format!("{:012x}", rand::random::<u64>() >> 16)
}

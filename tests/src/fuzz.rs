//! Fuzzing without a special compiler: inputs are grown from valid ones by random changes and thrown at everything that
//! parses bytes from outside, in this process and over the ports of a real server.
//!
//! In this process a target must not panic, and must not accept what it would not have written itself. The server must
//! live on, must not have panicked, and must still answer a person.

mod local;
mod mutation;
mod remote;

use std::fmt;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::world::World;

/// How many inputs were tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    /// Access tokens.
    pub tokens: u64,
    /// Page tokens.
    pub page_tokens: u64,
    /// Resource names.
    pub names: u64,
    /// HTTP requests and forms.
    pub http: u64,
    /// Bytes and messages for the gRPC port.
    pub grpc: u64,
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, page_tokens, names, http, grpc } = self;
        write!(formatter, "{tokens} tokens, {page_tokens} page tokens, {names} names, {http} HTTP, {grpc} gRPC inputs")
    }
}

/// Tries inputs for so long.
///
/// # Errors
/// The input that broke something, with the seed.
pub async fn run(time: Duration, seed: u64) -> Result<Tried, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::builder().without_limits().start().await;
    let targets = local::Targets::new(&world).await;
    let remote = remote::Remote::new(&world).await;
    let mut tried = Tried::default();
    let began = Instant::now();
    while began.elapsed() < time {
        let outcome = async {
            targets.try_some(&mut random, &mut tried)?;
            remote.try_some(&mut random, &mut tried).await
        };
        outcome.await.map_err(|broken| format!("seed {seed}: {broken}"))?;
    }
    remote.check_alive().await.map_err(|broken| format!("seed {seed}: {broken}"))?;
    Ok(tried)
}

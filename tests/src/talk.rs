//! People who talk while somebody does something to what they talk through, wherever that runs.
//!
//! Promises 1 to 7 and 13 of the design are checked over everything that was answered and heard, as in the fault test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::crash::load::{self, Cast, Manner};
use crate::crash::{Book, Totals};
use crate::world::World;

/// How long people talk before it begins and after it is over.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);

/// Four people with two devices each, in two direct conversations and a group.
#[derive(Debug)]
pub struct Talk {
    cast: Cast,
    book: Arc<Book>,
    random: StdRng,
}

/// What may be seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Calls fail and streams break off; clients go on.
    Failures,
    /// Streams are told to go elsewhere, and nothing else: promise 13.
    Drains,
}

impl Talk {
    /// Registers the people.
    pub async fn begin(world: &World, seed: u64) -> Self {
        Self { cast: Cast::gather(world).await, book: Arc::default(), random: StdRng::seed_from_u64(seed) }
    }

    /// Lets them talk while `done` happens, repeats what got no answer, and compares what is stored with what was answered. How late
    /// the latest delivery on a live stream was.
    ///
    /// # Errors
    /// The first promise that was broken, or what `done` says.
    pub async fn during(
        &mut self,
        seen: Seen,
        done: impl Future<Output = Result<(), String>>,
    ) -> Result<Duration, String> {
        // Each time, so that no token grows old in between.
        self.cast.refresh_tokens().await?;
        let manner = Manner {
            senders_each: 1,
            pause_max: Duration::from_millis(400),
            goes_on: true,
            faults: seen == Seen::Failures,
            pre_stop: true,
        };
        let load = load::start(&self.cast, &self.book, manner, self.random.random());
        tokio::time::sleep(BEFORE).await;
        let _ = self.book.latest_delivery();
        let began = Instant::now();
        let outcome = done.await;
        tokio::time::sleep(AFTER).await;
        let late = self.book.latest_delivery();
        load.end().await?;
        outcome.map_err(|error| format!("after {:.0?}: {error}", began.elapsed()))?;
        load::repeat_unanswered(&self.cast, &self.book).await?;
        load::check_answered(&self.cast, &self.book).await?;
        Ok(late)
    }

    /// Lets every device hear everything, and a new one everything from the beginning.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub async fn end(mut self) -> Result<Totals, String> {
        load::listen_to_the_end(&mut self.cast, &self.book).await?;
        load::check_from_the_beginning(&mut self.cast, &self.book).await?;
        Ok(self.book.totals())
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        self.book.totals()
    }
}

//! The crash test: people send and listen, the server is killed with SIGKILL at random moments and started again, and
//! promises 1 to 6 of the design are checked over everything that was answered.
//!
//! What is checked is kept in a [`Book`]: every answer to a send, every event on every stream, every answered
//! acknowledgement, every watermark that anyone saw. A send whose answer was lost is repeated with the same `request_id`
//! after the restart, as a client would.

mod book;
pub(crate) mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub use book::{Book, Totals};

use crate::person::Person;
use crate::world::World;
use load::Cast;

/// As much as the server takes, until it dies.
const MANNER: load::Manner = load::Manner {
    senders_each: 6,
    pause_max: Duration::from_millis(4),
    goes_on: false,
    faults: true,
    pre_stop: false,
};

/// What a crash test does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the server is killed.
    pub rounds: u32,
    /// What the random decisions grow from.
    pub seed: u64,
    /// Whether a line is printed for every round.
    pub talkative: bool,
}

/// Runs the plan.
///
/// # Errors
/// The first promise that was broken, with the seed.
pub async fn run(plan: Plan) -> Result<Totals, String> {
    let world = World::builder().without_limits().start().await;
    let book = Arc::new(Book::default());
    let outcome = rounds(plan, &world, &book).await;
    outcome.map_err(|broken| format!("{broken}\n(seed {}; the server's log follows)\n{}", plan.seed, world.log()))
}

async fn rounds(plan: Plan, world: &World, book: &Arc<Book>) -> Result<Totals, String> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut cast = Cast::gather(world).await;
    let mut refreshed = Instant::now();
    for round in 1..=plan.rounds {
        if refreshed.elapsed() > Duration::from_secs(100) {
            cast.refresh_tokens().await?;
            refreshed = Instant::now();
        }
        let until_kill = Duration::from_millis(random.random_range(100..1_200));
        let load = load::start(&cast, book, MANNER, random.random());
        tokio::time::sleep(until_kill).await;
        world.kill().await;
        load.end().await?;
        world.start_again().await;
        load::repeat_unanswered(&cast, book).await?;
        // What is there grows, and reading all of it costs more and more: a long run does it every tenth time.
        if round <= 10 || round % 10 == 0 || round == plan.rounds {
            load::check_answered(&cast, book).await?;
        }
        book.broken()?;
        if plan.talkative {
            println!("round {round}: killed after {until_kill:?}; so far {}", book.totals());
        }
    }
    load::listen_to_the_end(&mut cast, book).await?;
    load::check_from_the_beginning(&mut cast, book).await?;
    book.broken()?;
    Ok(book.totals())
}

impl Cast {
    pub(crate) async fn gather(world: &World) -> Self {
        let mut people: Vec<Person> = Vec::new();
        for name in ["ann", "ben", "cem", "dora"] {
            people.push(world.person(name).await);
        }
        let [ann, ben, cem, dora] = &people[..] else { unreachable!("four were made") };
        let conversations = vec![
            (ann.direct(ben).await, vec![0, 1]),
            (cem.direct(dora).await, vec![2, 3]),
            (ann.creates_group("everybody", &[ben, cem, dora]).await.name, vec![0, 1, 2, 3]),
        ];
        Self { people, conversations }
    }

    pub(crate) async fn refresh_tokens(&mut self) -> Result<(), String> {
        for place in 0..self.people.len() {
            self.refresh_token(place).await?;
        }
        Ok(())
    }

    pub(crate) async fn refresh_token(&mut self, place: usize) -> Result<(), String> {
        let person = &mut self.people[place];
        person.refreshes().await.map_err(|error| format!("{} cannot refresh: {error:?}", person.handle))
    }
}

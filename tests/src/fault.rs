//! The fault test: a cluster under load meets, one after the other, what a cluster meets, and promises 1 to 7, 12 and 13 of the
//! design are checked over everything that was answered and heard.
//!
//! The seed decides the order of the faults, whom they hit and when. What is checked is kept in the [`Book`] of
//! the crash test; here people go on when something fails, as clients do.

mod kind;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::crash::load::{self, Cast, Manner};
use crate::crash::{Book, Totals};
use crate::world::World;
use kind::Effect;
pub use kind::Fault;
pub(crate) use kind::SETTLED;

/// How long people talk before a fault and after it.
const BEFORE: Duration = Duration::from_millis(700);
const AFTER: Duration = Duration::from_secs(2);

/// How late a delivery may be while the bus is away (promise 7), and what a busy machine may add to it.
const LATE_MAX: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_millis(1_500);

/// How old tokens may get; they live 300 s, and a round may take a minute.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(120);

/// What a fault test does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long faults are made. One whole set of them is made in any case.
    pub lasts: Duration,
    /// What the random decisions grow from.
    pub seed: u64,
    /// The one kind of fault that is made, if it is to be one.
    pub only: Option<Fault>,
    /// Whether a line is printed for every fault.
    pub talkative: bool,
}

/// Runs the plan; `None` when this machine lacks a part of the cluster, which was said then.
///
/// # Errors
/// The first promise that was broken, with the seed and the logs.
pub async fn run(plan: Plan) -> Option<Result<Totals, String>> {
    let builder = World::builder().own_postgres().without_limits();
    let world = match builder.start_cluster().await {
        Ok(world) => world?,
        Err(error) => return Some(Err(error)),
    };
    let book = Arc::new(Book::default());
    let outcome = faults(plan, &world, &book).await;
    Some(outcome.map_err(|broken| {
        let logs = world.log();
        format!("{broken}\n(seed {}; the logs follow)\n{logs}\nBROKEN: {broken}", plan.seed)
    }))
}

async fn faults(plan: Plan, world: &World, book: &Arc<Book>) -> Result<Totals, String> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut cast = Cast::gather(world).await;
    let (began, mut refreshed) = (Instant::now(), Instant::now());
    let mut round = 0;
    // Whole sets, so that every kind is met, in an order that is always another.
    while round == 0 || began.elapsed() < plan.lasts {
        let mut set = plan.only.map_or_else(|| Fault::ALL.to_vec(), |fault| vec![fault]);
        set.shuffle(&mut random);
        for fault in set {
            if refreshed.elapsed() > TOKEN_AGE_MAX {
                cast.refresh_tokens().await?;
                refreshed = Instant::now();
            }
            round += 1;
            let said = one(fault, &mut random, world, &cast, book)
                .await
                .map_err(|broken| format!("round {round}, {fault:?}: {broken}"))?;
            if round <= 20 || round % 10 == 0 {
                load::check_answered(&cast, book).await?;
            }
            if plan.talkative {
                println!(
                    "{:5} s, round {round}: {fault:?}, {said}; so far {}",
                    began.elapsed().as_secs(),
                    book.totals()
                );
            }
        }
    }
    cast.refresh_tokens().await?;
    load::check_answered(&cast, book).await?;
    load::listen_to_the_end(&mut cast, book).await?;
    load::check_from_the_beginning(&mut cast, book).await?;
    book.broken()?;
    Ok(book.totals())
}

/// One fault under load, and what must be so afterwards.
async fn one(
    fault: Fault,
    random: &mut StdRng,
    world: &World,
    cast: &Cast,
    book: &Arc<Book>,
) -> Result<String, String> {
    let manner = Manner {
        senders_each: 2,
        pause_max: Duration::from_millis(200),
        goes_on: true,
        faults: fault.effect() == Effect::Fails,
        pre_stop: false,
    };
    let load = load::start(cast, book, manner, random.random());
    tokio::time::sleep(BEFORE + random.random_range(Duration::ZERO..BEFORE)).await;
    let _ = book.latest_delivery();
    let said = fault.make(world, random).await?;
    tokio::time::sleep(AFTER).await;
    let late = book.latest_delivery();
    load.end().await?;
    if fault.effect() == Effect::Delays && late > LATE_MAX + BUSY {
        return Err(format!("promise 7: a delivery was {late:?} late, and only the bus was away"));
    }
    load::repeat_unanswered(cast, book).await?;
    book.broken()?;
    Ok(format!("{said}, latest delivery {late:.1?}"))
}

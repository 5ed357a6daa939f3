//! The upgrade test: a cluster of one version is brought to another one, a pod at a time, while people talk.
//!
//! For a while both versions run side by side on one database and call one another, and promises 1 to 6 are checked over everything
//! that was answered, as in the crash test. Before it goes on, one half goes back once: an operator may change their mind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::cluster::Cluster;
use crate::crash::load::{self, Cast, Manner};
use crate::crash::{Book, Totals};
use crate::person::Person;
use crate::world::World;

/// People go on when something fails, as clients do. That nothing does in a rolling restart is the fault test's to show.
const MANNER: Manner =
    Manner { senders_each: 1, pause_max: Duration::from_millis(200), goes_on: true, faults: true, pre_stop: false };

/// How long people talk when a step is made.
const SETTLED: Duration = Duration::from_secs(3);

/// How many sign-ins are made beside one another: with two pods of login and two of auth, each calls each.
const SIGN_INS: usize = 16;

/// What an upgrade test does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary that all pods run at first.
    pub old: PathBuf,
    /// The one that all run at the end.
    pub new: PathBuf,
    /// What the random decisions grow from.
    pub seed: u64,
}

/// Runs the plan; `None` when this machine lacks a part of the cluster, which was said then.
///
/// # Errors
/// The first promise that was broken, with the seed and the logs.
pub async fn run(plan: Plan) -> Option<Result<Totals, String>> {
    let world = match World::builder().program(&plan.old).without_limits().start_cluster().await {
        Ok(world) => world?,
        Err(error) => return Some(Err(error)),
    };
    let outcome = steps(&plan, &world).await;
    Some(outcome.map_err(|broken| {
        format!("{broken}\n(seed {}; the logs follow)\n{}\nBROKEN: {broken}", plan.seed, world.log())
    }))
}

async fn steps(plan: &Plan, world: &World) -> Result<Totals, String> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let book = Arc::new(Book::default());
    let mut cast = Cast::gather(world).await;
    // The second pod of every service, then its first one; half of it is taken back in between.
    let (old, new) = (plan.old.as_path(), plan.new.as_path());
    for (what, half, program) in [
        ("the old version beside itself", 1, old),
        ("the new version beside the old one", 1, new),
        ("the old version again, on tables of the new one", 1, old),
        ("the new version beside the old one again", 1, new),
        ("the new version alone", 0, new),
    ] {
        let step = async {
            let load = load::start(&cast, &book, MANNER, random.random());
            replace(world, half, program).await?;
            sign_ins(world, &cast).await?;
            tokio::time::sleep(SETTLED).await;
            load.end().await?;
            load::repeat_unanswered(&cast, &book).await?;
            load::check_answered(&cast, &book).await
        };
        step.await.map_err(|broken| format!("{what}: {broken}"))?;
        println!("{what}: {}", book.totals());
        cast.refresh_tokens().await?;
    }
    load::listen_to_the_end(&mut cast, &book).await?;
    load::check_from_the_beginning(&mut cast, &book).await?;
    book.broken()?;
    Ok(book.totals())
}

/// Stops one pod of each service in order and starts it again from `program`, one after the other.
async fn replace(world: &World, half: usize, program: &Path) -> Result<(), String> {
    for place in (0..cluster_of(world).pods().len()).filter(|place| place % 2 == half) {
        let program = program.to_owned();
        world.blocking(move |world| cluster_of(&world).replace(place, &program)).await?;
        tokio::time::sleep(crate::fault::SETTLED).await;
    }
    Ok(())
}

fn cluster_of(world: &World) -> &Cluster {
    world.cluster().expect("an upgrade test has a cluster")
}

/// People who were there before sign in, and somebody registers.
async fn sign_ins(world: &World, cast: &Cast) -> Result<(), String> {
    let people = cast.people.iter().cycle().take(SIGN_INS);
    let signed_in = people.map(|person| Person::try_sign_in(world, &person.handle, crate::PASSWORD));
    for answer in futures_util::future::join_all(signed_in).await {
        let mut person = answer.map_err(|error| format!("a sign-in failed: {error:?}"))?;
        person.refreshes().await.map_err(|error| format!("a refresh failed: {error:?}"))?;
    }
    world.person("new").await;
    Ok(())
}

//! Clusters that meet what happens to clusters: one whole set of faults (`make fault-test MINUTES=…` makes more), a database that is
//! taken back, a release beside the one before it.

mod point_in_time;
mod versions;

use std::time::Duration;

use flaghoist_tests::fault;
use tokio::sync::{Mutex, MutexGuard};

/// One after the other: a cluster is a dozen processes, and these tests look at how long things take.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_1_to_7_12_and_13_hold_while_a_cluster_meets_faults() {
    let _alone = alone().await;
    let seed = rand::random();
    println!("seed {seed}");
    match fault::run(fault::Plan { lasts: Duration::ZERO, seed, only: None, talkative: true }).await {
        None => {}
        Some(Ok(totals)) => println!("{totals}"),
        Some(Err(broken)) => panic!("{broken}"),
    }
}

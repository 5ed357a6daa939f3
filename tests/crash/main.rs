//! The crash test, ten rounds of it; `make crash-test ROUNDS=…` runs more.

use flaghoist_tests::crash;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_1_to_6_hold_when_the_server_is_killed_at_random_moments() {
    let seed = rand::random();
    println!("seed {seed}");
    match crash::run(crash::Plan { rounds: 10, seed, talkative: false }).await {
        Ok(totals) => println!("{totals}"),
        Err(broken) => panic!("{broken}"),
    }
}

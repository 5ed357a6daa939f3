//! The newest release and what is here now as pods of one cluster, on one database.

use flaghoist_tests::release::Release;
use flaghoist_tests::{Profile, server_binary, skip, upgrade};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_1_to_6_hold_while_the_release_before_runs_beside_this_version() {
    let test = "the release before beside this version";
    let Some(release) = Release::needed_by(test) else { return };
    let Some(old) = release.binary() else {
        return skip(test, &format!("{release} was not built; `make release-before` does that"));
    };
    let new = tokio::task::spawn_blocking(|| server_binary(Profile::Same)).await.expect("the server builds");
    let _alone = super::alone().await;
    let seed = rand::random();
    println!("{release} beside {}, seed {seed}", new.display());
    match upgrade::run(upgrade::Plan { old, new: new.to_owned(), seed }).await {
        None => {}
        Some(Ok(totals)) => println!("{totals}"),
        Some(Err(broken)) => panic!("{broken}"),
    }
}

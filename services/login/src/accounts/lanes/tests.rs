use super::*;
use crate::store::sqlite::SqliteStore;

async fn lanes() -> (tempfile::TempDir, Lanes) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("login.db")).await.unwrap();
    (folder, Lanes::new(Arc::new(store)))
}

fn someone() -> UserId {
    UserId(Uuid::now_v7())
}

#[tokio::test]
async fn one_call_at_a_time_is_in_a_lane() {
    let (_folder, lanes) = lanes().await;
    let user = someone();
    let lane = lanes.enter(user).await.unwrap();
    assert!(lanes.try_enter(user).await.unwrap().is_none());
    let next = tokio::spawn({
        let lanes = lanes.clone();
        async move { lanes.enter(user).await.map(|_lane| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!next.is_finished());
    lane.leave().await;
    next.await.unwrap().unwrap();
    // The next one was dropped, not left; it is free all the same.
    lanes.enter(user).await.unwrap().leave().await;
}

#[tokio::test]
async fn a_lane_of_another_pod_is_waited_for() {
    let (_folder, lanes) = lanes().await;
    let (user, elsewhere) = (someone(), Holder(Uuid::now_v7()));
    assert!(lanes.store.take_lane(user, elsewhere, HOLD).await.unwrap());
    assert!(lanes.try_enter(user).await.unwrap().is_none());
    let entered = tokio::spawn({
        let lanes = lanes.clone();
        async move { lanes.enter(user).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!entered.is_finished());
    lanes.store.leave_lane(user, elsewhere).await.unwrap();
    let mut lane = entered.await.unwrap().unwrap();
    lane.hold().await.unwrap();
    // Frozen for longer than the lane was held, and another has it by now.
    lane.held_since = Instant::now() - HOLD;
    lanes.store.leave_lane(user, lane.holder).await.unwrap();
    assert!(lanes.store.take_lane(user, elsewhere, HOLD).await.unwrap());
    assert!(matches!(lane.hold().await, Err(Error::Busy)));
    drop(lane);
    assert!(lanes.store.keep_lane(user, elsewhere, HOLD).await.unwrap(), "nobody else leaves it");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_lane_behind() {
    let (_folder, lanes) = lanes().await;
    let user = someone();
    for _ in 0..50 {
        let entering = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.enter(user).await }
        });
        tokio::task::yield_now().await;
        entering.abort();
        let _gone = entering.await;
    }
    lanes.enter(user).await.unwrap().leave().await;
}

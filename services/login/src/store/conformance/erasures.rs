//! What every store must do with the deletions of accounts.

use super::*;
use crate::store::erasures::{BEGINNING_MS, Step};

pub(crate) async fn an_erasure_is_worked_on_by_one_and_moved_on_once(world: World) {
    let pods = world.pods().await;
    let (alice, bob) = (register(&*pods[0], "alice").await, register(&*pods[0], "bob").await);
    pods[0].begin_erasure(bob, NOW).await.unwrap();
    assert_eq!(pods[0].erasure_of(bob).await.unwrap(), None, "nobody asked for it");
    pods[0].begin_deletion(alice, NOW).await.unwrap();
    pods[1].begin_erasure(alice, NOW + 1).await.unwrap();
    let begun = pods[1].erasure_of(alice).await.unwrap().unwrap();
    assert_eq!((begun.created_at, begun.step, begun.revision), (NOW, Step::CountSessions, 1));
    // It is left to the call that has begun it for a while; then one of many gets it, and holds it.
    assert_eq!(pods[0].claim_erasure(NOW, NOW + 100).await.unwrap(), None);
    let due = NOW + BEGINNING_MS;
    let claims = pods.iter().cycle().take(8).map(|pod| pod.claim_erasure(due, due + 100));
    let claimed = futures_util::future::try_join_all(claims).await.unwrap();
    let claimed: Vec<_> = claimed.into_iter().flatten().collect();
    assert_eq!(claimed, std::slice::from_ref(&begun));
    assert_eq!(pods[1].claim_erasure(due + 99, due + 999).await.unwrap(), None);
    assert!(pods[1].claim_erasure(due + 100, due + 200).await.unwrap().is_some(), "who died does not hold it for ever");
    // Of many who have done the same step one counts it.
    let mut moved = begun.clone();
    moved.step = moved.step.next();
    moved.step_token = "there".into();
    moved.counts.insert("auth.sessions".into(), 3);
    moved.signed_out_at = Some(NOW + 5);
    let moves = pods.iter().cycle().take(8).map(|pod| pod.advance_erasure(&moved, 0));
    let done = futures_util::future::try_join_all(moves).await.unwrap();
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    moved.revision += 1;
    assert_eq!(pods[1].erasure_of(alice).await.unwrap(), Some(moved.clone()));
    // What is finished belongs to nobody, and is forgotten in the end.
    let finished =
        crate::store::erasures::Erasure { user: None, finished_at: Some(NOW + 9), step: Step::Done, ..moved };
    assert!(pods[0].advance_erasure(&finished, 0).await.unwrap());
    assert_eq!(pods[1].erasure_of(alice).await.unwrap(), None);
    assert_eq!(pods[1].claim_erasure(i64::MAX / 2, i64::MAX / 2).await.unwrap(), None);
    let kept = crate::store::erasures::Erasure { revision: finished.revision + 1, ..finished };
    assert_eq!(pods[1].erasure(kept.id).await.unwrap(), Some(kept.clone()));
    pods[0].begin_deletion(bob, NOW).await.unwrap();
    let newest = pods[1].erasures(Uuid::max(), 1).await.unwrap();
    assert_eq!(newest.iter().map(|erasure| erasure.user).collect::<Vec<_>>(), [Some(bob)]);
    assert_eq!(pods[1].erasures(newest[0].id, 9).await.unwrap(), std::slice::from_ref(&kept));
    pods[0].forget_erasures(NOW + 9).await.unwrap();
    assert!(pods[1].erasure(kept.id).await.unwrap().is_some());
    pods[0].forget_erasures(NOW + 10).await.unwrap();
    assert_eq!(pods[1].erasure(kept.id).await.unwrap(), None);
    assert_eq!(pods[1].erasures(Uuid::max(), 9).await.unwrap().len(), 1, "what is under way stays");
}

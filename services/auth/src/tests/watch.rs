//! Revocations as the services watch them.

use flaghoist_proto::auth::v1::watch_revocations_response::Target;
use tonic::Streaming;

use super::*;

/// The next revocation; signs of life are passed over.
async fn next(watch: &mut Streaming<WatchRevocationsResponse>) -> WatchRevocationsResponse {
    let found = async {
        loop {
            let message = watch.message().await.unwrap().expect("the stream goes on");
            if message.target.is_some() {
                return message;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("it comes within 5 seconds")
}

async fn watch(world: &World, since: Option<prost_types::Timestamp>) -> Streaming<WatchRevocationsResponse> {
    let request = WatchRevocationsRequest { since_time: since };
    world.verification().watch_revocations(request).await.unwrap().into_inner()
}

fn session_in(target: Option<Target>) -> String {
    match target {
        Some(Target::Session(session)) => session,
        other => panic!("not a session: {other:?}"),
    }
}

#[tokio::test]
async fn a_revocation_reaches_its_watchers_live_and_later() {
    let world = World::new().await;
    let mut live = watch(&world, None).await;
    let user = somebody();
    let (one, tokens) = world.sign_in(user).await;
    world.revoke(cli(), &tokens.refresh_token).await.unwrap();
    let seen = next(&mut live).await;
    assert!(one.name.ends_with(&session_in(seen.target.clone())));
    let (two, tokens) = world.sign_in(user).await;
    world.sessions(&tokens.access_token).revoke_session(RevokeSessionRequest { name: two.name.clone() }).await.unwrap();
    assert!(two.name.ends_with(&session_in(next(&mut live).await.target)));
    // One that resumes where it was sees the last minute again, so nothing falls into the gap.
    let mut resumed = watch(&world, seen.revoke_time).await;
    assert_eq!(next(&mut resumed).await, seen);
    assert!(two.name.ends_with(&session_in(next(&mut resumed).await.target)));
    let far = prost_types::Timestamp { seconds: seen.revoke_time.unwrap().seconds + 3600, nanos: 0 };
    let mut later = watch(&world, Some(far)).await;
    assert_eq!(later.message().await.unwrap(), Some(WatchRevocationsResponse::default()), "nothing but a sign of life");
}

#[tokio::test]
async fn a_revocation_nobody_told_the_feed_about_is_sent_all_the_same() {
    let world = World::new().await;
    let mut live = watch(&world, None).await;
    let target = flaghoist_runtime::token::RevocationTarget::Subject("bot".into());
    world.issuer.store.revoke(&target, None, world.clock.now()).await.unwrap();
    assert_eq!(next(&mut live).await.target, Some(Target::Subject("bot".into())));
}

#[tokio::test]
async fn a_revocation_is_repeated_after_a_restart() {
    let mut world = World::new().await;
    let (session, tokens) = world.sign_in(somebody()).await;
    world.revoke(cli(), &tokens.refresh_token).await.unwrap();
    world = world.restarted().await;
    let mut watch = watch(&world, None).await;
    assert!(session.name.ends_with(&session_in(next(&mut watch).await.target)));
}

#[tokio::test]
async fn a_watch_ends_with_the_drain() {
    let world = World::new().await;
    let mut watch = watch(&world, None).await;
    world.trigger.start();
    let ended = async { while watch.message().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
}

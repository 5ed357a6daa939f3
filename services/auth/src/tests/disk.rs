//! A full disk: what cannot be stored is not answered, and the issuer goes on when there is space again.

use flaghoist_backends::SmallDisk;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_01_on_a_full_disk_nothing_is_answered_that_is_not_stored() {
    let Some(disk) = SmallDisk::mount("a full disk under auth", 4) else { return };
    let mut world = World::at(Place::new(disk.folder()), None, Settings::default(), Clock::default()).await;
    let user = somebody();
    let (_, mut good) = world.sign_in(user).await;
    let (gone_session, gone) = world.sign_in(user).await;
    let mut answered = Vec::new();
    disk.fill();
    // What the log has in reserve still takes a few.
    let mut unavailable = 0;
    for _ in 0..5000 {
        match world.try_sign_in(somebody(), "flaghoist-cli", &["chat.read"]).await {
            Ok((_, tokens)) => answered.push(tokens),
            Err(status) => {
                let reason = reason_of(&status);
                assert_eq!((status.code(), reason), (Code::Unavailable, Some(Reason::Unavailable)), "{status:?}");
                unavailable += 1;
            }
        }
        if unavailable == 10 {
            break;
        }
    }
    assert_eq!(unavailable, 10, "the disk never got full");
    let full = (Code::Unavailable, Reason::Unavailable);
    // A refresh is small: the last pages may be enough for one.
    while let Ok(tokens) = world.refresh(&good.refresh_token).await {
        good = tokens;
    }
    refused(world.refresh(&good.refresh_token).await, full.0, full.1);
    refused(world.revoke(cli(), &gone.refresh_token).await, full.0, full.1);
    world.context.verifier.verify(&gone.access_token).expect("what is not stored is not done either");
    let state = SetSubjectStateRequest { user: user.name(), enabled: false, ..Default::default() };
    refused(world.subjects().set_subject_state(state).await, full.0, full.1);
    // Reading goes on.
    let listed = world.sessions(&good.access_token).list_sessions(ListSessionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().sessions.len(), 2);

    disk.free();
    eventually("refreshes are answered again", Duration::from_secs(20), async || {
        match world.refresh(&good.refresh_token).await {
            Ok(tokens) => {
                good = tokens;
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
    world.revoke(cli(), &gone.refresh_token).await.unwrap();
    world = world.restarted().await;
    for tokens in answered.iter().chain([&good]) {
        world.refresh(&tokens.refresh_token).await.expect("what was answered is stored");
    }
    refused(world.refresh(&gone.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    assert!(!gone_session.name.is_empty());
}

//! What a device is told over gRPC.

use super::*;

#[tokio::test]
async fn case_53_and_54_a_device_is_told_over_grpc_where_it_stands() {
    let world = World::new().await;
    let registration = Registration { grant_types: vec![GRANT.into()], ..Registration::default() };
    world.app("tv", false, registration).await;
    let tv = || credentials("tv", "");
    let codes = world.begins("tv", "openid profile").await;
    let code = codes.device_code.as_str();
    refused(world.polls(tv(), code).await, Code::FailedPrecondition, Reason::AuthorizationPending);
    refused(world.polls(tv(), code).await, Code::ResourceExhausted, Reason::SlowDown);
    // Who has been too fast waits longer, and is told nothing worse then.
    let interval = codes.interval.unwrap().seconds.unsigned_abs();
    world.wait(Duration::from_secs(2 * interval));
    refused(world.polls(tv(), code).await, Code::FailedPrecondition, Reason::AuthorizationPending);
    // A code of another client is as unknown as one that nobody was given.
    refused(world.polls(cli(), code).await, Code::Unauthenticated, Reason::GrantInvalid);
    for unknown in ["garbage", &codes.user_code, &code[..code.len() - 1]] {
        refused(world.polls(tv(), unknown).await, Code::Unauthenticated, Reason::GrantInvalid);
    }

    let mut browser = Browser::default();
    let question = browser.asked_about(&world, &codes.user_code, somebody()).await;
    assert!(browser.answers(&world, &question, "deny").await.body.contains("was not connected"));
    refused(world.polls(tv(), code).await, Code::PermissionDenied, Reason::AuthorizationDenied);
    // No answer comes later than that.
    refused(world.polls(cli(), code).await, Code::Unauthenticated, Reason::GrantInvalid);

    let late = world.begins("tv", "openid").await;
    world.wait(Duration::from_secs(601));
    refused(world.polls(tv(), &late.device_code).await, Code::Unauthenticated, Reason::DeviceCodeExpired);
}

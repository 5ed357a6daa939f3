//! A PostgreSQL that was taken back to an earlier moment keeps the identity that it had, and so do all stores in it: nobody can tell
//! that from a failover that lost nothing. So an operator has to say it; what holds then.

use flaghoist_proto::receiver::v1::ResetReason;
use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_tests::{World, request_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_2_3_and_12_hold_after_a_recovery_to_a_point_in_time_that_the_operator_has_told() {
    let _alone = super::alone().await;
    let builder = World::builder().own_postgres().without_limits();
    let Some(world) = builder.start_cluster().await.expect("the cluster comes up") else { return };
    let postgres = world.cluster().expect("it is one").postgres();
    world.stop().await;
    postgres.begin_archive().await;
    world.start_again().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    postgres.base_backup().await;
    let (kept, mut phone) = (request_id(), bob.listens().await);
    alice.sends("kept").request_id(&kept).to(&conversation).await;
    let event = phone.next_message("kept").await;
    phone.ack(&event).await;
    postgres.name_moment("kept").await;
    alice.sends("lost").to(&conversation).await;
    let lost = phone.next_message("lost").await;
    phone.ack(&lost).await;
    drop(phone);
    world.stop().await;
    postgres.recover("kept").await;

    // The server's number is still the one that `initdb` gave it, and what the receiver knows went back with the log.
    world.start_again().await;
    assert_eq!(alice.sees(&conversation).await.epoch, lost.epoch);
    assert!(matches!(bob.listens().await.next().await, Ok(Heard::CaughtUp(_))));

    world.stop().await;
    let said = world.command(&["admin", "restored"]).await.expect("nobody uses the store");
    assert!(said.contains("new epoch"), "{said}");
    world.start_again().await;
    let seen = alice.sees(&conversation).await;
    assert_ne!(seen.epoch, lost.epoch);
    assert_eq!(seen.last_seq, 2);
    assert!(alice.sends("kept").request_id(&kept).to(&conversation).await.deduplicated);
    // It has the number of what bob once had: the epoch tells them apart.
    let new = alice.sends("new").to(&conversation).await.message.expect("sent");
    assert_eq!(new.name, format!("{conversation}/messages/{}", lost.seq));
    let mut phone = bob.listens().await;
    match phone.next().await {
        Ok(Heard::Reset(reset)) => assert_eq!(reset.reason(), ResetReason::Epoch),
        other => panic!("{other:?}"),
    }
    let events = phone.until_caught_up().await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

//! A PostgreSQL that was taken back to an earlier moment keeps the identity that it had. What flaghoist notices of that by itself,
//! and what an operator has to say.

use flaghoist_proto::receiver::v1::ResetReason;
use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_proto::send::v1::Event;
use flaghoist_tests::{Listening, World, request_id};

/// The stream begins with a reset for this reason, then comes all that there is.
async fn starts_again(stream: &mut Listening, reason: ResetReason) -> Vec<Event> {
    match stream.next().await {
        Ok(Heard::Reset(reset)) => assert_eq!(reset.reason(), reason),
        other => panic!("{other:?}"),
    }
    stream.until_caught_up().await
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_2_3_and_12_hold_after_a_recovery_to_a_point_in_time_that_the_operator_has_told() {
    let builder = World::builder().own_postgres().without_limits();
    let Some(world) = builder.start_cluster().await.expect("the cluster comes up") else { return };
    let postgres = world.cluster().expect("it is one").postgres();
    postgres.begin_archive().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    postgres.base_backup().await;
    let kept = request_id();
    alice.sends("kept").request_id(&kept).to(&conversation).await;
    postgres.name_moment("kept").await;
    alice.sends("lost").to(&conversation).await;
    let mut phone = bob.listens().await;
    let last = phone.next_message("lost").await;
    phone.ack(&last).await;
    drop(phone);
    world.stop().await;
    postgres.recover("kept").await;

    // The server's number is still the one that `initdb` gave it: nobody can tell this from a failover that lost nothing.
    world.start_again().await;
    assert_eq!(alice.sees(&conversation).await.epoch, last.epoch);
    // Only who is further than the log notices.
    let mut phone = bob.listens().await;
    let events = starts_again(&mut phone, ResetReason::BeyondHead).await;
    assert_eq!(seqs(&events), [1, 2]);
    phone.ack(&events[1]).await;
    drop(phone);

    world.stop().await;
    let said = world.command(&["admin", "restored"]).await.expect("nobody uses the store");
    assert!(said.contains("new epoch"), "{said}");
    world.start_again().await;
    let seen = alice.sees(&conversation).await;
    assert_ne!(seen.epoch, last.epoch);
    assert_eq!(seen.last_seq, 2);
    assert!(alice.sends("kept").request_id(&kept).to(&conversation).await.deduplicated);
    // It has the number of what bob once had: the epoch tells them apart.
    let new = alice.sends("new").to(&conversation).await.message.expect("sent");
    assert_eq!(new.name, format!("{conversation}/messages/{}", last.seq));
    let events = starts_again(&mut bob.listens().await, ResetReason::Epoch).await;
    assert_eq!(seqs(&events), [1, 2, 3]);
}

//! A backup that was put back: promises 2, 3, 6 and 12 hold in the store as it is then, whatever came after the backup.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flaghoist_proto::login::v1::SetAccountDisabledRequest;
use flaghoist_proto::receiver::v1::{AcknowledgeRequest, MarkReadRequest, Position};
use flaghoist_proto::send::v1::{CreateMessageResponse, GetMessageStatusRequest, Message, Receipt};
use flaghoist_tests::PASSWORD;

use crate::prelude::*;

/// How many messages are sent at least while the backup is made.
const MEANWHILE_MIN: usize = 20;

fn seq_of(message: &Message) -> u64 {
    message.name.rsplit('/').next().and_then(|seq| seq.parse().ok()).expect("a message's name ends with its seq")
}

fn answered(answer: &CreateMessageResponse) -> u64 {
    seq_of(answer.message.as_ref().expect("an answer has the message"))
}

/// Sends until it is told to stop; answers what became of each request.
async fn talks(person: Person, conversation: String, stop: Arc<AtomicBool>) -> BTreeMap<String, u64> {
    let mut sent = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) || sent.len() < MEANWHILE_MIN {
        let id = request_id();
        let answer = person.sends(format!("text {id}")).request_id(&id).to(&conversation).await;
        sent.insert(id, answered(&answer));
    }
    sent
}

async fn marks_read(person: &Person, position: Position) -> Result<Receipt, Status> {
    let request = MarkReadRequest { position: Some(position) };
    let answer = person.calls().receiver().mark_read(request).await?.into_inner();
    Ok(answer.receipt.expect("an answer has the receipt"))
}

/// The watermarks of the other member, by a look at the first message.
async fn watermarks(person: &Person, conversation: &str) -> (u64, u64) {
    let request = GetMessageStatusRequest { name: format!("{conversation}/messages/2") };
    let answer = person.calls().messages().get_message_status(request).await.expect("the first message is there");
    let receipts = answer.into_inner().receipts;
    receipts.first().map_or((0, 0), |receipt| (receipt.delivered_seq, receipt.read_seq))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_2_3_6_and_12_hold_after_a_backup_that_was_made_under_load_is_put_back() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let before = request_id();
    alice.sends("before").request_id(&before).to(&conversation).await;
    let mut phone = bob.listens().await;
    let last = phone.next_message("before").await;
    phone.ack(&last).await;
    let at = |epoch, seq| Position { conversation: conversation.clone(), epoch, seq };
    let old = last.epoch;
    marks_read(&bob, at(old, 2)).await.expect("read");

    let stop = Arc::new(AtomicBool::new(false));
    let meanwhile = tokio::spawn(talks(alice.clone(), conversation.clone(), Arc::clone(&stop)));
    let backup = world.backs_up().await;
    stop.store(true, Ordering::Relaxed);
    let meanwhile = meanwhile.await.expect("everything is answered while the backup is made");

    // What comes after the backup is acknowledged, read, and lost.
    let after = request_id();
    let lost = alice.sends("after").request_id(&after).to(&conversation).await;
    let event = phone.next_message("after").await;
    phone.ack(&event).await;
    marks_read(&bob, at(old, event.seq)).await.expect("read");
    drop(phone);
    world.restores(&backup).await;

    // 12: it is another log than before, and nothing of the old one counts in it.
    let seen = alice.sees(&conversation).await;
    let (epoch, head) = (seen.epoch, seen.last_seq);
    assert_ne!(epoch, old, "the store says that it is another one");
    assert!((2..answered(&lost)).contains(&head), "{head} of {}", answered(&lost));
    refused(marks_read(&bob, at(old, 2)).await, Code::InvalidArgument, Reason::PositionInvalid);
    refused(marks_read(&bob, at(epoch, head + 1)).await, Code::InvalidArgument, Reason::PositionInvalid);

    // 3: what exists has the numbers that were answered, without a gap.
    let messages = alice.reads_all(&conversation).await;
    let seqs: Vec<u64> = messages.iter().map(seq_of).collect();
    assert_eq!(seqs, (2..=head).collect::<Vec<_>>());
    let kept: BTreeMap<_, _> = meanwhile.iter().filter(|(_, seq)| **seq <= head).collect();
    for (id, seq) in &kept {
        let text = format!("text {id}");
        assert!(messages.iter().any(|message| message.text == text && seq_of(message) == **seq), "{id}");
    }

    // 2: what exists is not done again, and what was lost is, once.
    for (id, text, seq) in [(&before, "before".to_owned(), 2)]
        .into_iter()
        .chain(kept.into_iter().map(|(id, seq)| (id, format!("text {id}"), *seq)))
    {
        let again = alice.sends(text).request_id(id).to(&conversation).await;
        assert_eq!((answered(&again), again.deduplicated), (seq, true));
    }
    let other = alice.sends("something else").request_id(&before).tries(&conversation).await;
    refused(other, Code::FailedPrecondition, Reason::RequestIdReused);
    for deduplicated in [false, true] {
        let again = alice.sends("after").request_id(&after).to(&conversation).await;
        assert_eq!((answered(&again), again.deduplicated), (head + 1, deduplicated));
    }

    // 6: watermarks go on from what the log has, and only rise.
    let (delivered, read) = watermarks(&alice, &conversation).await;
    assert!(delivered <= head && read <= head && read >= 2, "{delivered} {read} of {head}");
    assert_eq!(marks_read(&bob, at(epoch, head)).await.expect("read").read_seq, head);
    assert_eq!(marks_read(&bob, at(epoch, 1)).await.expect("not an error").read_seq, head);
    assert_eq!(watermarks(&alice, &conversation).await.1, head);

    // 12: the device, which was further than the log is now, starts from what exists; told once is enough.
    let mut phone = bob.listens().await;
    assert!(matches!(phone.next().await, Ok(Heard::Reset(_))));
    let events = phone.until_caught_up().await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=head + 1).collect::<Vec<_>>());
    let last = events.last().expect("there are some");
    let stale = AcknowledgeRequest { device: "users/me/devices/phone".into(), positions: vec![at(old, 2)] };
    refused(bob.calls().receiver().acknowledge(stale).await, Code::InvalidArgument, Reason::PositionInvalid);
    phone.ack(last).await;
    drop(phone);
    assert!(bob.listens().await.until_caught_up().await.is_empty());
}

#[tokio::test]
async fn whoever_refreshed_a_token_after_the_backup_signs_in_again_and_nobody_else() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let backup = world.backs_up().await;
    alice.refreshes().await.expect("the session goes on");
    world.restores(&backup).await;
    bob.refreshes().await.expect("the store knows this token");
    // It knows an earlier one than alice holds, so hers is none that it has given out and not seen again.
    refused(alice.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    alice = Person::signs_in(&world, &alice.handle).await;
    alice.refreshes().await.expect("a new session");
}

#[tokio::test]
async fn a_login_that_is_older_than_its_auth_is_believed_from_the_next_sign_in_on() {
    let world = World::start().await;
    let root = world.admin("root").await;
    let bob = world.person("bob").await;
    let disable = |disabled| SetAccountDisabledRequest { name: bob.name.clone(), disabled };
    let earlier = world.backs_up().await;
    root.calls().administration().set_account_disabled(disable(true)).await.expect("root is an admin");
    let disabled = Person::try_sign_in(&world, &bob.handle, PASSWORD).await;
    refused(disabled, Code::Unauthenticated, Reason::CredentialsInvalid);
    let later = world.backs_up().await;
    // The order of a backup lets auth be later than login and never earlier; here it is much later.
    let name = if world.cluster().is_some() { "login.dump" } else { "login.db" };
    std::fs::copy(earlier.path().join(name), later.path().join(name)).expect("copied");
    world.restores(&later).await;
    let again = Person::signs_in(&world, &bob.handle).await;
    assert_eq!(again.calls().whoami().await.expect("bob is not disabled in this store").name, bob.name);
}

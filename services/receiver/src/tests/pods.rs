//! Two pods on one PostgreSQL, with a real NATS between them that comes and goes.

use std::time::Duration;

use flaghoist_backends::{Link, Nats, Postgres};
use flaghoist_proto::receiver::v1::receive_request::Request as Says;
use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::*;
use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::fault::Reason;
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::world::*;
use crate::Settings;
use crate::bus::BusAddress;
use crate::bus::{Subject, Word};

/// How late a live delivery may be without a bus.
const LATE_MAX: Duration = Duration::from_secs(5);

/// What the bus alone must bring.
fn by_bus() -> Settings {
    Settings { sweep: Duration::from_secs(60), ..quick() }
}

/// As in production.
fn swept() -> Settings {
    Settings { sweep: Settings::default().sweep, ..quick() }
}

async fn pods_at(bus: &str, settings: Settings) -> Option<(World, World)> {
    let url = Postgres::shared().await?.database().await;
    let store = StoreAddress::Postgres(Box::new(url.parse().unwrap()));
    let bus = BusAddress::Nats(vec![bus.parse().unwrap()]);
    let here = World::with(Settings { store, store_connections: 8, bus, ..settings }).await;
    let there = here.beside().await;
    here.bus(true).await;
    there.bus(true).await;
    Some((here, there))
}

async fn pods(settings: Settings) -> Option<(Nats, World, World)> {
    let nats = Nats::start().await?;
    let (here, there) = pods_at(&nats.url(), settings).await?;
    Some((nats, here, there))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_delivered_at_one_pod_reaches_the_streams_of_the_other_without_reading_the_log() {
    let Some((_nats, here, there)) = pods(by_bus()).await else { return };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let (mut hers, mut his) = (here.listens(&alice).await, there.listens(&bob).await);
    assert_eq!((hers.catches_up().await, his.catches_up().await), (vec![1], vec![1]));
    let reads = here.log.reads();
    for number in 0..200_u64 {
        let pod = if number % 2 == 0 { &here } else { &there };
        pod.says(&alice, hall, "hi").await;
        assert_eq!((hers.event().await.seq, his.event().await.seq), (number + 2, number + 2));
        hers.acks(hall, number + 2).await;
        his.acks(hall, number + 2).await;
    }
    assert_eq!(here.log.reads(), reads, "the events themselves came over the bus");
    // In the wrong order, and one of them twice: the log settles it.
    let (first, second) = (here.log.message(hall, alice.id, "1"), here.log.message(hall, alice.id, "2"));
    there.deliver(second.clone()).await;
    here.deliver(first).await;
    here.deliver(second).await;
    assert_eq!(his.seqs(2).await, [202, 203]);
    assert_eq!(hers.seqs(2).await, [202, 203]);
    hers.acks(hall, 203).await;
    his.acked(hall, 203).await;
    while let Ok(said) = timeout(Duration::from_millis(500), his.next()).await {
        assert!(!matches!(said, Said::Event(_)), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memberships_receipts_and_typing_are_heard_on_the_other_pod() {
    let Some((_nats, here, there)) = pods(by_bus()).await else { return };
    let (alice, bob, carol) = (here.person(), here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let (mut hers, mut carols) = (here.listens(&alice).await, there.listens(&carol).await);
    assert_eq!((hers.catches_up().await, carols.catches_up().await), (vec![1], vec![]));
    // No stream there belongs to the conversation until she is added.
    here.deliver(here.log.add(hall, alice.id, carol.id)).await;
    assert_eq!(carols.event().await.seq, 2);
    for seq in 3..20 {
        here.says(&alice, hall, "hello carol").await;
        assert_eq!(carols.event().await.seq, seq);
    }
    // A conversation that begins here, with its first messages at once.
    let yard = here.conversation(&[alice, carol]).await;
    for _ in 0..5 {
        here.says(&alice, yard, "and here").await;
    }
    assert_eq!(carols.seqs(6).await, [1, 2, 3, 4, 5, 6]);
    carols.acked(hall, 19).await;
    loop {
        if let Said::Receipt(receipt) = hers.next().await {
            assert_eq!((receipt.member, receipt.delivered_seq), (carol.id.name(), 19));
            break;
        }
    }
    hers.says(Says::Typing(TypingNotice { conversation: hall.name() })).await;
    loop {
        if let Said::Typing(typing) = carols.next().await {
            assert_eq!((typing.conversation, typing.member), (hall.name(), alice.id.name()));
            break;
        }
    }
    here.deliver(here.log.remove(hall, alice.id, carol.id)).await;
    assert_eq!(carols.event().await.seq, 20);
    here.says(&alice, hall, "without carol").await;
    carols.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_7_with_nats_gone_events_and_memberships_are_at_most_five_seconds_late() {
    let Some((nats, here, there)) = pods(swept()).await else { return };
    let (alice, bob, carol) = (here.person(), here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let (mut his, mut carols) = (there.listens(&bob).await, there.listens(&carol).await);
    assert_eq!((his.catches_up().await, carols.catches_up().await), (vec![1], vec![]));
    nats.stop().await;
    for seq in 2..5 {
        let said_at = Instant::now();
        here.says(&alice, hall, "in the dark").await;
        assert_eq!(his.event().await.seq, seq);
        assert!(said_at.elapsed() < LATE_MAX, "{:?}", said_at.elapsed());
    }
    let said_at = Instant::now();
    here.deliver(here.log.add(hall, alice.id, carol.id)).await;
    assert_eq!(carols.event().await.seq, 5);
    assert!(said_at.elapsed() < LATE_MAX, "{:?}", said_at.elapsed());
    // Streams open as ever.
    let mut hers = here.listens(&alice).await;
    assert_eq!(hers.catches_up().await.len(), 5);
    // And when it is back, all is as before.
    nats.start_again().await;
    here.bus(true).await;
    there.bus(true).await;
    assert_eq!(his.event().await.seq, 5);
    for seq in 6..30 {
        here.says(&alice, hall, "and light again").await;
        assert_eq!((his.event().await.seq, carols.event().await.seq), (seq, seq));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_nats_under_load_loses_nothing() {
    let Some((nats, here, there)) = pods(swept()).await else { return };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let mut his = there.listens(&bob).await;
    his.catches_up().await;
    let restart = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            nats.stop().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            nats.start_again().await;
        }
    };
    let talk = async {
        for number in 0..400_u64 {
            let pod = if number % 3 == 0 { &there } else { &here };
            pod.says(&alice, hall, "hi").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let listen = async {
        for seq in 2..=401 {
            assert_eq!(his.event().await.seq, seq);
            his.acks(hall, seq).await;
        }
    };
    tokio::join!(restart, talk, listen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_a_nats_that_hangs_is_noticed_and_what_waits_for_it_has_a_bound() {
    let Some(nats) = Nats::start().await else { return };
    let link = Link::new(nats.address());
    let Some((here, there)) = pods_at(&format!("nats://{}", link.address()), swept()).await else { return };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let mut his = there.listens(&bob).await;
    his.catches_up().await;
    link.cut();
    let said_at = Instant::now();
    here.says(&alice, hall, "into the void").await;
    // A flood of what is not kept, before anybody has noticed.
    for _ in 0..40_000 {
        here.receiver.bus.tell(Subject::Conversation(hall), &Word::Typing(alice.id, std::time::SystemTime::now()));
    }
    assert!(here.receiver.bus.depth() <= 16_384 + 1);
    assert_eq!(his.event().await.seq, 2);
    assert!(said_at.elapsed() < LATE_MAX, "{:?}", said_at.elapsed());
    here.bus(false).await;
    let said_at = Instant::now();
    here.says(&alice, hall, "known to be lost").await;
    assert_eq!(his.event().await.seq, 3);
    assert!(said_at.elapsed() < LATE_MAX, "{:?}", said_at.elapsed());
    link.mend();
    here.bus(true).await;
    there.bus(true).await;
    eventually("what waited is said", || here.receiver.bus.depth() == 0).await;
    for seq in 4..20 {
        here.says(&alice, hall, "as before").await;
        assert_eq!(his.event().await.seq, seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_10_a_newer_stream_on_another_pod_wins_with_and_without_the_bus() {
    let Some((nats, here, there)) = pods(by_bus()).await else { return };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let mut old = here.listens(&bob).await;
    old.catches_up().await;
    let started = Instant::now();
    let mut new = there.listens(&bob).await;
    assert_eq!(old.ends().await, (Code::Aborted, Some(Reason::StreamReplaced)));
    // Not by the sweep, which would notice after 5 seconds.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    new.catches_up().await;
    here.says(&alice, hall, "hi").await;
    assert_eq!(new.event().await.seq, 2);
    // A device that is removed on one pod loses its stream on the other.
    let name = format!("{}/devices/phone", bob.id.name());
    here.client().delete_device(bob.asks(DeleteDeviceRequest { name })).await.unwrap();
    assert_eq!(new.ends().await, (Code::NotFound, Some(Reason::NotFound)));

    let mut old = here.listens(&bob).await;
    old.catches_up().await;
    nats.stop().await;
    there.bus(false).await;
    let mut new = there.listens(&bob).await;
    assert_eq!(new.catches_up().await, [1, 2]);
    new.acked(hall, 1).await;
    old.acks(hall, 2).await;
    assert_eq!(old.ends().await, (Code::Aborted, Some(Reason::StreamReplaced)), "by its acknowledgement");
    drop(new);
    assert_eq!(there.listens(&bob).await.catches_up().await, [2], "which did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_stream_that_says_nothing_is_ended_when_the_bus_is_back() {
    let Some((nats, here, there)) = pods(by_bus()).await else { return };
    let bob = here.person();
    let mut old = here.listens(&bob).await;
    old.catches_up().await;
    nats.stop().await;
    here.bus(false).await;
    there.bus(false).await;
    let mut new = there.listens(&bob).await;
    new.catches_up().await;
    nats.start_again().await;
    assert_eq!(old.ends().await, (Code::Aborted, Some(Reason::StreamReplaced)));
    new.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_made_on_another_pod_gives_credit_with_and_without_the_bus() {
    let Some((nats, here, there)) = pods(Settings { silence: Duration::from_secs(4), ..by_bus() }).await else {
        return;
    };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    for _ in 0..19 {
        here.says(&alice, hall, "more").await;
    }
    let request = SubscribeRequest { open: Some(Open { window: 2, ..open("phone") }) };
    let mut browser = here.subscribed(&bob, request).await;
    let mut next = 1;
    // The calls keep the stream alive too: this takes longer than it may be silent.
    for _ in 0..5 {
        assert_eq!(browser.seqs(2).await, [next, next + 1]);
        let acked_at = Instant::now();
        there.acknowledges(&bob, vec![there.at(hall, next + 1)]).await.unwrap();
        next += 2;
        if next < 11 {
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(acked_at.elapsed())).await;
        }
    }
    nats.stop().await;
    here.bus(false).await;
    there.bus(false).await;
    for _ in 0..5 {
        assert_eq!(timeout(LATE_MAX, browser.seqs(2)).await.expect("credit comes back"), [next, next + 1]);
        there.acknowledges(&bob, vec![there.at(hall, next + 1)]).await.unwrap();
        next += 2;
    }
    assert!(browser.catches_up().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_without_any_bus_are_late_and_never_wrong() {
    let Some(postgres) = Postgres::shared().await else { return };
    let store = StoreAddress::Postgres(Box::new(postgres.database().await.parse().unwrap()));
    let here = World::with(Settings { store, ..swept() }).await;
    let there = here.beside().await;
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let mut his = there.listens(&bob).await;
    his.catches_up().await;
    let said_at = Instant::now();
    here.says(&alice, hall, "hi").await;
    assert_eq!(his.event().await.seq, 2);
    assert!(said_at.elapsed() < LATE_MAX, "{:?}", said_at.elapsed());
    // Whichever pod is asked, the device is there, and then not.
    let online = async || {
        let devices = here.client().list_devices(bob.asks(ListDevicesRequest {})).await.unwrap().into_inner().devices;
        devices[0].online
    };
    assert!(online().await);
    drop(his);
    let gone = async {
        while online().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_hears_only_of_what_its_streams_belong_to() {
    let Some((_nats, here, there)) = pods(by_bus()).await else { return };
    let (alice, bob) = (here.person(), here.person());
    let hall = here.conversation(&[alice, bob]).await;
    let mut his = there.listens(&bob).await;
    his.catches_up().await;
    drop(his);
    eventually("nobody is interested", || !there.receiver.hub.interested(hall)).await;
    here.says(&alice, hall, "to nobody there").await;
    let mut his = there.listens(&bob).await;
    assert_eq!(his.catches_up().await, [1, 2]);
    here.says(&alice, hall, "heard again").await;
    assert_eq!(his.event().await.seq, 3);
}

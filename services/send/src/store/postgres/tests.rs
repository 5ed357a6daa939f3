//! The suite on one pod and on two, and what only this store can show.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use flaghoist_backends::Postgres;
use futures_util::FutureExt as _;

use super::*;
use crate::event::Action;
use crate::store::conformance::{LIMITS, World, person, send, store_keeps_its_promises};

mod cut;
mod plans;
mod pods;
mod quick;

/// How many connections a pod of the suite has: two of them write.
const CONNECTIONS: u32 = 8;

/// A fresh database.
struct Place {
    postgres: &'static Postgres,
    url: String,
}

impl Place {
    async fn fresh() -> Option<Self> {
        let postgres = Postgres::shared().await?;
        Some(Self { postgres, url: postgres.database().await })
    }

    fn options(&self) -> PgConnectOptions {
        self.url.parse().unwrap()
    }

    async fn pod(&self) -> Arc<PostgresStore> {
        pod(&self.options()).await
    }

    /// Runs statements in the schema of the service.
    async fn sql(&self, text: &str) -> String {
        self.postgres.sql(&self.url, &format!("SET search_path = send; {text}")).await
    }
}

async fn pod(options: &PgConnectOptions) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(options, CONNECTIONS, LIMITS).await.unwrap())
}

/// A world on one pod that is there already.
async fn on(pod: &Arc<PostgresStore>) -> World {
    let store: Arc<dyn Store> = pod.clone();
    World::new(move || std::future::ready(store.clone()).boxed()).await
}

async fn one_pod() -> Option<(Place, World)> {
    let place = Place::fresh().await?;
    let options = place.options();
    let open = move || {
        let options = options.clone();
        async move { pod(&options).await as Arc<dyn Store> }.boxed()
    };
    Some((place, World::new(open).await))
}

async fn two_pods() -> Option<(Place, World)> {
    let place = Place::fresh().await?;
    let options = place.options();
    let open = move || {
        let options = options.clone();
        async move {
            let pods = [pod(&options).await, pod(&options).await];
            Arc::new(TwoPods { pods, turn: AtomicUsize::new(0) }) as Arc<dyn Store>
        }
        .boxed()
    };
    Some((place, World::new(open).await))
}

mod on_one_pod {
    use super::*;

    store_keeps_its_promises!(one_pod);
}

mod on_two_pods {
    use super::*;

    store_keeps_its_promises!(two_pods);
}

/// Two pods behind something that balances: each call goes to the other one than the call before.
#[derive(Debug)]
struct TwoPods {
    pods: [Arc<PostgresStore>; 2],
    turn: AtomicUsize,
}

impl TwoPods {
    fn next(&self) -> &PostgresStore {
        &self.pods[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[async_trait]
impl Store for TwoPods {
    fn epoch(&self) -> u64 {
        self.next().epoch()
    }

    async fn now(&self) -> Result<i64, Error> {
        self.next().now().await
    }

    async fn commit(&self, ops: Vec<Op>) -> Vec<Answer> {
        self.next().commit(ops).await
    }

    async fn conversation(&self, person: UserId, id: ConversationId) -> Result<Option<View>, Error> {
        self.next().conversation(person, id).await
    }

    async fn conversations(&self, person: UserId, after: i64, limit: usize) -> Result<Page<View>, Error> {
        self.next().conversations(person, after, limit).await
    }

    async fn members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, Error> {
        self.next().members(id, after, limit).await
    }

    async fn message(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Message>, Error> {
        self.next().message(person, id, seq).await
    }

    async fn messages(
        &self,
        person: UserId,
        id: ConversationId,
        from: u64,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Option<Messages>, Error> {
        self.next().messages(person, id, from, oldest_first, limit).await
    }

    async fn events(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<Slice>, Error> {
        self.next().events(person, id, after_seq, limit, bytes_max).await
    }

    async fn heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, Error> {
        self.next().heads(person, only, receipts_since, after, limit).await
    }

    async fn recent_changes(&self, since: i64, after: i64, limit: usize) -> Result<Page<Change>, Error> {
        self.next().recent_changes(since, after, limit).await
    }

    async fn blank(&self, person: UserId, id: ConversationId, after_seq: u64, through_seq: u64) -> Result<(), Error> {
        self.next().blank(person, id, after_seq, through_seq).await
    }

    async fn forget(&self, person: UserId, ids: &[ConversationId], all: bool) -> Result<(), Error> {
        self.next().forget(person, ids, all).await
    }

    async fn progress(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Progress>, Error> {
        self.next().progress(person, id, seq).await
    }
}

#[tokio::test]
async fn promise_12_and_fault_15_another_database_has_another_epoch_and_pods_notice() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let epoch = pod.epoch();
    assert_ne!(epoch, 0);
    assert_eq!(place.pod().await.epoch(), epoch, "a restart, or another pod, is no restore");
    let noticed = async |before: u64| {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if pod.epoch() != before {
                return pod.epoch();
            }
        }
        panic!("not within 5 s");
    };
    let renewed = PostgresStore::renew_epoch(&place.options()).await.unwrap();
    assert_ne!(renewed, epoch);
    assert_eq!(noticed(epoch).await, renewed);
    // What a dump that was taken elsewhere says.
    place.sql("UPDATE life SET identity = '1/2'").await;
    let restored = noticed(renewed).await;
    assert_eq!(place.pod().await.epoch(), restored, "once, by whoever sees it first");
}

#[tokio::test]
async fn fault_2_a_database_that_refuses_to_grow_is_an_error_to_the_caller_and_passes() {
    let Some(place) = Place::fresh().await else { return };
    let world = on(&place.pod().await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    // As a full disk would have it.
    place
        .sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
             CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()",
        )
        .await;
    let ops = || (0..20).map(|call| world.op(alice, id, &call.to_string(), send("x"))).collect();
    let refused = world.commit(ops()).await;
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{refused:?}");
    assert_eq!(world.counts(bob, id).await.3, 1, "nothing of it is there");
    place.sql("DROP TRIGGER full_disk ON events").await;
    let sent = world.commit(ops()).await;
    assert!(sent.iter().all(|answer| !answer.as_ref().unwrap().deduplicated));
    assert_eq!(world.log(bob, id, 50).await.len(), 21);
}

#[tokio::test]
async fn a_call_that_the_database_does_not_take_does_not_take_others_with_it() {
    let Some(place) = Place::fresh().await else { return };
    let world = on(&place.pod().await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    place.sql("ALTER TABLE events ADD CHECK (request_id <> 'poison')").await;
    let name = |call: usize| if call == 13 { "poison".to_owned() } else { call.to_string() };
    let ops = (0..40).map(|call| world.op(alice, id, &name(call), send("x"))).collect();
    let answers = world.commit(ops).await;
    for (call, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), call == 13, "{call}: {answer:?}");
    }
    assert_eq!(answers[13].as_ref().unwrap_err(), &Error::Internal);
    let seqs: Vec<u64> = world.log(bob, id, 50).await.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn any_text_may_be_a_request_id_or_a_title() {
    let Some(place) = Place::fresh().await else { return };
    let world = on(&place.pod().await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.group(alice, &[bob]).await;
    let odd = "a zero \0, a quote ', a brace {,} and \u{1F980}";
    world.one(alice, id, odd, Action::Retitle { title: odd.into() }).await.unwrap();
    assert!(world.one(alice, id, odd, Action::Retitle { title: odd.into() }).await.unwrap().deduplicated);
    assert_eq!(&*world.store.conversation(bob, id).await.unwrap().unwrap().head.title, odd);
}

#[tokio::test]
async fn promise_11_the_tables_hold_nothing_of_what_was_deleted() {
    let Some(place) = Place::fresh().await else { return };
    let world = on(&place.pod().await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let secret = "a long secret text that nobody else would write";
    let sent = world.one(alice, id, "r", send(secret)).await.unwrap().event.unwrap();
    let edited = crate::store::conformance::edit(sent.seq, &format!("{secret}, edited"));
    world.one(alice, id, "e", edited).await.unwrap();
    let there = "SELECT count(*) FROM events WHERE position('secret'::bytea IN body) > 0";
    assert_eq!(place.sql(there).await, "2");
    world.one(alice, id, "d", Action::Erase { target: sent.seq }).await.unwrap();
    assert_eq!(place.sql(there).await, "0");
}

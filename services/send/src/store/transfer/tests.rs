//! A store in which everything happened is moved, and both are asked the same questions.

use std::sync::Arc;

use flaghoist_backends::Postgres;
use flaghoist_runtime::names::{ConversationId, UserId};
use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::*;
use crate::conversation::Role;
use crate::event::Action;
use crate::store::Store;
use crate::store::conformance::{LIMITS, World, add, edit, person, promote, random, remove, send};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

/// A file, the world on it, and an empty database.
struct Site {
    folder: TempDir,
    postgres: &'static Postgres,
    url: String,
}

impl Site {
    async fn new() -> Option<Self> {
        let postgres = Postgres::shared().await?;
        Some(Self { folder: tempfile::tempdir().unwrap(), postgres, url: postgres.database().await })
    }

    async fn world(&self) -> World {
        let path = self.folder.path().join("send.db");
        World::new(move || {
            let path = path.clone();
            async move { Arc::new(SqliteStore::open(&path, LIMITS).await.unwrap()) as Arc<dyn Store> }.boxed()
        })
        .await
    }

    async fn moves(&self) -> Result<Moved, MigrateError> {
        let path = self.folder.path().join("send.db");
        migrate(&path, &self.url.parse().unwrap(), [1; 32], &mut |_| ()).await
    }

    async fn pods(&self) -> World {
        let url = self.url.clone();
        World::new(move || {
            let options = url.parse().unwrap();
            async move { Arc::new(PostgresStore::open(&options, 8, LIMITS).await.unwrap()) as Arc<dyn Store> }.boxed()
        })
        .await
    }

    async fn sql(&self, text: &str) -> String {
        self.postgres.sql(&self.url, &format!("SET search_path = send; {text}")).await
    }
}

/// Everything that these people can learn, a line each.
async fn everything(store: &dyn Store, people: impl Iterator<Item = UserId>) -> Vec<String> {
    let mut lines = vec![format!("epoch {}", store.epoch())];
    for person in people {
        let mut after = 0;
        loop {
            let page = store.heads(person, &[], Some(0), after, 50).await.unwrap();
            for mut entry in page.entries {
                entry.receipts.sort_by_key(|watermark| watermark.member);
                lines.push(format!("{person:?} {entry:?}"));
                one_conversation(store, person, entry.head.id, &mut lines).await;
            }
            let Some(next) = page.next else { break };
            after = next;
        }
        let listed = store.conversations(person, 0, 50).await.unwrap();
        lines.push(format!("{person:?} lists {listed:?}"));
    }
    lines
}

async fn one_conversation(store: &dyn Store, person: UserId, id: ConversationId, lines: &mut Vec<String>) {
    lines.push(format!("{:?}", store.conversation(person, id).await.unwrap()));
    lines.push(format!("{:?}", store.members(id, None, 100).await.unwrap()));
    let mut after = 0;
    loop {
        let slice = store.events(person, id, after, 50, usize::MAX).await.unwrap().unwrap();
        for (event, previous) in &slice.events {
            lines.push(format!("{previous} {event:?}"));
            lines.push(format!("{:?}", store.message(person, id, event.seq).await.unwrap()));
            let mut progress = store.progress(person, id, event.seq).await.unwrap();
            progress.iter_mut().for_each(|progress| progress.receipts.sort_by_key(|watermark| watermark.member));
            lines.push(format!("{progress:?}"));
        }
        after = slice.read_through_seq;
        if after == slice.last_seq {
            return;
        }
    }
}

fn same(before: &[String], after: &[String]) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
}

/// Direct conversations and groups, people who left and came back, edits, deletions, titles, roles, receipts, a hidden conversation.
async fn eventful(world: &World) -> (ConversationId, ConversationId) {
    let [alice, bob, carol, dave] = [1, 2, 3, 4].map(person);
    let direct = world.direct(alice, bob).await;
    for number in 0..20 {
        world.sends(if number % 3 == 0 { bob } else { alice }, direct, &format!("direct {number}")).await;
    }
    world.raise(bob, direct, 15, 9).await;
    world.one(bob, direct, "hide", Action::End).await.unwrap();

    let group = world.group(alice, &[bob, carol]).await;
    let first = world.sends(alice, group, "first").await.seq;
    world.one(alice, group, "title", Action::Retitle { title: "a \0 title, 'so' {\"said\"} 🐦".into() }).await.unwrap();
    world.one(alice, group, "edit 1", edit(first, "edited once")).await.unwrap();
    world.one(alice, group, "edit 2", edit(first, "edited twice")).await.unwrap();
    let secret = world.sends(carol, group, "a secret").await.seq;
    world.one(carol, group, "edit 3", edit(secret, "a secret, edited")).await.unwrap();
    world.one(carol, group, "erase", Action::Erase { target: secret }).await.unwrap();
    for turn in 0..2 {
        world.one(alice, group, &format!("out {turn}"), remove(bob)).await.unwrap();
        world.sends(carol, group, &format!("without bob {turn}")).await;
        world.one(alice, group, &format!("in {turn}"), add(bob)).await.unwrap();
        world.sends(bob, group, &format!("back {turn}")).await;
    }
    world.one(alice, group, "dave", add(dave)).await.unwrap();
    world.one(alice, group, "role", promote(carol, Role::Owner)).await.unwrap();
    world.one(dave, group, "leave", Action::Leave).await.unwrap();
    world.sends(alice, group, "request\0id 🐦").await;
    world.raise(carol, group, 12, 7).await;
    let ended = world.group(dave, &[alice]).await;
    world.one(dave, ended, "end", Action::End).await.unwrap();
    (direct, group)
}

#[tokio::test]
async fn everybody_sees_the_same_on_both_sides() {
    let Some(site) = Site::new().await else { return };
    let world = site.world().await;
    eventful(&world).await;
    random::any_batches_do_what_a_simple_model_does(world).await;
    let people = || (0..41_u128).flat_map(|round| (1..5).map(move |number| person(1000 * round + number)));
    let world = site.world().await;
    let before = everything(&*world.store, people()).await;
    drop(world);
    assert!(before.len() > 5_000, "{} lines", before.len());

    let moved = site.moves().await.unwrap();
    assert_eq!(
        moved.tables.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["conversations", "members", "memberships", "people", "events"]
    );
    let pods = site.pods().await;
    same(&before, &everything(&*pods.store, people()).await);
    assert!(site.moves().await.unwrap().before);
}

#[tokio::test]
async fn promises_2_3_6_and_11_go_on_after_the_move() {
    let Some(site) = Site::new().await else { return };
    let world = site.world().await;
    let (direct, group) = eventful(&world).await;
    let [alice, bob, carol, dave] = [1, 2, 3, 4].map(person);
    // Not all of them are for everybody.
    let last = async |id| world.store.conversation(alice, id).await.unwrap().unwrap().head.last_seq;
    let (last_direct, last_group) = (last(direct).await, last(group).await);
    let epoch = world.store.epoch();
    drop(world);
    site.moves().await.unwrap();
    let pods = site.pods().await;
    assert_eq!(pods.store.epoch(), epoch, "the same life of the store");

    // 2: a call that is made again gets its first answer, a message that was deleted since its tombstone.
    let again = pods.one(alice, direct, "send direct 1", send("direct 1")).await.unwrap();
    assert!(again.deduplicated);
    assert_eq!(again.event.unwrap().seq, 3);
    assert!(
        pods.one(carol, group, "send a secret", send("a secret")).await.unwrap().event.unwrap().deleted_at.is_some()
    );
    assert!(pods.one(alice, group, "send request\0id 🐦", send("request\0id 🐦")).await.unwrap().deduplicated);
    // 3: numbers go on.
    assert_eq!(pods.sends(alice, direct, "new").await.seq, last_direct + 1);
    assert_eq!(pods.sends(bob, group, "new").await.seq, last_group + 1);
    // 6: watermarks only rise.
    assert!(pods.raise(bob, direct, 10, 5).await.is_empty());
    assert_eq!(pods.counts(bob, direct).await.2, 9);
    // 11: what was deleted is not there, and later edits and deletions find what they are about.
    assert_eq!(site.sql("SELECT count(*) FROM events WHERE position('a secret'::bytea IN body) > 0").await, "0");
    assert_ne!(site.sql("SELECT count(*) FROM events WHERE position('without bob'::bytea IN body) > 0").await, "0");
    pods.one(alice, group, "erase first", Action::Erase { target: 2 }).await.unwrap();
    assert_eq!(site.sql("SELECT count(*) FROM events WHERE position('edited'::bytea IN body) > 0").await, "0");
    // New conversations come after those that are there, and limits still count.
    let highest: i64 = site.sql("SELECT max(no) FROM conversations").await.parse().unwrap();
    let begun = pods.direct(carol, dave).await;
    let view = pods.store.conversation(carol, begun).await.unwrap().unwrap();
    assert!(view.head.no > highest, "{} > {highest}", view.head.no);
    assert_eq!(
        site.sql("SELECT sum(conversation_count) FROM people").await,
        site.sql(
            "SELECT count(*) FROM members m JOIN conversations c USING (conversation_id) WHERE role > 0 AND NOT deleted"
        )
        .await
    );
}

#[tokio::test]
async fn an_empty_store_is_moved_too() {
    let Some(site) = Site::new().await else { return };
    let epoch = site.world().await.store.epoch();
    site.moves().await.unwrap();
    let pods = site.pods().await;
    assert_eq!(pods.store.epoch(), epoch);
    pods.direct(person(1), person(2)).await;
}

#[tokio::test]
async fn every_column_is_moved_or_left_behind_on_purpose() {
    let Some(site) = Site::new().await else { return };
    site.pods().await;
    let there = site
        .sql(
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'send' \
             AND table_name NOT IN ('_sqlx_migrations', 'life', 'receipts')",
        )
        .await;
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let moved = TABLES.iter().flat_map(Table::column_names).collect();
    assert_eq!(sorted(moved), sorted(there.lines().map(str::to_owned).collect()));
}

//! The suite, and what only this store can show.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::{LIMITS, World, edit, person, send, store_keeps_its_promises};

async fn world() -> (TempDir, World) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("send.db");
    let open = move || {
        let path = path.clone();
        async move { Arc::new(SqliteStore::open(&path, LIMITS).await.unwrap()) as Arc<dyn Store> }.boxed()
    };
    (folder, World::new(open).await)
}

store_keeps_its_promises!(world);

#[tokio::test]
async fn promise_11_deleted_bytes_are_gone_from_every_file() {
    let (folder, world) = world().await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let secret = "a long secret text that nobody else would write";
    let sent = world.one(alice, id, "r", send(secret)).await.unwrap().event.unwrap();
    world.one(alice, id, "e", edit(sent.seq, &format!("{secret}, edited"))).await.unwrap();
    let there = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.filter(|bytes| bytes.windows(secret.len()).any(|window| window == secret.as_bytes())).count()
    };
    assert!(there() > 0);
    world.one(alice, id, "d", crate::event::Action::Erase { target: sent.seq }).await.unwrap();
    for _ in 0..100 {
        if there() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the text is still there");
}

#[tokio::test]
async fn promise_12_and_fault_15_another_file_has_another_epoch() {
    let (folder, mut world) = world().await;
    let epoch = world.store.epoch();
    assert_ne!(epoch, 0);
    world.reopen().await;
    assert_eq!(world.store.epoch(), epoch, "a restart is no restore");
    let path = folder.path().join("send.db");
    let store = SqliteStore::open(&path, LIMITS).await.unwrap();
    store.database.close().await;
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let restored = SqliteStore::open(&copy, LIMITS).await.unwrap();
    assert_ne!(restored.epoch(), epoch);
    let asked = SqliteStore::renew_epoch(&path).await.unwrap();
    assert_ne!(asked, epoch);
    assert_eq!(SqliteStore::open(&path, LIMITS).await.unwrap().epoch(), asked);
}

#[tokio::test]
async fn fault_2_a_full_disk_is_an_error_to_the_caller_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("send.db"), LIMITS).await.unwrap());
    let shared: Arc<dyn Store> = store.clone();
    let world = World::new(move || std::future::ready(shared.clone()).boxed()).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.database.readers).await.unwrap();
    let bound = async |pages: i64| {
        let mut writer = store.writer.lock().await;
        writer.connection = None;
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(pragma).execute(&store.database.writer).await.unwrap();
    };
    bound(pages).await;
    let text = "x".repeat(10_000);
    let ops = (0..20).map(|call| world.op(alice, id, &call.to_string(), send(&text))).collect();
    let refused = world.commit(ops).await;
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{refused:?}");
    assert_eq!(world.counts(bob, id).await.3, 1, "nothing of it is there");
    bound(1 << 30).await;
    let ops = (0..20).map(|call| world.op(alice, id, &call.to_string(), send(&text))).collect();
    let sent = world.commit(ops).await;
    assert!(sent.iter().all(|answer| !answer.as_ref().unwrap().deduplicated));
    assert_eq!(world.log(bob, id, 50).await.len(), 21);
}

#[tokio::test]
async fn fault_2_a_store_that_can_only_be_read_is_an_error_to_the_caller_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("send.db"), LIMITS).await.unwrap());
    let shared: Arc<dyn Store> = store.clone();
    let world = World::new(move || std::future::ready(shared.clone()).boxed()).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    // SQLite's own error for it (READONLY), which a disk that was remounted gives as well.
    let only_reads = async |only: bool| {
        let mut writer = store.writer.lock().await;
        writer.connection = None;
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA query_only = {only}"));
        sqlx::query(pragma).execute(&store.database.writer).await.unwrap();
    };
    only_reads(true).await;
    let ops = || (0..3).map(|call| world.op(alice, id, &call.to_string(), send("x"))).collect();
    let refused = world.commit(ops()).await;
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{refused:?}");
    assert_eq!(world.log(bob, id, 10).await.len(), 1, "it is read, and nothing is there");
    only_reads(false).await;
    let sent = world.commit(ops()).await;
    assert!(sent.iter().all(|answer| !answer.as_ref().unwrap().deduplicated));
    assert_eq!(world.log(bob, id, 10).await.len(), 4);
}

#[tokio::test]
async fn fault_18_times_do_not_contradict_the_order_when_the_clock_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("send.db");
    let open = || async {
        let store = Arc::new(SqliteStore::open(&path, LIMITS).await.unwrap());
        let shared: Arc<dyn Store> = store.clone();
        (store, World::new(move || std::future::ready(shared.clone()).boxed()).await)
    };
    let (alice, bob) = (person(1), person(2));
    let (store, world) = open().await;
    let id = world.direct(alice, bob).await;
    // The last commit was an hour ahead of what the clock says now.
    let ahead = flaghoist_runtime::time::millis(std::time::SystemTime::now()) + 3_600_000;
    store.writer.lock().await.now = ahead;
    for text in ["one", "two"] {
        assert!(world.sends(alice, id, text).await.created_at >= ahead, "{text}");
    }
    // Closing waits for the connection that the writer keeps.
    store.writer.lock().await.connection = None;
    store.database.close().await;
    let (_store, world) = open().await;
    assert!(world.sends(bob, id, "after a start").await.created_at >= ahead);
    let times: Vec<i64> = world
        .store
        .messages(alice, id, 0, true, 10)
        .await
        .unwrap()
        .unwrap()
        .messages
        .iter()
        .map(|message| message.event.created_at)
        .collect();
    assert!(times.len() == 3 && times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_conversation_dropped_from_memory_is_read_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("send.db"), LIMITS).await.unwrap();
    let store = Arc::new(store);
    let shared: Arc<dyn Store> = store.clone();
    let world = World::new(move || std::future::ready(shared.clone()).boxed()).await;
    let id = world.direct(person(1), person(2)).await;
    for number in 0..30 {
        world.sends(person(1), id, &number.to_string()).await;
    }
    {
        let mut shared = store.live.write();
        shared.grow(1_000_000);
        shared.next_batch();
        let tail = shared.conversations[&id].tail.len();
        shared.shrink();
        assert_eq!(shared.conversations.contains_key(&id), tail > 0, "what is not folded stays");
    }
    assert_eq!(world.counts(person(2), id).await, (30, 0, 0, 31));
    assert_eq!(world.log(person(2), id, 4).await.len(), 31);
}

#[tokio::test]
async fn folding_finds_conversations_and_members_by_their_keys() {
    use sqlx::Row as _;
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("send.db"), LIMITS).await.unwrap();
    for (statement, found_by) in [
        (&rows::HEADS, "SEARCH conversations USING INTEGER PRIMARY KEY (rowid=?)"),
        (&rows::SENT, "SEARCH members USING PRIMARY KEY (conversation_no=? AND user_id=?)"),
    ] {
        for rows in [1, 64, rows::ROWS_MAX] {
            let explained = format!("EXPLAIN QUERY PLAN {}", statement.text(rows));
            let plan = sqlx::query(sqlx::AssertSqlSafe(explained)).fetch_all(&store.database.writer).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.get(3)).collect();
            assert!(steps.iter().any(|step| step == found_by), "{rows} rows: {steps:?}");
        }
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_round_is_folded_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("send.db");
    let open = {
        let path = path.clone();
        move || {
            let path = path.clone();
            async move { Arc::new(SqliteStore::open(&path, LIMITS).await.unwrap()) as Arc<dyn Store> }.boxed()
        }
    };
    let mut world = World::new(open).await;
    let (alice, bob) = (person(1), person(2));
    let ids = [world.direct(alice, bob).await, world.direct(alice, person(3)).await];
    // Wherever in a round the process ends, the next one says the same.
    for length in 1..25 {
        for number in 0..length {
            world.sends(alice, ids[number % 2], &format!("{length} {number}")).await;
        }
        let before = (world.log(bob, ids[0], 50).await.len(), world.counts(bob, ids[0]).await);
        world.reopen().await;
        let after = (world.log(bob, ids[0], 50).await.len(), world.counts(bob, ids[0]).await);
        assert_eq!(before, after);
        let again = world.one(alice, ids[0], &format!("send {length} 0"), send(&format!("{length} 0"))).await.unwrap();
        assert!(again.deduplicated, "the request is known");
    }
}

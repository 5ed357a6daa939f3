//! What group commit promises its callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn every_caller_gets_the_answer_to_its_own_call() {
    // Few answers are told by the committing task itself, many by another.
    for batch_max in [7, 2 * TOLD_APART] {
        let twice = |ops: Vec<usize>| async move { ops.into_iter().map(|op| op * 2).collect() };
        let batcher = Batcher::start("test", 1000, batch_max, twice);
        let answers = join_all((0..500).map(|op| batcher.submit(op))).await;
        assert_eq!(answers, (0..500).map(|op| Ok(op * 2)).collect::<Vec<_>>());
    }
}

/// A batcher at a pace that counts its commits.
fn paced(batch_max: usize, pace: Duration) -> (Batcher<usize, usize>, Arc<AtomicUsize>) {
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let batcher = Batcher::paced("test", 1000, batch_max, pace, move |ops: Vec<usize>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { ops }
    });
    (batcher, commits)
}

/// Submits one call, and another when the committing task has taken the first.
async fn one_after_the_other(batcher: &Batcher<usize, usize>) -> (Result<usize, Refused>, Result<usize, Refused>) {
    let later = async {
        while batcher.queue.capacity() < 1000 {
            tokio::task::yield_now().await;
        }
        batcher.submit(2).await
    };
    tokio::join!(batcher.submit(1), later)
}

#[tokio::test]
async fn a_paced_batcher_commits_a_first_call_at_once_and_then_collects() {
    let (batcher, commits) = paced(3, Duration::from_secs(1));
    assert_eq!(batcher.submit(0).await, Ok(0));
    assert_eq!(one_after_the_other(&batcher).await, (Ok(1), Ok(2)));
    assert_eq!(commits.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_full_batch_waits_for_no_pace() {
    let (batcher, _commits) = paced(2, Duration::from_secs(3600));
    assert_eq!(batcher.submit(0).await, Ok(0));
    let full = join_all([batcher.submit(1), batcher.submit(2)]);
    let answers = tokio::time::timeout(Duration::from_secs(30), full).await;
    assert_eq!(answers, Ok(vec![Ok(1), Ok(2)]));
}

#[tokio::test]
async fn tasks_that_are_ready_share_a_commit_that_is_whole() {
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let batcher = Batcher::whole("test", 1000, 1000, move |ops: Vec<usize>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { if ops.contains(&7) { Err("seven") } else { Ok(ops.iter().map(|op| op * 2).collect()) } }
    });
    // The second call is made when the committing task has been woken already.
    let later = async |op| {
        tokio::task::yield_now().await;
        batcher.submit(op).await
    };
    assert_eq!(tokio::join!(batcher.submit(1), later(2)), (Ok(Ok(2)), Ok(Ok(4))));
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    let failed = Ok(Err(Arc::new("seven")));
    assert_eq!(tokio::join!(batcher.submit(6), later(7)), (failed.clone(), failed));
    assert_eq!(batcher.submit(8).await, Ok(Ok(16)));
    assert_eq!(commits.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn calls_that_arrive_during_a_commit_share_the_next_one() {
    let commits = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let batcher = Batcher::start("test", 1000, 1000, {
        let (commits, gate) = (commits.clone(), gate.clone());
        move |ops: Vec<usize>| {
            let (commits, gate) = (commits.clone(), gate.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                commits.fetch_add(1, Ordering::Relaxed);
                ops
            }
        }
    });
    let first = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(0).await }
    });
    tokio::task::yield_now().await;
    let calls = join_all((1..=100).map(|op| batcher.submit(op)));
    gate.add_permits(2);
    assert_eq!(calls.await.len(), 100);
    assert_eq!(first.await.unwrap(), Ok(0));
    assert_eq!(commits.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let batcher = Batcher::start("test", 2, 1, |_: Vec<u8>| std::future::pending::<Vec<u8>>());
    let mut calls = (0..3)
        .map(|_| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(0).await })
        })
        .collect::<Vec<_>>();
    while batcher.queue.capacity() > 0 {
        tokio::task::yield_now().await;
        if calls.iter().any(tokio::task::JoinHandle::is_finished) {
            // The queue filled before the task took its first batch.
            calls.push(tokio::spawn({
                let batcher = batcher.clone();
                async move { batcher.submit(0).await }
            }));
        }
    }
    assert_eq!(batcher.submit(0).now_or_never(), Some(Err(Refused::Overloaded)));
}

#[tokio::test]
async fn a_commit_that_panics_or_answers_too_little_leaves_nobody_waiting() {
    let batcher = Batcher::start("test", 10, 10, |ops: Vec<u8>| async move {
        assert_ne!(ops[0], 0, "a commit that panics");
        if ops[0] == 1 { Vec::new() } else { ops }
    });
    assert_eq!(batcher.submit(0).await, Err(Refused::Stopped));
    assert_eq!(batcher.submit(1).await, Err(Refused::Stopped));
    assert_eq!(batcher.submit(2).await, Ok(2));
}

#[tokio::test]
async fn the_call_of_a_caller_that_is_gone_is_left_out() {
    let seen = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let batcher = Batcher::start("test", 10, 1, {
        let (seen, gate) = (seen.clone(), gate.clone());
        move |ops: Vec<usize>| {
            let (seen, gate) = (seen.clone(), gate.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                seen.fetch_add(ops[0], Ordering::Relaxed);
                ops
            }
        }
    });
    let first = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(1).await }
    });
    tokio::task::yield_now().await;
    assert!(batcher.submit(10).now_or_never().is_none());
    gate.add_permits(3);
    assert_eq!(batcher.submit(100).await, Ok(100));
    assert_eq!(first.await.unwrap(), Ok(1));
    assert_eq!(seen.load(Ordering::Relaxed), 101);
}

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// Occupies the pool's only thread until the sender is dropped.
async fn occupy(pool: &Pool) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, blocked) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let place = pool.place().unwrap();
    let task = tokio::spawn(async move {
        let work = move |_: &mut Hasher| {
            begun.send(()).unwrap();
            let _released = blocked.recv();
        };
        place.run(work).await.unwrap();
    });
    has_begun.await.unwrap();
    (release, task)
}

#[tokio::test]
async fn a_full_pool_refuses_at_once_and_takes_again_later() {
    let pool = Pool::start(CHEAP, 1, 2).unwrap();
    let (release, task) = occupy(&pool).await;
    let first = pool.place().unwrap();
    let second = pool.place().unwrap();
    // Answered while the thread is still busy, so nothing was waited for.
    assert!(matches!(pool.place(), Err(Full)));
    drop(release);
    task.await.unwrap();
    assert_eq!(first.run(|_| 1).await, Ok(1));
    assert_eq!(second.run(|_| 2).await, Ok(2));
    assert!(pool.place().is_ok());
}

#[tokio::test]
async fn a_cancelled_call_gives_its_place_back_and_is_not_worked_on() {
    let pool = Pool::start(CHEAP, 1, 1).unwrap();
    let (release, task) = occupy(&pool).await;
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..1000 {
        let place = pool.place().expect("the cancelled one before gave its place back");
        let ran = Arc::clone(&ran);
        let call = async move { place.run(move |_| ran.fetch_add(1, Ordering::SeqCst)).await };
        assert!(tokio::time::timeout(Duration::ZERO, call).await.is_err());
        assert!(pool.owner.0.queue.lock().waiting.is_empty(), "nothing is left behind in the queue");
    }
    drop(release);
    task.await.unwrap();
    assert_eq!(pool.place().unwrap().run(|_| "next").await, Ok("next"));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_no_thread() {
    let pool = Pool::start(CHEAP, 1, 1).unwrap();
    let place = pool.place().unwrap();
    assert_eq!(place.run(|_| panic!("on purpose")).await, Err::<(), _>(Stopped));
    assert_eq!(place.run(|_| 7).await, Ok(7));
}

#[tokio::test]
async fn work_that_waits_when_the_pool_ends_is_answered() {
    let pool = Pool::start(CHEAP, 1, 4).unwrap();
    let (release, task) = occupy(&pool).await;
    let place = pool.place().unwrap();
    let waiting = tokio::spawn(async move { place.run(|_| ()).await });
    tokio::task::yield_now().await;
    drop(pool);
    assert_eq!(waiting.await.unwrap(), Err(Stopped));
    drop(release);
    task.await.unwrap();
}

#[tokio::test]
async fn answers_before_a_queue_are_given_out_together_and_none_is_left_behind() {
    let pool = Pool::start_patient(CHEAP, 1, 8, Duration::from_secs(3600)).unwrap();
    let (release, task) = occupy(&pool).await;
    let held = |pool: &Pool| pool.owner.0.queue.lock().answers.len();
    let call = |work: Box<dyn FnOnce(&mut Hasher) + Send>| {
        let place = pool.place().unwrap();
        tokio::spawn(async move { place.run(work).await })
    };
    let first = call(Box::new(|_| ()));
    let (unblock, blocked) = mpsc::channel::<()>();
    let second = call(Box::new(move |_| {
        let _released = blocked.recv();
    }));
    let behind: Vec<_> = (0..6).map(|_| call(Box::new(|_| ()))).collect();
    while pool.owner.0.queue.lock().waiting.len() < 8 {
        tokio::task::yield_now().await;
    }
    // Before a queue of eight: the answers to the first two wait, while the third is worked on.
    drop(release);
    while pool.begun() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(held(&pool), 2);
    assert!(!first.is_finished() && !task.is_finished());
    // Whoever they waited for goes away.
    for call in behind {
        call.abort();
        let _aborted = call.await;
    }
    drop(unblock);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(()), Ok(())));
    task.await.unwrap();
    assert_eq!(held(&pool), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_threads_run_at_low_priority() {
    let own = rustix::process::getpriority_process(None).unwrap();
    let pool = Pool::start(CHEAP, 1, 1).unwrap();
    let place = pool.place().unwrap();
    let niceness = place.run(|_| rustix::process::getpriority_process(None).unwrap()).await.unwrap();
    assert_eq!(niceness, (own + NICENESS).min(NICENESS_MAX), "begun at {own}");
    assert_eq!(rustix::process::getpriority_process(None).unwrap(), own, "calls keep theirs");
}

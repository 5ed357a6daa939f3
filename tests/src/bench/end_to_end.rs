//! Messages at a steady rate: from the intended send to the receiver's parse, acknowledged on the way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::report::{Latencies, Report, Usage};
use super::sends::{Seen, Sender, listen, pairs};
use super::wire::Connection;
use super::{Target, floor};

/// The rate and its time.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Messages a second
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// For how long, after two seconds of warming up
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// How many pairs of people
    #[arg(long, default_value_t = 64)]
    pairs: usize,
    /// How many HTTP/2 connections the senders share, and as many the recipients
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// The length of each text in bytes
    #[arg(long, default_value_t = 100)]
    bytes: usize,
}

/// How often the clock is looked at.
const TICK_NANOS: i64 = 200_000;

pub(super) async fn run(options: Options, target: &Target) -> Result<Report, String> {
    let pairs = pairs(target, options.pairs).await;
    let began = Instant::now();
    let seen = Seen::new();
    let per_connection = options.pairs.div_ceil(options.connections).max(1);
    let mut senders = Vec::new();
    for chunk in pairs.chunks(per_connection) {
        let sending = Connection::open(target.address).await?;
        let mut receiving = Connection::open(target.address).await?;
        for (from, to, conversation) in chunk {
            listen(&mut receiving, to, began, Arc::clone(&seen)).await?;
            senders.push((sending.clone(), Sender::new(from, conversation, options.bytes)));
        }
    }

    // Message number n is meant to go out at n / rate; the first two seconds are not counted.
    let warm = Duration::from_secs(2);
    let origin = began.elapsed();
    let last = origin + warm + Duration::from_secs(options.seconds);
    let interval = Duration::from_nanos(1_000_000_000 / options.rate.max(1));
    let next = Rc::new(Cell::new(0_u32));
    let due = Arc::new(Semaphore::new(0));
    let answered = Rc::new(RefCell::new(Latencies::new()));
    let answered_in_all = Rc::new(Cell::new(0_u64));
    let failed: Rc<RefCell<Option<String>>> = Rc::default();
    let senders = Rc::new(senders);
    let run = u128::from(rand::random::<u64>()) << 64;
    let tasks = LocalSet::new();
    // Enough loops that one is free when a message is due, unless answers take more than a second.
    for _ in 0..options.rate.clamp(64, 4_096) {
        let (next, due, answered) = (Rc::clone(&next), Arc::clone(&due), Rc::clone(&answered));
        let (senders, failed, answered_in_all) = (Rc::clone(&senders), Rc::clone(&failed), Rc::clone(&answered_in_all));
        tasks.spawn_local(async move {
            loop {
                let Ok(permit) = due.acquire().await else { return };
                permit.forget();
                let number = next.replace(next.get() + 1);
                let intended = origin + interval * number;
                let (connection, sender) = &senders[number as usize % senders.len()];
                let nanos = u64::try_from(intended.as_nanos()).unwrap_or_default();
                match sender.send(&mut connection.clone(), run + u128::from(number), nanos).await {
                    Ok(_) => {
                        answered.borrow_mut().add(began.elapsed().saturating_sub(intended));
                        answered_in_all.set(answered_in_all.get() + 1);
                    }
                    Err(error) => {
                        failed.borrow_mut().get_or_insert(error);
                        return;
                    }
                }
            }
        });
    }
    let mut report = Report::new("end to end");
    tasks
        .run_until(async {
            release(due, began, origin, interval, last);
            tokio::time::sleep(warm).await;
            let usage = Usage::begin(target);
            *answered.borrow_mut() = Latencies::new();
            seen.lock().unwrap_or_else(PoisonError::into_inner).delivered = Latencies::new();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            report.usage(&usage, target);
            // What is under way arrives, or is lost.
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.delivered_in_all >= answered_in_all.get() {
                    break;
                }
            }
        })
        .await;
    if let Some(error) = failed.take() {
        return Err(format!("a send failed: {error}"));
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broken) = &seen.broken {
        return Err(format!("a stream broke: {broken}"));
    }
    report.figure("intended rate", options.rate as f64, "/s");
    report.figure("answered", answered.borrow().count() as f64 / options.seconds as f64, "/s");
    report.latencies("intended send to answer", &answered.borrow());
    report.latencies("intended send to parse", &seen.delivered);
    let missing = answered_in_all.get().saturating_sub(seen.delivered_in_all);
    report.figure("answered and not delivered", missing as f64, "messages");
    report.figure("acknowledgements answered", seen.acknowledged as f64, "in all");
    if target.own {
        report.latencies("the disk's fdatasync", &floor::fdatasync(target.world.data(), 500)?);
    }
    Ok(report)
}

/// Releases messages as they are due, on a thread of its own: the kernel sleeps finer than the runtime, which counts
/// milliseconds.
fn release(due: Arc<Semaphore>, began: Instant, origin: Duration, interval: Duration, last: Duration) {
    std::thread::spawn(move || {
        let mut released = 0;
        loop {
            let now = began.elapsed();
            if now >= last {
                return;
            }
            let owed = (now - origin).as_nanos() / interval.as_nanos().max(1) + 1;
            let owed = usize::try_from(owed).unwrap_or(usize::MAX);
            due.add_permits(owed - released);
            released = owed;
            let tick = rustix::thread::Timespec { tv_sec: 0, tv_nsec: TICK_NANOS };
            // Woken early by a signal it only looks at the clock once more.
            let _ = rustix::thread::nanosleep(&tick);
        }
    });
}

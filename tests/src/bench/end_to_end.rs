//! Messages at a steady rate: from the intended send to the receiver's parse, acknowledged on the way.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::report::{Latencies, Report, Usage};
use super::sends::{Run, Seen, Sender, Sending, listen, pairs, why_refused};
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
    let run = Run::default();
    let answered_in_all = Rc::new(Cell::new(0_u64));
    let tasks = LocalSet::new();
    let per_connection = options.pairs.div_ceil(options.connections).max(1);
    let mut sendings = Vec::new();
    for chunk in pairs.chunks(per_connection) {
        let people = chunk.iter().map(|(_, to, _)| to).collect();
        tasks.spawn_local(listen(target, people, began, Rc::clone(&seen)).await?);
        let senders =
            chunk.iter().map(|(from, _, conversation)| Sender::new(from, conversation, options.bytes)).collect();
        sendings.push(Sending::open(target, senders, began).await?);
    }

    // Message number n is meant to go out at n / rate; the first two seconds are not counted.
    let warm = Duration::from_secs(2);
    let plan = Plan {
        began,
        origin: began.elapsed(),
        interval: Duration::from_nanos(1_000_000_000 / options.rate.max(1)),
        last: began.elapsed() + warm + Duration::from_secs(options.seconds),
        connections: sendings.len() as u64,
        first_id: u128::from(rand::random::<u64>()) << 64,
    };
    let due = sendings.iter().map(|_| Arc::new(Notify::new())).collect::<Vec<_>>();
    for (number, sending) in sendings.into_iter().enumerate() {
        let (due, run, answered_in_all) = (Arc::clone(&due[number]), run.clone(), Rc::clone(&answered_in_all));
        tasks.spawn_local(async move {
            if let Err(error) = send_when_due(sending, number as u64, plan, &due, &run, &answered_in_all).await {
                run.failed.borrow_mut().get_or_insert(error);
            }
        });
    }
    let mut report = Report::new("end to end");
    tasks
        .run_until(async {
            release(due, plan);
            tokio::time::sleep(warm).await;
            let usage = Usage::begin(target);
            *run.answered.borrow_mut() = Latencies::new();
            seen.borrow_mut().delivered = Latencies::new();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            report.usage(&usage, target);
            // What is under way arrives, or is lost.
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if seen.borrow().delivered_in_all >= answered_in_all.get() {
                    break;
                }
            }
        })
        .await;
    if let Some(error) = run.failed.take() {
        return Err(why_refused(target, &pairs, error).await);
    }
    let seen = seen.borrow();
    if let Some(broken) = &seen.broken {
        return Err(format!("a stream broke: {broken}"));
    }
    report.figure("intended rate", options.rate as f64, "/s");
    report.figure("answered", run.answered.borrow().count() as f64 / options.seconds as f64, "/s");
    report.latencies("intended send to answer", &run.answered.borrow());
    report.latencies("intended send to parse", &seen.delivered);
    let missing = answered_in_all.get().saturating_sub(seen.delivered_in_all);
    report.figure("answered and not delivered", missing as f64, "messages");
    report.figure("acknowledgements answered", seen.acknowledged as f64, "in all");
    if target.own {
        report.latencies("the disk's fdatasync", &floor::fdatasync(target.world.data(), 500)?);
    }
    Ok(report)
}

/// When which message is meant to go out: number n at `origin + n * interval`, over connection n modulo their count.
#[derive(Clone, Copy)]
struct Plan {
    began: Instant,
    origin: Duration,
    interval: Duration,
    last: Duration,
    connections: u64,
    first_id: u128,
}

impl Plan {
    fn meant(&self, number: u64) -> Duration {
        self.origin + Duration::from_nanos(u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX) * number)
    }
}

async fn send_when_due(
    mut sending: Sending,
    connection: u64,
    plan: Plan,
    due: &Notify,
    run: &Run,
    answered_in_all: &Cell<u64>,
) -> Result<(), String> {
    let mut number = connection;
    loop {
        let now = plan.began.elapsed();
        while plan.meant(number) <= now.min(plan.last) && sending.may_send() {
            let sender = usize::try_from(number / plan.connections).unwrap_or_default();
            sending.send(sender, plan.first_id + u128::from(number), plan.meant(number));
            number += plan.connections;
        }
        sending.flush().await?;
        tokio::select! {
            () = due.notified() => {}
            filled = sending.fill() => {
                filled?;
                let mut answered = run.answered.borrow_mut();
                sending.answers(|_, took| {
                    answered.add(took);
                    answered_in_all.set(answered_in_all.get() + 1);
                })?;
            }
        }
    }
}

/// Wakes each connection when a message of it is due, on a thread of its own: the kernel sleeps finer than the runtime, which
/// counts milliseconds.
fn release(due: Vec<Arc<Notify>>, plan: Plan) {
    std::thread::spawn(move || {
        let mut number = 0;
        loop {
            let now = plan.began.elapsed();
            if now >= plan.last {
                return;
            }
            while plan.meant(number) <= now {
                due[usize::try_from(number % plan.connections).unwrap_or_default()].notify_one();
                number += 1;
            }
            let tick = rustix::thread::Timespec { tv_sec: 0, tv_nsec: TICK_NANOS };
            // Woken early by a signal it only looks at the clock once more.
            let _ = rustix::thread::nanosleep(&tick);
        }
    });
}

//! Messages at a steady rate: from the intended send to the receiver's parse, acknowledged on the way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::report::{Latencies, Report, Usage};
use super::sends::{Run, Seen, Sender, Sending, listen, pairs, why_refused};
use super::{Target, floor};
use crate::person::Person;

/// The rate and its time.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Messages a second
    #[arg(long, default_value_t = 5_000)]
    pub(super) rate: u64,
    /// For how long, after two seconds of warming up
    #[arg(long, default_value_t = 15)]
    pub(super) seconds: u64,
    /// How many pairs of people
    #[arg(long, default_value_t = 64)]
    pub(super) pairs: usize,
    /// How many HTTP/2 connections the senders share, and as many the recipients
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// The length of each text in bytes
    #[arg(long, default_value_t = 100)]
    pub(super) bytes: usize,
}

/// What is not counted at the beginning.
const WARM: Duration = Duration::from_secs(2);

/// How often the clock is looked at.
const TICK_NANOS: i64 = 200_000;

pub(super) async fn run(options: Options, target: &Target) -> Result<Report, String> {
    let pairs = pairs(target, options.pairs).await;
    let tasks = LocalSet::new();
    let seconds = WARM + Duration::from_secs(options.seconds);
    let steady = Steady::begin(target, &pairs, &options, seconds, &tasks).await?;
    let mut report = Report::new("end to end");
    tasks
        .run_until(async {
            tokio::time::sleep(WARM).await;
            let usage = Usage::begin(target);
            steady.counts_from_now();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            report.usage(&usage, target);
            steady.ends().await;
        })
        .await;
    if let Some(error) = steady.run.failed.take() {
        return Err(why_refused(target, &pairs, error).await);
    }
    let seen = steady.seen.borrow();
    if let Some(broken) = &seen.broken {
        return Err(format!("a stream broke: {broken}"));
    }
    report.figure("intended rate", options.rate as f64, "/s");
    report.figure("answered", steady.run.answered.borrow().count() as f64 / options.seconds as f64, "/s");
    report.latencies("intended send to answer", &steady.run.answered.borrow());
    report.latencies("intended send to parse", &seen.delivered);
    let missing = steady.answered_in_all.get().saturating_sub(seen.delivered_in_all);
    report.figure("answered and not delivered", missing as f64, "messages");
    report.figure("acknowledgements answered", seen.acknowledged as f64, "in all");
    if target.own {
        report.latencies("the disk's fdatasync", &floor::fdatasync(target.world.data(), 500)?);
    }
    Ok(report)
}

/// Messages that go out at a steady rate, and recipients who listen.
pub(super) struct Steady {
    pub(super) seen: Rc<RefCell<Seen>>,
    pub(super) run: Run,
    answered_in_all: Rc<Cell<u64>>,
}

impl Steady {
    /// Begins now, for so long, with what `tasks` runs.
    pub(super) async fn begin(
        target: &Target,
        pairs: &[(Person, Person, String)],
        options: &Options,
        lasting: Duration,
        tasks: &LocalSet,
    ) -> Result<Self, String> {
        let began = Instant::now();
        let steady = Self { seen: Seen::new(), run: Run::default(), answered_in_all: Rc::default() };
        let per_connection = pairs.len().div_ceil(options.connections).max(1);
        let mut sendings = Vec::new();
        for (number, chunk) in pairs.chunks(per_connection).enumerate() {
            let people = chunk.iter().map(|(_, to, _)| to).collect();
            tasks.spawn_local(listen(target, number, people, began, Rc::clone(&steady.seen)).await?);
            let senders =
                chunk.iter().map(|(from, _, conversation)| Sender::new(from, conversation, options.bytes)).collect();
            sendings.push(Sending::open(target, number, senders, began).await?);
        }
        // Message number n is meant to go out at n / rate.
        let plan = Plan {
            began,
            origin: began.elapsed(),
            interval: Duration::from_nanos(1_000_000_000 / options.rate.max(1)),
            last: began.elapsed() + lasting,
            connections: sendings.len() as u64,
            first_id: u128::from(rand::random::<u64>()) << 64,
        };
        let due = sendings.iter().map(|_| Arc::new(Notify::new())).collect::<Vec<_>>();
        for (number, sending) in sendings.into_iter().enumerate() {
            let (due, run, answered) =
                (Arc::clone(&due[number]), steady.run.clone(), Rc::clone(&steady.answered_in_all));
            tasks.spawn_local(async move {
                if let Err(error) = send_when_due(sending, number as u64, plan, &due, &run, &answered).await {
                    run.failed.borrow_mut().get_or_insert(error);
                }
            });
        }
        release(due, plan);
        Ok(steady)
    }

    /// Forgets the latencies so far.
    pub(super) fn counts_from_now(&self) {
        *self.run.answered.borrow_mut() = Latencies::new();
        self.seen.borrow_mut().delivered = Latencies::new();
    }

    /// Waits for what is under way; it arrives, or is lost.
    async fn ends(&self) {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.seen.borrow().delivered_in_all >= self.answered_in_all.get() {
                break;
            }
        }
    }
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

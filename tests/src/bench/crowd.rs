//! Many devices at once: those that come back to a long backlog beside live deliveries, and a large group that hears one message.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::Target;
use super::end_to_end::{self, Steady};
use super::report::{Latencies, Report, Usage};
use super::sends::{Seen, Sender, Sending, listen, pairs};
use super::small::fill;
use crate::cluster::Cluster;
use crate::person::Person;

/// Who comes back, and to what.
#[derive(Clone, Debug, clap::Args)]
pub struct Reconnect {
    /// How many devices open their streams at once
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// How many events each of them has not seen
    #[arg(long, default_value_t = 10_000)]
    backlog: u64,
    /// Live messages a second beside them
    #[arg(long, default_value_t = 500)]
    rate: u64,
}

/// How large the group is.
#[derive(Clone, Debug, clap::Args)]
pub struct Group {
    /// How many members it has, all of them online
    #[arg(long, default_value_t = 1_000)]
    members: usize,
    /// How many messages are sent, one after the other
    #[arg(long, default_value_t = 50)]
    sends: u64,
}

/// How long a scenario may take until it counts as stuck.
const STUCK: Duration = Duration::from_secs(300);

/// How many devices share a connection; a browser would have one for itself.
const DEVICES_A_CONNECTION: usize = 4;

pub(super) async fn reconnect(options: Reconnect, target: &Target) -> Result<Report, String> {
    let people = target.people(options.devices + 1).await;
    let (writer, readers) = people.split_first().ok_or("nobody is there")?;
    let group = writer.creates_group("backlog", &readers.iter().collect::<Vec<_>>()).await;
    let began = Instant::now();
    let mut filling = Sending::open(target, 0, vec![Sender::new(writer, &group.name, 100)], began).await?;
    fill(&mut filling, options.backlog).await?;

    let live = pairs(target, 64).await;
    let tasks = LocalSet::new();
    let load = end_to_end::Options { rate: options.rate, seconds: 0, pairs: live.len(), connections: 16, bytes: 100 };
    let steady = Steady::begin(target, &live, &load, STUCK, &tasks).await?;
    let back = Seen::new();
    let mut report = Report::new("devices that come back to a backlog");
    let wanted = options.devices as u64 * options.backlog;
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            steady.counts_from_now();
            tokio::time::sleep(Duration::from_secs(5)).await;
            report.latencies("live delivery before", &steady.seen.borrow().delivered);
            steady.counts_from_now();
            let (usage, back_at) = (Usage::begin(target), Instant::now());
            for (number, chunk) in readers.chunks(DEVICES_A_CONNECTION).enumerate() {
                tokio::task::spawn_local(
                    listen(target, number, chunk.iter().collect(), began, Rc::clone(&back)).await?,
                );
            }
            while back.borrow().delivered_in_all < wanted {
                check(&back)?;
                check(&steady.seen)?;
                if back_at.elapsed() > STUCK {
                    return Err(format!("{} of {wanted} events came", back.borrow().delivered_in_all));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            report.usage(&usage, target);
            report.latencies("live delivery meanwhile", &steady.seen.borrow().delivered);
            report.figure("all caught up after", back_at.elapsed().as_secs_f64(), "s");
            report.figure("backlog delivered", wanted as f64 / back_at.elapsed().as_secs_f64(), "events/s");
            Ok::<(), String>(())
        })
        .await?;
    Ok(report)
}

pub(super) async fn group(options: Group, target: &Target) -> Result<Report, String> {
    let people = target.people(options.members).await;
    let (writer, readers) = people.split_first().ok_or("nobody is there")?;
    let group = writer.creates_group("everyone", &readers.iter().collect::<Vec<_>>()).await;
    let began = Instant::now();
    let seen = Seen::new();
    let tasks = LocalSet::new();
    for (number, chunk) in readers.chunks(DEVICES_A_CONNECTION).enumerate() {
        let people: Vec<&Person> = chunk.iter().collect();
        tasks.spawn_local(listen(target, number, people, began, Rc::clone(&seen)).await?);
    }
    let mut sending = Sending::open(target, 0, vec![Sender::new(writer, &group.name, 100)], began).await?;
    let mut report = Report::new("a large group");
    let mut all = Latencies::new();
    let before = Written::until_quiet(target).await;
    tasks
        .run_until(async {
            // What the streams are told at their opening is not measured.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let first_id = u128::from(rand::random::<u64>()) << 64;
            for number in 0..options.sends {
                let wanted = seen.borrow().delivered_in_all + readers.len() as u64;
                let sent = Instant::now();
                sending.send(0, first_id + u128::from(number), sending.now());
                sending.flush().await?;
                while seen.borrow().delivered_in_all < wanted {
                    check(&seen)?;
                    if sent.elapsed() > STUCK {
                        return Err("a message did not reach everyone".into());
                    }
                    tokio::task::yield_now().await;
                }
                all.add(sent.elapsed());
                while sending.under_way() > 0 {
                    sending.fill().await?;
                    sending.answers(|_, _| {})?;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok::<(), String>(())
        })
        .await?;
    report.figure("members online", readers.len() as f64, "besides the sender");
    report.latencies("a send until everyone has it", &all);
    report.latencies("a send until one has it", &seen.borrow().delivered);
    if let (Some(before), Some(after)) = (before, Written::until_quiet(target).await) {
        let each = |before: f64, after: f64| (after - before) / options.sends as f64;
        report.figure("rows inserted a send", each(before.inserted, after.inserted), "in all stores");
        report.figure("rows updated a send", each(before.updated, after.updated), "in all stores");
        report.figure("write-ahead log a send", each(before.log_bytes, after.log_bytes) / 1024.0, "KiB");
    }
    Ok(report)
}

fn check(seen: &RefCell<Seen>) -> Result<(), String> {
    seen.borrow().broken.as_ref().map_or(Ok(()), |broken| Err(format!("a stream broke: {broken}")))
}

/// What was written to the PostgreSQL of a cluster.
#[derive(Debug, PartialEq)]
struct Written {
    inserted: f64,
    updated: f64,
    log_bytes: f64,
}

impl Written {
    /// Once the figures do not move any more: PostgreSQL counts late.
    async fn until_quiet(target: &Target) -> Option<Self> {
        let cluster = target.world.cluster()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        Self::now(cluster).await
    }

    async fn now(cluster: &Cluster) -> Option<Self> {
        let postgres = cluster.postgres();
        let counted = postgres
            .sql(
                &postgres.superuser_url("postgres"),
                "SELECT sum(tup_inserted), sum(tup_updated), pg_current_wal_lsn() - '0/0' FROM pg_stat_database",
            )
            .await;
        let mut columns = counted.trim().split('|').filter_map(|column| column.parse().ok());
        Some(Self { inserted: columns.next()?, updated: columns.next()?, log_bytes: columns.next()? })
    }
}

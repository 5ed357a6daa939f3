//! The smaller scenarios: one caller, the start, refresh grants, a long history.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{IssueTokenResponse, RefreshTokenGrant};
use tokio::task::LocalSet;

use super::report::{Latencies, Report, Usage};
use super::sends::{Sender, Sending, pairs};
use super::wire::{Connection, Method, decode, frame};
use super::{Target, floor, own_world};
use crate::cluster::Service;
use crate::person::cli_asks;

/// How often one caller sends.
#[derive(Clone, Debug, clap::Args)]
pub struct OneCaller {
    /// How many messages
    #[arg(long, default_value_t = 5_000)]
    count: u64,
}

/// How often the server is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Startup {
    /// How often on a new data folder and again on a used one
    #[arg(long, default_value_t = 10)]
    count: u64,
}

/// How many sessions refresh.
#[derive(Clone, Debug, clap::Args)]
pub struct Refresh {
    /// For how long, after a second of warming up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many sessions, each with one refresh under way
    #[arg(long, default_value_t = 256)]
    sessions: usize,
    /// How many connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
}

/// How long the history is.
#[derive(Clone, Debug, clap::Args)]
pub struct History {
    /// How many messages the long conversation has
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How many sends are measured in each
    #[arg(long, default_value_t = 1_000)]
    sends: u64,
}

/// Sends one message after the other, by turns of the senders, and measures those of each.
async fn one_after_the_other<const N: usize>(sending: &mut Sending, count: u64) -> Result<[Latencies; N], String> {
    let run = u128::from(rand::random::<u64>()) << 64;
    let mut latencies = [(); N].map(|()| Latencies::new());
    for number in 0..count {
        sending.send(usize::try_from(number).unwrap_or_default(), run + u128::from(number), sending.now());
        sending.flush().await?;
        while sending.under_way() > 0 {
            sending.fill().await?;
            sending.answers(|who, took| latencies[who % N].add(took))?;
        }
    }
    Ok(latencies)
}

pub(super) async fn one_caller(options: OneCaller, target: &Target) -> Result<Report, String> {
    let pairs = pairs(target, 1).await;
    let senders = pairs.iter().map(|(from, _, conversation)| Sender::new(from, conversation, 100)).collect();
    let mut sending = Sending::open(target, 0, senders, Instant::now()).await?;
    let [_warm] = one_after_the_other(&mut sending, 200).await?;
    let mut report = Report::new("one caller");
    let usage = Usage::begin(target);
    let [latencies] = one_after_the_other(&mut sending, options.count).await?;
    report.usage(&usage, target);
    report.latencies("answer to a send", &latencies);
    if target.own {
        report.latencies("the disk's fdatasync", &floor::fdatasync(target.world.data(), 500)?);
    }
    Ok(report)
}

pub(super) async fn startup(options: Startup) -> Result<Report, String> {
    let (mut new, mut again) = (Latencies::new(), Latencies::new());
    for _ in 0..options.count {
        let world = own_world().try_start().await?;
        new.add(world.with_server(crate::Server::started_in));
        world.person("bench").await;
        world.stop().await;
        world.start_again().await;
        again.add(world.with_server(crate::Server::started_in));
    }
    let mut report = Report::new("startup");
    report.latencies("on a new data folder", &new);
    report.latencies("on a used data folder", &again);
    Ok(report)
}

pub(super) async fn refresh(options: Refresh, target: &Target) -> Result<Report, String> {
    let people = target.people(options.sessions).await;
    let method = Method::new("/flaghoist.auth.v1.TokenService/IssueToken", "");
    let answered = Rc::new(RefCell::new(Latencies::new()));
    let failed: Rc<RefCell<Option<String>>> = Rc::default();
    let stopped = Rc::new(Cell::new(false));
    let tasks = LocalSet::new();
    for (number, chunk) in people.chunks(options.sessions.div_ceil(options.connections).max(1)).enumerate() {
        let connection = Connection::open(target.place(Service::Auth, number)).await?;
        for person in chunk {
            let (mut connection, method) = (connection.clone(), method.clone());
            let (answered, failed, stopped) = (Rc::clone(&answered), Rc::clone(&failed), Rc::clone(&stopped));
            let mut refresh_token = person.tokens.refresh_token.clone();
            tasks.spawn_local(async move {
                while !stopped.get() {
                    let began = Instant::now();
                    let grant = Grant::RefreshToken(RefreshTokenGrant { refresh_token: refresh_token.clone() });
                    let answer = connection.call(&method, frame(&cli_asks(grant))).await;
                    match answer.and_then(decode::<IssueTokenResponse>) {
                        Ok(IssueTokenResponse { tokens: Some(tokens) }) => {
                            refresh_token = tokens.refresh_token;
                            answered.borrow_mut().add(began.elapsed());
                        }
                        other => {
                            failed.borrow_mut().get_or_insert(format!("{other:?}"));
                            return;
                        }
                    }
                }
            });
        }
    }
    let mut report = Report::new("refresh grants");
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *answered.borrow_mut() = Latencies::new();
            let (usage, began) = (Usage::begin(target), Instant::now());
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            let rate = answered.borrow().count() as f64 / began.elapsed().as_secs_f64();
            report.figure("refreshes", rate, "/s");
            report.usage(&usage, target);
            stopped.set(true);
        })
        .await;
    let _ = tokio::time::timeout(Duration::from_secs(5), tasks).await;
    if let Some(error) = failed.take() {
        return Err(format!("a refresh failed: {error}"));
    }
    report.latencies("answer to a refresh", &answered.borrow());
    Ok(report)
}

pub(super) async fn history(options: History, target: &Target) -> Result<Report, String> {
    let pairs = pairs(target, 2).await;
    let [(old_from, _, old), (new_from, _, new)] = &pairs[..] else { return Err("two pairs are needed".into()) };
    let began = Instant::now();
    let mut filling = Sending::open(target, 0, vec![Sender::new(old_from, old, 100)], began).await?;
    fill(&mut filling, options.events).await?;
    // By turns, so that both meet the same moments of the disk.
    let senders = vec![Sender::new(old_from, old, 100), Sender::new(new_from, new, 100)];
    let mut sending = Sending::open(target, 0, senders, began).await?;
    let [in_old, in_new] = one_after_the_other(&mut sending, 2 * options.sends).await?;
    let mut report = Report::new("history");
    report.figure("events before", options.events as f64, "in the long conversation");
    report.latencies("in the long conversation", &in_old);
    report.latencies("in a new one", &in_new);
    report.figure("cost of the long one", in_old.mean_ms() / in_new.mean_ms(), "times the new one's");
    Ok(report)
}

/// Sends until the conversation is long, many at once.
pub(super) async fn fill(sending: &mut Sending, count: u64) -> Result<(), String> {
    let run = u128::from(rand::random::<u64>()) << 64;
    let mut next = 0;
    while next < count || sending.under_way() > 0 {
        while next < count && sending.under_way() < 96 && sending.may_send() {
            sending.send(0, run + u128::from(next), sending.now());
            next += 1;
        }
        sending.flush().await?;
        sending.fill().await?;
        sending.answers(|_, _| {}).map_err(|error| format!("filling the conversation: {error}"))?;
    }
    Ok(())
}

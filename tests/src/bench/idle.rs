//! The memory that the server spends on a stream with nothing to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::{Heartbeat, Open, ReceiveRequest};

use super::Target;
use super::report::Report;
use super::wire::{Connection, Method, frame};
use crate::cluster::Service;

/// How many streams and over how many connections.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many streams
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// How many of them share a connection
    #[arg(long, default_value_t = 1)]
    per_connection: usize,
    /// How many devices each person has
    #[arg(long, default_value_t = 20)]
    devices: usize,
    /// How long the streams are left alone before the server is weighed
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

pub(super) async fn run(options: Options, target: &Target) -> Result<Report, String> {
    if !target.own {
        return Err("the memory of a server that was not started here cannot be seen".into());
    }
    let people = target.people(options.count.div_ceil(options.devices)).await;
    let resident = || target.world.with_server(crate::Server::resident_bytes);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident();

    let mut speakers = Vec::with_capacity(options.count);
    let broken: Arc<Mutex<Option<String>>> = Arc::default();
    let mut connection = None;
    for number in 0..options.count {
        if number % options.per_connection == 0 {
            connection = Some(Connection::open(target.place(Service::Receiver, 0)).await?);
        }
        let connection = connection.as_mut().ok_or("no connection")?;
        let person = &people[number / options.devices];
        let method = Method::new("/flaghoist.receiver.v1.ReceiverService/Receive", &person.token());
        let device = format!("users/me/devices/d{}", number % options.devices);
        let open = ReceiveRequest { request: Some(Said::Open(Open { device, from: 0, window: 0 })) };
        let stream = connection.receive(&method, &open).await?;
        let (says, mut hears) = stream.split();
        speakers.push(says);
        let broken = Arc::clone(&broken);
        tokio::spawn(async move {
            let end = loop {
                match hears.data().await {
                    Some(Ok(chunk)) => {
                        let _ = hears.flow_control().release_capacity(chunk.len());
                    }
                    Some(Err(error)) => break error.to_string(),
                    None => break format!("it ended: {:?}", hears.trailers().await),
                }
            };
            broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        });
    }
    // Each says that it is there every ten seconds, spread over that time.
    let heartbeat = frame(&ReceiveRequest { request: Some(Said::Heartbeat(Heartbeat {})) });
    let steps = 100;
    let mut highest = 0;
    for step in 0..options.seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let turn = usize::try_from(step % steps).unwrap_or_default();
        for says in speakers.iter_mut().skip(turn).step_by(100) {
            says.send_data(heartbeat.clone(), false).map_err(|error| error.to_string())?;
        }
        highest = highest.max(resident());
    }
    if let Some(end) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(format!("a stream broke: {end}"));
    }
    let after = resident();
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / options.count as f64 / 1024.0;
    let mut report = Report::new("idle streams");
    report.figure("streams", options.count as f64, "open");
    report.figure("streams on a connection", options.per_connection as f64, "each");
    report.figure("server without streams", before as f64 / 1024.0 / 1024.0, "MiB");
    report.figure("server with streams", after as f64 / 1024.0 / 1024.0, "MiB");
    report.figure("for each stream", each(after), "KiB");
    report.figure("for each stream at most", each(highest), "KiB");
    Ok(report)
}

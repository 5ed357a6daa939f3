//! What the issuer answers to everybody from memory: its JWK set and its metadata, over HTTP/1.1 on connections that stay open.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::super::report::{Latencies, Report, Usage};
use super::super::{Target, own_world};
use super::Options;
use crate::world::World;

/// The documents.
const DOCUMENTS: [(&str, &str); 2] = [("JWK sets", "/oauth2/jwks"), ("metadata", "/.well-known/openid-configuration")];

/// More than either of them has, with its head.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

pub(super) async fn run(options: &Options) -> Result<Report, String> {
    let world = own_world().embedded().try_start().await?;
    let mut report = Report::new("JWK set and metadata");
    for (what, path) in DOCUMENTS {
        measure(&world, options, &mut report, what, path).await?;
    }
    Ok(report)
}

/// Answers a second, with one request under way on each connection.
async fn measure(world: &World, options: &Options, report: &mut Report, what: &str, path: &str) -> Result<(), String> {
    let target = Target { world: world.clone(), address: world.grpc().ok_or("the server is gone")?, own: true };
    let answers = Rc::new(RefCell::new(Latencies::new()));
    let failed: Rc<RefCell<Option<String>>> = Rc::default();
    let stop = Rc::new(Cell::new(false));
    let tasks = LocalSet::new();
    for _ in 0..options.connections.max(1) {
        let (answers, failed, stop) = (Rc::clone(&answers), Rc::clone(&failed), Rc::clone(&stop));
        let (address, request) = (world.http(), format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        tasks.spawn_local(async move {
            if let Err(error) = ask(address, &request, &answers, &stop).await {
                failed.borrow_mut().get_or_insert(error);
            }
        });
    }
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *answers.borrow_mut() = Latencies::new();
            let (usage, began) = (Usage::begin(&target), Instant::now());
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            report.figure(what, answers.borrow().count() as f64 / began.elapsed().as_secs_f64(), "/s");
            report.usage(&usage, &target);
            stop.set(true);
        })
        .await;
    let _ = tokio::time::timeout(Duration::from_secs(5), tasks).await;
    if let Some(error) = failed.take() {
        return Err(format!("a request of {path} failed: {error}"));
    }
    report.latencies(&format!("{what}: one"), &answers.borrow());
    Ok(())
}

/// Asks one after the other until it is enough.
async fn ask(
    address: SocketAddr,
    request: &str,
    answers: &RefCell<Latencies>,
    stop: &Cell<bool>,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = TcpStream::connect(address).await.map_err(text)?;
    connection.set_nodelay(true).map_err(text)?;
    let mut answer = Vec::with_capacity(ANSWER_MAX_BYTES);
    while !stop.get() {
        let began = Instant::now();
        connection.write_all(request.as_bytes()).await.map_err(text)?;
        answer.clear();
        while !complete(&answer)? {
            if connection.read_buf(&mut answer).await.map_err(text)? == 0 {
                return Err("the connection was closed".into());
            }
        }
        answers.borrow_mut().add(began.elapsed());
    }
    Ok(())
}

/// Whether all of an answer is there, which has to be a good one.
fn complete(answer: &[u8]) -> Result<bool, String> {
    if answer.len() > ANSWER_MAX_BYTES {
        return Err("the answer is too long".into());
    }
    let Some(head_len) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..head_len]).map_err(|error| error.to_string())?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.ok_or("the answer does not say how long it is")?;
    Ok(answer.len() >= head_len + 4 + length)
}

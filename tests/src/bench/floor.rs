//! What the machine gives, for the figures beside which the others are read: the disk's fdatasync, and a tonic server that
//! does nothing but answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flaghoist_proto::send::v1::message_service_server::{MessageService, MessageServiceServer};
use flaghoist_proto::send::v1::{
    CreateMessageRequest, CreateMessageResponse, DeleteMessageRequest, DeleteMessageResponse, GetMessageRequest,
    GetMessageResponse, GetMessageStatusRequest, GetMessageStatusResponse, ListMessagesRequest, ListMessagesResponse,
    Message, UpdateMessageRequest, UpdateMessageResponse,
};
use tokio::task::LocalSet;
use tonic::{Request, Response, Status};

use super::frames::{Heard, Wire};
use super::report::{Latencies, Report};
use super::wire::Template;

/// What to look at.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// For how long the bare server is pressed
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How many calls are under way on each
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
}

/// Writes 4 KiB and waits for the disk, again and again.
pub(super) fn fdatasync(folder: &Path, count: usize) -> Result<Latencies, String> {
    let path = folder.join("fdatasync-probe");
    let mut file = std::fs::File::create(&path).map_err(|error| error.to_string())?;
    let mut latencies = Latencies::new();
    for _ in 0..count {
        let began = Instant::now();
        file.write_all(&[7; 4_096]).and_then(|()| file.sync_data()).map_err(|error| error.to_string())?;
        latencies.add(began.elapsed());
    }
    drop(file);
    // The folder goes with the run.
    let _ = std::fs::remove_file(path);
    Ok(latencies)
}

/// A server that answers a send with what was sent.
struct Echo;

#[tonic::async_trait]
impl MessageService for Echo {
    async fn create_message(
        &self,
        request: Request<CreateMessageRequest>,
    ) -> Result<Response<CreateMessageResponse>, Status> {
        let CreateMessageRequest { parent, request_id, text, metadata } = request.into_inner();
        let message = Message { name: parent, request_id, text, metadata, ..Message::default() };
        Ok(Response::new(CreateMessageResponse { message: Some(message), ..CreateMessageResponse::default() }))
    }

    async fn get_message(&self, _: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn list_messages(&self, _: Request<ListMessagesRequest>) -> Result<Response<ListMessagesResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn update_message(
        &self,
        _: Request<UpdateMessageRequest>,
    ) -> Result<Response<UpdateMessageResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn delete_message(
        &self,
        _: Request<DeleteMessageRequest>,
    ) -> Result<Response<DeleteMessageResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn get_message_status(
        &self,
        _: Request<GetMessageStatusRequest>,
    ) -> Result<Response<GetMessageStatusResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }
}

/// Serves the echo and prints its address; ends with standard input.
///
/// # Errors
/// When it cannot listen.
pub async fn serve_echo() -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("{address}");
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let closed = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let serving =
        tonic::transport::Server::builder().add_service(MessageServiceServer::new(Echo)).serve_with_incoming(incoming);
    tokio::select! {
        served = serving => served.map_err(|error| error.to_string()),
        _ = closed => Ok(()),
    }
}

pub(super) async fn run(options: Options) -> Result<Report, String> {
    let mut report = Report::new("floor");
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    report.latencies("the disk's fdatasync", &fdatasync(folder.path(), 1_000)?);

    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut echo = Command::new(this)
        .arg("echo-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdout = echo.stdout.take().ok_or("it was asked for")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
    let address = line.trim().parse().map_err(|error| format!("{line:?}: {error}"))?;

    let request = CreateMessageRequest {
        parent: "conversations/00000000-0000-0000-0000-000000000000".into(),
        request_id: "00000000000000000000000000000000".into(),
        text: "x".repeat(100),
        metadata: Default::default(),
    };
    let template = Template::new(&request);
    let answered = Rc::new(RefCell::new(Latencies::new()));
    let tasks = LocalSet::new();
    for _ in 0..options.connections {
        let mut wire = Wire::open(address).await?;
        let method = wire.named("/flaghoist.send.v1.MessageService/CreateMessage", &"x".repeat(400));
        let (template, answered) = (template.clone(), Rc::clone(&answered));
        tasks.spawn_local(async move {
            let mut began = HashMap::new();
            let mut due = options.in_flight;
            loop {
                let now = Instant::now();
                for _ in 0..std::mem::take(&mut due) {
                    began.insert(wire.call(method, template.bytes()), now);
                }
                let filled = async {
                    wire.flush().await?;
                    wire.fill().await
                };
                let heard = |stream, heard: Heard<'_>| {
                    if matches!(heard, Heard::End)
                        && let Some(began) = began.remove(&stream)
                    {
                        answered.borrow_mut().add(began.elapsed());
                        due += 1;
                    }
                };
                if filled.await.and_then(|()| wire.each(heard)).is_err() {
                    return;
                }
            }
        });
    }
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *answered.borrow_mut() = Latencies::new();
            let began = Instant::now();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            let rate = answered.borrow().count() as f64 / began.elapsed().as_secs_f64();
            report.figure("a bare tonic echo", rate, "calls/s");
        })
        .await;
    drop(tasks);
    report.latencies("answer of the echo", &answered.borrow());
    drop(echo.stdin.take());
    let _ = echo.wait();
    Ok(report)
}

//! What is thrown at the ports of a server: HTTP by bytes and forms, gRPC by bytes and messages.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flaghoist_proto::METHODS;
use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::{Open, ReceiveRequest};
use flaghoist_proto::send::v1::CreateMessageRequest;
use prost::Message as _;
use rand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Tried;
use super::mutation::mutate;
use crate::person::Person;
use crate::world::World;
use crate::{http1, request_id};

pub(super) struct Remote {
    world: World,
    alice: Person,
    conversation: String,
    seeds: Vec<Vec<u8>>,
}

const FORM: &str = "grant_type=refresh_token&refresh_token=abc%20def&client_id=flaghoist-cli&scope=chat.read";

impl Remote {
    pub(super) async fn new(world: &World) -> Self {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let conversation = alice.direct(&bob).await;
        let send = CreateMessageRequest {
            parent: conversation.clone(),
            request_id: request_id(),
            text: "hello".into(),
            metadata: [("k".to_owned(), "v".to_owned())].into(),
        };
        let open = Open { device: "users/me/devices/fuzz".into(), from: 1, window: 5 };
        let open = ReceiveRequest { request: Some(Said::Open(open)) };
        let seeds = vec![send.encode_to_vec(), open.encode_to_vec(), Vec::new(), vec![0x0a, 0xff, 0xff, 0xff, 0x7f]];
        Self { world: world.clone(), alice, conversation, seeds }
    }

    pub(super) async fn try_some(&self, random: &mut impl Rng, tried: &mut Tried) -> Result<(), String> {
        self.try_http(random).await;
        tried.http += 2;
        for _ in 0..20 {
            self.try_message(random).await?;
        }
        tried.grpc += 20;
        self.try_raw(random).await;
        tried.grpc += 1;
        if random.random_bool(0.02) {
            self.check_alive().await?;
        }
        Ok(())
    }

    /// A form for the token endpoint and a request that is no request.
    async fn try_http(&self, random: &mut impl Rng) {
        let form = mutate(random, FORM.as_bytes(), 4_000);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let paths = ["/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"];
        let path = paths[random.random_range(0..paths.len())];
        let _ = http1::request(self.world.http(), "POST", path, &headers, &form).await;
        let whole = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{FORM}", FORM.len());
        throw(self.world.http(), &mutate(random, whole.as_bytes(), 4_000)).await;
    }

    /// A changed message for any method, in a frame that is right.
    async fn try_message(&self, random: &mut impl Rng) -> Result<(), String> {
        let method = METHODS[random.random_range(0..METHODS.len())];
        // Ending one's own session or account would end the fuzzing.
        let ends = ["Delete", "Revoke", "ChangePassword", "Disabled"].iter().any(|word| method.path.contains(word));
        if ends || method.streaming {
            return Ok(());
        }
        let seed = &self.seeds[random.random_range(0..self.seeds.len())];
        let body = mutate(random, seed, 4_000);
        let call = self.alice.calls().raw(method.path, body.clone());
        match tokio::time::timeout(Duration::from_secs(10), call).await {
            Err(_) => Err(format!("{} does not answer {body:?}", method.path)),
            Ok(Err(status)) if status.code() == tonic::Code::Internal && status.message() == "internal error" => {
                Err(format!("{} has an internal error from {body:?}", method.path))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Bytes that may be HTTP/2, or gRPC with a frame that is wrong.
    async fn try_raw(&self, random: &mut impl Rng) {
        let Some(address) = self.world.grpc() else { return };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x10\x01\x05\0\0\0\x01";
        throw(address, &mutate(random, preface, 4_000)).await;
        if let Err(error) = self.try_frame(address, random).await {
            // The server may end such a connection as it likes.
            drop(error);
        }
    }

    async fn try_frame(&self, address: SocketAddr, random: &mut impl Rng) -> Result<(), Box<dyn std::error::Error>> {
        let socket = TcpStream::connect(address).await?;
        let (requests, connection) = h2::client::handshake(socket).await?;
        let driving = tokio::spawn(connection);
        let method = METHODS[random.random_range(0..METHODS.len())];
        let request = http::Request::post(format!("http://fuzz{}", method.path))
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {}", self.alice.token()))
            .body(())?;
        let (response, mut body) = requests.ready().await?.send_request(request, false)?;
        let mut frame = vec![0, 0, 0, 0, 12];
        frame.extend_from_slice(&self.seeds[0]);
        body.send_data(Bytes::from(mutate(random, &frame, 4_000)), true)?;
        // Streams that opened well would talk for ever.
        let _ = tokio::time::timeout(Duration::from_millis(200), response).await?;
        driving.abort();
        Ok(())
    }

    /// Whether the server lives, has not panicked, and still answers.
    pub(super) async fn check_alive(&self) -> Result<(), String> {
        if !self.world.with_server(crate::Server::running) {
            return Err(format!("the server died:\n{}", self.world.log()));
        }
        let log = self.world.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            return Err(format!("the server panicked: {line}"));
        }
        let sending = self.alice.sends("still there?").tries(&self.conversation);
        let answer = tokio::time::timeout(Duration::from_secs(10), sending).await;
        answer.map_err(|_| "a send is not answered".to_owned())?.map_err(|error| format!("a send fails: {error:?}"))?;
        Ok(())
    }
}

/// Writes bytes and reads a little, whatever comes.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let _ = stream.write_all(bytes).await;
    let mut buffer = [0; 1_024];
    let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut buffer)).await;
}

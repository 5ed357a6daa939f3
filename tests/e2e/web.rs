//! The ports as browsers, tools and operators see them: gRPC-Web and CORS, reflection, health, figures.

use flaghoist_proto::login::v1::{GetAccountRequest, GetAccountResponse};
use flaghoist_tests::http1::{self, Answer};
use prost::Message as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::prelude::*;

const ORIGIN: (&str, &str) = ("origin", "https://chat.example");

/// A gRPC message in its frame.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(body.len()).expect("small").to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// The messages and the trailers of a gRPC-Web body.
fn frames(answer: &Answer) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    let mut rest = answer.body.as_slice();
    while let [flags, a, b, c, d, body @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (frame, after) = body.split_at(length.min(body.len()));
        if flags & 0x80 == 0 {
            messages.push(frame.to_vec());
        } else {
            trailers.push_str(&String::from_utf8_lossy(frame));
        }
        rest = after;
    }
    (messages, trailers)
}

async fn grpc_web(world: &World, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut all = vec![("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"), ORIGIN];
    all.extend_from_slice(headers);
    http1::request(world.grpc().expect("it runs"), "POST", path, &all, body).await.expect("the server answers")
}

#[tokio::test]
async fn a_browser_calls_over_http_1_with_grpc_web() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let bearer = format!("Bearer {}", bob.token());
    let path = "/flaghoist.login.v1.AccountService/GetAccount";
    let answer = grpc_web(&world, path, &[("authorization", &bearer)], &framed(&GetAccountRequest::default())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/grpc-web"));
    let (messages, trailers) = frames(&answer);
    assert!(trailers.contains("grpc-status:0") || trailers.contains("grpc-status: 0"), "{trailers:?}");
    let account = GetAccountResponse::decode(messages[0].as_slice()).expect("a message").account;
    assert_eq!(account.expect("the account").handle, bob.handle);

    // An error comes with its details, and the browser may read them.
    let answer = grpc_web(&world, path, &[], &framed(&GetAccountRequest::default())).await;
    let said = frames(&answer).1 + &format!("{:?}", answer.headers);
    assert!(said.contains("16") && said.contains("grpc-status-details-bin"), "{said}");
    let exposed = answer.header("access-control-expose-headers").to_lowercase();
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin", "dpop-nonce"] {
        assert!(exposed.contains(header) || exposed == "*", "{header} is not exposed: {exposed:?}");
    }
}

#[tokio::test]
async fn a_browser_asks_before_it_calls() {
    let world = World::shared().await;
    let headers = [
        ORIGIN,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-grpc-web"),
    ];
    let path = "/flaghoist.send.v1.MessageService/CreateMessage";
    let answer = http1::request(world.grpc().expect("it runs"), "OPTIONS", path, &headers, b"").await;
    let answer = answer.expect("the server answers");
    assert!(answer.status == 200 || answer.status == 204, "{answer:?}");
    let origin = answer.header("access-control-allow-origin");
    assert!(origin == "*" || origin == ORIGIN.1, "{answer:?}");
    let allowed = answer.header("access-control-allow-headers").to_lowercase();
    for header in ["authorization", "content-type", "x-grpc-web"] {
        assert!(allowed.contains(header) || allowed == "*", "{header}: {allowed:?}");
    }
    assert!(answer.header("access-control-allow-methods").contains("POST"), "{answer:?}");
}

#[tokio::test]
async fn a_stream_works_over_grpc_web_too() {
    use flaghoist_proto::receiver::v1::{Open, SubscribeRequest, SubscribeResponse};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    alice.sends("over the web").to(&bob).await;
    let open = Open { device: "users/me/devices/web".into(), from: 0, window: 0 };
    let body = framed(&SubscribeRequest { open: Some(open) });
    let address = world.grpc().expect("it runs");
    let head = format!(
        "POST /flaghoist.receiver.v1.ReceiverService/Subscribe HTTP/1.1\r\nhost: {address}\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        bob.token(),
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&body).await.expect("written");
    let mut seen = Vec::new();
    let reading = async {
        let mut buffer = [0; 4_096];
        while !seen.windows(12).any(|window| window == b"over the web") {
            let count = stream.read(&mut buffer).await.expect("it lives");
            assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(flaghoist_tests::TIME_TO_ARRIVE, reading).await.expect("the event comes");
    // The bytes are what the contract says.
    let _ = SubscribeResponse::default();
}

#[tokio::test]
async fn every_service_is_healthy_and_says_so_without_a_token() {
    let world = World::shared().await;
    let public: std::collections::BTreeSet<&str> = flaghoist_proto::METHODS
        .iter()
        .filter(|method| !matches!(method.access, flaghoist_proto::Access::Service(_)))
        .map(|method| method.service)
        .collect();
    for service in public.into_iter().chain([""]) {
        let mut health = world.process_of(service).health();
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap_or_else(|error| panic!("{service}: {error:?}")).into_inner();
        assert_eq!(answer.status, 1, "{service} is SERVING");
    }
    let unknown = world.anonymous().health().check(HealthCheckRequest { service: "no.such.Service".into() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_shows_the_public_services_with_their_files() {
    if only_embedded("a pod shows its own services only") {
        return;
    }
    let world = World::shared().await;
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = world.anonymous().reflection();
        let mut answers =
            client.server_reflection_info(tokio_stream::iter([request])).await.expect("asked").into_inner();
        answers.message().await.expect("it lives").expect("an answer").message_response.expect("with something in it")
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list of services");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["flaghoist.send.v1.MessageService", "flaghoist.login.v1.LoginService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("flaghoist.receiver.v1.ReceiverService".into());
    assert!(
        matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
    // Error details can be read by tools as well.
    let symbol = MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".into());
    assert!(matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(_)));
}

#[tokio::test]
async fn figures_are_shown_for_every_method_that_was_called() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut phone = bob.listens().await;
    alice.sends("counted").to(&bob).await;
    phone.next_message("counted").await;
    let page = world.figures().await;
    for word in ["CreateMessage", "flaghoist_queue_depth"] {
        assert!(page.contains(word), "{word} is not on the page:\n{page}");
    }
    assert!(!page.contains(&bob.handle) && !page.contains(bob.id()), "figures name nobody");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let world = World::shared().await;
    for path in ["/flaghoist.send.v1.MessageService/NoSuchMethod", "/no.such.Service/Method"] {
        let status = world.anonymous().raw(path, Vec::new()).await.expect_err(path);
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
}

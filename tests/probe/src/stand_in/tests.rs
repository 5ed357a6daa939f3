//! The stand-in and the ways on, without a cluster: what `make cluster-test` concludes from their counts holds only if they count.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// What a call got.
#[derive(Debug)]
struct Got {
    code: String,
    number: String,
    data: Bytes,
}

/// A stand-in on a free port, and what it has seen.
async fn stands_in() -> (SocketAddr, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&shared)));
        }
    });
    (address, seen)
}

async fn call(address: SocketAddr, headers: &[(&str, &str)]) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}/a.Service/Method"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut send) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    send.send_data(Bytes::from_static(EMPTY), true).unwrap();
    let (head, body) = response.await.unwrap().into_parts();
    let (data, trailers) = collect(body).await.unwrap();
    let text = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = text(&head.headers, "grpc-status").or_else(|| text(&trailers?, "grpc-status"));
    Got { code: code.unwrap(), number: text(&head.headers, "stand-in-try").unwrap_or_default(), data }
}

#[tokio::test]
async fn the_first_tries_of_a_call_fail_and_every_one_is_counted() {
    let (address, seen) = stands_in().await;
    let headers = [("stand-in-call", "a"), ("stand-in-code", "14"), ("stand-in-first", "2")];
    let mut codes = Vec::new();
    for number in ["1", "2", "3"] {
        let got = call(address, &headers).await;
        assert_eq!(got.number, number);
        codes.push(got.code);
    }
    assert_eq!(codes, ["14", "14", "0"]);
    assert_eq!(call(address, &[("stand-in-call", "b"), ("stand-in-code", "8")]).await.code, "8");
    let tries = seen.tries.lock().unwrap();
    assert_eq!((tries["a"], tries["b"], seen.total.load(Ordering::Relaxed)), (3, 1, 4));
}

#[tokio::test]
async fn a_stand_in_that_is_told_to_fail_fails_whatever_a_call_says() {
    let (address, seen) = stands_in().await;
    seen.code.store(14, Ordering::Relaxed);
    assert_eq!(call(address, &[]).await.code, "14");
    seen.code.store(0, Ordering::Relaxed);
    assert_eq!(call(address, &[]).await.code, "0");
}

#[tokio::test]
async fn a_slow_answer_is_slow() {
    let (address, _) = stands_in().await;
    let began = Instant::now();
    call(address, &[("stand-in-after-ms", "300")]).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_lost_answer_is_that_of_a_call_that_was_done() {
    let ((real, done), (address, _)) = (stands_in().await, stands_in().await);
    let real = real.to_string();
    let lost = [("stand-in-call", "a"), ("stand-in-forward", &real), ("stand-in-code", "14"), ("stand-in-first", "1")];
    assert_eq!(call(address, &lost).await.code, "14");
    assert_eq!(done.total.load(Ordering::Relaxed), 1, "the real one has done it");
    let repeated = call(address, &lost).await;
    assert_eq!((repeated.code.as_str(), &repeated.data[..]), ("0", EMPTY));
    assert_eq!(done.total.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn whoever_asks_for_keys_is_led_to_them() {
    let (keys, way) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = way.local_addr().unwrap();
    tokio::spawn(relay::leads_on(way, keys.local_addr().unwrap().to_string()));
    tokio::spawn(async move {
        let (mut stream, _) = keys.accept().await.unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(&[&asked[..], b"some keys"].concat()).await.unwrap();
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET ").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "GET some keys");
}

//! Stands where a service stands and does what each call says in its headers, whatever the method:
//!
//! - `stand-in-call: ID`: the tries of a call are counted under its name;
//! - `stand-in-code: 14`: answers with that gRPC code, the first `stand-in-first: N` times if that is said, then with OK;
//! - `stand-in-after-ms: 5000`: answers so much later; with `stand-in-stream: yes` the first message comes at once, the last one then;
//! - `stand-in-forward: HOST:PORT`: lets a real service do the call; the code, if one is said, is answered in place of its answer,
//!   as when that is lost on its way.
//!
//! The answer tells the pod (`stand-in-pod`), the number of the try (`stand-in-try`) and every header that came (`stand-in-saw`). The
//! control port takes a line: `count ID`, `total`, or `code N`, which answers every call with that code from then on.
//!
//! In the place of an issuer it leads whoever asks for keys to the real ones: istiod does, now and then, and refuses every token of an
//! issuer without.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::relay;

/// The public and the internal port, as a service has them.
const PORTS: [u16; 2] = [9000, 9001];

/// The port of an issuer's keys, which is led on.
const KEYS_PORT: u16 = 8081;

/// Where the test asks and tells. Only `kubectl port-forward` reaches it.
const CONTROL: &str = "127.0.0.1:7001";

/// An empty message of gRPC.
const EMPTY: &[u8] = &[0; 5];

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    total: AtomicU64,
    /// The code of every answer; 0 leaves it to the calls.
    code: AtomicU64,
    tries: Mutex<HashMap<String, u64>>,
}

/// Stands in until the pod ends; with `keys`, a `HOST:PORT`, for an issuer.
pub(crate) async fn serve(keys: Option<&str>) -> Result<(), String> {
    let seen = Arc::new(Seen::default());
    for port in PORTS {
        let listener = TcpListener::bind(("0.0.0.0", port)).await.map_err(|error| format!("port {port}: {error}"))?;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(connection(stream, Arc::clone(&seen)));
            }
        });
    }
    if let Some(keys) = keys {
        let listener = TcpListener::bind(("0.0.0.0", KEYS_PORT)).await;
        let listener = listener.map_err(|error| format!("port {KEYS_PORT}: {error}"))?;
        tokio::spawn(relay::leads_on(listener, keys.to_owned()));
    }
    let listener = TcpListener::bind(CONTROL).await.map_err(|error| format!("{CONTROL}: {error}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(control(stream, Arc::clone(&seen)));
    }
}

async fn control(stream: TcpStream, seen: Arc<Seen>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let number = match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["count", call] => {
                seen.tries.lock().unwrap_or_else(PoisonError::into_inner).get(*call).copied().unwrap_or(0)
            }
            ["total"] => seen.total.load(Ordering::Relaxed),
            ["code", code] => {
                let code = code.parse().unwrap_or(0);
                seen.code.store(code, Ordering::Relaxed);
                code
            }
            _ => return Ok(()),
        };
        write.write_all(format!("{number}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn connection(stream: TcpStream, seen: Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // Whoever asked may have gone: a try that took too long.
            let _ = answer(request, respond, &seen).await;
        });
    }
}

async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>, seen: &Seen) -> Result<(), Failed> {
    let (head, body) = request.into_parts();
    let said = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = said("stand-in-call").to_owned();
    let number = {
        let mut tries = seen.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(call).or_default();
        *tries += 1;
        *tries
    };
    seen.total.fetch_add(1, Ordering::Relaxed);
    let forwarded = match said("stand-in-forward") {
        "" => {
            // What says nothing more must still be read, or the caller's window closes.
            let _ = collect(body).await;
            None
        }
        target => Some(forward(target, &head, body).await?),
    };
    let mut code = match (seen.code.load(Ordering::Relaxed), said("stand-in-code")) {
        (0, "") => 0,
        (0, code) => code.parse()?,
        (code, _) => code,
    };
    if said("stand-in-first").parse().is_ok_and(|first: u64| number > first) {
        code = 0;
    }
    let saw: Vec<String> = head
        .headers
        .iter()
        .filter(|(name, _)| !name.as_str().starts_with("stand-in-") && name.as_str() != "authorization")
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("stand-in-pod", std::env::var("HOSTNAME").unwrap_or_default())
        .header("stand-in-try", number)
        .header("stand-in-saw", saw.join(" | "));
    let after = Duration::from_millis(said("stand-in-after-ms").parse().unwrap_or(0));
    say(respond, response, code, forwarded, after, said("stand-in-stream") == "yes").await
}

async fn say(
    mut respond: SendResponse<Bytes>,
    response: http::response::Builder,
    code: u64,
    forwarded: Option<(Bytes, HeaderMap)>,
    after: Duration,
    stream: bool,
) -> Result<(), Failed> {
    let mut begun: Option<SendStream<Bytes>> = None;
    let mut response = Some(response);
    if stream {
        let head = response.take().unwrap_or_else(Response::builder).body(())?;
        let body = begun.insert(respond.send_response(head, false)?);
        body.send_data(Bytes::from_static(EMPTY), false)?;
    }
    tokio::time::sleep(after).await;
    if code != 0 && begun.is_none() {
        let head = response.unwrap_or_else(Response::builder).header("grpc-status", code).body(())?;
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut body = match begun {
        Some(body) => body,
        None => respond.send_response(response.unwrap_or_else(Response::builder).body(())?, false)?,
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    let (message, trailers) = forwarded.unwrap_or((Bytes::from_static(EMPTY), trailers));
    body.send_data(message, false)?;
    body.send_trailers(trailers)?;
    Ok(())
}

/// Lets another server do the call.
async fn forward(target: &str, head: &http::request::Parts, body: RecvStream) -> Result<(Bytes, HeaderMap), Failed> {
    let stream = TcpStream::connect(target).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{target}{}", head.uri.path()));
    for (name, value) in &head.headers {
        if ["authorization", "content-type", "te"].contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    let mut client = client.ready().await?;
    let (response, mut send) = client.send_request(request.body(())?, false)?;
    send.send_data(collect(body).await?.0, true)?;
    let response = response.await?;
    let (parts, body) = response.into_parts();
    let (data, trailers) = collect(body).await?;
    // A call that fails says so in its first and only headers.
    Ok((data, trailers.unwrap_or(parts.headers)))
}

/// The whole of a body, and its trailers.
async fn collect(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), Failed> {
    let mut whole = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        whole.extend_from_slice(&part);
    }
    Ok((whole.into(), body.trailers().await?))
}

#[cfg(test)]
mod tests;

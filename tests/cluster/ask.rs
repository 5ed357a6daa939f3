//! One call of any method, by its path, and everything that came back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flaghoist_tests::RawCodec;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How a call went.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `Ok` for a stream that was still open when the time was over.
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The headers, or what came in place of them.
    pub(crate) headers: MetadataMap,
    /// The first message.
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl Answer {
    /// Whether the caller was turned away, by the sidecar or by the service.
    pub(crate) fn turned_away(&self) -> bool {
        matches!(self.code, Code::PermissionDenied | Code::Unauthenticated)
    }

    /// Whether it was a sidecar that turned the caller away, in Envoy's words.
    pub(crate) fn by_sidecar(&self) -> bool {
        self.turned_away() && (self.message.starts_with("RBAC") || self.message.starts_with("Jwt"))
    }

    /// A header's text; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// For people.
    pub(crate) fn said(&self) -> String {
        format!("{:?} \"{}\"", self.code, self.message)
    }
}

/// A connection, made at the first call.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    channel_to(address, &address.to_string())
}

/// A connection whose calls say that they are for `authority`.
pub(crate) fn channel_to(address: SocketAddr, authority: &str) -> Channel {
    let origin = format!("http://{authority}").parse().expect("a host and a port");
    Endpoint::from_shared(format!("http://{address}")).expect("an address").origin(origin).connect_lazy()
}

/// Calls a method with these headers and this message, whether it streams or not, and waits for the end, or until `limit` is over.
pub(crate) async fn ask(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    message: Vec<u8>,
    limit: Duration,
) -> Answer {
    let began = Instant::now();
    let mut seen = (MetadataMap::new(), Vec::new());
    let outcome = tokio::time::timeout(limit, call(channel, path, headers, message, &mut seen)).await;
    let status = match outcome {
        Ok(Ok(())) => Status::new(Code::Ok, ""),
        Ok(Err(status)) => status,
        Err(_) if seen.0.is_empty() => Status::unknown(format!("no answer within {limit:?}")),
        Err(_) => Status::new(Code::Ok, "still open"),
    };
    let headers = if seen.0.is_empty() { status.metadata().clone() } else { seen.0 };
    Answer { code: status.code(), message: status.message().to_owned(), headers, body: seen.1, took: began.elapsed() }
}

async fn call(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    message: Vec<u8>,
    seen: &mut (MetadataMap, Vec<u8>),
) -> Result<(), Status> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let name: AsciiMetadataKey = name.parse().map_err(|_| Status::internal(format!("{name} is no header")))?;
        request.metadata_mut().insert(name, value.parse().map_err(|_| Status::internal("no value of a header"))?);
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
    let path = path.parse().map_err(|_| Status::internal(format!("{path} is no path")))?;
    let response = client.server_streaming(request, path, RawCodec).await?;
    seen.0 = response.metadata().clone();
    let mut messages = response.into_inner();
    let mut first = true;
    while let Some(message) = messages.message().await? {
        if std::mem::take(&mut first) {
            seen.1 = message;
        }
    }
    Ok(())
}

//! gRPC over the `h2` crate, for the scenarios where the generator's own cost does not count.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use flaghoist_proto::receiver::v1::ReceiveRequest;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use prost::Message;
use tokio::net::TcpStream;

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
}

/// A method with the token of its caller.
#[derive(Clone, Debug)]
pub(super) struct Method {
    parts: Parts,
}

/// A request with places that are filled in for every call.
#[derive(Clone, Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
}

/// An open stream of a device.
#[derive(Debug)]
pub(super) struct DeviceStream {
    says: SendStream<Bytes>,
    hears: RecvStream,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        socket.set_nodelay(true).map_err(text)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
        let (requests, connection) = builder.handshake(socket).await.map_err(text)?;
        tokio::spawn(async move {
            // Whoever calls notices that it is gone.
            let _ = connection.await;
        });
        Ok(Self { requests })
    }

    /// Calls a method; the answer is the message in its frame.
    pub(super) async fn call(&mut self, method: &Method, body: Bytes) -> Result<Bytes, String> {
        poll_fn(|context| self.requests.poll_ready(context)).await.map_err(text)?;
        let request = http::Request::from_parts(method.parts.clone(), ());
        let (response, mut says) = self.requests.send_request(request, false).map_err(text)?;
        says.send_data(body, true).map_err(text)?;
        let response = response.await.map_err(text)?;
        status(response.headers())?;
        let mut hears = response.into_body();
        let mut answer = Bytes::new();
        while let Some(chunk) = hears.data().await {
            let chunk = chunk.map_err(text)?;
            // A closed connection is noticed by the next call.
            let _ = hears.flow_control().release_capacity(chunk.len());
            answer = if answer.is_empty() { chunk } else { [answer, chunk].concat().into() };
        }
        if let Some(trailers) = hears.trailers().await.map_err(text)? {
            status(&trailers)?;
        }
        Ok(answer)
    }

    /// Opens the stream of a device.
    pub(super) async fn receive(&mut self, method: &Method, open: &ReceiveRequest) -> Result<DeviceStream, String> {
        poll_fn(|context| self.requests.poll_ready(context)).await.map_err(text)?;
        let request = http::Request::from_parts(method.parts.clone(), ());
        let (response, mut says) = self.requests.send_request(request, false).map_err(text)?;
        says.send_data(frame(open), false).map_err(text)?;
        let response = response.await.map_err(text)?;
        status(response.headers())?;
        Ok(DeviceStream { says, hears: response.into_body() })
    }
}

impl Method {
    pub(super) fn new(path: &str, token: &str) -> Self {
        let request = http::Request::post(format!("http://flaghoist.bench{path}"))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"));
        let (parts, ()) = request.body(()).expect("path and token are plain text").into_parts();
        Self { parts }
    }
}

impl Template {
    /// A request whose places are filled in by [`Template::fill`].
    pub(super) fn new(message: &impl Message) -> Self {
        Self { frame: frame(message).to_vec() }
    }

    /// Where `text` stands in the request.
    pub(super) fn place(&self, text: &str) -> usize {
        let mut windows = self.frame.windows(text.len());
        windows.position(|window| window == text.as_bytes()).expect("the template holds its places")
    }

    /// Writes a value over its place; it is as long as what stood there.
    pub(super) fn fill(&mut self, place: usize, value: std::fmt::Arguments<'_>) {
        // A value that is too long is cut off by the frame's end, which no template here has.
        let _ = std::io::Write::write_fmt(&mut &mut self.frame[place..], value);
    }

    /// The request in its frame.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.frame
    }
}

impl DeviceStream {
    /// The half that speaks and the half that listens.
    pub(super) fn split(self) -> (SendStream<Bytes>, RecvStream) {
        (self.says, self.hears)
    }
}

/// A message in its frame.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(5 + length);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode(&mut frame).expect("a vector grows");
    frame.into()
}

/// The message of an answer.
pub(super) fn decode<T: Message + Default>(answer: Bytes) -> Result<T, String> {
    let message = unframe(&mut BytesMut::from(answer)).ok_or("the answer is cut off")?;
    T::decode(message).map_err(text)
}

/// Takes the first whole message out of the buffer.
pub(super) fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.get(1..5).map(|length| u32::from_be_bytes([length[0], length[1], length[2], length[3]]))?;
    let end = 5 + length as usize;
    if buffer.len() < end {
        return None;
    }
    let mut message = buffer.split_to(end);
    message.advance(5);
    Some(message.freeze())
}

/// An error if the headers or trailers carry one.
fn status(headers: &http::HeaderMap) -> Result<(), String> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
            Err(format!("grpc-status {status:?} {message}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

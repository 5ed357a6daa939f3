//! One connection: finds out whether it speaks HTTP/1.1 or HTTP/2 and serves it until the client or the drain ends it. What it
//! holds while idle is kept small, because there are ten thousands of them, and what it says at once goes out in one piece.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tonic::body::Body;

use super::accept::Place;
use crate::drain::Drain;

/// How long a client may take to say what it speaks.
const FIRST_BYTES_WAIT: Duration = Duration::from_secs(10);

/// How long to wait for the rest of a preface that came in pieces.
const PIECES_PAUSE: Duration = Duration::from_millis(5);

/// What HTTP/2 begins with. No HTTP/1.1 method does.
const PREFACE: &[u8; 4] = b"PRI ";

/// How long the head of an HTTP/1.1 request may take.
const HEAD_WAIT: Duration = Duration::from_secs(30);

/// The most that is read ahead of an HTTP/1.1 connection.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// How much a client may send ahead on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// How much a client may send ahead on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// How much of a stream is held for a client that reads slowly.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How many calls and streams a connection may have open.
const STREAMS_MAX: u32 = 1024;

/// A socket that takes one buffer at a time. To one that takes several at once `h2` gives each message of 256 bytes and more by
/// itself, and flushes before the next frame: an answer was two writes, and a hundred answers two hundred. To this one it gives
/// everything below 1 KiB together.
struct Joined(TokioIo<TcpStream>);

impl Read for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Joined {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

/// Serves one connection until it ends, or until the drain is over; then it gives its place back.
pub(super) async fn serve<S>(stream: TcpStream, service: S, silence_max: Duration, drain: Drain, _place: Place)
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let speaks_http2 = tokio::select! {
        first = tokio::time::timeout(FIRST_BYTES_WAIT, http2_preface(&stream)) => first,
        // Whoever has not asked for anything yet loses nothing.
        () = drain.started() => return,
    };
    let Ok(Ok(speaks_http2)) = speaks_http2 else { return };
    if speaks_http2 {
        until_drained(http2(stream, service, silence_max), http2::Connection::graceful_shutdown, &drain).await;
    } else {
        until_drained(http1(stream, service), http1::Connection::graceful_shutdown, &drain).await;
    }
}

/// A connection of an HTTP/2 client. One that says nothing is asked whether it is there, and is dropped when it does not say so.
fn http2<S>(
    stream: TcpStream,
    service: S,
    silence_max: Duration,
) -> Pin<Box<http2::Connection<Joined, S, TokioExecutor>>>
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // gRPC has no use for it, and every answer would carry it.
        .auto_date_header(false)
        .keep_alive_interval(silence_max / 2)
        .keep_alive_timeout(silence_max / 2)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    Box::pin(builder.serve_connection(Joined(TokioIo::new(stream)), service))
}

/// A connection of an HTTP/1.1 client.
fn http1<S>(stream: TcpStream, service: S) -> Pin<Box<http1::Connection<TokioIo<TcpStream>, S>>>
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HTTP1_BUFFER_BYTES);
    Box::pin(builder.serve_connection(TokioIo::new(stream), service))
}

/// Whether the connection begins as HTTP/2 does. Looks without taking anything, so that nothing has to be put back.
async fn http2_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || !PREFACE.starts_with(&first[..count]) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(PIECES_PAUSE).await;
    }
}

/// Drives a connection; asks it to end when the drain starts, and drops it when the drain is over. The connection is in a box,
/// because the task would otherwise hold room for it once for each place it is moved through.
async fn until_drained<C>(mut connection: Pin<Box<C>>, end: impl FnOnce(Pin<&mut C>), drain: &Drain)
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = drain.started() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            end(connection.as_mut());
            tokio::select! {
                ended = &mut connection => ended,
                () = drain.ended() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %crate::fault::chain(&error), "connection ended early");
    }
}

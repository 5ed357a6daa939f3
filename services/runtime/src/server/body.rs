//! The body of an answer, watched until its end: that is where the code of a call is written, and where the caller's deadline may cut
//! a stream short.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

use super::figures::Meter;

/// A body that is measured until its end.
pub(super) struct Watched {
    inner: Body,
    meter: Option<Meter>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Watched {
    pub(super) fn new(inner: Body, meter: Option<Meter>, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        Self { inner, meter, deadline, ended: false }
    }

    fn end(&mut self, code: Code) {
        self.ended = true;
        if let Some(meter) = self.meter.take() {
            meter.end(code);
        }
    }
}

/// The code in headers or trailers, if there is one.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Pending => {
                let passed = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
                if !passed {
                    return Poll::Pending;
                }
                self.end(Code::DeadlineExceeded);
                self.inner = Body::empty();
                let mut trailers = HeaderMap::new();
                // The status has a short text, which always fits a header.
                let _fits = crate::deadline::exceeded().add_header(&mut trailers).is_ok();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(frame) => {
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            let code = code(trailers).unwrap_or(Code::Unknown);
                            self.end(code);
                        }
                    }
                    Some(Err(status)) => {
                        let code = status.code();
                        self.end(code);
                    }
                    None => self.end(Code::Unknown),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

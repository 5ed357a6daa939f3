//! A stream that is open: the machine behind a lock, who is to be woken when it changes, and the response that a device reads.
//! The transport takes from the response when the device takes from the transport, so a slow reader slows only itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use flaghoist_runtime::Caller;
use flaghoist_runtime::names::{ConversationId, UserId};
use futures_util::Stream as Responses;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Error;
use crate::store::DeviceKey;
use crate::stream::{Said, Stream};

/// How a stream ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// With OK, after what is waiting has been said.
    Done,
    /// With an error, at once.
    Failed(Error),
}

/// What is known of an open stream.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) stream: Stream,
    /// Whose token the stream lives by.
    pub(crate) caller: Arc<Caller>,
    /// When the device was last heard.
    pub(crate) heard_at: Instant,
    /// When something was last said to it.
    pub(crate) said_at: Instant,
    /// When the stream ends because the server stops.
    pub(crate) drained_at: Option<Instant>,
    end: Option<End>,
}

impl State {
    /// Whether the stream has ended; its response may still have something to say.
    pub(crate) fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Ends the stream, if it has not ended yet.
    pub(crate) fn end(&mut self, end: End) {
        if self.end.is_none() {
            if let End::Failed(_) = end {
                self.stream.outbox = crate::stream::Outbox::default();
            }
            self.end = Some(end);
        }
    }

    /// Tells the device to come back later, and ends the stream after `linger`.
    pub(crate) fn drain(&mut self, reconnect_after: Duration, linger: Duration) {
        if self.drained_at.is_none() && !self.ended() {
            self.stream.outbox.push(Said::Drain(reconnect_after));
            self.drained_at = Some(Instant::now() + linger);
        }
    }
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: Uuid,
    pub(crate) key: DeviceKey,
    state: Mutex<State>,
    closed: AtomicBool,
    named: AtomicBool,
    reader: AtomicWaker,
    task: Notify,
}

impl Live {
    /// A stream of `key` that lives by the token of `caller`.
    pub(crate) fn new(key: DeviceKey, window: i32, caller: Arc<Caller>) -> Arc<Self> {
        let now = Instant::now();
        let stream = Stream::new(window);
        Arc::new(Self {
            id: Uuid::now_v7(),
            key,
            state: Mutex::new(State { stream, caller, heard_at: now, said_at: now, drained_at: None, end: None }),
            closed: AtomicBool::new(false),
            named: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            task: Notify::new(),
        })
    }

    /// Whose stream it is.
    pub(crate) fn user(&self) -> UserId {
        self.key.user
    }

    /// Changes the stream, and wakes whoever has something to do then.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (answer, works) = self.apply(change);
        if works {
            self.task.notify_one();
        }
        answer
    }

    /// Changes the stream on behalf of its own task, which looks for work by itself afterwards.
    pub(crate) fn tend<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.apply(change).0
    }

    fn apply<T>(&self, change: impl FnOnce(&mut State) -> T) -> (T, bool) {
        let mut state = self.state.lock();
        let had_credit = !state.stream.out_of_credit();
        let answer = change(&mut state);
        let credit_ended = had_credit && state.stream.out_of_credit();
        let (ended, speaks) = (state.ended(), !state.stream.outbox.is_empty());
        let works = ended || credit_ended || state.stream.wants_read() || state.stream.has_acks();
        drop(state);
        if ended || speaks {
            self.reader.wake();
        }
        (answer, works)
    }

    /// Looks at the stream.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&self, error: Error) {
        self.change(|state| state.end(End::Failed(error)));
    }

    /// Waits until there is something to do for the stream's task.
    pub(crate) async fn work(&self) {
        self.task.notified().await;
    }

    /// Has the stream's task look again.
    pub(crate) fn nudge(&self) {
        self.task.notify_one();
    }

    /// Lets go of everything but what the end has to say, and answers the conversations that the stream knew.
    pub(crate) fn close(&self) -> Vec<ConversationId> {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        let outbox = std::mem::take(&mut state.stream.outbox);
        let conversations = state.stream.close();
        state.stream.outbox = outbox;
        conversations
    }

    /// From now on the row of the device has named this stream.
    pub(crate) fn name(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// Whether the row of the device names this stream, or did.
    pub(crate) fn named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    /// Whether [`Self::close`] was called.
    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// What a device reads of its stream, each thing put into `M` by `put`.
pub(crate) struct Response<M> {
    live: Arc<Live>,
    put: fn(&Live, Said) -> M,
    over: bool,
}

impl<M> Response<M> {
    /// The response of `live`. There is one; dropping it ends the stream.
    pub(crate) fn new(live: Arc<Live>, put: fn(&Live, Said) -> M) -> Self {
        Self { live, put, over: false }
    }
}

impl<M> Responses for Response<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut state = self.live.state.lock();
        if let Some(said) = state.stream.pop() {
            state.said_at = Instant::now();
            let works = state.stream.wants_read();
            drop(state);
            if works {
                self.live.task.notify_one();
            }
            return Poll::Ready(Some(Ok((self.put)(&self.live, said))));
        }
        let end = state.end.clone();
        if end.is_none() {
            // Under the lock, so that no change comes between looking and waiting.
            self.live.reader.register(context.waker());
        }
        drop(state);
        match end {
            None => Poll::Pending,
            Some(end) => {
                self.over = true;
                match end {
                    End::Done => Poll::Ready(None),
                    End::Failed(error) => Poll::Ready(Some(Err(error))),
                }
            }
        }
    }
}

impl<M> Drop for Response<M> {
    fn drop(&mut self) {
        self.live.change(|state| state.end(End::Done));
    }
}

//! Group commit: calls that arrive while one commit is running are collected and go into the next one together, so that one
//! flush to disk serves many callers.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::fault::Fault;

/// When a refused caller may try again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// With so many answers the next commit begins while they are told.
const TOLD_APART: usize = 32;

/// Why a call was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full. Nothing happened.
    #[error("the queue is full")]
    Overloaded,
    /// The commit ended without an answer. Whether it happened is unknown.
    #[error("the commit ended without an answer")]
    Stopped,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded => Self::overloaded(RETRY_AFTER),
            Refused::Stopped => Self::unavailable("the store did not answer"),
        }
    }
}

/// One call and where its answer goes.
struct Call<Op, Answer> {
    op: Op,
    answer: oneshot::Sender<Answer>,
}

/// Collects calls and commits them together: one commit at a time, everything that arrived meanwhile goes into the next.
pub struct Batcher<Op, Answer> {
    queue: mpsc::Sender<Call<Op, Answer>>,
}

impl<Op, Answer> Clone for Batcher<Op, Answer> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<Op, Answer> std::fmt::Debug for Batcher<Op, Answer> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Batcher").field("free", &self.queue.capacity()).finish()
    }
}

impl<Op: Send + 'static, Answer: Send + 'static> Batcher<Op, Answer> {
    /// Starts the committing task. `queue_max` calls may wait, `batch_max` go into one commit. `commit` answers in the order
    /// of the calls it is given. The task ends when the last clone of the batcher is gone and its queue is empty.
    pub fn start<F, Fut>(name: &'static str, queue_max: usize, batch_max: usize, commit: F) -> Self
    where
        F: FnMut(Vec<Op>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<Answer>> + Send + 'static,
    {
        Self::paced(name, queue_max, batch_max, Duration::ZERO, commit)
    }

    /// The same where small commits cost more than waiting: one begins no sooner than `pace` after the one before, unless it is
    /// full. A call that comes after a quiet time is committed at once.
    pub fn paced<F, Fut>(name: &'static str, queue_max: usize, batch_max: usize, pace: Duration, commit: F) -> Self
    where
        F: FnMut(Vec<Op>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<Answer>> + Send + 'static,
    {
        let (queue, calls) = mpsc::channel(queue_max.max(1));
        tokio::spawn(run(name, calls, batch_max.max(1), Begin::Paced(pace), commit));
        Self { queue }
    }

    /// Has `op` committed, and waits for its answer. A full queue refuses at once.
    pub async fn submit(&self, op: Op) -> Result<Answer, Refused> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Call { op, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refused::Stopped,
        })?;
        answered.await.map_err(|_| Refused::Stopped)
    }
}

impl<Op, Answer, Error> Batcher<Op, Result<Answer, Arc<Error>>>
where
    Op: Send + 'static,
    Answer: Send + 'static,
    Error: Send + Sync + 'static,
{
    /// The same as [`Batcher::start`] for callers who come in groups, where a commit does all it is given or nothing: tasks that are
    /// ready when a commit begins submit theirs first, and its error is the answer to each call.
    pub fn whole<F, Fut>(name: &'static str, queue_max: usize, batch_max: usize, commit: F) -> Self
    where
        F: Fn(Vec<Op>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<Answer>, Error>> + Send + 'static,
    {
        let commit = move |ops: Vec<Op>| {
            let count = ops.len();
            let committed = commit(ops);
            async move {
                match committed.await {
                    Ok(answers) => answers.into_iter().map(Ok).collect(),
                    Err(error) => std::iter::repeat_n(Arc::new(error), count).map(Err).collect(),
                }
            }
        };
        let (queue, calls) = mpsc::channel(queue_max.max(1));
        tokio::spawn(run(name, calls, batch_max.max(1), Begin::AfterReady, commit));
        Self { queue }
    }
}

/// When a commit begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// No sooner than so long after the one before.
    Paced(Duration),
    /// After the tasks that are ready.
    AfterReady,
}

async fn run<Op, Answer, F, Fut>(
    name: &'static str,
    mut calls: mpsc::Receiver<Call<Op, Answer>>,
    batch_max: usize,
    begin: Begin,
    mut commit: F,
) where
    F: FnMut(Vec<Op>) -> Fut,
    Fut: Future<Output = Vec<Answer>>,
    Answer: Send + 'static,
{
    let depth = metrics::gauge!("flaghoist_queue_depth", "queue" => name);
    let mut batch = Vec::with_capacity(batch_max.min(256));
    let mut begins_at = None;
    while calls.recv_many(&mut batch, batch_max).await > 0 {
        match begins_at {
            _ if batch.len() == batch_max => {}
            Some(begins_at) if Instant::now() < begins_at => {
                tokio::time::sleep_until(begins_at).await;
                take_more(&mut calls, &mut batch, batch_max);
            }
            None if matches!(begin, Begin::AfterReady) => {
                tokio::task::yield_now().await;
                take_more(&mut calls, &mut batch, batch_max);
            }
            _ => {}
        }
        #[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
        depth.set((calls.len() + batch.len()) as f64);
        let mut ops = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        // A caller that is gone has not been answered, so its call need not happen.
        for call in batch.drain(..).filter(|call| !call.answer.is_closed()) {
            ops.push(call.op);
            answers.push(call.answer);
        }
        if ops.is_empty() {
            continue;
        }
        let count = ops.len();
        if let Begin::Paced(pace) = begin
            && !pace.is_zero()
        {
            begins_at = Some(Instant::now() + pace);
        }
        match AssertUnwindSafe(async { commit(ops).await }).catch_unwind().await {
            Ok(results) => {
                if results.len() != count {
                    tracing::error!(
                        queue = name,
                        calls = count,
                        answers = results.len(),
                        "commit left calls unanswered"
                    );
                }
                let tell = move || {
                    for (answer, result) in answers.into_iter().zip(results) {
                        // A caller may have gone away while its call was committed.
                        let _gone = answer.send(result);
                    }
                };
                if count < TOLD_APART {
                    tell();
                } else {
                    // The next commit does not wait until so many are told.
                    tokio::spawn(async move { tell() });
                }
            }
            // The panic hook has logged it; the dropped senders tell the callers.
            Err(_) => tracing::error!(queue = name, calls = count, "commit panicked"),
        }
        depth.set(0.0);
    }
}

/// Adds the calls that are there by now.
fn take_more<Call>(calls: &mut mpsc::Receiver<Call>, batch: &mut Vec<Call>, batch_max: usize) {
    while batch.len() < batch_max
        && let Ok(call) = calls.try_recv()
    {
        batch.push(call);
    }
}

#[cfg(test)]
mod tests;

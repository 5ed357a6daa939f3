//! Collects calls that write and hands them to the store in batches; what was committed goes to the receivers in the same order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flaghoist_runtime::Batcher;
use tokio::sync::oneshot;

use crate::dispatch::{Dispatch, Hint};
use crate::error::Error;
use crate::event::{Answer, EventKind, Op, Watermark, Write, Written};
use crate::settings::Settings;
use crate::store::Store;

/// How many calls with watermarks, of up to 1000 each, are committed together.
const RAISES_MAX: usize = 32;

/// How many calls with watermarks may wait.
const RAISES_QUEUE_MAX: usize = 1024;

/// What the batchers answer.
struct Done {
    answer: Answer,
    /// Says whether a receiver took the message.
    taken: Option<oneshot::Receiver<bool>>,
}

/// Writes to the store.
pub(crate) struct Writer {
    writes: Batcher<Op, Done>,
    /// Apart, so that no message waits for watermarks.
    raises: Batcher<Op, Done>,
    dispatch: Dispatch,
    commit_seconds: metrics::Histogram,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer").field("writes", &self.writes).field("raises", &self.raises).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts writing to `store`.
    pub(crate) fn start(store: &Arc<dyn Store>, dispatch: &Dispatch, settings: &Settings) -> Self {
        let start = |name, queue_max, batch_max, pace| {
            let (store, dispatch) = (store.clone(), dispatch.clone());
            let sizes = metrics::histogram!("flaghoist_send_batch_calls", "queue" => name);
            Batcher::paced(name, queue_max, batch_max, pace, move |ops: Vec<Op>| {
                let (store, dispatch, sizes) = (store.clone(), dispatch.clone(), sizes.clone());
                async move {
                    #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
                    sizes.record(ops.len() as f64);
                    let answers = store.commit(ops).await;
                    let patient = dispatch.patient();
                    answers.into_iter().map(|answer| hand_on(answer, &dispatch, patient)).collect()
                }
            })
        };
        Self {
            writes: start("send_writes", settings.queue_max, settings.batch_max, store.pace()),
            raises: start("send_receipts", RAISES_QUEUE_MAX, RAISES_MAX, Duration::ZERO),
            dispatch: dispatch.clone(),
            commit_seconds: metrics::histogram!("flaghoist_send_commit_seconds"),
        }
    }

    /// Commits a call; what comes with the answer says whether a receiver took a message.
    pub(crate) async fn write(&self, write: Write) -> Result<(Written, Option<oneshot::Receiver<bool>>), Error> {
        let called_at = Instant::now();
        let done = self.writes.submit(Op::Write(write)).await?;
        self.commit_seconds.record(called_at.elapsed());
        match done.answer {
            Answer::Written(written) => Ok((written?, done.taken)),
            Answer::Raised(_) => Err(Error::Internal),
        }
    }

    /// Raises watermarks; answers those that rose.
    pub(crate) async fn raise(&self, watermarks: Vec<Watermark>) -> Result<Vec<Watermark>, Error> {
        if watermarks.is_empty() {
            return Ok(watermarks);
        }
        match self.raises.submit(Op::Raise(watermarks)).await?.answer {
            Answer::Raised(risen) => risen,
            Answer::Written(_) => Err(Error::Internal),
        }
    }

    /// Where to say that waiting for a receiver was in vain.
    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }
}

/// Tells the receivers of an answer's event.
fn hand_on(mut answer: Answer, dispatch: &Dispatch, patient: bool) -> Done {
    let mut taken = None;
    if let Answer::Written(Ok(written)) = &mut answer
        && !written.deduplicated
        && let Some(event) = &written.event
    {
        let waited = patient && event.kind == EventKind::MessageCreated;
        let (teller, listener) = if waited { Some(oneshot::channel()).unzip() } else { (None, None) };
        taken = listener;
        let (added, removed) = (std::mem::take(&mut written.added), std::mem::take(&mut written.removed));
        dispatch.tell(Hint { event: event.clone(), added, removed, taken: teller });
    }
    Done { answer, taken }
}

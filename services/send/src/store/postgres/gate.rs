//! Where batches wait for their turn. Few transactions run at a time, each on a connection that is kept for it; the batches of
//! different lanes that wait meanwhile go into the next one together. So the busier the store, the larger its transactions, and
//! the fewer statements a message costs.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::event::{Action, Answer, Op};

/// How many rows one transaction writes, roughly; the first batch goes whatever its size.
const WEIGHT_MAX: usize = 1024;

/// A batch that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ops: Vec<Op>,
    pub(super) answers: oneshot::Sender<Vec<Answer>>,
}

/// The gate.
#[derive(Debug)]
pub(super) struct Gate {
    pool: PgPool,
    waiting: Mutex<VecDeque<Waiting>>,
    permits: Arc<Semaphore>,
    connections: Mutex<Vec<PoolConnection<Postgres>>>,
}

impl Gate {
    /// A gate that lets so many transactions run at a time.
    pub(super) fn new(pool: PgPool, width: usize) -> Self {
        let (waiting, connections) = (Mutex::default(), Mutex::default());
        Self { pool, waiting, permits: Arc::new(Semaphore::new(width)), connections }
    }

    /// Has a batch wait. Who gets a permit first commits it.
    pub(super) fn wait(&self, ops: Vec<Op>) -> oneshot::Receiver<Vec<Answer>> {
        let (answers, answered) = oneshot::channel();
        self.waiting.lock().push_back(Waiting { ops, answers });
        answered
    }

    /// Waits for a permit to commit what waits.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }

    /// The batches that are committed next, together.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (mut taken, mut weight) = (Vec::new(), 0);
        while let Some(first) = waiting.front() {
            let more: usize = first.ops.iter().map(self::weight).sum();
            if !taken.is_empty() && weight + more > WEIGHT_MAX {
                break;
            }
            weight += more;
            taken.extend(waiting.pop_front());
        }
        taken
    }

    /// A connection for one transaction. Dropped it is closed, so that no half-done transaction is ever found on it.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let kept = self.connections.lock().pop();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let mut connection = self.pool.acquire().await?;
        connection.close_on_drop();
        Ok(connection)
    }

    /// Keeps a connection whose transaction has ended well.
    pub(super) fn keep(&self, connection: PoolConnection<Postgres>) {
        self.connections.lock().push(connection);
    }
}

/// How many rows a call writes, roughly.
fn weight(op: &Op) -> usize {
    match op {
        Op::Raise(watermarks) => watermarks.len(),
        Op::Write(write) => match &write.action {
            Action::BeginGroup { people, .. } | Action::Add { people, .. } => 1 + people.len(),
            _ => 1,
        },
    }
}

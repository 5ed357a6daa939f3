//! Connections that are kept for what is written: few, each used for one transaction after the other. So no batch waits for readers,
//! nor readers for batches, and none pays for the question whether a connection is still good.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many there are: one for messages and what else becomes an event, one for watermarks.
const CONNECTIONS: usize = 2;

/// The connections.
#[derive(Debug)]
pub(super) struct Kept {
    pool: PgPool,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<PoolConnection<Postgres>>>,
}

/// A connection for one transaction. Dropped it is closed, so that no half-done transaction is ever found on it.
#[derive(Debug)]
pub(super) struct Taken {
    connection: PoolConnection<Postgres>,
    _permit: OwnedSemaphorePermit,
}

impl Kept {
    /// None yet.
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, permits: Arc::new(Semaphore::new(CONNECTIONS)), idle: Mutex::default() }
    }

    /// Waits for one; takes it out of the pool if there are not all yet.
    pub(super) async fn connection(&self) -> Result<Taken, sqlx::Error> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let mut connection = self.pool.acquire().await?;
                connection.close_on_drop();
                connection
            }
        };
        Ok(Taken { connection, _permit: permit })
    }

    /// Keeps a connection whose transaction has ended well.
    pub(super) fn keep(&self, taken: Taken) {
        self.idle.lock().push(taken.connection);
    }
}

impl Deref for Taken {
    type Target = PgConnection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

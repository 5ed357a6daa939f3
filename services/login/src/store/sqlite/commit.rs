//! Attempts and finished sign-ins, which every login has several of: those that come while one commit is running go into the next one
//! together. Each statement is about all of them, for on a machine whose cores hash passwords a turn of the thread that writes costs more
//! than what it does there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::batch::Batcher;
use flaghoist_runtime::sqlite::Database;
use sqlx::{Sqlite, Transaction};

use super::attempts::Counts;
use super::{failed, history, outbox};
use crate::store::StoreError;
use crate::store::history::FinishedSignIn;
use crate::throttle::{AttemptKey, Delays};

/// How many go into one commit.
const BATCH_MAX: usize = 256;
/// How many may wait; more are refused.
const QUEUE_MAX: usize = 16_384;

/// Something to write.
#[derive(Debug)]
pub(super) enum Write {
    Reserve { key: AttemptKey, delays: Delays, now: i64 },
    Succeeded { key: AttemptKey, known_max: Option<u32>, now: i64 },
    SignedIn { sign_in: Box<FinishedSignIn>, known_max: u32, now: i64 },
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written {
    /// It is done.
    Done,
    /// An attempt has to wait so long.
    Wait(Duration),
    /// The sign-in was from a new place.
    NewPlace,
}

/// Commits what is submitted.
#[derive(Clone, Debug)]
pub(super) struct Commits(Batcher<Write, Result<Written, Arc<sqlx::Error>>>);

impl Commits {
    pub(super) fn start(database: Database) -> Self {
        Self(Batcher::whole("login_commit", QUEUE_MAX, BATCH_MAX, move |writes| {
            let database = database.clone();
            async move { commit(&database, &writes).await }
        }))
    }

    pub(super) async fn submit(&self, write: Write) -> Result<Written, StoreError> {
        match self.0.submit(write).await {
            Ok(written) => written.map_err(failed),
            Err(refused) => Err(StoreError::Unavailable(Box::new(refused))),
        }
    }
}

impl Write {
    fn keys(&self) -> Vec<AttemptKey> {
        match self {
            Self::Reserve { key, .. } | Self::Succeeded { key, .. } => vec![*key],
            Self::SignedIn { sign_in, .. } => sign_in.succeeded.iter().copied().chain([sign_in.address]).collect(),
        }
    }

    fn sign_in(&self) -> Option<(&FinishedSignIn, i64)> {
        match self {
            Self::SignedIn { sign_in, now, .. } => Some((sign_in, *now)),
            _ => None,
        }
    }
}

/// Writes all or nothing.
async fn commit(database: &Database, writes: &[Write]) -> Result<Vec<Written>, sqlx::Error> {
    let mut transaction = database.writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut counts = Counts::load(&mut transaction, writes.iter().flat_map(Write::keys)).await?;
    let mut known_before = Vec::new();
    let mut written: Vec<_> = writes
        .iter()
        .map(|write| match write {
            Write::Reserve { key, delays, now } => {
                counts.reserve(*key, *delays, *now).map_or(Written::Done, Written::Wait)
            }
            Write::Succeeded { key, known_max, now } => {
                counts.succeeded(*key, *known_max, *now);
                Written::Done
            }
            Write::SignedIn { sign_in, known_max, now } => {
                known_before.push(counts.known(sign_in.address, *now));
                for key in &sign_in.succeeded {
                    counts.succeeded(*key, Some(*known_max), *now);
                }
                counts.make_known(sign_in.address, *known_max, *now);
                Written::Done
            }
        })
        .collect();
    let sign_ins: Vec<_> = writes.iter().filter_map(Write::sign_in).collect();
    if !sign_ins.is_empty() {
        let new = keep_sign_ins(&mut transaction, &sign_ins, &known_before).await?;
        let places = written.iter_mut().zip(writes).filter(|(_, write)| write.sign_in().is_some());
        for ((place, _), _) in places.zip(new).filter(|(_, new)| *new) {
            *place = Written::NewPlace;
        }
    }
    if counts.changed() {
        counts.keep(&mut transaction).await?;
        transaction.commit().await?;
    }
    Ok(written)
}

/// Keeps the events of sign-ins, and the messages of those from a new place; answers which those are.
async fn keep_sign_ins(
    transaction: &mut Transaction<'static, Sqlite>,
    sign_ins: &[(&FinishedSignIn, i64)],
    known_before: &[bool],
) -> Result<Vec<bool>, sqlx::Error> {
    let events: Vec<_> = sign_ins.iter().map(|(sign_in, now)| (&sign_in.event, *now)).collect();
    let seen = history::seen_before(transaction, &events).await?;
    history::put(transaction, &events).await?;
    let mut earlier = BTreeSet::new();
    let mut new = Vec::with_capacity(sign_ins.len());
    for (((sign_in, now), seen), known) in sign_ins.iter().zip(seen).zip(known_before) {
        let (user, device) = (sign_in.event.user.0, sign_in.event.origin.device());
        // The ones before it in this commit count, too.
        let before = seen.person | earlier.contains(&(user, None));
        let with_device = seen.device | earlier.contains(&(user, Some(device.clone())));
        earlier.extend([(user, None), (user, Some(device))]);
        new.push(before && !(*known && with_device));
        if let Some(message) = sign_in.message.as_ref().filter(|_| new.last() == Some(&true)) {
            outbox::put(transaction, message, *now).await?;
        }
    }
    Ok(new)
}

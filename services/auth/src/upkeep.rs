//! What the issuer does without being asked: advances its keys, sends revocations, keeps its clients up to date, throws away what is
//! over. Every pod does all of it, and the store makes each step happen once.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::token::{Revocation, RevocationTarget};
use flaghoist_runtime::{Drain, fault};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use crate::error::StoreError;
use crate::issuer::{Issuer, SWEEP_MAX};
use crate::store::Purge;

/// How often the store is asked whether another pod has changed the clients.
const CLIENTS_EVERY: Duration = Duration::from_secs(1);

/// How often what was counted is written to the audit log.
const TALLIES_EVERY: Duration = Duration::from_secs(2);

/// How often it is looked for clients that have to be told of the end of a session.
const LOGOUTS_EVERY: Duration = Duration::from_secs(1);

/// How often old rows are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// How many old rows are removed in one commit.
const PURGE_MAX: u32 = 500;

/// How long a revocation is kept beyond the tokens that it concerns: a watcher repeats the last minute, clocks differ by
/// another, and the rest is for a watcher that comes back late.
pub(crate) const REVOCATION_SLACK: Duration = Duration::from_secs(10 * 60);

/// How long an erased person stays refused.
const ERASED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long a code is kept beyond its time, so that who brings it again ends what it gave.
const CODES_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Starts the background work; it ends with the drain.
pub(crate) fn start(issuer: &Arc<Issuer>, drain: &Drain) {
    let feed = issuer.feed.clone();
    let over = drain.clone();
    tokio::spawn(async move { feed.run(over).await });
    tokio::spawn(advance_keys(issuer.clone(), drain.clone()));
    tokio::spawn(keep_clients(issuer.clone(), drain.clone()));
    tokio::spawn(write_tallies(issuer.clone(), drain.clone()));
    tokio::spawn(tell_of_logouts(issuer.clone(), drain.clone()));
    tokio::spawn(purge(issuer.clone(), drain.clone()));
}

async fn advance_keys(issuer: Arc<Issuer>, drain: Drain) {
    let mut revocations = issuer.verifier.revocations();
    let mut ticks = tokio::time::interval(issuer.keyring.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = key_revoked(&mut revocations) => {}
            () = drain.started() => return,
        }
        if let Err(error) = issuer.keyring.advance().await {
            fault::log_chain("advancing the signing keys", &error);
        }
    }
}

/// Waits until a signing key was revoked, on whichever pod: this one must not sign with it any longer.
async fn key_revoked(revocations: &mut Receiver<Revocation>) {
    loop {
        match revocations.recv().await {
            Ok(Revocation { target: RevocationTarget::Key(_), .. }) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn write_tallies(issuer: Arc<Issuer>, drain: Drain) {
    loop {
        let over = pause(TALLIES_EVERY, &drain).await;
        if let Err(error) = issuer.write_tallies().await {
            fault::log_chain("writing audit events", &error);
        }
        if over {
            return;
        }
    }
}

async fn keep_clients(issuer: Arc<Issuer>, drain: Drain) {
    while !pause(CLIENTS_EVERY, &drain).await {
        if let Err(error) = issuer.clients.refresh().await {
            fault::log_chain("reading clients", &error);
        }
    }
}

async fn tell_of_logouts(issuer: Arc<Issuer>, drain: Drain) {
    while !pause(LOGOUTS_EVERY, &drain).await {
        let mut more = true;
        while more && !drain.is_started() {
            more = issuer.tell_of_logouts().await.unwrap_or_else(|error| {
                fault::log_chain("telling clients of logouts", &error);
                false
            });
        }
    }
}

async fn purge(issuer: Arc<Issuer>, drain: Drain) {
    while !pause(PURGE_EVERY, &drain).await {
        let mut more = true;
        while more && !drain.is_started() {
            more = purge_some(&issuer).await.unwrap_or_else(|error| {
                fault::log_chain("throwing away old rows", &error);
                false
            });
        }
    }
}

/// Removes some old rows. Answers whether there are more.
pub(crate) async fn purge_some(issuer: &Issuer) -> Result<bool, StoreError> {
    let now = issuer.clock.now();
    let what = Purge {
        lifetimes: issuer.settings.lifetimes(),
        revocations_before: now.minus(issuer.settings.access_lifetime).minus(REVOCATION_SLACK),
        erased_before: now.minus(ERASED_KEPT),
        browsers: issuer.settings.browser_lifetimes(),
        codes_before: now.minus(CODES_KEPT),
        audited_before: now.minus(issuer.settings.audit_retention),
    };
    let old = issuer.store.purge(&what, PURGE_MAX, now).await?;
    let retired = issuer.store.sweep_retired_clients(SWEEP_MAX, now).await?;
    Ok(old || retired)
}

/// Waits. Answers whether the drain has started.
async fn pause(time: Duration, drain: &Drain) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        () = drain.started() => true,
    }
}

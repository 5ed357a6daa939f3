//! Stores on a real PostgreSQL, alone and as two pods have them.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use flaghoist_backends::Postgres;
use sqlx::postgres::PgConnectOptions;

use super::*;
use crate::authorization::{AuthorizationRequest, Recognised};
use crate::code::KeptCode;
use crate::profile::Profile;
use crate::store::grants::Once;
use crate::store::sign_in::{Acceptance, Consent, LoginRequest, OpenMax, Redeemed, Stage};
use crate::store::traces::{Trace, TraceKind};

/// How many connections a store of a test keeps: as many tests run at once as there are processors.
const CONNECTIONS: u32 = 8;

/// A fresh database, if this machine has PostgreSQL.
pub(super) async fn database() -> Option<String> {
    Some(Postgres::shared().await?.database().await)
}

/// A store on the database.
pub(super) async fn store(url: &str) -> PostgresStore {
    PostgresStore::open(&PgConnectOptions::from_str(url).unwrap(), CONNECTIONS).await.unwrap()
}

/// Two stores on one database: each call goes to the one that had not the last.
#[derive(Debug)]
pub(super) struct InTurn {
    pods: [PostgresStore; 2],
    calls: AtomicUsize,
}

impl InTurn {
    pub(super) fn new(pods: [PostgresStore; 2]) -> Self {
        Self { pods, calls: AtomicUsize::new(0) }
    }

    pub(super) fn next(&self) -> &PostgresStore {
        &self.pods[self.calls.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[async_trait]
impl Store for InTurn {
    async fn present(
        &self,
        presentations: &[Presentation],
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.next().present(presentations, lifetimes, now).await
    }

    async fn open_session(&self, session: &Session, sessions_max: u32, by: &Origin) -> Result<Opened, StoreError> {
        self.next().open_session(session, sessions_max, by).await
    }

    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError> {
        self.next().session(session).await
    }

    async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Session>, StoreError> {
        self.next().sessions_of(user, before, limit, lifetimes, now).await
    }

    async fn end_session(&self, user: UserId, session: SessionId, why: Why, by: &Origin) -> Result<bool, StoreError> {
        self.next().end_session(user, session, why, by).await
    }

    async fn end_sessions_of(&self, user: UserId, except: Option<SessionId>, by: &Origin) -> Result<u64, StoreError> {
        self.next().end_sessions_of(user, except, by).await
    }

    async fn set_subject(&self, user: UserId, state: SubjectState, by: &Origin) -> Result<u64, StoreError> {
        self.next().set_subject(user, state, by).await
    }

    async fn erase_subject(&self, user: UserId, by: &Origin) -> Result<u64, StoreError> {
        self.next().erase_subject(user, by).await
    }

    async fn revoke(&self, target: &RevocationTarget, event: Option<&Event>, now: Moment) -> Result<(), StoreError> {
        self.next().revoke(target, event, now).await
    }

    async fn revocations(&self, since: Moment, after: i64, limit: u32) -> Result<Vec<Numbered>, StoreError> {
        self.next().revocations(since, after, limit).await
    }

    async fn clients(&self, known: Option<i64>) -> Result<Option<(i64, Vec<Client>)>, StoreError> {
        self.next().clients(known).await
    }

    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        self.next().client(client_id).await
    }

    async fn add_client(&self, client: &Client, clients_max: u32, by: &Origin) -> Result<Addition, StoreError> {
        self.next().add_client(client, clients_max, by).await
    }

    async fn replace_client(&self, before: &Client, client: &Client, event: &Event) -> Result<bool, StoreError> {
        self.next().replace_client(before, client, event).await
    }

    async fn retire_client(&self, client_id: &str, by: &Origin) -> Result<bool, StoreError> {
        self.next().retire_client(client_id, by).await
    }

    async fn sweep_retired_clients(&self, sessions_max: u32, now: Moment) -> Result<bool, StoreError> {
        self.next().sweep_retired_clients(sessions_max, now).await
    }

    async fn advance_keys(
        &self,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        now: Moment,
    ) -> Result<Vec<SigningKey>, StoreError> {
        self.next().advance_keys(spare, times, now).await
    }

    async fn change_keys(
        &self,
        change: &KeyChange,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, StoreError> {
        self.next().change_keys(change, spare, times, by).await
    }

    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.next().keys().await
    }

    async fn reseal_keys(&self, resealed: &[Resealed], by: &Origin) -> Result<u64, StoreError> {
        self.next().reseal_keys(resealed, by).await
    }

    async fn audit(&self, events: &[Event]) -> Result<(), StoreError> {
        self.next().audit(events).await
    }

    async fn audit_events(&self, filter: &Filter, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.next().audit_events(filter, limit).await
    }

    async fn purge(&self, what: &Purge, rows_max: u32, now: Moment) -> Result<bool, StoreError> {
        self.next().purge(what, rows_max, now).await
    }
}

#[async_trait]
impl SignInStore for InTurn {
    async fn open_login_request(&self, request: &LoginRequest, max: OpenMax, now: Moment) -> Result<bool, StoreError> {
        self.next().open_login_request(request, max, now).await
    }

    async fn login_request(&self, challenge: Digest, now: Moment) -> Result<Option<LoginRequest>, StoreError> {
        self.next().login_request(challenge, now).await
    }

    async fn accept_login_request(
        &self,
        challenge: Digest,
        person: &Recognised,
        profile: &Profile,
        now: Moment,
    ) -> Result<Acceptance, StoreError> {
        self.next().accept_login_request(challenge, person, profile, now).await
    }

    async fn reject_login_request(&self, challenge: Digest, now: Moment) -> Result<bool, StoreError> {
        self.next().reject_login_request(challenge, now).await
    }

    async fn enter(
        &self,
        challenge: Digest,
        cookie: Digest,
        replaced: Option<Digest>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        self.next().enter(challenge, cookie, replaced, now).await
    }

    async fn take_login_request(
        &self,
        challenge: Digest,
        stage: Option<Stage>,
        now: Moment,
    ) -> Result<Option<LoginRequest>, StoreError> {
        self.next().take_login_request(challenge, stage, now).await
    }

    async fn push_request(
        &self,
        reference: Digest,
        address: &str,
        client_id: &str,
        request: &AuthorizationRequest,
        expires_at: Moment,
        max: OpenMax,
    ) -> Result<bool, StoreError> {
        self.next().push_request(reference, address, client_id, request, expires_at, max).await
    }

    async fn take_pushed_request(
        &self,
        reference: Digest,
        client_id: &str,
        now: Moment,
    ) -> Result<Option<AuthorizationRequest>, StoreError> {
        self.next().take_pushed_request(reference, client_id, now).await
    }

    async fn add_code(&self, digest: Digest, code: &KeptCode) -> Result<bool, StoreError> {
        self.next().add_code(digest, code).await
    }

    async fn redeem_code(
        &self,
        digest: Digest,
        judge: &(dyn for<'a> Fn(&'a KeptCode) -> Option<Session> + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Redeemed, StoreError> {
        self.next().redeem_code(digest, judge, proof, sessions_max, now).await
    }

    async fn browser_session(
        &self,
        cookie: Digest,
        lifetimes: BrowserLifetimes,
        now: Moment,
    ) -> Result<Option<Recognised>, StoreError> {
        self.next().browser_session(cookie, lifetimes, now).await
    }

    async fn end_browser_session(&self, cookie: Digest, now: Moment) -> Result<u64, StoreError> {
        self.next().end_browser_session(cookie, now).await
    }

    async fn consent(&self, user: UserId, client_id: &str) -> Result<Option<Scopes>, StoreError> {
        self.next().consent(user, client_id).await
    }

    async fn add_consent(&self, user: UserId, client_id: &str, scopes: Scopes, now: Moment) -> Result<(), StoreError> {
        self.next().add_consent(user, client_id, scopes, now).await
    }

    async fn consents_of(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<Consent>, StoreError> {
        self.next().consents_of(user, after, limit).await
    }

    async fn revoke_consent(&self, user: UserId, client_id: &str, now: Moment) -> Result<bool, StoreError> {
        self.next().revoke_consent(user, client_id, now).await
    }

    async fn traces_of(
        &self,
        user: UserId,
        kind: TraceKind,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<Trace>, StoreError> {
        self.next().traces_of(user, kind, after, limit).await
    }

    async fn profile(&self, user: UserId) -> Result<Option<Profile>, StoreError> {
        self.next().profile(user).await
    }

    async fn set_profile(&self, user: UserId, profile: &Profile) -> Result<bool, StoreError> {
        self.next().set_profile(user, profile).await
    }
}

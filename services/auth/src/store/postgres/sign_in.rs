//! What is kept in PostgreSQL while people sign in by a browser.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row as _};
use uuid::Uuid;

use super::session::{alone_with, end, ids_in, open_within};
use super::{PostgresStore, Transaction, count, logout, read, unreadable, write};
use crate::audit::{Actor, Origin, Why};
use crate::authorization::{AuthorizationRequest, Recognised};
use crate::code::KeptCode;
use crate::error::StoreError;
use crate::moment::Moment;
use crate::profile::Profile;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::Session;
use crate::store::grants::Once;
use crate::store::sign_in::{
    Acceptance, BrowserLifetimes, Consent, LoginRequest, OpenMax, Redeemed, SignInStore, Stage,
};
use crate::store::traces::{Columns, Trace, TraceKind};

mod code;
mod consent;
mod profile;
mod request;

/// Forgets where a person is signed in by a browser, and what has been begun there. Answers how many rows that were.
pub(super) async fn forget(transaction: &mut Transaction, user: UserId) -> Result<u64, Error> {
    let mut forgotten = 0;
    for delete in [
        "DELETE FROM browser_sessions WHERE user_id = $1",
        "DELETE FROM login_requests WHERE user_id = $1",
        "DELETE FROM codes WHERE user_id = $1 AND used_at IS NULL",
        "DELETE FROM device_codes WHERE user_id = $1 AND stage <> 'used'",
    ] {
        forgotten += sqlx::query(delete).bind(bytes(&user)).execute(&mut **transaction).await?.rows_affected();
    }
    Ok(forgotten)
}

/// Forgets all of that, and what the person has allowed and is called.
pub(super) async fn erase(transaction: &mut Transaction, user: UserId) -> Result<u64, Error> {
    let mut erased = forget(transaction, user).await?;
    for delete in [
        "DELETE FROM codes WHERE user_id = $1",
        "DELETE FROM device_codes WHERE user_id = $1",
        "DELETE FROM consents WHERE user_id = $1",
        "DELETE FROM profiles WHERE user_id = $1",
    ] {
        erased += sqlx::query(delete).bind(bytes(&user)).execute(&mut **transaction).await?.rows_affected();
    }
    Ok(erased)
}

/// Throws away up to `rows_max` rows of each kind that are over. Answers whether there is more.
pub(super) async fn purge(
    store: &PostgresStore,
    lifetimes: BrowserLifetimes,
    codes_before: Moment,
    rows_max: u32,
    now: Moment,
) -> Result<bool, Error> {
    let mut more = false;
    for (delete, before) in [
        (
            "DELETE FROM login_requests WHERE challenge_sha256 IN \
             (SELECT challenge_sha256 FROM login_requests WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now,
        ),
        (
            "DELETE FROM pushed_requests WHERE reference_sha256 IN \
             (SELECT reference_sha256 FROM pushed_requests WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now,
        ),
        (
            "DELETE FROM codes WHERE code_sha256 IN (SELECT code_sha256 FROM codes WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            codes_before,
        ),
        (
            "DELETE FROM browser_sessions WHERE cookie_sha256 IN \
             (SELECT cookie_sha256 FROM browser_sessions WHERE last_use_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now.minus(lifetimes.idle).minus(std::time::Duration::from_secs(60)),
        ),
        (
            "DELETE FROM browser_sessions WHERE cookie_sha256 IN \
             (SELECT cookie_sha256 FROM browser_sessions WHERE created_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now.minus(lifetimes.absolute),
        ),
    ] {
        let gone =
            sqlx::query(delete).bind(before.0).bind(i64::from(rows_max)).execute(&store.pool).await?.rows_affected();
        more |= gone >= u64::from(rows_max);
    }
    Ok(more)
}

async fn browser_session(
    store: &PostgresStore,
    cookie: Digest,
    lifetimes: BrowserLifetimes,
    now: Moment,
) -> Result<Option<Recognised>, Error> {
    let found = sqlx::query(
        "SELECT user_id, amr, authenticated_at, last_use_at FROM browser_sessions \
         WHERE cookie_sha256 = $1 AND last_use_at > $2 AND created_at > $3",
    )
    .bind(cookie.0.as_slice())
    .bind(now.minus(lifetimes.idle).0)
    .bind(now.minus(lifetimes.absolute).0)
    .fetch_optional(&store.pool)
    .await?;
    let Some(row) = found else { return Ok(None) };
    if row.try_get::<i64, _>(3)? != now.minute().0 {
        sqlx::query("UPDATE browser_sessions SET last_use_at = $2 WHERE cookie_sha256 = $1")
            .bind(cookie.0.as_slice())
            .bind(now.minute().0)
            .execute(&store.pool)
            .await?;
    }
    Ok(Some(Recognised {
        user: user_in(&row, 0)?,
        amr: words(row.try_get(1)?),
        authenticated_at: Moment(row.try_get(2)?),
    }))
}

async fn end_browser_session(store: &PostgresStore, cookie: Digest, now: Moment) -> Result<u64, Error> {
    let mut transaction = store.begin().await?;
    let user = sqlx::query("SELECT user_id FROM browser_sessions WHERE cookie_sha256 = $1")
        .bind(cookie.0.as_slice())
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(user) = user.map(|row| user_in(&row, 0)).transpose()? else { return Ok(0) };
    // Whoever adds a code of this browser, or redeems one, waits, and then finds it signed out.
    alone_with(&mut transaction, user).await?;
    let gone = sqlx::query("DELETE FROM browser_sessions WHERE cookie_sha256 = $1")
        .bind(cookie.0.as_slice())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if gone == 0 {
        return Ok(0);
    }
    sqlx::query("DELETE FROM codes WHERE user_id = $1 AND browser_sha256 = $2 AND used_at IS NULL")
        .bind(bytes(&user))
        .bind(cookie.0.as_slice())
        .execute(&mut *transaction)
        .await?;
    let given = sqlx::query(
        "SELECT session_id, user_id, client_id, scopes FROM sessions WHERE user_id = $1 AND browser_sha256 = $2",
    )
    .bind(bytes(&user))
    .bind(cookie.0.as_slice())
    .fetch_all(&mut *transaction)
    .await?;
    let (mut staying, mut ending) = (Vec::new(), Vec::new());
    for row in given {
        let stays = Scopes::known_of(row.try_get(3)?).includes(Scopes::OFFLINE_ACCESS);
        if stays { staying.push(row) } else { ending.push(row) }
    }
    logout::note_ends(&mut transaction, &staying, now).await?;
    let by = Origin::new(Actor::Person(user), now);
    let ended = end(&mut transaction, &[(&ids_in(&ending)?, Why::SignedOut)], &by).await?;
    transaction.commit().await?;
    Ok(count(ended.len()))
}

/// What clients got for the person in the browser that had the cookie `before` is of the one that has `cookie` now. Sessions are locked in
/// the order in which everybody locks them.
async fn move_browser(transaction: &mut Transaction, user: &[u8], before: Digest, cookie: Digest) -> Result<(), Error> {
    for update in [
        "UPDATE codes SET browser_sha256 = $3 WHERE user_id = $1 AND browser_sha256 = $2",
        "WITH given AS MATERIALIZED (SELECT session_id FROM sessions WHERE user_id = $1 AND browser_sha256 = $2 \
         ORDER BY session_id FOR UPDATE) \
         UPDATE sessions SET browser_sha256 = $3 FROM given WHERE sessions.session_id = given.session_id",
    ] {
        let update = sqlx::query(update).bind(user).bind(before.0.as_slice()).bind(cookie.0.as_slice());
        update.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn traces(
    store: &PostgresStore,
    user: UserId,
    kind: TraceKind,
    after: Option<Digest>,
    limit: u32,
) -> Result<Vec<Trace>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(kind.rows())
        .bind(bytes(&user))
        .bind(after.as_ref().map_or(&[][..], |after| after.0.as_slice()))
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?;
    rows.into_iter().map(|row| Trace::read(row).ok_or_else(|| unreadable("what is kept of a person"))).collect()
}

pub(super) fn bytes(user: &UserId) -> &[u8] {
    user.0.as_bytes().as_slice()
}

pub(super) fn user_in(row: &PgRow, index: usize) -> Result<UserId, Error> {
    Uuid::from_slice(row.try_get(index)?).map(UserId).map_err(|_| unreadable("an id"))
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn written(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Encode(error.into()))
}

#[async_trait]
impl SignInStore for PostgresStore {
    async fn open_login_request(&self, request: &LoginRequest, max: OpenMax, now: Moment) -> Result<bool, StoreError> {
        write("open a login request", || request::open(self, request, max, now)).await
    }

    async fn login_request(&self, challenge: Digest, now: Moment) -> Result<Option<LoginRequest>, StoreError> {
        read("read a login request", || request::get(self, challenge, now)).await
    }

    async fn accept_login_request(
        &self,
        challenge: Digest,
        person: &Recognised,
        profile: &Profile,
        now: Moment,
    ) -> Result<Acceptance, StoreError> {
        write("accept a login request", || request::accept(self, challenge, person, profile, now)).await
    }

    async fn reject_login_request(&self, challenge: Digest, now: Moment) -> Result<bool, StoreError> {
        write("reject a login request", || request::reject(self, challenge, now)).await
    }

    async fn enter(
        &self,
        challenge: Digest,
        cookie: Digest,
        replaced: Option<Digest>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        write("sign in in a browser", || request::enter(self, challenge, cookie, replaced, now)).await
    }

    async fn take_login_request(
        &self,
        challenge: Digest,
        stage: Option<Stage>,
        now: Moment,
    ) -> Result<Option<LoginRequest>, StoreError> {
        write("take a login request", || request::take(self, challenge, stage, now)).await
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
        write("keep a pushed request", || request::push(self, reference, address, client_id, request, expires_at, max))
            .await
    }

    async fn take_pushed_request(
        &self,
        reference: Digest,
        client_id: &str,
        now: Moment,
    ) -> Result<Option<AuthorizationRequest>, StoreError> {
        write("take a pushed request", || request::take_pushed(self, reference, client_id, now)).await
    }

    async fn add_code(&self, digest: Digest, code: &KeptCode) -> Result<bool, StoreError> {
        write("add a code", || code::add(self, digest, code)).await
    }

    async fn redeem_code(
        &self,
        digest: Digest,
        judge: &(dyn for<'a> Fn(&'a KeptCode) -> Option<Session> + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Redeemed, StoreError> {
        write("redeem a code", || code::redeem(self, digest, judge, proof, sessions_max, now)).await
    }

    async fn browser_session(
        &self,
        cookie: Digest,
        lifetimes: BrowserLifetimes,
        now: Moment,
    ) -> Result<Option<Recognised>, StoreError> {
        read("look who is signed in in a browser", || browser_session(self, cookie, lifetimes, now)).await
    }

    async fn end_browser_session(&self, cookie: Digest, now: Moment) -> Result<u64, StoreError> {
        write("sign out in a browser", || end_browser_session(self, cookie, now)).await
    }

    async fn consent(&self, user: UserId, client_id: &str) -> Result<Option<Scopes>, StoreError> {
        read("read a consent", || consent::get(self, user, client_id)).await
    }

    async fn add_consent(&self, user: UserId, client_id: &str, scopes: Scopes, now: Moment) -> Result<(), StoreError> {
        write("add a consent", || consent::add(self, user, client_id, scopes, now)).await
    }

    async fn consents_of(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<Consent>, StoreError> {
        read("list consents", || consent::list(self, user, after, limit)).await
    }

    async fn revoke_consent(&self, user: UserId, client_id: &str, now: Moment) -> Result<bool, StoreError> {
        write("revoke a consent", || consent::revoke(self, user, client_id, now)).await
    }

    async fn traces_of(
        &self,
        user: UserId,
        kind: TraceKind,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<Trace>, StoreError> {
        read("read what is kept of a person", || traces(self, user, kind, after, limit)).await
    }

    async fn profile(&self, user: UserId) -> Result<Option<Profile>, StoreError> {
        read("read a profile", || profile::get(self, user)).await
    }

    async fn set_profile(&self, user: UserId, profile: &Profile) -> Result<bool, StoreError> {
        write("change a profile", || profile::set(self, user, profile)).await
    }
}

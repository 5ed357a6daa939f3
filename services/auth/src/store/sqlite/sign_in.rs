//! What is kept in SQLite while people sign in by a browser.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::opening::{Opening, open_within};
use super::session::{end, ids};
use super::{SqliteStore, Transaction, count, failed, logout, unreadable};
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
pub(super) async fn forget(transaction: &mut Transaction, user: UserId) -> Result<u64, sqlx::Error> {
    let mut forgotten = 0;
    for delete in [
        "DELETE FROM browser_sessions WHERE user_id = ?1",
        "DELETE FROM login_requests WHERE user_id = ?1",
        "DELETE FROM codes WHERE user_id = ?1 AND used_at IS NULL",
        "DELETE FROM device_codes WHERE user_id = ?1 AND stage <> 'used'",
    ] {
        forgotten += sqlx::query(delete).bind(bytes(&user)).execute(&mut **transaction).await?.rows_affected();
    }
    Ok(forgotten)
}

/// Forgets all of that, and what the person has allowed and is called.
pub(super) async fn erase(transaction: &mut Transaction, user: UserId) -> Result<u64, sqlx::Error> {
    let mut erased = forget(transaction, user).await?;
    for delete in [
        "DELETE FROM codes WHERE user_id = ?1",
        "DELETE FROM device_codes WHERE user_id = ?1",
        "DELETE FROM consents WHERE user_id = ?1",
        "DELETE FROM profiles WHERE user_id = ?1",
    ] {
        erased += sqlx::query(delete).bind(bytes(&user)).execute(&mut **transaction).await?.rows_affected();
    }
    Ok(erased)
}

/// Throws away up to `rows_max` rows of each kind that are over. Answers whether there is more.
pub(super) async fn purge(
    store: &SqliteStore,
    lifetimes: BrowserLifetimes,
    codes_before: Moment,
    rows_max: u32,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let mut more = false;
    for (delete, before) in [
        (
            "DELETE FROM login_requests WHERE challenge_sha256 IN \
             (SELECT challenge_sha256 FROM login_requests WHERE expires_at <= ?1 LIMIT ?2)",
            now,
        ),
        (
            "DELETE FROM pushed_requests WHERE reference_sha256 IN \
             (SELECT reference_sha256 FROM pushed_requests WHERE expires_at <= ?1 LIMIT ?2)",
            now,
        ),
        (
            "DELETE FROM codes WHERE code_sha256 IN (SELECT code_sha256 FROM codes WHERE expires_at <= ?1 LIMIT ?2)",
            codes_before,
        ),
        (
            "DELETE FROM browser_sessions WHERE cookie_sha256 IN \
             (SELECT cookie_sha256 FROM browser_sessions WHERE last_use_at <= ?1 LIMIT ?2)",
            now.minus(lifetimes.idle).minus(std::time::Duration::from_secs(60)),
        ),
        (
            "DELETE FROM browser_sessions WHERE cookie_sha256 IN \
             (SELECT cookie_sha256 FROM browser_sessions WHERE created_at <= ?1 LIMIT ?2)",
            now.minus(lifetimes.absolute),
        ),
    ] {
        let gone = sqlx::query(delete)
            .bind(before.0)
            .bind(i64::from(rows_max))
            .execute(&store.database.writer)
            .await?
            .rows_affected();
        more |= gone >= u64::from(rows_max);
    }
    Ok(more)
}

async fn browser_session(
    store: &SqliteStore,
    cookie: Digest,
    lifetimes: BrowserLifetimes,
    now: Moment,
) -> Result<Option<Recognised>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT user_id, amr, authenticated_at, last_use_at FROM browser_sessions \
         WHERE cookie_sha256 = ?1 AND last_use_at > ?2 AND created_at > ?3",
    )
    .bind(cookie.0.as_slice())
    .bind(now.minus(lifetimes.idle).0)
    .bind(now.minus(lifetimes.absolute).0)
    .fetch_optional(&store.database.readers)
    .await?;
    let Some(row) = found else { return Ok(None) };
    if row.try_get::<i64, _>(3)? != now.minute().0 {
        sqlx::query("UPDATE browser_sessions SET last_use_at = ?2 WHERE cookie_sha256 = ?1")
            .bind(cookie.0.as_slice())
            .bind(now.minute().0)
            .execute(&store.database.writer)
            .await?;
    }
    Ok(Some(Recognised {
        user: user_in(&row, 0)?,
        amr: words(row.try_get(1)?),
        authenticated_at: Moment(row.try_get(2)?),
    }))
}

async fn end_browser_session(store: &SqliteStore, cookie: Digest, now: Moment) -> Result<u64, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let gone = sqlx::query("DELETE FROM browser_sessions WHERE cookie_sha256 = ?1 RETURNING user_id")
        .bind(cookie.0.as_slice())
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(gone) = gone else { return Ok(0) };
    let user = user_in(&gone, 0)?;
    sqlx::query("DELETE FROM codes WHERE user_id = ?1 AND browser_sha256 = ?2 AND used_at IS NULL")
        .bind(bytes(&user))
        .bind(cookie.0.as_slice())
        .execute(&mut *transaction)
        .await?;
    let given = sqlx::query(
        "SELECT session_id, user_id, client_id, scopes FROM sessions WHERE user_id = ?1 AND browser_sha256 = ?2",
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
    end(&mut transaction, &[(&ids(&ending)?, Why::SignedOut)], &by).await?;
    transaction.commit().await?;
    Ok(count(ending.len()))
}

/// What clients got for the person in the browser that had the cookie `before` is of the one that has `cookie` now.
async fn move_browser(
    transaction: &mut Transaction,
    user: &[u8],
    before: Digest,
    cookie: Digest,
) -> Result<(), sqlx::Error> {
    for update in [
        "UPDATE codes SET browser_sha256 = ?3 WHERE user_id = ?1 AND browser_sha256 = ?2",
        "UPDATE sessions SET browser_sha256 = ?3 WHERE user_id = ?1 AND browser_sha256 = ?2",
    ] {
        let update = sqlx::query(update).bind(user).bind(before.0.as_slice()).bind(cookie.0.as_slice());
        update.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn traces(
    store: &SqliteStore,
    user: UserId,
    kind: TraceKind,
    after: Option<Digest>,
    limit: u32,
) -> Result<Vec<Trace>, sqlx::Error> {
    let rows: Vec<Columns> = sqlx::query_as(kind.rows())
        .bind(bytes(&user))
        .bind(after.as_ref().map_or(&[][..], |after| after.0.as_slice()))
        .bind(i64::from(limit))
        .fetch_all(&store.database.readers)
        .await?;
    rows.into_iter().map(|row| Trace::read(row).ok_or_else(|| unreadable("what is kept of a person"))).collect()
}

pub(super) fn bytes(user: &UserId) -> &[u8] {
    user.0.as_bytes().as_slice()
}

pub(super) fn user_in(row: &SqliteRow, index: usize) -> Result<UserId, sqlx::Error> {
    Uuid::from_slice(row.try_get(index)?).map(UserId).map_err(|_| unreadable("an id"))
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn written(value: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

#[async_trait]
impl SignInStore for SqliteStore {
    async fn open_login_request(&self, request: &LoginRequest, max: OpenMax, now: Moment) -> Result<bool, StoreError> {
        request::open(self, request, max, now).await.map_err(failed("open a login request"))
    }

    async fn login_request(&self, challenge: Digest, now: Moment) -> Result<Option<LoginRequest>, StoreError> {
        request::get(self, challenge, now).await.map_err(failed("read a login request"))
    }

    async fn accept_login_request(
        &self,
        challenge: Digest,
        person: &Recognised,
        profile: &Profile,
        now: Moment,
    ) -> Result<Acceptance, StoreError> {
        request::accept(self, challenge, person, profile, now).await.map_err(failed("accept a login request"))
    }

    async fn reject_login_request(&self, challenge: Digest, now: Moment) -> Result<bool, StoreError> {
        request::reject(self, challenge, now).await.map_err(failed("reject a login request"))
    }

    async fn enter(
        &self,
        challenge: Digest,
        cookie: Digest,
        replaced: Option<Digest>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        request::enter(self, challenge, cookie, replaced, now).await.map_err(failed("sign in in a browser"))
    }

    async fn take_login_request(
        &self,
        challenge: Digest,
        stage: Option<Stage>,
        now: Moment,
    ) -> Result<Option<LoginRequest>, StoreError> {
        request::take(self, challenge, stage, now).await.map_err(failed("take a login request"))
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
        let pushed = request::push(self, reference, address, client_id, request, expires_at, max).await;
        pushed.map_err(failed("keep a pushed request"))
    }

    async fn take_pushed_request(
        &self,
        reference: Digest,
        client_id: &str,
        now: Moment,
    ) -> Result<Option<AuthorizationRequest>, StoreError> {
        request::take_pushed(self, reference, client_id, now).await.map_err(failed("take a pushed request"))
    }

    async fn add_code(&self, digest: Digest, code: &KeptCode) -> Result<bool, StoreError> {
        code::add(self, digest, code).await.map_err(failed("add a code"))
    }

    async fn redeem_code(
        &self,
        digest: Digest,
        judge: &(dyn for<'a> Fn(&'a KeptCode) -> Option<Session> + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Redeemed, StoreError> {
        code::redeem(self, digest, judge, proof, sessions_max, now).await.map_err(failed("redeem a code"))
    }

    async fn browser_session(
        &self,
        cookie: Digest,
        lifetimes: BrowserLifetimes,
        now: Moment,
    ) -> Result<Option<Recognised>, StoreError> {
        browser_session(self, cookie, lifetimes, now).await.map_err(failed("look who is signed in in a browser"))
    }

    async fn end_browser_session(&self, cookie: Digest, now: Moment) -> Result<u64, StoreError> {
        end_browser_session(self, cookie, now).await.map_err(failed("sign out in a browser"))
    }

    async fn consent(&self, user: UserId, client_id: &str) -> Result<Option<Scopes>, StoreError> {
        consent::get(self, user, client_id).await.map_err(failed("read a consent"))
    }

    async fn add_consent(&self, user: UserId, client_id: &str, scopes: Scopes, now: Moment) -> Result<(), StoreError> {
        consent::add(self, user, client_id, scopes, now).await.map_err(failed("add a consent"))
    }

    async fn consents_of(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<Consent>, StoreError> {
        consent::list(self, user, after, limit).await.map_err(failed("list consents"))
    }

    async fn revoke_consent(&self, user: UserId, client_id: &str, now: Moment) -> Result<bool, StoreError> {
        consent::revoke(self, user, client_id, now).await.map_err(failed("revoke a consent"))
    }

    async fn traces_of(
        &self,
        user: UserId,
        kind: TraceKind,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<Trace>, StoreError> {
        traces(self, user, kind, after, limit).await.map_err(failed("read what is kept of a person"))
    }

    async fn profile(&self, user: UserId) -> Result<Option<Profile>, StoreError> {
        profile::get(self, user).await.map_err(failed("read a profile"))
    }

    async fn set_profile(&self, user: UserId, profile: &Profile) -> Result<bool, StoreError> {
        profile::set(self, user, profile).await.map_err(failed("change a profile"))
    }
}

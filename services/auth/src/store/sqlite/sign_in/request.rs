//! Login requests and pushed requests in SQLite.

use super::*;

/// `SELECT` or `RETURNING` the columns that [`read`] takes.
macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " challenge_sha256, browser_sha256, address, stage, client_id, request, user_id, amr, authenticated_at, expires_at ",
            $after
        )
    };
}

fn read(row: &SqliteRow) -> Result<LoginRequest, sqlx::Error> {
    let digest = |bytes: &[u8]| Digest::kept(bytes).ok_or_else(|| unreadable("a digest"));
    let person = match row.try_get::<Option<&[u8]>, _>(6)? {
        None => None,
        Some(_) => Some(Recognised {
            user: user_in(row, 6)?,
            amr: words(row.try_get(7)?),
            authenticated_at: Moment(row.try_get::<Option<i64>, _>(8)?.unwrap_or_default()),
        }),
    };
    Ok(LoginRequest {
        challenge: digest(row.try_get(0)?)?,
        browser: digest(row.try_get(1)?)?,
        address: row.try_get(2)?,
        stage: Stage::named(row.try_get(3)?).ok_or_else(|| unreadable("a stage"))?,
        client_id: row.try_get(4)?,
        request: serde_json::from_str(row.try_get(5)?).map_err(|_| unreadable("an authorization request"))?,
        person,
        expires_at: Moment(row.try_get(9)?),
    })
}

pub(super) async fn open(
    store: &SqliteStore,
    request: &LoginRequest,
    max: OpenMax,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    // No more are counted than may be: what costs here does not grow with an attack.
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM login_requests WHERE address = ?1 AND expires_at > ?2 LIMIT ?3) AS found",
    )
    .bind(&request.address)
    .bind(now.0)
    .bind(i64::from(max.of_address))
    .fetch_one(&mut *transaction)
    .await?;
    if open >= i64::from(max.of_address) {
        return Ok(false);
    }
    sqlx::query(
        "DELETE FROM login_requests WHERE challenge_sha256 IN (SELECT challenge_sha256 FROM login_requests \
         WHERE browser_sha256 = ?1 ORDER BY expires_at DESC LIMIT 1000 OFFSET ?2)",
    )
    .bind(request.browser.0.as_slice())
    .bind(i64::from(max.of_browser) - 1)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO login_requests (challenge_sha256, browser_sha256, address, stage, client_id, request, user_id, amr, \
                authenticated_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )
    .bind(request.challenge.0.as_slice())
    .bind(request.browser.0.as_slice())
    .bind(&request.address)
    .bind(request.stage.name())
    .bind(&request.client_id)
    .bind(written(&request.request)?)
    .bind(request.person.as_ref().map(|person| bytes(&person.user)))
    .bind(request.person.as_ref().map(|person| person.amr.join(" ")).unwrap_or_default())
    .bind(request.person.as_ref().map(|person| person.authenticated_at.0))
    .bind(request.expires_at.0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn get(
    store: &SqliteStore,
    challenge: Digest,
    now: Moment,
) -> Result<Option<LoginRequest>, sqlx::Error> {
    let row = sqlx::query(columns!("SELECT", "FROM login_requests WHERE challenge_sha256 = ?1 AND expires_at > ?2"))
        .bind(challenge.0.as_slice())
        .bind(now.0)
        .fetch_optional(&store.database.readers)
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn accept(
    store: &SqliteStore,
    challenge: Digest,
    person: &Recognised,
    profile: &Profile,
    now: Moment,
) -> Result<Acceptance, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let enabled: Option<bool> = sqlx::query_scalar("SELECT enabled FROM subjects WHERE user_id = ?1")
        .bind(bytes(&person.user))
        .fetch_optional(&mut *transaction)
        .await?;
    if enabled == Some(false) {
        return Ok(Acceptance::SubjectDisabled);
    }
    let accepted = sqlx::query(
        "UPDATE login_requests SET stage = 'accepted', user_id = ?2, amr = ?3, authenticated_at = ?4 \
         WHERE challenge_sha256 = ?1 AND stage = 'login' AND expires_at > ?5",
    )
    .bind(challenge.0.as_slice())
    .bind(bytes(&person.user))
    .bind(person.amr.join(" "))
    .bind(person.authenticated_at.0)
    .bind(now.0)
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if accepted == 0 {
        return Ok(Acceptance::Unknown);
    }
    super::profile::put(&mut transaction, person.user, profile).await?;
    transaction.commit().await?;
    Ok(Acceptance::Done)
}

pub(super) async fn reject(store: &SqliteStore, challenge: Digest, now: Moment) -> Result<bool, sqlx::Error> {
    let rejected = sqlx::query(
        "UPDATE login_requests SET stage = 'rejected' WHERE challenge_sha256 = ?1 AND stage = 'login' AND expires_at > ?2",
    )
    .bind(challenge.0.as_slice())
    .bind(now.0)
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(rejected > 0)
}

pub(super) async fn enter(
    store: &SqliteStore,
    challenge: Digest,
    cookie: Digest,
    replaced: Option<Digest>,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let row = sqlx::query(
        "UPDATE login_requests SET stage = 'signed_in' \
         WHERE challenge_sha256 = ?1 AND stage = 'accepted' AND expires_at > ?2 RETURNING user_id, amr, authenticated_at",
    )
    .bind(challenge.0.as_slice())
    .bind(now.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(false) };
    if let Some(replaced) = replaced {
        sqlx::query("DELETE FROM browser_sessions WHERE cookie_sha256 = ?1")
            .bind(replaced.0.as_slice())
            .execute(&mut *transaction)
            .await?;
        move_browser(&mut transaction, row.try_get(0)?, replaced, cookie).await?;
    }
    sqlx::query(
        "INSERT INTO browser_sessions (cookie_sha256, user_id, amr, authenticated_at, created_at, last_use_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(cookie.0.as_slice())
    .bind(row.try_get::<&[u8], _>(0)?)
    .bind(row.try_get::<&str, _>(1)?)
    .bind(row.try_get::<i64, _>(2)?)
    .bind(now.0)
    .bind(now.minute().0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn take(
    store: &SqliteStore,
    challenge: Digest,
    stage: Option<Stage>,
    now: Moment,
) -> Result<Option<LoginRequest>, sqlx::Error> {
    let row = sqlx::query(columns!(
        "DELETE FROM login_requests WHERE challenge_sha256 = ?1 AND (stage = ?2 OR ?2 = '') AND expires_at > ?3 RETURNING",
        ""
    ))
    .bind(challenge.0.as_slice())
    .bind(stage.map_or("", Stage::name))
    .bind(now.0)
    .fetch_optional(&store.database.writer)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn push(
    store: &SqliteStore,
    reference: Digest,
    address: &str,
    client_id: &str,
    request: &AuthorizationRequest,
    expires_at: Moment,
    max: OpenMax,
) -> Result<bool, sqlx::Error> {
    let pushed = sqlx::query(
        "INSERT INTO pushed_requests (reference_sha256, address, client_id, request, expires_at) \
         SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 > \
         (SELECT count(*) FROM (SELECT 1 FROM pushed_requests WHERE address = ?2 LIMIT ?6) AS found)",
    )
    .bind(reference.0.as_slice())
    .bind(address)
    .bind(client_id)
    .bind(written(request)?)
    .bind(expires_at.0)
    .bind(i64::from(max.of_address))
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(pushed > 0)
}

pub(super) async fn take_pushed(
    store: &SqliteStore,
    reference: Digest,
    client_id: &str,
    now: Moment,
) -> Result<Option<AuthorizationRequest>, sqlx::Error> {
    let taken: Option<String> = sqlx::query_scalar(
        "DELETE FROM pushed_requests WHERE reference_sha256 = ?1 AND client_id = ?2 AND expires_at > ?3 RETURNING request",
    )
    .bind(reference.0.as_slice())
    .bind(client_id)
    .bind(now.0)
    .fetch_optional(&store.database.writer)
    .await?;
    taken.map(|kept| serde_json::from_str(&kept).map_err(|_| unreadable("an authorization request"))).transpose()
}

//! The table of lanes: who may tell the issuer about a person at this moment. One statement each, by the server's clock.

use std::time::Duration;

use flaghoist_runtime::names::UserId;

use super::{PostgresStore, key, milliseconds};
use crate::store::Holder;

pub(super) async fn take(
    store: &PostgresStore,
    user: UserId,
    holder: Holder,
    hold: Duration,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "INSERT INTO lanes (user_id, holder, held_until)
         VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
         ON CONFLICT (user_id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
         WHERE lanes.held_until <= clock_timestamp() OR lanes.holder = excluded.holder",
    )
    .bind(key(&user))
    .bind(&holder.0.as_bytes()[..])
    .bind(milliseconds(hold))
    .execute(&store.pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

pub(super) async fn keep(
    store: &PostgresStore,
    user: UserId,
    holder: Holder,
    hold: Duration,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query(
        "UPDATE lanes SET held_until = clock_timestamp() + $3 * interval '1 millisecond'
         WHERE user_id = $1 AND holder = $2",
    )
    .bind(key(&user))
    .bind(&holder.0.as_bytes()[..])
    .bind(milliseconds(hold))
    .execute(&store.pool)
    .await?;
    Ok(kept.rows_affected() > 0)
}

pub(super) async fn leave(store: &PostgresStore, user: UserId, holder: Holder) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM lanes WHERE user_id = $1 AND holder = $2")
        .bind(key(&user))
        .bind(&holder.0.as_bytes()[..])
        .execute(&store.pool)
        .await?;
    Ok(())
}

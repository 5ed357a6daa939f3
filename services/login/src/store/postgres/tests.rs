use std::str::FromStr as _;

use super::*;
use crate::store::conformance::World;

/// A fresh database that two pods open; nothing on a machine without PostgreSQL.
async fn address() -> Option<PgConnectOptions> {
    let url = flaghoist_backends::Postgres::shared().await?.database().await;
    Some(PgConnectOptions::from_str(&url).unwrap())
}

crate::store::conformance::suite!(async {
    let address = address().await?;
    Some(World::of_many(move || {
        let address = address.clone();
        async move { PostgresStore::open(&address, 8).await.unwrap() }
    }))
});

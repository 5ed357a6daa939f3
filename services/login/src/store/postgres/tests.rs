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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_another_key_file_is_noticed() {
    let Some(address) = address().await else { return };
    let (first, second) = tokio::join!(PostgresStore::open(&address, 4), PostgresStore::open(&address, 4));
    let (first, second) = (first.unwrap(), second.unwrap());
    let (one, other) = tokio::join!(first.agrees(&[1; 32]), second.agrees(&[2; 32]));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one != other, "the first one decides");
    assert_eq!(second.agrees(&[1; 32]).await.unwrap(), one);
    assert_eq!(first.agrees(&[2; 32]).await.unwrap(), other);
}

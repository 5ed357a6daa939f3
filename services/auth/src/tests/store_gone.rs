//! A store that is gone: auth says that it cannot, and soon no longer what its keys are, since another pod may have changed them.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::flow::{Browser, Page};
use super::*;

impl World {
    /// Takes the keys away from under the issuer, or puts them back: every look at them fails meanwhile.
    async fn keys_are(&self, gone: bool) {
        let mut file = SqliteConnectOptions::new().filename(self.place.data.join("auth.db")).connect().await.unwrap();
        let (from, to) = if gone { ("signing_keys", "away") } else { ("away", "signing_keys") };
        file.execute(sqlx::AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"))).await.unwrap();
    }

    async fn jwks_over_http(&self) -> Page {
        Browser::default().get(self, "/oauth2/jwks").await
    }
}

#[tokio::test]
async fn case_66_keys_that_could_not_be_read_for_too_long_are_published_no_more() {
    // Five seconds are the least for which keys are trusted; by default it is an hour.
    let world = World::with(Settings { key_lead: Duration::from_secs(1), ..Settings::default() }).await;
    assert_eq!(world.issuer.keyring.times().trusted_for(), Duration::from_secs(5));
    let secret = world.resource_server("bot", &["flaghoist"]).await;
    let bot = || credentials("bot", &secret);
    world.keys_are(true).await;
    world.issuer.keyring.advance().await.expect_err("the store is gone");
    // A store that is away for a moment is nothing that the mesh would have to know.
    let page = world.jwks_over_http().await;
    assert!(page.status == 200 && !page.json()["keys"].as_array().unwrap().is_empty(), "{}", page.body);
    world.client_token(bot(), "").await.unwrap();

    let within = Duration::from_secs(20);
    eventually("keys are old", within, async || world.jwks_over_http().await.status != 200).await;
    let page = world.jwks_over_http().await;
    assert_eq!((page.status.as_u16(), page.json()["error"].as_str()), (503, Some("temporarily_unavailable")));
    assert!(page.json()["keys"].is_null() && page.headers["cache-control"] == "no-store");
    let fetched = world.verification().get_jwks(GetJwksRequest {}).await;
    refused(fetched, Code::Unavailable, Reason::Unavailable);
    // Nor is anything signed with them: another pod may have taken them out of force.
    refused(world.client_token(bot(), "").await, Code::Unavailable, Reason::Unavailable);

    world.keys_are(false).await;
    eventually("keys are read", within, async || world.jwks_over_http().await.status == 200).await;
    let token = world.client_token(bot(), "").await.unwrap().access_token;
    world.context.verifier.verify(&token).unwrap();
}

//! The crate as the program uses it: `start` on a folder and on a database, its parts, and its readiness.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use flaghoist_auth::{Peers, SETTINGS, Settings, StartError};
use flaghoist_runtime::settings::Reader;
use flaghoist_runtime::{Context, Drain, DrainTrigger, Parts, Place, Readiness, StoreAddress, Verifier};
use tower::ServiceExt as _;

struct Started {
    parts: Parts,
    context: Context,
    trigger: DrainTrigger,
}

async fn start(settings: Settings, place: &Place) -> Result<Started, StartError> {
    let (trigger, drain) = Drain::new();
    let context = Context {
        verifier: Verifier::new("http://localhost:8080"),
        drain,
        readiness: Arc::new(Readiness::new()),
        issuer: "http://localhost:8080".into(),
        trusted_hops: 0,
    };
    let parts = flaghoist_auth::start(settings, place, Peers {}, &context).await?;
    tokio::time::timeout(Duration::from_secs(20), context.readiness.ready()).await.expect("it becomes ready");
    Ok(Started { parts, context, trigger })
}

/// The JWK set, as soon as the keys of all algorithms are in it: that of access tokens is there from the start.
async fn jwks(parts: &Parts) -> serde_json::Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let keys = jwks_now(parts).await;
        let published = keys["keys"].as_array().expect("keys").len();
        assert!(published >= 2, "never without a key for access tokens and its reserve");
        if published == 6 {
            return keys;
        }
        assert!(tokio::time::Instant::now() < deadline, "{keys}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn jwks_now(parts: &Parts) -> serde_json::Value {
    let request = http::Request::get("/oauth2/jwks").body(Body::empty()).expect("a request");
    let response = parts.http.clone().expect("auth has pages").oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    serde_json::from_slice(&body).expect("a JWK set")
}

#[tokio::test]
async fn it_starts_on_a_folder_with_keys_that_stay() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let first = start(Settings::default(), &place).await.unwrap();
    assert_eq!(first.parts.services.len(), 6);
    let keys = jwks(&first.parts).await;
    first.context.verifier.set_keys(&keys.to_string()).unwrap();
    first.trigger.end();
    drop(first.parts);
    assert_eq!(jwks(&start(Settings::default(), &place).await.unwrap().parts).await, keys);
}

#[tokio::test]
async fn it_says_what_is_wrong_with_its_folder_and_its_database() {
    let missing = start(Settings::default(), &Place::new("/nonexistent/flaghoist")).await.map(|_| ()).unwrap_err();
    assert!(matches!(missing, StartError::Secret(_)));
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    std::fs::create_dir(folder.path().join("auth.db")).unwrap();
    let no_file = start(Settings::default(), &place).await.map(|_| ()).unwrap_err();
    assert!(matches!(no_file, StartError::Open(_)));
    let Some(postgres) = flaghoist_backends::Postgres::shared().await else { return };
    let address = postgres.url("nobody_made_this").parse().unwrap();
    let settings = Settings { store: StoreAddress::Postgres(Box::new(address)), ..Settings::default() };
    let no_database = start(settings, &place).await.map(|_| ()).unwrap_err();
    let text = flaghoist_runtime::fault::chain(&no_database);
    assert!(text.contains("nobody_made_this") && !text.contains(postgres.password()), "{text}");
}

#[tokio::test]
async fn pods_that_start_together_on_an_empty_database_publish_the_same_keys() {
    let Some(postgres) = flaghoist_backends::Postgres::shared().await else { return };
    let url = postgres.database().await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let given = std::collections::BTreeMap::from([("FLAGHOIST_AUTH_STORE", url.as_str())]);
    let mut reader = Reader::new(&given);
    let settings = Settings::read(&mut reader);
    reader.finish().unwrap();
    let started = futures_util::future::join_all((0..3).map(|_| start(settings.clone(), &place))).await;
    let pods: Vec<_> = started.into_iter().map(Result::unwrap).collect();
    let keys = jwks(&pods[0].parts).await;
    for pod in &pods {
        assert_eq!(jwks(&pod.parts).await, keys);
    }
    assert!(!folder.path().join("auth.db").exists());
}

#[test]
fn every_setting_has_an_explanation() {
    for setting in SETTINGS {
        assert!(setting.name.starts_with("FLAGHOIST_AUTH_") && !setting.doc.is_empty(), "{}", setting.name);
    }
}

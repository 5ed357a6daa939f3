//! How streams end.

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::receiver::v1::receive_request::Request as Says;
use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::*;
use flaghoist_runtime::fault::Reason;
use flaghoist_runtime::token::{Revocation, RevocationTarget};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;

use super::world::*;
use crate::Settings;

/// A token as auth would give it.
fn token(world: &World, person: &Person) -> String {
    let key = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "use": "sig", "x": x}]});
    world.verifier.set_keys(&jwks.to_string()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": ISSUER, "sub": person.id.to_string(), "aud": ["flaghoist"], "exp": now + 300, "iat": now,
        "jti": uuid::Uuid::now_v7().to_string(), "client_id": "cli", "scope": "chat.read chat.send", "sid": person.session.to_string(),
        "auth_time": now, "amr": ["pwd"],
    });
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k"});
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn fault_10_a_newer_stream_of_a_device_wins_at_once() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut old, mut tablet) = (world.listens(&bob).await, world.opens(&bob, open("tablet")).await.unwrap());
    old.catches_up().await;
    tablet.catches_up().await;
    let started = Instant::now();
    let mut new = world.listens(&bob).await;
    assert_eq!(old.ends().await, (Code::Aborted, Some(Reason::StreamReplaced)));
    // Not by the sweep, which would notice after 5 seconds.
    assert!(started.elapsed() < Duration::from_secs(4));
    new.catches_up().await;
    world.says(&alice, hall, "hi").await;
    assert_eq!((new.event().await.seq, tablet.event().await.seq), (2, 2));
}

#[tokio::test]
async fn promise_10_a_revoked_session_or_person_loses_its_streams() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let mut other = Person { session: world.person().session, ..bob };
    other.token_lives = Duration::from_secs(200);
    let (mut hers, mut his) = (world.listens(&alice).await, world.listens(&bob).await);
    let mut elsewhere = world.opens(&other, open("tablet")).await.unwrap();
    for ear in [&mut hers, &mut his, &mut elsewhere] {
        ear.catches_up().await;
    }
    let started = Instant::now();
    let revoked_at = SystemTime::now();
    world.verifier.revoke(Revocation { target: RevocationTarget::Session(bob.session), revoked_at });
    assert_eq!(his.ends().await, (Code::Unauthenticated, Some(Reason::TokenRevoked)));
    assert!(started.elapsed() < Duration::from_secs(5));
    elsewhere.hears_nothing().await;
    hers.hears_nothing().await;
    let target = RevocationTarget::Subject(alice.id.to_string());
    world.verifier.revoke(Revocation { target, revoked_at: SystemTime::now() + Duration::from_secs(1) });
    assert_eq!(hers.ends().await, (Code::Unauthenticated, Some(Reason::TokenRevoked)));
    assert_eq!(world.listens(&bob).await.ends().await.1, Some(Reason::TokenRevoked), "also one that comes late");
}

#[tokio::test]
async fn promise_10_streams_whose_token_a_revoked_key_has_signed_end() {
    let world = World::new().await;
    let mut his = world.listens(&world.person()).await;
    his.catches_up().await;
    let revoke = |kid: &str| Revocation { target: RevocationTarget::Key(kid.into()), revoked_at: SystemTime::now() };
    world.verifier.revoke(revoke("another"));
    his.hears_nothing().await;
    world.verifier.revoke(revoke("key"));
    assert_eq!(his.ends().await, (Code::Unauthenticated, Some(Reason::TokenRevoked)));
}

#[tokio::test]
async fn promise_13_and_fault_17_a_stop_is_said_inside_the_stream() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut ears = Vec::new();
    for index in 0..20 {
        let mut ear = world.opens(&bob, open(&format!("d{index}"))).await.unwrap();
        ear.catches_up().await;
        ears.push(ear);
    }
    world.drain.start();
    let mut waits = std::collections::BTreeSet::new();
    for ear in &mut ears {
        let Said::Drain(drain) = ear.next().await else { panic!("no drain") };
        let wait = Duration::try_from(drain.reconnect_after.unwrap()).unwrap();
        assert!(wait <= Settings::default().reconnect_spread);
        waits.insert(wait);
        // What the device acknowledges meanwhile is answered.
        ear.acks(hall, 1).await;
    }
    assert!(waits.len() > 15, "all come back at different times");
    for ear in &mut ears {
        assert!(matches!(ear.next().await, Said::Acknowledged(_)));
        assert_eq!(ear.ends().await, (Code::Ok, None));
    }
    assert_eq!(refusal(world.opens(&bob, open("d1")).await.map(drop)), (Code::Unavailable, Some(Reason::Unavailable)));
}

#[tokio::test]
async fn fault_9_a_silent_device_is_noticed_and_a_quiet_server_gives_signs_of_life() {
    let world = World::with(Settings { silence: Duration::from_millis(900), ..quick() }).await;
    let (bob, carol, dave) = (world.person(), world.person(), world.person());
    let mut silent = world.listens(&bob).await;
    let mut half_closed = world.listens(&dave).await;
    half_closed.falls_silent();
    let mut browser = world.subscribes(&carol).await;
    silent.catches_up().await;
    browser.catches_up().await;
    half_closed.catches_up().await;
    assert!(matches!(silent.hears().await.unwrap(), Some(Said::Heartbeat(_))));
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // An empty list is a heartbeat.
        world.acknowledges(&carol, Vec::new()).await.unwrap();
    }
    assert!(matches!(browser.hears().await.unwrap(), Some(Said::Heartbeat(_))));
    for ear in [&mut silent, &mut half_closed, &mut browser] {
        assert_eq!(ear.ends().await, (Code::Aborted, Some(Reason::StreamSilent)));
    }
    assert_eq!(
        world.client().list_devices(bob.asks(ListDevicesRequest {})).await.unwrap().into_inner().devices.len(),
        1
    );
}

#[tokio::test]
async fn a_stream_lives_as_long_as_its_token_and_a_fresh_one_keeps_it() {
    let world = World::new().await;
    let short = |person: Person| Person { token_lives: Duration::from_millis(1500), ..person };
    let (bob, carol, dave, eve) = (world.person(), world.person(), world.person(), world.person());
    let mut expiring = world.listens(&short(bob)).await;
    let mut refreshed = world.listens(&short(carol)).await;
    let mut browser = world.subscribes(&short(dave)).await;
    let mut swapped = world.listens(&short(eve)).await;
    for ear in [&mut expiring, &mut refreshed, &mut browser, &mut swapped] {
        ear.catches_up().await;
    }
    let refresh = |token| Says::RefreshToken(RefreshToken { access_token: token });
    swapped.says(refresh(token(&world, &bob))).await;
    assert_eq!(swapped.ends().await, (Code::Unauthenticated, Some(Reason::TokenInvalid)));
    refreshed.says(refresh(token(&world, &carol))).await;
    world.acknowledges(&dave, Vec::new()).await.unwrap();
    assert_eq!(expiring.ends().await, (Code::Unauthenticated, Some(Reason::TokenExpired)));
    tokio::time::sleep(Duration::from_millis(600)).await;
    refreshed.hears_nothing().await;
    browser.hears_nothing().await;
    refreshed.says(refresh("not a token".into())).await;
    assert_eq!(refreshed.ends().await, (Code::Unauthenticated, Some(Reason::TokenInvalid)));
}

#[tokio::test]
async fn an_acknowledgement_that_cannot_be_ends_the_stream_and_moves_nothing() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let yard = world.conversation(&[alice]).await;
    let position = world.at(hall, 1);
    let cases = [
        (Position { seq: 2, ..position.clone() }, Code::InvalidArgument, Reason::PositionInvalid),
        (Position { seq: u64::MAX, ..position.clone() }, Code::InvalidArgument, Reason::PositionInvalid),
        (Position { epoch: 1, ..position.clone() }, Code::InvalidArgument, Reason::PositionInvalid),
        (world.at(yard, 1), Code::NotFound, Reason::NotFound),
        (Position { conversation: "hall".into(), ..position.clone() }, Code::InvalidArgument, Reason::FieldViolation),
        (Position { conversation: String::new(), ..position.clone() }, Code::InvalidArgument, Reason::FieldViolation),
    ];
    for (bad, code, reason) in cases {
        let positions = vec![position.clone(), bad];
        let mut phone = world.listens(&bob).await;
        assert_eq!(phone.catches_up().await, [1]);
        phone.says(Says::Ack(Ack { positions: positions.clone() })).await;
        assert_eq!(phone.ends().await, (code, Some(reason)), "{positions:?}");
        assert_eq!(refusal(world.acknowledges(&bob, positions).await), (code, Some(reason)));
    }
}

#[tokio::test]
async fn a_stream_is_opened_once_and_first() {
    let world = World::new().await;
    let bob = world.person();
    let heartbeat = || Says::Heartbeat(Heartbeat {});
    let begun = world.begins(&bob, heartbeat()).await.map(drop);
    assert_eq!(refusal(begun), (Code::InvalidArgument, Some(Reason::StreamProtocol)));
    let mut phone = world.listens(&bob).await;
    phone.catches_up().await;
    phone.says(heartbeat()).await;
    phone.says(Says::Open(open("phone"))).await;
    assert_eq!(phone.ends().await, (Code::InvalidArgument, Some(Reason::StreamProtocol)));
    for device in ["phone", "users/me/devices/Phone", "users/me/devices/", ""] {
        let opened = world.opens(&bob, Open { device: device.into(), ..Open::default() }).await.map(drop);
        assert_eq!(refusal(opened), (Code::InvalidArgument, Some(Reason::FieldViolation)), "{device}");
    }
    let foreign = Open { device: format!("{}/devices/phone", world.person().id.name()), ..Open::default() };
    assert_eq!(refusal(world.opens(&bob, foreign).await.map(drop)), (Code::NotFound, Some(Reason::NotFound)));
    let wrong = Open { window: -1, from: 9, ..open("phone") };
    let status = world.opens(&bob, wrong).await.map(drop).unwrap_err();
    assert!(status.message().contains("open.window") && status.message().contains("open.from"), "{status}");
}

#[tokio::test]
async fn promise_8_devices_and_streams_have_a_bound() {
    let world = World::with(Settings { devices_max: 2, streams_max: 3, ..quick() }).await;
    let (alice, bob) = (world.person(), world.person());
    let (mut one, mut two) =
        (world.opens(&bob, open("one")).await.unwrap(), world.opens(&bob, open("two")).await.unwrap());
    one.catches_up().await;
    two.catches_up().await;
    let mut three = world.opens(&bob, open("three")).await.unwrap();
    assert_eq!(three.ends().await, (Code::ResourceExhausted, Some(Reason::LimitReached)));
    let mut hers = world.listens(&alice).await;
    hers.catches_up().await;
    let refused = world.listens_or_not(&world.person()).await;
    assert_eq!(refused, (Code::ResourceExhausted, Some(Reason::Overloaded)));
    // A device that comes back is no new stream.
    world.listens(&alice).await.catches_up().await;
    drop((one, two));
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.listens(&world.person()).await.catches_up().await;
}

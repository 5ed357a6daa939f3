//! The promises about clients that are told of the ends of sessions.

use async_trait::async_trait;

use super::pods::InTurn;
use super::sign_in::{kept, signed_in};
use super::*;
use crate::client::Registration;
use crate::code::KeptCode;
use crate::public_key::PublicKey;
use crate::store::logout::{LogoutNotice, LogoutStore};
use crate::store::sign_in::Redeemed;

const PAUSE: Duration = Duration::from_secs(30);

/// A session of a client that wants to be told, or does not.
async fn session_of(store: &dyn Store, id: &str, wants: bool, scopes: Scopes) -> Session {
    let backchannel_logout_uri = if wants { "https://app.example.com/bye".into() } else { String::new() };
    let registration = Registration { backchannel_logout_uri, ..Registration::default() };
    let client = Client { id: id.into(), registration, ..Client::built_in(NOW) };
    store.add_client(&client, MAX, by(NOW)).await.unwrap();
    let session = Session { client_id: id.into(), scopes, ..sign_in(somebody(), NOW).0 };
    assert!(matches!(store.open_session(&session, MAX, by(NOW)).await.unwrap(), Opened::Open { .. }));
    session
}

async fn due(store: &dyn Store, now: Moment) -> Vec<LogoutNotice> {
    store.take_logout_notices(10, &[], PAUSE, now).await.unwrap()
}

pub(super) async fn who_wants_to_be_told_of_the_end_of_a_session_is_and_nobody_else(store: &dyn Store) {
    let told = session_of(store, "told", true, Scopes::OPENID).await;
    let unwilling = session_of(store, "unwilling", false, Scopes::OPENID).await;
    let without = session_of(store, "told", true, Scopes::API).await;
    let living = session_of(store, "told", true, Scopes::OPENID).await;
    assert!(due(store, NOW).await.is_empty());
    for ended in [&told, &unwilling, &without] {
        assert!(store.end_session(ended.user, ended.id, Why::Revoked, by(NOW)).await.unwrap());
    }
    let notice = LogoutNotice { session: told.id, client_id: "told".into(), user: told.user, tries: 1 };
    assert_eq!(due(store, NOW).await, [notice]);
    store.drop_logout_notice(told.id).await.unwrap();
    // Whatever ends it: here a person who is disabled.
    store.set_subject(living.user, SubjectState { enabled: false, admin: false }, by(NOW)).await.unwrap();
    let all = due(store, NOW.plus(3600 * PAUSE)).await;
    assert_eq!(all.iter().map(|notice| notice.session).collect::<Vec<_>>(), [living.id]);
}

pub(super) async fn a_notice_is_taken_once_at_a_time_and_again_when_it_was_not_dropped(store: &dyn Store) {
    let session = session_of(store, "told", true, Scopes::OPENID).await;
    store.end_session(session.user, session.id, Why::Revoked, by(NOW)).await.unwrap();
    let taken = join_all((0..8).map(|_| due(store, NOW))).await;
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 1, "of many pods one tells");
    let later = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    assert!(due(store, later(29)).await.is_empty());
    assert_eq!(due(store, later(30)).await[0].tries, 2);
    assert!(due(store, later(89)).await.is_empty(), "each pause is twice the one before");
    assert_eq!(due(store, later(90)).await[0].tries, 3);
    store.drop_logout_notice(session.id).await.unwrap();
    store.drop_logout_notice(session.id).await.unwrap();
    assert!(due(store, later(100_000)).await.is_empty());
}

pub(super) async fn what_a_client_that_is_away_is_due_is_put_off_and_nobody_elses(store: &dyn Store) {
    for (id, count) in [("away", 3), ("told", 1)] {
        for _ in 0..count {
            let session = session_of(store, id, true, Scopes::OPENID).await;
            store.end_session(session.user, session.id, Why::Revoked, by(NOW)).await.unwrap();
        }
    }
    let but = store.take_logout_notices(10, &["away".into(), "told".into()], PAUSE, NOW).await.unwrap();
    assert!(but.is_empty(), "both are being told of something");
    let until = NOW.plus(Duration::from_secs(45));
    store.put_off_logout_notices("away", until, NOW).await.unwrap();
    let told: Vec<_> = due(store, NOW).await.into_iter().map(|notice| notice.client_id).collect();
    assert_eq!(told, ["told"]);
    let later = due(store, until).await;
    let tries: Vec<_> = later.iter().filter(|notice| notice.client_id == "away").map(|notice| notice.tries).collect();
    assert_eq!(tries, [1, 1, 1], "to be put off is no try");
    // What another pod has taken by now is not due any more, and stays where it is.
    store.put_off_logout_notices("away", until, until).await.unwrap();
    assert!(due(store, until).await.is_empty());
}

pub(super) async fn a_registration_that_cannot_be_read_stops_nobody_else(store: &dyn Store) {
    let good = session_of(store, "told", true, Scopes::OPENID).await;
    let jwk = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)});
    // No version registers this one; PostgreSQL takes it for a text, but not for JSON.
    let mut key = PublicKey::read(&jwk).unwrap();
    key.kid = Some("nul\0".into());
    let backchannel_logout_uri = "https://bad.example.com/bye".into();
    let registration = Registration { keys: vec![key], backchannel_logout_uri, ..Registration::default() };
    let client = Client { id: "bad".into(), registration, ..Client::built_in(NOW) };
    store.add_client(&client, MAX, by(NOW)).await.unwrap();
    let bad = Session { client_id: "bad".into(), scopes: Scopes::OPENID, ..sign_in(good.user, NOW).0 };
    assert!(matches!(store.open_session(&bad, MAX, by(NOW)).await.unwrap(), Opened::Open { .. }));
    assert_eq!(store.end_sessions_of(good.user, None, by(NOW)).await.unwrap(), 2);
    assert!(due(store, NOW).await.iter().any(|notice| notice.session == good.id));
    let (_, clients) = store.clients(None).await.unwrap().unwrap();
    assert!(clients.iter().any(|client| &*client.id == "told") && clients.iter().all(|client| &*client.id != "bad"));
    assert!(store.retire_client("bad", by(NOW)).await.unwrap(), "an admin gets rid of it");
}

pub(super) async fn a_session_that_stays_when_its_person_signs_out_in_a_browser_is_told_of(store: &dyn Store) {
    let user = somebody();
    signed_in(store, user, "cookie").await;
    let cookie = Digest::of(b"cookie");
    let mut given = Vec::new();
    for (id, scopes) in [("app", Scopes::OPENID), ("away", Scopes::OPENID | Scopes::OFFLINE_ACCESS)] {
        let session = session_of(store, id, true, scopes).await;
        let kept = KeptCode { browser: Some(cookie), ..kept(user) };
        assert!(store.add_code(Digest::of(id.as_bytes()), &kept).await.unwrap());
        let opens = |kept: &KeptCode| Some(Session { id: kept.session, user, ..session.clone() });
        let redeemed = store.redeem_code(Digest::of(id.as_bytes()), &opens, None, MAX, NOW).await.unwrap();
        assert!(matches!(redeemed, Redeemed::Good(..)));
        given.push(kept.session);
    }
    assert_eq!(store.end_browser_session(cookie, NOW).await.unwrap(), 1);
    let mut told: Vec<_> = due(store, NOW).await.into_iter().map(|notice| notice.session).collect();
    told.sort_unstable();
    assert_eq!(told, given);
    assert!(store.session(given[0]).await.unwrap().is_none() && store.session(given[1]).await.unwrap().is_some());
}

#[async_trait]
impl LogoutStore for InTurn {
    async fn take_logout_notices(
        &self,
        limit: u32,
        but: &[String],
        pause: Duration,
        now: Moment,
    ) -> Result<Vec<LogoutNotice>, StoreError> {
        self.next().take_logout_notices(limit, but, pause, now).await
    }

    async fn put_off_logout_notices(&self, client_id: &str, until: Moment, now: Moment) -> Result<(), StoreError> {
        self.next().put_off_logout_notices(client_id, until, now).await
    }

    async fn drop_logout_notice(&self, session: SessionId) -> Result<(), StoreError> {
        self.next().drop_logout_notice(session).await
    }
}

//! The promises about further grants: what is good once, and devices.

use async_trait::async_trait;

use super::pods::InTurn;
use super::sign_in::signed_in;
use super::*;
use crate::authorization::Recognised;
use crate::store::grants::{Approved, Device, Once, Polled, UNUSED_KEPT};

const SOON: Moment = Moment(NOW.0 + 600_000);
const SECOND: Duration = Duration::from_secs(1);

fn secret(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn device(code: &str) -> Device {
    Device {
        device_code: secret(code),
        user_code: secret(&format!("user code of {code}")),
        client_id: "web".into(),
        scopes: Scopes::API,
        address: "192.0.2.1".into(),
        session: SessionId(Uuid::now_v7()),
        interval: 5 * SECOND,
        expires_at: SOON,
    }
}

async fn add(store: &dyn Store, code: &str) -> Device {
    client(store, "web").await;
    let device = device(code);
    assert!(store.add_device(&device, MAX, NOW).await.unwrap());
    device
}

async fn approve(store: &dyn Store, device: &Device, user: UserId) -> bool {
    signed_in(store, user, &format!("cookie for {:?} of {user}", device.session)).await;
    store.decide_device(device.user_code, Some(&recognised(user)), NOW).await.unwrap()
}

fn recognised(user: UserId) -> Recognised {
    Recognised { user, amr: vec!["pwd".into()], authenticated_at: NOW }
}

fn opens(approved: &Approved) -> Session {
    Session { id: approved.session, scopes: approved.scopes, ..sign_in(approved.person.user, NOW).0 }
}

async fn poll(store: &dyn Store, device: &Device, now: Moment) -> Polled {
    store.poll_device(device.device_code, "web", &opens, None, MAX, now).await.unwrap()
}

pub(super) async fn an_id_is_used_once_however_many_bring_it(store: &dyn Store) {
    let all = join_all((0..50).map(|_| store.use_once(secret("id"), SOON, NOW))).await;
    assert_eq!(all.into_iter().filter(|first| *first.as_ref().unwrap()).count(), 1);
    assert!(store.use_once(secret("another"), SOON, NOW).await.unwrap());
    assert!(!store.use_once(secret("over"), NOW, NOW).await.unwrap(), "what is over is good for nothing");
    // It is remembered for as long as it could be brought, and not much longer.
    store.purge(&purge(NOW, NOW), 100, SOON).await.unwrap();
    assert!(!store.use_once(secret("id"), SOON, NOW).await.unwrap());
    store.purge(&purge(NOW, NOW), 100, SOON.plus(61 * SECOND)).await.unwrap();
    assert!(store.use_once(secret("id"), SOON, NOW).await.unwrap());
}

pub(super) async fn a_registration_token_is_good_for_as_many_as_it_says(store: &dyn Store) {
    let event = Event::new(by(NOW), Action::RegistrationTokenCreated, "registrationTokens");
    store.add_registration_token(secret("token"), Scopes::OPENID, 3, SOON, &event).await.unwrap();
    assert!(store.registration_token(secret("token"), NOW).await.unwrap());
    assert!(!store.registration_token(secret("other"), NOW).await.unwrap());
    assert!(!store.registration_token(secret("token"), SOON).await.unwrap());
    assert_eq!(store.use_registration_token(secret("token"), SOON).await.unwrap(), None);
    let all = join_all((0..20).map(|_| store.use_registration_token(secret("token"), NOW))).await;
    let used: Vec<_> = all.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(used, [Scopes::OPENID; 3]);
    assert!(!store.registration_token(secret("token"), NOW).await.unwrap());
    let told = store.audit_events(&Filter::default(), 10).await.unwrap();
    assert!(told.iter().any(|event| event.action == Action::RegistrationTokenCreated));
}

pub(super) async fn case_53_and_54_a_device_is_told_where_it_stands(store: &dyn Store) {
    let device = add(store, "code").await;
    let at = |seconds: u32| NOW.plus(seconds * SECOND);
    assert_eq!(store.pending_device(device.user_code, NOW).await.unwrap(), Some(("web".into(), Scopes::API)));
    assert_eq!(poll(store, &device, at(0)).await, Polled::Pending);
    assert_eq!(poll(store, &device, at(1)).await, Polled::TooSoon);
    assert_eq!(poll(store, &device, at(7)).await, Polled::TooSoon, "ten seconds from the last question by now");
    assert_eq!(poll(store, &device, at(30)).await, Polled::Pending);
    let foreign = store.poll_device(device.device_code, "other", &opens, None, MAX, at(60)).await.unwrap();
    assert_eq!(
        (foreign, poll(store, &super::grants::device("unknown"), NOW).await),
        (Polled::Unknown, Polled::Unknown)
    );
    assert!(store.decide_device(device.user_code, None, at(60)).await.unwrap());
    assert_eq!(poll(store, &device, at(60)).await, Polled::Denied);
    assert!(!approve(store, &device, somebody()).await, "it is decided");
    assert_eq!(store.pending_device(device.user_code, NOW).await.unwrap(), None);
    let late = add(store, "late").await;
    assert_eq!(poll(store, &late, SOON).await, Polled::Expired);
    assert_eq!(store.pending_device(late.user_code, SOON).await.unwrap(), None);
    assert!(!store.decide_device(late.user_code, None, SOON).await.unwrap());
    let unused = add(store, "unused").await;
    assert!(approve(store, &unused, somebody()).await);
    assert_eq!(poll(store, &unused, SOON).await, Polled::Expired, "approved, and asked for too late");
}

pub(super) async fn case_33_a_device_code_is_redeemed_once_however_many_bring_it(store: &dyn Store) {
    let (user, device) = (somebody(), add(store, "code").await);
    signed_in(store, user, "cookie").await;
    let person = recognised(user);
    let decide = |_| store.decide_device(device.user_code, Some(&person), NOW);
    let decisions = join_all((0..4).map(decide)).await;
    assert_eq!(decisions.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1);
    let all = join_all((0..50).map(|_| poll(store, &device, NOW))).await;
    let good = |polled: &&Polled| {
        let Polled::Good(approved, Opened::Open { scopes, .. }) = polled else { return false };
        assert_eq!((approved.session, &approved.person), (device.session, &recognised(user)));
        *scopes == Scopes::API
    };
    assert_eq!(all.iter().filter(good).count(), 1);
    assert_eq!(all.iter().filter(|polled| **polled == Polled::Replayed).count(), 49);
    // The others have ended what it gave, once.
    assert_eq!(current(store, device.session).await, None);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(device.session)]);
}

pub(super) async fn case_33_a_proof_is_used_up_by_a_device_that_asks_in_time(store: &dyn Store) {
    let (user, device, other) = (somebody(), add(store, "code").await, add(store, "other").await);
    let proof = |text: &str| Some(Once { id: secret(text), over_at: SOON.plus(60 * SECOND) });
    let poll = async |device: &Device, text: &str, seconds: u32| {
        let now = NOW.plus(seconds * SECOND);
        store.poll_device(device.device_code, "web", &opens, proof(text), MAX, now).await.unwrap()
    };
    let unused = async |text: &str| {
        let Some(Once { id, over_at }) = proof(text) else { unreachable!() };
        store.use_once(id, over_at, NOW).await.unwrap()
    };
    assert_eq!(poll(&super::grants::device("unknown"), "a", 0).await, Polled::Unknown);
    assert_eq!((poll(&device, "b", 0).await, poll(&device, "b", 6).await), (Polled::Pending, Polled::ProofUsed));
    assert_eq!(poll(&device, "c", 1).await, Polled::TooSoon);
    assert!(unused("a").await && unused("c").await, "neither who guesses nor who hurries writes anything");
    assert!(approve(store, &device, user).await && approve(store, &other, user).await);
    assert!(matches!(poll(&device, "d", 60).await, Polled::Good(..)));
    assert_eq!((poll(&device, "d", 60).await, poll(&other, "d", 60).await), (Polled::ProofUsed, Polled::ProofUsed));
    assert!(current(store, device.session).await.is_some(), "a request that came twice is no replay of its code");
    assert!(matches!(poll(&other, "e", 60).await, Polled::Good(..)));
    assert_eq!(poll(&other, "f", 60).await, Polled::Replayed);
    assert!(unused("f").await);
}

pub(super) async fn case_40_a_device_gets_nothing_of_a_person_who_is_signed_out(store: &dyn Store) {
    let (user, other) = (somebody(), somebody());
    let [ended, disabled, erased] = [add(store, "a").await, add(store, "b").await, add(store, "c").await];
    assert!(!store.decide_device(ended.user_code, Some(&recognised(user)), NOW).await.unwrap(), "signed in nowhere");
    assert!(approve(store, &ended, user).await);
    store.end_sessions_of(user, None, by(NOW)).await.unwrap();
    assert_eq!(poll(store, &ended, NOW).await, Polled::Unknown);
    assert!(approve(store, &disabled, other).await && approve(store, &erased, user).await);
    store.set_subject(other, SubjectState { enabled: false, admin: false }, by(NOW)).await.unwrap();
    assert_eq!(poll(store, &disabled, NOW).await, Polled::Unknown);
    assert!(matches!(poll(store, &erased, NOW).await, Polled::Good(..)));
    store.erase_subject(user, by(NOW)).await.unwrap();
    assert_eq!(poll(store, &erased, NOW).await, Polled::Unknown, "nothing is kept of who is erased");
}

pub(super) async fn case_40_a_device_gets_nothing_of_what_was_taken_back(store: &dyn Store) {
    let (user, other) = (somebody(), somebody());
    let [agreed, own, others] = [add(store, "a").await, add(store, "b").await, add(store, "c").await];
    let elsewhere = Device { client_id: "tv".into(), ..device("d") };
    assert!(store.add_device(&elsewhere, MAX, NOW).await.unwrap());
    assert!(approve(store, &agreed, user).await && approve(store, &others, other).await);
    assert!(approve(store, &elsewhere, user).await);
    store.add_consent(user, "web", Scopes::API, NOW).await.unwrap();
    assert!(store.revoke_consent(user, "web", NOW).await.unwrap());
    assert_eq!(poll(store, &agreed, NOW).await, Polled::Unknown);
    // A client of the installation has devices without a consent.
    assert!(approve(store, &own, user).await);
    assert!(store.revoke_consent(user, "web", NOW).await.unwrap());
    assert!(!store.revoke_consent(user, "web", NOW).await.unwrap());
    assert_eq!(poll(store, &own, NOW).await, Polled::Unknown);
    assert!(matches!(poll(store, &others, NOW).await, Polled::Good(..)), "it is another person's");
    let polled = store.poll_device(elsewhere.device_code, "tv", &opens, None, MAX, NOW).await.unwrap();
    assert!(matches!(polled, Polled::Good(..)), "it is another client's");
}

pub(super) async fn a_device_that_was_never_used_is_forgotten_soon(store: &dyn Store) {
    let user = somebody();
    let [open, approved, used] = [add(store, "open").await, add(store, "approved").await, add(store, "used").await];
    assert!(approve(store, &approved, user).await && approve(store, &used, user).await);
    assert!(matches!(poll(store, &used, NOW).await, Polled::Good(..)));
    store.purge(&purge(NOW, NOW), 100, SOON).await.unwrap();
    assert_eq!(poll(store, &open, SOON).await, Polled::Expired, "its next question is answered yet");
    let later = SOON.plus(UNUSED_KEPT);
    while store.purge(&purge(NOW, NOW), 1, later).await.unwrap() {}
    assert_eq!(
        [poll(store, &open, later).await, poll(store, &approved, later).await],
        [Polled::Unknown, Polled::Unknown]
    );
    assert_eq!(poll(store, &used, later).await, Polled::Replayed, "whoever brings it again ends what it gave");
    store.purge(&purge(SOON, NOW), 100, later).await.unwrap();
    assert_eq!(poll(store, &used, later).await, Polled::Unknown);
}

pub(super) async fn devices_that_wait_have_bounds(store: &dyn Store) {
    let waiting = async |code: &str, now: Moment| store.add_device(&device(code), 2, now).await.unwrap();
    assert!(waiting("a", NOW).await && waiting("b", NOW).await && !waiting("c", NOW).await);
    let elsewhere = Device { address: "192.0.2.2".into(), ..device("d") };
    assert!(store.add_device(&elsewhere, 2, NOW).await.unwrap());
    let taken = Device { device_code: secret("e"), ..elsewhere };
    assert!(!store.add_device(&taken, MAX, NOW).await.unwrap(), "no two have one user code");
    assert!(waiting("f", SOON).await, "what is over does not count");
}

pub(super) async fn case_55_guesses_are_counted_until_they_are_forgotten(store: &dyn Store) {
    let count =
        async |who: &str, now: Moment| store.count_guess(secret(who), now.plus(60 * SECOND), now).await.unwrap();
    let mut all = join_all((0..20).map(|_| count("browser", NOW))).await;
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<_>>(), "each sees those before it");
    assert_eq!(count("another", NOW).await, 1);
    store.forgive_guess(secret("browser")).await.unwrap();
    assert_eq!(count("browser", NOW.plus(59 * SECOND)).await, 20);
    assert_eq!(count("browser", NOW.plus(60 * SECOND)).await, 1);
    store.forgive_guess(secret("nobody")).await.unwrap();
}

#[async_trait]
impl GrantStore for InTurn {
    async fn use_once(&self, id: Digest, expires_at: Moment, now: Moment) -> Result<bool, StoreError> {
        self.next().use_once(id, expires_at, now).await
    }

    async fn add_registration_token(
        &self,
        token: Digest,
        scopes: Scopes,
        uses: u32,
        expires_at: Moment,
        event: &Event,
    ) -> Result<(), StoreError> {
        self.next().add_registration_token(token, scopes, uses, expires_at, event).await
    }

    async fn registration_token(&self, token: Digest, now: Moment) -> Result<bool, StoreError> {
        self.next().registration_token(token, now).await
    }

    async fn use_registration_token(&self, token: Digest, now: Moment) -> Result<Option<Scopes>, StoreError> {
        self.next().use_registration_token(token, now).await
    }

    async fn add_device(&self, device: &Device, max: u32, now: Moment) -> Result<bool, StoreError> {
        self.next().add_device(device, max, now).await
    }

    async fn pending_device(&self, user_code: Digest, now: Moment) -> Result<Option<(String, Scopes)>, StoreError> {
        self.next().pending_device(user_code, now).await
    }

    async fn decide_device(
        &self,
        user_code: Digest,
        person: Option<&Recognised>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        self.next().decide_device(user_code, person, now).await
    }

    async fn poll_device(
        &self,
        device_code: Digest,
        client_id: &str,
        opens: &(dyn for<'a> Fn(&'a Approved) -> Session + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Polled, StoreError> {
        self.next().poll_device(device_code, client_id, opens, proof, sessions_max, now).await
    }

    async fn count_guess(&self, who: Digest, expires_at: Moment, now: Moment) -> Result<u32, StoreError> {
        self.next().count_guess(who, expires_at, now).await
    }

    async fn forgive_guess(&self, who: Digest) -> Result<(), StoreError> {
        self.next().forgive_guess(who).await
    }
}

//! The promises about sign-ins by a browser.

use super::*;
use crate::authorization::{AuthorizationRequest, Prompts, Recognised};
use crate::code::{Code, KeptCode};
use crate::profile::Profile;
use crate::store::grants::Once;
use crate::store::sign_in::{Acceptance, LoginRequest, OpenMax, Redeemed, Stage};

const OPEN_MAX: OpenMax = OpenMax { of_browser: 20, of_address: 1000 };
const SOON: Moment = Moment(NOW.0 + 60_000);

fn request() -> AuthorizationRequest {
    AuthorizationRequest {
        redirect_uri: "https://app.example.com/cb".into(),
        scopes: Scopes::OPENID,
        state: Some("s".into()),
        nonce: None,
        code_challenge: None,
        prompts: Prompts::default(),
        max_age_seconds: Some(5),
        login_hint: "anna".into(),
        ui_locales: String::new(),
        subject: Some(Uuid::now_v7()),
        userinfo_claims: vec!["name".into()],
        id_token_claims: Vec::new(),
        acr_unmet: false,
        two_factors: false,
        prefers_two_factors: false,
        user_code: None,
        key_thumbprint: Some("thumbprint".into()),
    }
}

fn secret(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn login_request(challenge: &str) -> LoginRequest {
    LoginRequest {
        challenge: secret(challenge),
        browser: secret("browser"),
        address: "192.0.2.1".into(),
        stage: Stage::Login,
        client_id: "web".into(),
        request: request(),
        person: None,
        expires_at: SOON,
    }
}

fn recognised(user: UserId) -> Recognised {
    Recognised { user, amr: vec!["pwd".into()], authenticated_at: NOW }
}

async fn open(store: &dyn Store, request: &LoginRequest) -> bool {
    store.open_login_request(request, OPEN_MAX, NOW).await.unwrap()
}

async fn accept(store: &dyn Store, challenge: &str, user: UserId) -> Acceptance {
    let profile = Profile { display_name: "Anna".into(), handle: "anna".into(), ..Profile::default() };
    store.accept_login_request(secret(challenge), &recognised(user), &profile, NOW).await.unwrap()
}

/// Signs a person in in a browser.
pub(super) async fn signed_in(store: &dyn Store, user: UserId, cookie: &str) {
    let challenge = format!("challenge for {cookie} of {user}");
    assert!(open(store, &login_request(&challenge)).await);
    assert_eq!(accept(store, &challenge, user).await, Acceptance::Done);
    assert!(store.enter(secret(&challenge), secret(cookie), None, NOW).await.unwrap());
}

pub(super) fn kept(user: UserId) -> KeptCode {
    let session = SessionId(Uuid::now_v7());
    let code = Code::new("web", request(), &recognised(user));
    KeptCode { session, user, code, expires_at: SOON, browser: None }
}

fn opens(kept: &KeptCode) -> Option<Session> {
    Some(Session { id: kept.session, scopes: Scopes::API, ..sign_in(kept.user, NOW).0 })
}

async fn redeem(store: &dyn Store, code: &str, now: Moment) -> Redeemed {
    store.redeem_code(secret(code), &opens, None, MAX, now).await.unwrap()
}

/// A code of a person who is signed in.
async fn code_of(store: &dyn Store, user: UserId, code: &str) -> KeptCode {
    client(store, "web").await;
    signed_in(store, user, &format!("cookie for {code}")).await;
    let kept = KeptCode { browser: Some(secret(&format!("cookie for {code}"))), ..kept(user) };
    assert!(store.add_code(secret(code), &kept).await.unwrap());
    kept
}

pub(super) async fn a_login_request_is_kept_as_it_was_opened_until_it_expires(store: &dyn Store) {
    let opened = LoginRequest { person: Some(recognised(somebody())), stage: Stage::SignedIn, ..login_request("c") };
    assert!(open(store, &opened).await);
    assert_eq!(store.login_request(secret("c"), NOW).await.unwrap(), Some(opened));
    assert_eq!(store.login_request(secret("c"), SOON).await.unwrap(), None);
    assert_eq!(store.take_login_request(secret("c"), None, SOON).await.unwrap(), None);
}

pub(super) async fn case_23_a_login_request_is_answered_and_taken_once(store: &dyn Store) {
    open(store, &login_request("c")).await;
    assert_eq!(store.take_login_request(secret("c"), Some(Stage::SignedIn), NOW).await.unwrap(), None);
    let users: Vec<_> = (0..8).map(|_| somebody()).collect();
    let answers = join_all(users.iter().map(|user| accept(store, "c", *user))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Acceptance::Done).count(), 1);
    assert!(!store.reject_login_request(secret("c"), NOW).await.unwrap());
    let cookies: Vec<_> = (0..8).map(|number| secret(&format!("cookie {number}"))).collect();
    let entered = join_all(cookies.iter().map(|cookie| store.enter(secret("c"), *cookie, None, NOW))).await;
    assert_eq!(entered.into_iter().filter(|entered| *entered.as_ref().unwrap()).count(), 1);
    let takes = (0..8).map(|_| store.take_login_request(secret("c"), Some(Stage::SignedIn), NOW));
    let taken: Vec<_> = join_all(takes).await.into_iter().filter_map(|taken| taken.unwrap()).collect();
    assert_eq!(taken.len(), 1);
    let winner = answers.iter().position(|answer| *answer == Acceptance::Done).unwrap();
    assert_eq!(taken[0].person, Some(recognised(users[winner])));
    let profile = store.profile(users[winner]).await.unwrap().unwrap();
    assert_eq!((profile.display_name.as_str(), profile.handle.as_str()), ("Anna", "anna"));
}

pub(super) async fn a_profile_is_replaced_where_one_is_kept_and_goes_with_the_person(store: &dyn Store) {
    let (anna, nobody) = (somebody(), somebody());
    signed_in(store, anna, "cookie").await;
    let profile = Profile {
        display_name: "Anna B".into(),
        handle: "anna".into(),
        email: "anna@example.com".into(),
        email_verified: true,
        phone_number: "+41441234567".into(),
        phone_number_verified: true,
        address: "1 Road\nTown".into(),
    };
    assert!(store.set_profile(anna, &profile).await.unwrap());
    assert_eq!(store.profile(anna).await.unwrap(), Some(profile.clone()));
    assert!(!store.set_profile(nobody, &profile).await.unwrap());
    assert_eq!(store.profile(nobody).await.unwrap(), None);
    // Signing in again says all of it anew.
    signed_in(store, anna, "another cookie").await;
    assert_eq!(store.profile(anna).await.unwrap().unwrap().email, "");
    store.erase_subject(anna, by(NOW)).await.unwrap();
    assert_eq!(store.profile(anna).await.unwrap(), None);
    assert!(!store.set_profile(anna, &profile).await.unwrap(), "an erased person stays erased");
}

pub(super) async fn open_login_requests_have_bounds(store: &dyn Store) {
    let max = OpenMax { of_browser: 2, of_address: 3 };
    for number in 0..3 {
        let expires_at = Moment(SOON.0 + number);
        let opened = LoginRequest { expires_at, ..login_request(&format!("c{number}")) };
        assert!(store.open_login_request(&opened, max, NOW).await.unwrap());
    }
    assert_eq!(store.login_request(secret("c0"), NOW).await.unwrap(), None, "the oldest of the browser makes room");
    let other = LoginRequest { browser: secret("other"), ..login_request("c3") };
    assert!(store.open_login_request(&other, max, NOW).await.unwrap());
    let other = LoginRequest { browser: secret("third"), ..login_request("c4") };
    assert!(!store.open_login_request(&other, max, NOW).await.unwrap(), "three of that address are open");
    let push =
        async |name: &str| store.push_request(secret(name), "192.0.2.1", "web", &request(), SOON, max).await.unwrap();
    assert!(push("p0").await && push("p1").await && push("p2").await && !push("p3").await);
}

pub(super) async fn case_40_who_may_not_hold_sessions_is_not_accepted_and_loses_what_they_have(store: &dyn Store) {
    let user = somebody();
    code_of(store, user, "code").await;
    open(store, &login_request("later")).await;
    store.set_subject(user, SubjectState { enabled: false, admin: false }, by(NOW)).await.unwrap();
    assert_eq!(redeem(store, "code", NOW).await, Redeemed::Unknown);
    assert_eq!(store.browser_session(secret("cookie for code"), BROWSERS, NOW).await.unwrap(), None);
    assert!(!store.add_code(secret("another"), &kept(user)).await.unwrap());
    assert_eq!(accept(store, "later", user).await, Acceptance::SubjectDisabled);
    let other = somebody();
    code_of(store, other, "code of another").await;
    store.end_sessions_of(other, None, by(NOW)).await.unwrap();
    assert_eq!(redeem(store, "code of another", NOW).await, Redeemed::Unknown);
}

pub(super) async fn case_33_a_code_is_redeemed_once_however_many_bring_it(store: &dyn Store) {
    let user = somebody();
    let kept = code_of(store, user, "code").await;
    let all = join_all((0..50).map(|_| redeem(store, "code", NOW))).await;
    let good = all.iter().filter(|redeemed| matches!(redeemed, Redeemed::Good(given, _) if **given == kept)).count();
    let replayed = all.iter().filter(|redeemed| **redeemed == Redeemed::Replayed).count();
    assert_eq!((good, replayed), (1, 49));
    // Case 32: the others have ended what it gave, once.
    assert_eq!(current(store, kept.session).await, None);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(kept.session)]);
}

pub(super) async fn case_33_a_proof_is_used_up_with_an_unused_code_and_once(store: &dyn Store) {
    let user = somebody();
    let proof = Once { id: secret("proof"), over_at: SOON };
    let bring = async |code: &str| store.redeem_code(secret(code), &opens, Some(proof), MAX, NOW).await.unwrap();
    code_of(store, user, "used").await;
    assert!(matches!(redeem(store, "used", NOW).await, Redeemed::Good(..)));
    // Neither what nobody knows nor what was used before uses the proof up.
    assert_eq!((bring("unknown").await, bring("used").await), (Redeemed::Unknown, Redeemed::Replayed));
    let codes: Vec<_> = (0..8).map(|number| format!("code {number}")).collect();
    let mut kept = Vec::new();
    for code in &codes {
        kept.push(code_of(store, user, code).await);
    }
    let all = join_all(codes.iter().map(|code| bring(code))).await;
    let given = all.iter().position(|redeemed| matches!(redeemed, Redeemed::Good(..))).unwrap();
    assert_eq!(all.iter().filter(|redeemed| **redeemed == Redeemed::ProofUsed).count(), 7);
    assert_eq!(bring(&codes[given]).await, Redeemed::ProofUsed, "a request that came twice is no replay of its code");
    assert!(current(store, kept[given].session).await.is_some());
    // What was refused for its proof is good with another one.
    let other = &codes[(given + 1) % codes.len()];
    assert!(matches!(redeem(store, other, NOW).await, Redeemed::Good(..)));
}

pub(super) async fn case_27_a_code_that_is_refused_or_late_is_worth_nothing(store: &dyn Store) {
    let user = somebody();
    let kept = code_of(store, user, "code").await;
    let refused = store.redeem_code(secret("code"), &|_| None, None, MAX, NOW).await.unwrap();
    assert_eq!(refused, Redeemed::Refused);
    assert_eq!(redeem(store, "code", NOW).await, Redeemed::Replayed);
    assert_eq!(current(store, kept.session).await, None);
    code_of(store, user, "late").await;
    assert_eq!(redeem(store, "late", SOON).await, Redeemed::Unknown);
    assert_eq!(redeem(store, "unknown", NOW).await, Redeemed::Unknown);
}

pub(super) async fn a_pushed_request_is_taken_once_by_its_client(store: &dyn Store) {
    let (name, other) = (secret("p"), secret("q"));
    for reference in [name, other] {
        assert!(store.push_request(reference, "", "web", &request(), SOON, OPEN_MAX).await.unwrap());
    }
    assert_eq!(store.take_pushed_request(name, "other", NOW).await.unwrap(), None);
    let takes = join_all((0..8).map(|_| store.take_pushed_request(name, "web", NOW))).await;
    assert_eq!(takes.into_iter().filter(|taken| taken.as_ref().unwrap().is_some()).count(), 1);
    assert_eq!(store.take_pushed_request(other, "web", SOON).await.unwrap(), None);
}

pub(super) async fn a_browser_stays_signed_in_while_it_is_used(store: &dyn Store) {
    let user = somebody();
    signed_in(store, user, "cookie").await;
    let at = async |hours: u64| {
        let now = NOW.plus(Duration::from_secs(hours * 3600));
        store.browser_session(secret("cookie"), BROWSERS, now).await.unwrap()
    };
    assert_eq!(at(0).await, Some(recognised(user)));
    assert!(at(11).await.is_some() && at(22).await.is_some(), "each use counts");
    assert_eq!(at(35).await, None, "not used for 12 hours");
    // A new sign-in takes the place of the old cookie.
    open(store, &login_request("again")).await;
    accept(store, "again", user).await;
    assert!(store.enter(secret("again"), secret("new"), Some(secret("cookie")), NOW).await.unwrap());
    assert_eq!(at(0).await, None);
    assert!(store.browser_session(secret("new"), BROWSERS, NOW).await.unwrap().is_some());
    assert_eq!(store.end_browser_session(secret("new"), NOW).await.unwrap(), 0);
    assert_eq!(store.browser_session(secret("new"), BROWSERS, NOW).await.unwrap(), None);
}

pub(super) async fn who_signs_out_in_a_browser_is_signed_out_of_what_clients_got_there(store: &dyn Store) {
    let (user, other) = (somebody(), somebody());
    let [here, elsewhere, unused] = [code_of(store, user, "a").await, code_of(store, user, "b").await, kept(user)];
    let theirs = KeptCode { browser: Some(secret("cookie for a")), ..kept(other) };
    signed_in(store, other, "theirs").await;
    let unused = KeptCode { browser: here.browser, ..unused };
    assert!(store.add_code(secret("unused"), &unused).await.unwrap());
    assert!(store.add_code(secret("theirs"), &theirs).await.unwrap());
    for code in ["a", "b", "theirs"] {
        assert!(matches!(redeem(store, code, NOW).await, Redeemed::Good(..)));
    }
    // They sign in there once more: what is of the browser stays of it.
    open(store, &login_request("again")).await;
    accept(store, "again", user).await;
    assert!(store.enter(secret("again"), secret("new"), here.browser, NOW).await.unwrap());
    assert_eq!(store.end_browser_session(secret("cookie for a"), NOW).await.unwrap(), 0, "it is no cookie any more");
    let ends = join_all((0..8).map(|_| store.end_browser_session(secret("new"), NOW))).await;
    assert_eq!(ends.into_iter().map(|ended| ended.unwrap()).sum::<u64>(), 1);
    assert_eq!(current(store, here.session).await, None);
    assert_eq!(redeem(store, "unused", NOW).await, Redeemed::Unknown);
    assert!(current(store, elsewhere.session).await.is_some() && current(store, theirs.session).await.is_some());
    assert_eq!(revoked(store).await, [RevocationTarget::Session(here.session)]);
}

pub(super) async fn consents_add_up_are_listed_and_end_with_their_sessions(store: &dyn Store) {
    let user = somebody();
    let (session, _) = opened(store, user, NOW).await;
    let (others, _) = opened(store, somebody(), NOW).await;
    assert_eq!(store.consent(user, "web").await.unwrap(), None);
    store.add_consent(user, "web", Scopes::OPENID, NOW).await.unwrap();
    let adds = [Scopes::PROFILE, Scopes::API, Scopes::OPENID].map(|scopes| store.add_consent(user, "web", scopes, NOW));
    join_all(adds).await.into_iter().for_each(|added| added.unwrap());
    let all = Scopes::OPENID | Scopes::PROFILE | Scopes::API;
    assert_eq!(store.consent(user, "web").await.unwrap(), Some(all));
    store.add_consent(user, "app", Scopes::OPENID, NOW).await.unwrap();
    let page = async |after: &str| -> Vec<_> {
        let page = store.consents_of(user, after, 1).await.unwrap();
        page.into_iter().map(|consent| consent.client_id).collect()
    };
    assert_eq!((page("").await, page("app").await), (vec!["app".to_owned()], vec!["web".to_owned()]));
    assert!(store.revoke_consent(user, "web", NOW).await.unwrap());
    assert!(!store.revoke_consent(user, "web", NOW).await.unwrap());
    assert_eq!((store.consent(user, "web").await.unwrap(), current(store, session.id).await), (None, None));
    assert!(current(store, others.id).await.is_some());
    assert_eq!(revoked(store).await, [RevocationTarget::Session(session.id)]);
    // A code that is on its way is worth nothing either, whether or not there is a consent beside it.
    code_of(store, user, "agreed").await;
    store.add_consent(user, "web", Scopes::OPENID, NOW).await.unwrap();
    assert!(store.revoke_consent(user, "web", NOW).await.unwrap());
    code_of(store, user, "own").await;
    assert!(store.revoke_consent(user, "web", NOW).await.unwrap());
    assert_eq!(
        (redeem(store, "agreed", NOW).await, redeem(store, "own", NOW).await),
        (Redeemed::Unknown, Redeemed::Unknown)
    );
    // Nothing of a client or a person is left when they are gone.
    store.add_consent(user, "web", Scopes::OPENID, NOW).await.unwrap();
    store.retire_client("web", by(NOW)).await.unwrap();
    while store.sweep_retired_clients(1, NOW).await.unwrap() {}
    assert_eq!(store.consent(user, "web").await.unwrap(), None);
    store.erase_subject(user, by(NOW)).await.unwrap();
    assert!(store.consents_of(user, "", 9).await.unwrap().is_empty());
}

pub(super) async fn what_is_left_of_sign_ins_is_purged(store: &dyn Store) {
    let user = somebody();
    code_of(store, user, "code").await;
    open(store, &login_request("open")).await;
    store.push_request(secret("p"), "", "web", &request(), SOON, OPEN_MAX).await.unwrap();
    let later = NOW.plus(BROWSERS.absolute).plus(Duration::from_secs(120));
    let what = Purge { codes_before: later, ..purge(NOW, NOW) };
    let mut rounds = 0;
    while store.purge(&what, 1, later).await.unwrap() {
        rounds += 1;
    }
    assert!(rounds >= 1);
    assert_eq!(store.take_login_request(secret("open"), None, NOW).await.unwrap(), None);
    assert_eq!(store.take_pushed_request(secret("p"), "web", NOW).await.unwrap(), None);
    assert_eq!(redeem(store, "code", NOW).await, Redeemed::Unknown);
    assert_eq!(store.browser_session(secret("cookie for code"), BROWSERS, NOW).await.unwrap(), None);
}

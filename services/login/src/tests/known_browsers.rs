//! Browsers that are remembered: their people get in while others hammer the account, from wherever (case 81).

use axum::body::Body;
use axum::http::{Request, StatusCode};
use flaghoist_runtime::fault::Reason;

use super::pages::{Browser, FORM, Page, encoded, send_from};
use super::world::*;

/// Where the owner is, and an attacker too.
const NETWORK: &str = "198.51.100.7";

/// What an answer lets a browser be known by.
pub(super) fn known_by(page: &Page) -> String {
    let set = page.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap());
    let set = set.into_iter().find(|set| set.starts_with("__Host-flaghoist-known=")).expect("a cookie");
    assert!(set.contains("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=7776000"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

impl Browser<'_> {
    /// Signs in at the page from an address, with further cookies.
    pub(super) async fn signs_in_from(&self, address: &str, handle: &str, password: &str, cookie: &str) -> Page {
        let fields = [
            ("login_challenge", self.challenge),
            ("token", self.token.as_str()),
            ("handle", handle),
            ("password", password),
            ("decision", "sign_in"),
        ];
        let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let cookies = format!("{}; {cookie}", self.cookie);
        let request = Request::post("/login").header("content-type", FORM).header("cookie", cookies);
        send_from(self.world, request.body(Body::from(form.join("&"))).unwrap(), address).await
    }
}

#[tokio::test]
async fn case_81_a_browser_that_is_known_gets_in_from_the_very_network_that_hammers() {
    let world = World::new().await;
    world.person("alice").await;
    world.person("bob").await;
    let browser = Browser::comes(&world, "c1").await;
    let on = browser.signs_in_from("203.0.113.9", "alice", PASSWORD, "x=y").await;
    assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
    let alices = known_by(&on);
    let browser = Browser::comes(&world, "c2").await;
    let bobs = known_by(&browser.signs_in_from("203.0.113.9", "bob", PASSWORD, "x=y").await);

    for number in 0..40 {
        let address = format!("198.51.100.{number}");
        let _refused = world.at(&address).login("alice", "guess").await.unwrap_err();
        let _refused = world.at(NETWORK).login("alice", "guess").await.unwrap_err();
    }
    let browser = Browser::comes(&world, "c3").await;
    for nothing in ["x=y", &bobs, &format!("__Host-flaghoist-known={}", "A".repeat(43))] {
        let held_up = browser.signs_in_from(NETWORK, "alice", PASSWORD, nothing).await;
        assert_eq!(held_up.status, StatusCode::TOO_MANY_REQUESTS, "{nothing}");
    }
    let on = browser.signs_in_from(NETWORK, "alice", PASSWORD, &alices).await;
    assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
    assert_eq!(known_by(&on), alices, "a browser is known by one secret of each person");

    // Whoever steals it has no more guesses than anybody.
    let browser = Browser::comes(&world, "c4").await;
    let mut refused = 0;
    while browser.signs_in_from(NETWORK, "alice", "guess", &alices).await.status != StatusCode::TOO_MANY_REQUESTS {
        refused += 1;
        assert!(refused < 20, "a known browser guesses without end");
    }
}

#[tokio::test]
async fn a_browser_is_known_for_each_of_its_people() {
    let world = World::new().await;
    world.person("alice").await;
    world.person("bob").await;
    let browser = Browser::comes(&world, "c1").await;
    let alices = known_by(&browser.signs_in_from(NETWORK, "alice", PASSWORD, "x=y").await);
    let browser = Browser::comes(&world, "c2").await;
    let both = known_by(&browser.signs_in_from(NETWORK, "bob", PASSWORD, &alices).await);
    assert!(both.len() > alices.len() && both.ends_with(alices.split('=').nth(1).unwrap()), "{both}");
}

#[tokio::test]
async fn case_81_an_account_with_a_security_key_stays_open_to_whoever_has_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    alice.with_key(&mut key, false).await;
    world.person("bob").await;
    for number in 0..40 {
        let attacker = world.at(&format!("198.51.100.{number}"));
        for handle in ["alice", "bob"] {
            let _refused = attacker.login(handle, "guess").await.unwrap_err();
        }
    }
    let elsewhere = world.at("203.0.113.1");
    assert_eq!(reason(elsewhere.login("bob", PASSWORD).await), Reason::RateLimited);
    // Her password is taken, and is not enough: the next step is the key's.
    assert_eq!(reason(elsewhere.login("alice", PASSWORD).await), Reason::SecondFactorRequired);
    // One address alone is held up all the same.
    let busy = world.at("198.51.100.1");
    let mut refused = 0;
    while reason(busy.login("alice", "guess").await) != Reason::RateLimited {
        refused += 1;
        assert!(refused < 20, "an address guesses without end");
    }
}

//! The pages for a new password.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::pages::{FORM, Page, encoded, send};
use super::world::*;

const NEW: &str = "other flowers in the sun";

/// A browser that was shown a form, with its cookie and its token.
struct Visitor<'a> {
    world: &'a World,
    link: String,
    cookie: String,
    token: String,
    body: String,
}

async fn look(world: &World, path: &str) -> Page {
    send(world, Request::get(path).body(Body::empty()).unwrap()).await
}

impl<'a> Visitor<'a> {
    /// Comes without a link, or with one.
    async fn comes(world: &'a World, link: &str) -> Self {
        let path = if link.is_empty() { "/reset".to_owned() } else { format!("/reset?token={link}") };
        let page = look(world, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert_eq!(page.headers["cache-control"], "no-store");
        let set = page.headers["set-cookie"].to_str().unwrap();
        assert!(set.starts_with("__Host-") && set.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        Self { world, link: link.to_owned(), cookie, token, body: page.body }
    }

    async fn posts(&self, typed: &[(&str, &str)]) -> Page {
        let fields = [&[("link", self.link.as_str()), ("token", self.token.as_str())], typed].concat();
        let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = Request::post("/reset").header("content-type", FORM).header("cookie", &self.cookie);
        send(self.world, request.body(form.join("&").into()).unwrap()).await
    }

    async fn asks_for(&self, identifier: &str) -> Page {
        self.posts(&[("identifier", identifier)]).await
    }

    async fn chooses(&self, password: &str, code: &str) -> Page {
        self.posts(&[("password", password), ("code", code)]).await
    }
}

/// The secret of the link that was sent to an address.
async fn link_at(world: &World, email: &str) -> String {
    eventually("a link", async || world.letters(email).iter().any(|letter| letter.contains("/reset?"))).await;
    let letter = world.letters(email).into_iter().rfind(|letter| letter.contains("/reset?")).unwrap();
    letter.split("/reset?token=").nth(1).unwrap().lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_forgot_their_password_has_a_link_sent_and_sets_a_new_one() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    world.issuer.challenge("c1");
    let sign_in = look(&world, "/login?login_challenge=c1").await;
    assert!(sign_in.body.contains("<a href=\"/reset\">"), "{}", sign_in.body);
    let visitor = Visitor::comes(&world, "").await;
    assert_eq!(visitor.asks_for("  ").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    // Case 75: the answer is the same whoever is named.
    let unknown = visitor.asks_for("nobody@example.com").await;
    let known = visitor.asks_for(" @alice ").await;
    assert_eq!((unknown.status, &unknown.body), (StatusCode::OK, &known.body));
    assert!(known.body.contains("If there is such an account"), "{}", known.body);
    let link = link_at(&world, "alice@example.com").await;
    let visitor = Visitor::comes(&world, &link).await;
    assert!(visitor.body.contains(&format!("name=\"link\" value=\"{link}\"")), "{}", visitor.body);
    assert!(visitor.body.contains("<strong>alice</strong>") && !visitor.body.contains("one-time-code"));
    for (password, why) in
        [("short", "fewer than 8"), ("password123", "too easily guessed"), (&"x".repeat(1025), "1024")]
    {
        let refused = visitor.chooses(password, "").await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(why) && !refused.body.contains(&format!("\"{password}\"")), "{}", refused.body);
    }
    let done = visitor.chooses(NEW, "").await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("href=\"/account\"") && !done.body.contains(NEW), "{}", done.body);
    assert!(world.issuer.sessions(&alice.name()).is_empty());
    world.at("192.0.2.50").login("alice", NEW).await.unwrap();
    // A link is good once, and the page says how to get another one.
    for page in [visitor.chooses(PASSWORD, "").await, look(&world, &format!("/reset?token={link}")).await] {
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(page.body.contains("used or expired") && page.body.contains("name=\"identifier\""), "{}", page.body);
    }
    for (path, status) in [
        ("/reset?token=%3Cb%3E".to_owned(), StatusCode::FORBIDDEN),
        (format!("/reset?token={}", "A".repeat(4000)), StatusCode::FORBIDDEN),
        ("/reset?token=a&token=b".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        let page = look(&world, &path).await;
        assert!(page.status == status && !page.body.contains("<b>"), "{path}: {}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_the_page_asks_for_a_second_factor() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let (app, _) = alice.with_app().await;
    Visitor::comes(&world, "").await.asks_for("alice@example.com").await;
    let link = link_at(&world, "alice@example.com").await;
    let visitor = Visitor::comes(&world, &link).await;
    assert!(visitor.body.contains("one-time-code") && !visitor.body.contains("<script"), "{}", visitor.body);
    for (code, why) in [("", "has a second factor"), ("nothing like a code", "This code is wrong")] {
        let refused = visitor.chooses(NEW, code).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(why) && refused.body.contains("one-time-code"), "{}", refused.body);
    }
    let code = app.code(0);
    let done = visitor.chooses(NEW, &format!(" {} {} ", &code[..3], &code[3..])).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_a_security_key_answers_on_the_page() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let mut key = Key::counting();
    alice.with_key(&mut key, false).await;
    Visitor::comes(&world, "").await.asks_for("alice").await;
    let link = link_at(&world, "alice@example.com").await;
    let visitor = Visitor::comes(&world, &link).await;
    assert!(visitor.body.contains("data-keys") && visitor.body.contains("/login/keys.js"), "{}", visitor.body);
    let mut answer = String::new();
    for outcome in [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::OK] {
        let told = visitor.posts(&[("decision", "start_key")]).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
        answer = key.get(&told["options"].to_string(), ORIGIN).await;
        let given = if outcome == StatusCode::OK { answer.clone() } else { spoiled(&answer, "signature") };
        let page = visitor.posts(&[("password", NEW), ("credential", &given), ("decision", "")]).await;
        assert_eq!(page.status, outcome, "{}", page.body);
        assert_eq!(page.body.contains("was not accepted"), outcome != StatusCode::OK, "{}", page.body);
    }
    assert_eq!(visitor.posts(&[("password", PASSWORD), ("credential", &answer)]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(visitor.posts(&[("decision", "start_key")]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_a_form_of_another_browser_or_of_another_link_is_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let plain = Visitor::comes(&world, "").await;
    plain.asks_for("alice").await;
    let link = link_at(&world, "alice@example.com").await;
    let visitor = Visitor::comes(&world, &link).await;
    let with = |cookie: &str, token: &str| Visitor {
        world: &world,
        link: link.clone(),
        cookie: cookie.to_owned(),
        token: token.to_owned(),
        body: String::new(),
    };
    let other = Visitor::comes(&world, &link).await;
    for forged in [
        with(&visitor.cookie, ""),
        with("x=y", &visitor.token),
        with(&other.cookie, &visitor.token),
        with(&plain.cookie, &plain.token),
    ] {
        assert_eq!(forged.chooses(NEW, "").await.status, StatusCode::FORBIDDEN);
    }
    let unasked = Visitor { link: String::new(), token: visitor.token.clone(), ..Visitor::comes(&world, "").await };
    assert_eq!(unasked.asks_for("alice").await.status, StatusCode::FORBIDDEN);
    alice.login("alice", PASSWORD).await.unwrap();
    assert_eq!(visitor.chooses(NEW, "").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_asking_for_links_and_guessing_codes_is_limited_on_the_page() {
    let world = World::with(|settings| {
        settings.registration_burst = 2;
        settings.account_free = 3;
    })
    .await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let (app, _) = alice.with_app().await;
    let visitor = Visitor::comes(&world, "").await;
    for _ in 0..2 {
        assert_eq!(visitor.asks_for("alice").await.status, StatusCode::OK);
    }
    let limited = visitor.asks_for("alice").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let link = link_at(&world, "alice@example.com").await;
    let visitor = Visitor::comes(&world, &link).await;
    let wrong =
        (0..).map(|number| format!("{number:06}")).find(|code| ![-1, 0, 1].map(|step| app.code(step)).contains(code));
    let wrong = wrong.unwrap();
    for _ in 0..3 {
        assert_eq!(visitor.chooses(NEW, &wrong).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let limited = visitor.chooses(NEW, &app.code(0)).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS, "{}", limited.body);
    assert!(limited.headers.contains_key("retry-after") && limited.body.contains("one-time-code"), "{}", limited.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_mail_is_sent_no_page_promises_any() {
    let world = World::new().await;
    let visitor = Visitor::comes(&world, "").await;
    let (cookie, token) = (visitor.cookie, visitor.token);
    let world = world.silent().await;
    world.issuer.challenge("c1");
    let sign_in = look(&world, "/login?login_challenge=c1").await;
    assert!(sign_in.status == StatusCode::OK && !sign_in.body.contains("/reset"), "{}", sign_in.body);
    let visitor = Visitor { world: &world, link: String::new(), cookie, token, body: String::new() };
    for page in [visitor.asks_for("alice").await, look(&world, "/reset").await, look(&world, "/reset?token=a").await] {
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(page.body.contains("sends no mail") && !page.body.contains("<form"), "{}", page.body);
    }
    // Nor is a code sent to a contact.
    let alice = world.person("alice").await;
    assert!(alice.set_contact(EMAIL, "alice@example.com").await.is_err());
}

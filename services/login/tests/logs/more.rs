//! Contacts, forgotten passwords, security keys, and the pages: what is secret in each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::reset_password_request::SecondFactor;
use flaghoist_runtime::Caller;
use flaghoist_runtime::local::Slot;
use serde_json::Value;
use tower::ServiceExt as _;

use super::key::{Key, ORIGIN, spoiled};
use super::with;

const MAIL: &str = "alice@example.com";

/// What stands behind some words in a letter, the newest that has them.
async fn in_letter(data: &Path, words: &str) -> String {
    let found = async || {
        let folder = std::fs::read_dir(data.join("notices")).ok()?;
        let mut files: Vec<_> = folder.filter_map(|file| Some(file.ok()?.path())).collect();
        files.sort_unstable();
        let letters = files.iter().rev().filter_map(|path| std::fs::read_to_string(path).ok());
        letters.into_iter().find_map(|letter| {
            letter.split(words).skip(1).find_map(|rest| {
                let part = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
                let secret: String = rest.chars().take_while(part).collect();
                // A word is none.
                (secret.len() >= 8 && secret.bytes().any(|byte| byte.is_ascii_digit())).then_some(secret)
            })
        })
    };
    let waiting = async {
        loop {
            match found().await {
                Some(secret) => return secret,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("no letter with {words}"))
}

/// A contact is verified, and a key is registered and signs in.
#[expect(clippy::unwrap_used, reason = "a part of the test")]
pub(super) async fn secrets_of_contacts_and_keys(slot: &Slot, caller: &Arc<Caller>, data: &Path) -> Vec<String> {
    let mut accounts = AccountServiceClient::new(slot.peer());
    let kind = login::ContactKind::Email.into();
    let contact = login::SetContactRequest { kind, value: MAIL.into() };
    accounts.set_contact(with(caller, contact)).await.unwrap();
    let code = in_letter(data, "is ").await;
    for (code, right) in [("91827364", false), (code.as_str(), true)] {
        let verify = login::VerifyContactRequest { kind, code: code.into() };
        assert_eq!(accounts.verify_contact(with(caller, verify)).await.is_ok(), right);
    }
    let mut secrets = vec![code, "91827364".into()];

    let (mut credentials, mut sign_in) =
        (CredentialServiceClient::new(slot.peer()), LoginServiceClient::new(slot.peer()));
    let mut key = Key::storing();
    let start = login::StartSecurityKeyRegistrationRequest { passkey: true };
    let asked = credentials.start_security_key_registration(with(caller, start)).await.unwrap().into_inner().options;
    let credential = key.create(&asked, ORIGIN).await;
    let finish = login::FinishSecurityKeyRegistrationRequest { credential, display_name: "The blue one".into() };
    credentials.finish_security_key_registration(with(caller, finish)).await.unwrap();
    secrets.push(challenge(&asked));
    for right in [false, true] {
        let start = login::StartLoginRequest { handle: "alice".into(), ..Default::default() };
        let login = sign_in.start_login(start).await.unwrap().into_inner().login;
        let start = login::StartSecurityKeyRequest { login: login.clone() };
        let asked = sign_in.start_security_key(start).await.unwrap().into_inner().options;
        let answer = key.get(&asked, ORIGIN).await;
        let credential = if right { answer } else { spoiled(&answer, "signature") };
        let said: Value = serde_json::from_str(&credential).unwrap();
        secrets.extend([challenge(&asked), said["response"]["signature"].as_str().unwrap().to_owned(), login.clone()]);
        let finish = login::FinishSecurityKeyRequest { login, credential };
        let signed_in = sign_in.finish_security_key(finish).await;
        assert_eq!(signed_in.is_ok(), right, "{signed_in:?}");
        if let Ok(answer) = signed_in {
            let tokens = answer.into_inner().signed_in.unwrap().tokens.unwrap();
            secrets.extend([tokens.access_token, tokens.refresh_token]);
        }
    }
    secrets
}

/// The challenge among what a key is asked.
#[expect(clippy::unwrap_used, reason = "a part of the test")]
fn challenge(options: &str) -> String {
    let asked: Value = serde_json::from_str(options).unwrap();
    let options = if asked["publicKey"].is_object() { &asked["publicKey"] } else { &asked };
    options["challenge"].as_str().unwrap().to_owned()
}

/// A password is forgotten: over gRPC with a wrong recovery code, and by the page with a good one. The sign-in page is tried, too.
#[expect(clippy::unwrap_used, reason = "a part of the test")]
pub(super) async fn secrets_of_pages(
    http: axum::Router,
    slot: &Slot,
    data: &Path,
    recovery_code: &str,
    [old, new]: [&str; 2],
) -> Vec<String> {
    let page = async |method: &str, path: &str, cookie: &str, form: &[(&str, &str)]| {
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let request = Request::builder().method(method).uri(path).header("cookie", cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = http.clone().oneshot(request.body(Body::from(body.join("&"))).unwrap()).await.unwrap();
        let set = answer.headers().get("set-cookie").map_or("", |set| set.to_str().unwrap());
        let (set, status) = (set.split(';').next().unwrap().to_owned(), answer.status().as_u16());
        let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, set, String::from_utf8(text.to_vec()).unwrap())
    };
    let mut secrets = Vec::new();
    let path = "/login?login_challenge=a-challenge-of-the-issuer";
    let (_, cookie, text) = page("GET", path, "", &[]).await;
    let token = token_in(&text);
    for password in ["guessed-kangaroo-99", old] {
        let form = [
            ("login_challenge", "a-challenge-of-the-issuer"),
            ("token", &token),
            ("handle", "alice"),
            ("password", password),
            ("decision", "sign_in"),
        ];
        page("POST", "/login", &cookie, &form).await;
    }
    secrets.extend(["a-challenge-of-the-issuer".to_owned(), token, value_of(&cookie)]);

    let (_, cookie, text) = page("GET", "/reset", "", &[]).await;
    let token = token_in(&text);
    page("POST", "/reset", &cookie, &[("token", &token), ("link", ""), ("identifier", MAIL)]).await;
    let link = in_letter(data, "/reset?token=").await;
    secrets.extend([token, value_of(&cookie)]);
    let mut sign_in = LoginServiceClient::new(slot.peer());
    sign_in.get_password_reset(login::GetPasswordResetRequest { token: link.clone() }).await.unwrap();
    let wrong = login::ResetPasswordRequest {
        token: link.clone(),
        new_password: new.into(),
        second_factor: Some(SecondFactor::RecoveryCode("0000-1111-2222-3333".into())),
    };
    sign_in.reset_password(wrong).await.unwrap_err();
    let (_, cookie, text) = page("GET", &format!("/reset?token={link}"), "", &[]).await;
    let token = token_in(&text);
    let form = [("token", token.as_str()), ("link", &link), ("password", new), ("code", recovery_code)];
    let (status, _, text) = page("POST", "/reset", &cookie, &form).await;
    assert_eq!(status, 200, "{text}");
    // A cookie of the account pages that is nobody's, and a code that nobody asked for.
    let (guessed, asked) = ("a-guessed-cookie-of-the-pages", "a-code-that-nobody-asked-for");
    page("GET", "/account", &format!("__Host-flaghoist-account={guessed}"), &[]).await;
    let back = format!("/account/callback?code={asked}&state=a-state-of-nobody&iss={ORIGIN}");
    page("GET", &back, "", &[]).await;
    secrets.extend([link, token, value_of(&cookie), guessed.into(), asked.into(), "0000-1111-2222-3333".into()]);
    secrets
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn token_in(page: &str) -> String {
    let token = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    token.unwrap_or_else(|| panic!("no form: {page}")).to_owned()
}

fn value_of(cookie: &str) -> String {
    cookie.split_once('=').map_or("", |(_, value)| value).to_owned()
}

//! Case 98: whatever login does, no password, code or token is logged, at any level.

#[path = "../src/tests/issuer.rs"]
#[expect(dead_code, reason = "the unit tests ask it for more")]
mod issuer;
#[path = "../src/tests/key.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "a part of the test; the unit tests have keys of another kind, too")]
mod key;
#[path = "logs/more.rs"]
mod more;

use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use flaghoist_login::{Peers, Settings, Way};
use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::administration_service_client::AdministrationServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_runtime::local::Slot;
use flaghoist_runtime::names::parse_session;
use flaghoist_runtime::{Caller, Context, Drain, Place, Readiness, StoreAddress, Verifier};
use parking_lot::Mutex;
use tonic::Request;
use uuid::Uuid;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn case_98_logs_contain_no_secret_whatever_the_store() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let mut secrets = secrets_of_a_story(StoreAddress::Folder).await;
    if let Some(postgres) = flaghoist_backends::Postgres::shared().await {
        let url = postgres.database().await;
        secrets.push(postgres.password().to_owned());
        secrets.extend(secrets_of_a_story(StoreAddress::Postgres(Box::new(url.parse().unwrap()))).await);
    }
    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    assert!(text.contains("attempts") && text.len() > 1000, "the statements of the store are in the log");
    for secret in secrets {
        // Six digits are a part of many a time; by themselves they are a code.
        let code = secret.len() == 6;
        let digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit() || letter == '.');
        let logged = text.match_indices(&secret).any(|(at, _)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + secret.len()..].chars().next());
            !code || !(digit(before) || digit(after))
        });
        assert!(!logged, "{secret} was logged");
    }
    assert!(!text.contains("$argon2id"), "a password hash was logged");
}

/// Everything that login does with secrets; answers them.
#[expect(clippy::unwrap_used, reason = "a part of the test")]
async fn secrets_of_a_story(store: StoreAddress) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let fake = issuer::FakeIssuer::default();
    let (_trigger, drain) = Drain::new();
    let readiness = Arc::new(Readiness::new());
    let context = Context {
        verifier: Verifier::new(key::ORIGIN),
        drain,
        readiness: Arc::clone(&readiness),
        issuer: key::ORIGIN.into(),
        trusted_hops: 0,
    };
    let parts = flaghoist_login::start(
        Settings { store: store.clone(), notifier: Way::Folder, ..Settings::default() },
        &place,
        Peers { auth: fake.peer(), auth_public: fake.peer(), receiver: fake.peer(), send: fake.peer() },
        &context,
    )
    .await
    .unwrap();
    readiness.ready().await;
    assert_eq!(parts.services.len(), 4);
    let slot = Slot::new("login");
    slot.fill(parts.public);

    let (old, new, weak, wrong) = ("violet-marmalade-17", "crimson-umbrella-42", "password123", "guessed-kangaroo-99");
    let last = "ochre-lighthouse-23";
    let mut secrets: Vec<String> = [old, new, weak, wrong, last].map(str::to_owned).into();
    let mut accounts = AccountServiceClient::new(slot.peer());
    let mut sign_in = LoginServiceClient::new(slot.peer());
    for password in [weak, old] {
        let request =
            login::CreateAccountRequest { handle: "alice".into(), password: password.into(), ..Default::default() };
        assert_eq!(accounts.create_account(request).await.is_ok(), password == old);
    }
    flaghoist_login::grant_admin(&store, &place, "alice").await.unwrap();
    let request = |password: &str| login::LoginRequest {
        handle: "alice".into(),
        password: password.into(),
        ..Default::default()
    };
    assert!(sign_in.login(request(wrong)).await.is_err());
    fake.set_down(true);
    assert!(sign_in.login(request(old)).await.is_err());
    fake.set_down(false);
    let welcome = sign_in.login(request(old)).await.unwrap().into_inner();
    let (user, session) = parse_session(&welcome.session.unwrap().name).unwrap();
    let tokens = welcome.tokens.unwrap();
    secrets.extend([tokens.access_token, tokens.refresh_token]);
    let caller = Arc::new(Caller {
        user: Some(user),
        subject: user.to_string(),
        client_id: "flaghoist-cli".into(),
        session: Some(session),
        scopes: vec!["admin".into()],
        token_id: Uuid::now_v7(),
        key_id: "key".into(),
        authenticated_at: Some(SystemTime::now()),
        two_factors: true,
        key_thumbprint: None,
        issued_at: SystemTime::now(),
        expires_at: SystemTime::now(),
    });
    let mut administration = AdministrationServiceClient::new(slot.peer());
    let invited = administration.create_invitation(with(&caller, login::CreateInvitationRequest {})).await.unwrap();
    secrets.push(invited.into_inner().invitation);
    let mut credentials = CredentialServiceClient::new(slot.peer());
    for (current, next) in [(wrong, new), (old, weak), (old, new)] {
        let request = login::ChangePasswordRequest { current_password: current.into(), new_password: next.into() };
        assert_eq!(credentials.change_password(with(&caller, request)).await.is_ok(), (current, next) == (old, new));
    }
    let (of_factors, recovery_code) = secrets_of_second_factors(&slot, &caller, new).await;
    secrets.extend(of_factors);
    secrets.extend(more::secrets_of_contacts_and_keys(&slot, &caller, &place.data).await);
    fake.challenge("a-challenge-of-the-issuer");
    let http = parts.http.unwrap();
    secrets.extend(more::secrets_of_pages(http, &slot, &place.data, &recovery_code, [new, last]).await);
    fake.set_down(true);
    let request = login::DeleteAccountRequest { password: last.into() };
    assert!(accounts.delete_account(with(&caller, request)).await.is_err());
    secrets
}

fn with<T>(caller: &Arc<Caller>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::clone(caller));
    request
}

/// An authenticator app is enrolled and used, recovery codes are made and used; answers what nobody else may know, and a recovery code
/// that is good.
#[expect(clippy::unwrap_used, reason = "a part of the test")]
async fn secrets_of_second_factors(slot: &Slot, caller: &Arc<Caller>, password: &str) -> (Vec<String>, String) {
    let mut credentials = CredentialServiceClient::new(slot.peer());
    let mut sign_in = LoginServiceClient::new(slot.peer());
    let enrolment = credentials.enroll_totp(with(caller, login::EnrollTotpRequest {})).await.unwrap().into_inner();
    let app = totp_rs::Builder::new().with_secret(totp_rs::Secret::try_from_base32(&enrolment.secret).unwrap());
    let app = app.build().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (first, second, wrong) =
        (app.generate(now).to_string(), app.generate(now + 30).to_string(), "918273".to_owned());
    assert!(credentials.confirm_totp(with(caller, login::ConfirmTotpRequest { code: wrong.clone() })).await.is_err());
    let request = login::ConfirmTotpRequest { code: first.clone() };
    let codes = credentials.confirm_totp(with(caller, request)).await.unwrap().into_inner().recovery_codes;
    let mut secrets = vec![enrolment.secret, first, second.clone(), wrong];
    for code in [None, Some(&codes[0])] {
        let request = login::StartLoginRequest { handle: "alice".into(), ..Default::default() };
        let login = sign_in.start_login(request).await.unwrap().into_inner().login;
        secrets.push(login.clone());
        let request = login::SubmitPasswordRequest { login: login.clone(), password: password.into() };
        sign_in.submit_password(request).await.unwrap();
        let signed_in = match code {
            None => {
                let request = login::SubmitTotpRequest { login, code: second.clone() };
                sign_in.submit_totp(request).await.unwrap().into_inner().signed_in
            }
            Some(code) => {
                let request = login::SubmitRecoveryCodeRequest { login, code: code.clone() };
                sign_in.submit_recovery_code(request).await.unwrap().into_inner().signed_in
            }
        };
        let tokens = signed_in.unwrap().tokens.unwrap();
        secrets.extend([tokens.access_token, tokens.refresh_token]);
    }
    let request = with(caller, login::CreateRecoveryCodesRequest {});
    let anew = credentials.create_recovery_codes(request).await.unwrap().into_inner().recovery_codes;
    let good = anew[0].clone();
    for code in codes.into_iter().chain(anew) {
        secrets.extend([code.replace('-', ""), code]);
    }
    (secrets, good)
}

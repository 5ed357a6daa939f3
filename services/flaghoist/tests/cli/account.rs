//! `flaghoist account`, and signing in with a second factor.

use std::time::SystemTime;

use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::{ConfirmTotpRequest, EnrollTotpRequest};
use serde_json::Value;
use tonic::Request;
use totp_rs::{Builder, Secret};

use crate::stage::{PASSWORD, Stage, flaghoist, objects, stderr, within_patience};

/// A file in the stage's folder.
fn file(stage: &Stage, name: &str, content: &str) -> String {
    let path = stage.folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_account_is_taken_along_and_deleted() {
    let stage = Stage::new(&[("FLAGHOIST_LOGIN_ERASURE_SETTLE", "1s")]);
    stage.registers("alice");
    stage.registers("bob");
    stage.does("alice", &["send", "@bob", "hi"]);
    assert_eq!(stage.does("alice", &["account", "factors"]), [] as [Value; 0]);
    assert_eq!(stage.does("alice", &["account", "sessions"]).len(), 1);

    let archive = stage.folder.path().join("alice.zip");
    let name = archive.to_str().unwrap();
    let written = stage.does("alice", &["account", "export", name]).remove(0);
    let bytes = std::fs::read(&archive).unwrap();
    assert_eq!((written["size_bytes"].as_u64(), &bytes[..4]), (Some(bytes.len() as u64), &b"PK\x03\x04"[..]));
    let twice = stage.run("alice", &["account", "export", name]);
    assert_eq!(twice.status.code(), Some(73), "{}", stderr(&twice));
    assert_eq!(std::fs::read(&archive).unwrap(), bytes, "what was there stays");

    let password = file(&stage, "password", PASSWORD);
    let unasked = stage.run("alice", &["account", "delete", "--password-file", &password]);
    assert_eq!(unasked.status.code(), Some(64), "{}", stderr(&unasked));
    assert!(stderr(&unasked).contains("--yes"));
    let wrong = file(&stage, "wrong", "something else");
    let refused = stage.run("alice", &["account", "delete", "--yes", "--password-file", &wrong]);
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
    let deleted = stage.does("alice", &["account", "delete", "--yes", "--password-file", &password]).remove(0);
    assert_eq!((&deleted["handle"], &deleted["deleted"]), (&"alice".into(), &true.into()));
    assert_eq!(stage.run("alice", &["whoami"]).status.code(), Some(77), "the tokens are forgotten");
    // Bob sees that there was something, and in the end the handle is free.
    within_patience(|| {
        let messages = stage.does("bob", &["history", &conversation(&stage)]);
        messages.iter().all(|message| message["text"] == "").then_some(())
    });
    within_patience(|| {
        let again = stage.tries_password("eve", &["register", "alice"], PASSWORD);
        again.status.success().then_some(())
    });
}

/// The name of bob's one conversation.
fn conversation(stage: &Stage) -> String {
    stage.does("bob", &["conversations"])[0]["conversation"].as_str().unwrap().to_owned()
}

#[test]
fn login_asks_for_the_second_factor() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let (secret, recovery_codes) = enrols(&stage);
    let factors = stage.does("alice", &["account", "factors"]);
    assert_eq!((&factors[0]["factor"], &factors[1]["left"]), (&"totp".into(), &10.into()));

    let password = file(&stage, "password", PASSWORD);
    let login = |code: &str| {
        let code = file(&stage, "code", code);
        stage.run("alice", &["login", "alice", "--password-file", &password, "--code-file", &code])
    };
    let wrong = login("000000");
    assert_eq!(wrong.status.code(), Some(77), "{}", stderr(&wrong));
    // The code that has confirmed the app is used up; the next one is good already.
    let next = code(&secret, 30);
    let done = login(&format!("{} {}\n", &next[..3], &next[3..]));
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(login(&next).status.code(), Some(77), "a code is good once");
    let recovered = login(&recovery_codes[0]);
    assert!(recovered.status.success(), "{}", stderr(&recovered));
    assert_eq!(stage.does("alice", &["account", "factors"])[1]["left"], 9);
    let unasked = stage.run("alice", &["login", "alice", "--password-file", &password]);
    assert_eq!(unasked.status.code(), Some(64), "there is no terminal to ask on: {}", stderr(&unasked));
    let both = stage.run("alice", &["login", "alice", "--password-file", "-", "--code-file", "-"]);
    assert_eq!(both.status.code(), Some(64), "{}", stderr(&both));

    // The app's secret is sealed with a newer key, once.
    let newer = stage.folder.path().join("newer.key");
    std::fs::write(&newer, [9; 32]).unwrap();
    for resealed in [1, 0] {
        let mut reseal = flaghoist();
        reseal.args(["admin", "key", "reseal", "--service", "login", "--json", "--data"]).arg(stage.data());
        let output = reseal.env("FLAGHOIST_LOGIN_SEAL_FILES", &newer).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(objects(&output)[0], serde_json::json!({"resealed": resealed, "secrets": 1}));
    }
}

fn code(secret: &[u8], ahead_s: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let secret: [u8; 20] = secret.try_into().unwrap();
    let named = Builder::new().with_secret(Secret::new_stack(secret)).with_account_name("alice");
    named.build_noncompliant().generate(now + ahead_s).to_string()
}

/// Gives alice an authenticator app; answers its secret and her recovery codes.
fn enrols(stage: &Stage) -> (Vec<u8>, Vec<String>) {
    let profile: Value = serde_json::from_slice(&std::fs::read(stage.profile("alice")).unwrap()).unwrap();
    let token = profile["session"]["access_token"].as_str().unwrap().to_owned();
    let server = stage.server.address("grpc");
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let mut credentials = CredentialServiceClient::connect(server).await.unwrap();
        let bearer = |message: &mut tonic::metadata::MetadataMap| {
            message.insert("authorization", format!("Bearer {token}").parse().unwrap());
        };
        let mut enrol = Request::new(EnrollTotpRequest {});
        bearer(enrol.metadata_mut());
        let typed = credentials.enroll_totp(enrol).await.unwrap().into_inner().secret;
        let secret = Secret::try_from_base32(&typed).unwrap().as_bytes().to_vec();
        let mut confirm = Request::new(ConfirmTotpRequest { code: code(&secret, 0) });
        bearer(confirm.metadata_mut());
        let codes = credentials.confirm_totp(confirm).await.unwrap().into_inner().recovery_codes;
        (secret, codes)
    })
}

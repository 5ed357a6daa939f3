//! What an admin does from the command line: clients, keys, the audit log.

use serde_json::Value;

use crate::stage::{PASSWORD, Stage, flaghoist, objects, stderr, within_patience};

/// A stage with an admin called alice, who is signed in as one, and bob, who is none.
fn stage(settings: &[(&str, &str)]) -> Stage {
    let stage = Stage::new(settings);
    stage.registers("alice");
    stage.registers("bob");
    let granted = flaghoist().args(["admin", "grant", "alice", "--data"]).arg(stage.data()).output().unwrap();
    assert!(granted.status.success(), "{}", stderr(&granted));
    stage.with_password("alice", &["login", "alice"], PASSWORD);
    stage
}

fn text(stage: &Stage, person: &str, arguments: &[&str]) -> String {
    let output = stage.run(person, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn clients_are_looked_after() {
    let stage = stage(&[]);
    let client = |arguments: &[&str]| stage.does("alice", &[&["admin", "client"], arguments].concat());
    let made = client(&["create", "reports", "--name", "Reports", "--scope", "chat.read"]).remove(0);
    assert_eq!((&made["client_id"], &made["confidential"]), (&"reports".into(), &true.into()));
    assert_eq!(made["client_secret"].as_str().unwrap().len(), 43);
    let web = client(&["create", "--name", "Web", "--public"]).remove(0);
    assert!(web["client_id"].as_str().unwrap().starts_with("client-") && web.get("client_secret").is_none());
    let ids: Vec<_> = client(&["list"]).into_iter().map(|client| client["client_id"].clone()).collect();
    assert_eq!(ids, [web["client_id"].clone(), "flaghoist-account".into(), "flaghoist-cli".into(), "reports".into()]);
    let changed = client(&["update", "reports", "--name", "Hourly", "--scope", "chat.send"]).remove(0);
    assert_eq!((&changed["display_name"], &changed["scopes"]), (&"Hourly".into(), &serde_json::json!(["chat.send"])));
    assert_eq!(client(&["update", "clients/reports", "--no-scopes"])[0]["scopes"], serde_json::json!([]));
    let keys = stage.folder.path().join("keys.json");
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    std::fs::write(&keys, format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#)).unwrap();
    let signs = client(&["create", "nightly", "--name", "Nightly", "--jwks", keys.to_str().unwrap()]).remove(0);
    assert!(signs["confidential"] == true && signs.get("client_secret").is_none(), "{signs}");
    client(&["create", "tv", "--name", "Television", "--public", "--grant", "device_code"]);
    let gateway = ["create", "gateway", "--name", "Gateway", "--grant", "token-exchange"];
    client(&[&gateway[..], &["--exchange-client", "flaghoist-cli", "--exchange-audience", "flaghoist"]].concat());
    let token = client(&["registration-token", "--scope", "openid", "--uses", "3"]).remove(0);
    assert!(token["registration_token"].as_str().unwrap().len() == 43 && token["expire_time"].is_string());
    for id in ["nightly", "tv", "gateway"] {
        client(&["delete", id]);
    }
    // What is said of its registration changes, and the rest of that stays.
    let registered = |arguments: &[&str]| client(arguments)[0]["registration"].clone();
    let (app, bye) = ("https://app.example/cb", "https://app.example/bye");
    let said = [
        "update",
        "reports",
        "--redirect-uri",
        app,
        "--post-logout-redirect-uri",
        bye,
        "--backchannel-logout-uri",
        bye,
    ];
    let said =
        [&said[..], &["--id-token-alg", "ES256", "--auth-method", "client_secret_post", "--pkce-optional"]].concat();
    let first = registered(&said);
    assert_eq!((&first["redirect_uris"][0], &first["post_logout_redirect_uris"][0]), (&app.into(), &bye.into()));
    assert_eq!((&first["backchannel_logout_uri"], &first["pkce_optional"]), (&bye.into(), &true.into()));
    assert_eq!(first["token_endpoint_auth_method"], "client_secret_post");
    assert_eq!(first["id_token_signed_response_alg"], "ES256");
    assert_eq!(first["dpop_bound_access_tokens"], false);
    let bound = registered(&[
        "update",
        "reports",
        "--dpop-bound-access-tokens",
        "--pkce-optional=false",
        "--audience",
        "flaghoist",
    ]);
    assert_eq!(bound["audiences"], serde_json::json!(["flaghoist"]));
    assert_eq!((&bound["dpop_bound_access_tokens"], &bound["pkce_optional"]), (&true.into(), &false.into()));
    assert_eq!(bound["redirect_uris"], first["redirect_uris"]);
    let emptied = registered(&["update", "reports", "--post-logout-redirect-uri", "", "--backchannel-logout-uri", ""]);
    assert_eq!(emptied["post_logout_redirect_uris"], serde_json::json!([]));
    assert!(emptied["backchannel_logout_uri"] == "" && emptied["dpop_bound_access_tokens"] == true, "{emptied}");
    let phone = ["create", "phone", "--name", "Phone", "--public", "--dpop-bound-access-tokens"];
    assert_eq!(registered(&phone)["dpop_bound_access_tokens"], true);
    client(&["delete", "phone"]);
    let keyed = ["admin", "client", "create", "x", "--name", "X", "--public", "--jwks", keys.to_str().unwrap()];
    assert_eq!(stage.run("alice", &keyed).status.code(), Some(64));
    let renewed = client(&["rotate-secret", "reports", "--grace", "1h"]).remove(0);
    assert_ne!(renewed["client_secret"], made["client_secret"]);
    assert!(client(&["show", "reports"])[0]["previous_secret_expire_time"].is_string());
    let shown = text(&stage, "alice", &["admin", "client", "show", "reports"]);
    assert!(shown.contains("\"Hourly\", confidential, no scopes") && shown.contains("good until"), "{shown}");
    let renewed = text(&stage, "alice", &["admin", "client", "rotate-secret", "reports", "--grace", "0s"]);
    assert!(renewed.contains("cannot be read again; the one before is not good any more"), "{renewed}");
    client(&["delete", "reports"]);
    let gone = stage.run("alice", &["admin", "client", "show", "reports"]);
    assert_eq!(gone.status.code(), Some(65));
    assert!(stderr(&gone).contains("clients/reports"), "{}", stderr(&gone));
    let built_in = stage.run("alice", &["admin", "client", "delete", "flaghoist-cli"]);
    assert!(built_in.status.code() == Some(65) && stderr(&built_in).contains("built in"), "{}", stderr(&built_in));
    let nothing = stage.run("alice", &["admin", "client", "update", "reports"]);
    assert!(nothing.status.code() == Some(64) && stderr(&nothing).contains("--no-scopes"), "{}", stderr(&nothing));
    for arguments in [&["admin", "client", "list"][..], &["admin", "key", "list"], &["admin", "audit", "list"]] {
        let refused = stage.run("bob", arguments);
        assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {}", stderr(&refused));
    }
}

#[test]
fn keys_are_looked_at_and_rotated_and_revoked_and_sealed_anew() {
    let settings = [("FLAGHOIST_AUTH_KEY_LEAD", "1s"), ("FLAGHOIST_AUTH_KEY_KEEP", "1h")];
    let stage = stage(&settings);
    let list = || stage.does("alice", &["admin", "key", "list"]);
    let active = |keys: &[Value]| keys.iter().find(|key| key["state"] == "active").unwrap()["key"].clone();
    let first = active(&list());
    let asked = stage.does("alice", &["admin", "key", "rotate"]).remove(0);
    assert!(asked["take_over_time"].is_string() && asked["next"] != first);
    within_patience(|| (active(&list()) == asked["next"]).then_some(()));
    let reserve = within_patience(|| list().into_iter().find(|key| key["reserve"] == true))["key"].clone();
    let second = asked["next"].as_str().unwrap();
    let said = text(&stage, "alice", &["admin", "key", "revoke", &format!("keys/{second}")]);
    assert!(said.contains(second) && said.contains(reserve.as_str().unwrap()), "{said}");
    // The own token was signed with it; the command line gets another one by itself.
    let keys = list();
    assert_eq!(active(&keys), reserve);
    assert!(keys.iter().all(|key| key["key"] != second));
    let shown = text(&stage, "alice", &["admin", "key", "list"]);
    assert!(shown.contains("active    EdDSA  signs since") && shown.contains("retiring"), "{shown}");
    for nobody in ["nobody", "-slehVwGLSEX7XtDJDn6bboFP_w7r4X4D83M3U99t1E", "keys/-hbody"] {
        let unknown = stage.run("alice", &["admin", "key", "revoke", nobody, "--force"]);
        let named = format!("keys/{}", nobody.trim_start_matches("keys/"));
        assert!(unknown.status.code() == Some(65) && stderr(&unknown).contains(&named), "{}", stderr(&unknown));
    }

    let newer = stage.folder.path().join("newer.key");
    std::fs::write(&newer, [9; 32]).unwrap();
    let mut reseal = flaghoist();
    reseal
        .args(["admin", "key", "reseal", "--json", "--data"])
        .arg(stage.data())
        .env("FLAGHOIST_AUTH_SEAL_FILES", &newer);
    let output = reseal.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let sealed = objects(&output).remove(0);
    assert_eq!(sealed["resealed"], sealed["keys"]);
    assert!(list().iter().all(|key| key["sealed_with"] == sealed["sealed_with"]));
    let nowhere = flaghoist().args(["admin", "key", "reseal", "--data"]).arg(stage.folder.path()).output().unwrap();
    assert!(nowhere.status.code() == Some(65) && stderr(&nowhere).contains("--secret-file"), "{}", stderr(&nowhere));
}

#[test]
fn the_audit_log_is_read_and_followed() {
    let stage = stage(&[]);
    let list = |arguments: &[&str]| stage.does("alice", &[&["admin", "audit", "list"], arguments].concat());
    let bob = stage.does("bob", &["whoami"])[0]["user"].clone();
    let granted = list(&["--action", "admin-granted", "--subject", "@alice"]).remove(0);
    assert_eq!((&granted["actor"], &granted["outcome"]), (&"operator".into(), &"done".into()));
    let opened = list(&["--actor", "@bob", "--action", "session-opened", "--since", "1h"]);
    assert_eq!((opened.len(), &opened[0]["subject"]), (1, &bob));
    assert!(list(&["--until", "2020-01-01T00:00:00Z"]).is_empty());
    assert_eq!(list(&["--limit", "2"]).len(), 2);
    let shown = text(&stage, "alice", &["admin", "audit", "list", "--subject", "@bob"]);
    assert!(shown.contains("session-opened  @bob  by @bob  with flaghoist-cli  from 127.0.0.1"), "{shown}");
    let wrong = stage.run("alice", &["admin", "audit", "list", "--action", "flying"]);
    assert!(
        wrong.status.code() == Some(64) && stderr(&wrong).contains("known are session-opened"),
        "{}",
        stderr(&wrong)
    );

    let file = stage.folder.path().join("followed");
    let mut following = stage.command("alice", &["admin", "audit", "list", "--follow", "--limit", "1", "--json"]);
    let mut process = following.stdout(std::fs::File::create(&file).unwrap()).spawn().unwrap();
    let read = || std::fs::read_to_string(&file).unwrap();
    within_patience(|| (read().lines().count() == 1).then_some(()));
    stage.does("bob", &["logout"]);
    let his = || {
        let events: Vec<Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        events
            .into_iter()
            .filter(|event| event["subject"] == bob && event["action"] == "session-ended")
            .collect::<Vec<_>>()
    };
    assert_eq!(within_patience(|| his().pop())["detail"], "revoked");
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(within_patience(|| process.try_wait().unwrap()).code(), Some(0));
    assert_eq!(his().len(), 1, "each once");
}

#[test]
fn every_admin_command_has_help_with_an_example() {
    for command in [
        &["client", "list"][..],
        &["client", "create"],
        &["client", "show"],
        &["client", "update"],
        &["client", "delete"],
        &["client", "rotate-secret"],
        &["key", "list"],
        &["key", "rotate"],
        &["key", "revoke"],
        &["key", "reseal"],
        &["audit", "list"],
    ] {
        let output = flaghoist().arg("admin").args(command).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example") && help.contains(&format!("flaghoist admin {}", command.join(" "))), "{help}");
    }
}

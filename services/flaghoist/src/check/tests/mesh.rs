//! The mesh's part of an installation: mTLS, policies, routes, tokens, the gateway.

use serde_json::{Value, json};

use super::super::kubectl::Refusal;
use super::super::report::Verdict;
use super::world::World;

const CREATE: &str = "/flaghoist.send.v1.MessageService/CreateMessage";

/// Takes a path out of every list of paths, or puts another in its place.
fn replace(value: &mut Value, path: &str, by: Option<&str>) {
    match value {
        Value::Array(items) => {
            items.retain(|item| by.is_some() || item != path);
            items.iter_mut().for_each(|item| replace(item, path, by));
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, path, by)),
        Value::String(text) if text == path => *text = by.unwrap_or_default().to_owned(),
        _ => {}
    }
}

/// The part of a route that this path is matched by; of two, the one for calls without a proof, which comes last.
fn route<'a>(service: &'a mut Value, path: &str) -> &'a mut Value {
    let routes = service["spec"]["http"].as_array_mut().unwrap();
    routes.iter_mut().rfind(|one| one["match"].to_string().contains(path)).unwrap()
}

#[test]
fn a_port_that_takes_plain_text_is_said_with_what_opened_it() {
    let mut world = World::new();
    world.remove("PeerAuthentication", "chat");
    world.0.mesh.as_mut().unwrap().retain(|one| one["kind"] != "PeerAuthentication");
    world.fails(&["mTLS: every port takes mTLS and nothing else: port 9000 of auth is PERMISSIVE, no PeerAuthentication says otherwise"]);

    let mut world = World::new();
    let selector = json!({ "matchLabels": { "app.kubernetes.io/component": "send" } });
    world.beside(
        "PeerAuthentication",
        json!({ "selector": selector, "portLevelMtls": { "9000": { "mode": "DISABLE" } } }),
    );
    world.fails(&["port 9000 of send is DISABLE, by the PeerAuthentication theirs", "reading-the-policies"]);
}

#[test]
fn the_port_of_the_keys_must_stay_open_for_istiod() {
    let mut world = World::new();
    world.remove("PeerAuthentication", "chat-auth-jwks");
    world.fails(&["istiod reaches the keys of auth: port 8081 of auth is STRICT, by the PeerAuthentication chat"]);
}

#[test]
fn a_destination_rule_that_switches_mtls_off_is_said() {
    let mut world = World::new();
    world.beside(
        "DestinationRule",
        json!({ "host": "*.talk.svc.cluster.local", "trafficPolicy": { "tls": { "mode": "DISABLE" } } }),
    );
    world.fails(&["no DestinationRule makes callers speak anything else: theirs does, to *.talk.svc.cluster.local"]);
}

#[test]
fn an_answer_to_plain_text_fails_and_one_that_could_not_be_tried_is_a_warning() {
    let mut world = World::new();
    let text = world.report().text();
    assert!(text.contains("✓ a call in plain text from outside the mesh is refused (8 ports tried)\n"), "{text}");
    world.0.plain_calls[3].outcome = Ok("hello".into());
    world.fails(&["a call in plain text from outside the mesh is refused: port 9001 of chat-login-0 answered"]);
    let may_not =
        "Error from server (Forbidden): pods \"a\" is forbidden: User \"b\" cannot get resource \"pods/proxy\"";
    for call in &mut world.0.plain_calls {
        call.outcome = Err(Refusal::Forbidden(may_not.into()));
    }
    world.warns(&["it could not be tried: port 9000 of chat-auth-0", "`helm test` tries it"]);
    world.0.plain_calls.clear();
    world.warns(&["no pod runs"]);
}

#[test]
fn a_method_without_a_rule_is_said_and_so_is_who_misses_it() {
    let mut world = World::new();
    world.change("AuthorizationPolicy", "chat-send", |one| replace(one, CREATE, None));
    let failed = world.said(Verdict::Failed);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed[0].starts_with(&format!("policies: each method has a rule: none names {CREATE} → helm upgrade")));
    assert!(
        failed[1]
            .contains(&format!("they let in everyone whom the contracts name: nothing allows a person (from a caller without a certificate) to call send: {CREATE}, at port 9000")),
        "{}",
        failed[1]
    );
}

#[test]
fn a_rule_that_names_no_method_is_said() {
    let mut world = World::new();
    world.change("AuthorizationPolicy", "chat-send", |one| {
        let paths = &mut one["spec"]["rules"][0]["to"][0]["operation"]["paths"];
        paths.as_array_mut().unwrap().push("/flaghoist.send.v1.MessageService/Shout".into());
    });
    world.fails(&["no rule names what does not exist: chat-send names /flaghoist.send.v1.MessageService/Shout at port 9000 of send"]);
}

#[test]
fn a_method_in_two_rules_is_said() {
    let mut world = World::new();
    world.change("AuthorizationPolicy", "chat-send", |one| {
        let rules = one["spec"]["rules"].as_array_mut().unwrap();
        let again = rules.iter().find(|rule| rule.to_string().contains(CREATE)).unwrap().clone();
        rules.push(again);
    });
    world.fails(&["no method has two", "is in 2 rules"]);
}

#[test]
fn a_missing_deny_all_is_said() {
    let mut world = World::new();
    world.remove("AuthorizationPolicy", "chat-deny-all");
    world.fails(&[
        "what no policy names is refused",
        "no policy without rules closes the pods of auth",
        "chat-deny-all is missing",
    ]);
    world.remove("AuthorizationPolicy", "chat-auth");
    let failed = world.said(Verdict::Failed);
    assert!(
        failed.iter().any(|line| line.contains("port 9464 of auth is open to everyone, because no policy concerns it")),
        "{failed:#?}"
    );
}

#[test]
fn a_foreign_policy_that_opens_what_is_closed_is_named() {
    let mut world = World::new();
    let from = json!([{ "source": { "namespaces": ["monitoring"] } }]);
    world.beside("AuthorizationPolicy", json!({ "action": "ALLOW", "rules": [{ "from": from }] }));
    world.fails(&[
        "the policies let nobody in whom the contracts do not name: the policy talk/theirs lets cluster.local/ns/monitoring/sa/somebody call auth: /.well-known/oauth-authorization-server and 50 more, at port 8080, 8081, 9000, 9001, 9464",
        "take it away, or give it a selector",
    ]);

    // What is in the mesh's root counts too.
    let mut world = World::new();
    let to = json!([{ "operation": { "ports": ["9001"] } }]);
    world.0.root =
        Ok(vec![json!({ "kind": "AuthorizationPolicy", "metadata": { "name": "wide", "namespace": "istio-system" },
        "spec": { "rules": [{ "to": to }] } })]);
    let failed = world.said(Verdict::Failed);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(
        failed[0].contains("port 9001 of auth is open to everyone, by the policy istio-system/wide"),
        "{}",
        failed[0]
    );
    assert!(
        failed[1].contains("the policy istio-system/wide lets a caller without a certificate call auth: "),
        "{}",
        failed[1]
    );
}

#[test]
fn a_foreign_policy_that_denies_is_named_and_one_that_cannot_be_judged_is_a_warning() {
    let mut world = World::new();
    let to = json!([{ "operation": { "paths": [CREATE] } }]);
    world.beside("AuthorizationPolicy", json!({ "action": "DENY", "rules": [{ "to": to }] }));
    world.fails(&[
        "they let in everyone whom the contracts name",
        "the policy talk/theirs forbids a person (from a caller without a certificate) to call send: ",
    ]);

    let mut world = World::new();
    let when = json!([{ "key": "source.ip", "values": ["10.0.0.0/8"] }]);
    world.beside("AuthorizationPolicy", json!({ "action": "DENY", "rules": [{ "when": when }] }));
    world
        .warns(&["every policy can be judged from here: the policy talk/theirs depends on the condition on source.ip"]);
}

#[test]
fn a_service_account_that_is_not_the_one_in_the_policies_is_said() {
    let mut world = World::new();
    world.change("StatefulSet", "chat-login", |one| {
        one["spec"]["template"]["spec"]["serviceAccountName"] = "porter".into()
    });
    let failed = world.said(Verdict::Failed);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed[0].contains("the policy talk/chat-auth lets cluster.local/ns/talk/sa/chat-login call auth: /flaghoist.auth.v1.LoginRequestService/AcceptLoginRequest and 10 more, at port 9001"), "{}", failed[0]);
    assert!(
        failed[1]
            .contains("nothing allows login to call auth: /flaghoist.auth.v1.LoginRequestService/AcceptLoginRequest"),
        "{}",
        failed[1]
    );
}

#[test]
fn what_may_not_be_read_is_a_warning_in_each_group() {
    let mut world = World::new();
    world.0.mesh = Err(Refusal::Forbidden("you may not".into()));
    assert!(world.said(Verdict::Failed).is_empty());
    let warned = world.said(Verdict::Warning);
    let groups = ["mTLS", "policies", "routes", "tokens"];
    assert!(
        groups.iter().all(|group| warned.iter().any(|line| line.starts_with(group) && line.contains("you may not"))),
        "{warned:#?}"
    );

    let mut world = World::new();
    world.0.root = Err(Refusal::Forbidden("you may not".into()));
    world.warns(&["the policies of the whole mesh (istio-system) may be read: you may not"]);
}

#[test]
fn a_method_without_a_route_is_said() {
    let mut world = World::new();
    world.remove("VirtualService", "chat-send");
    world.fails(&["routes: each method has a route within the mesh: none for", "UNIMPLEMENTED"]);
}

#[test]
fn a_call_with_a_proof_that_is_made_again_is_said() {
    for (resource, is_said) in
        [("chat-login", "like any other call"), ("chat-gateway", "like any other call, at the gateway")]
    {
        let mut world = World::new();
        world.change("VirtualService", resource, |one| {
            let routes = one["spec"]["http"].as_array_mut().unwrap();
            routes.retain(|route| !route["name"].as_str().unwrap().ends_with("-with-proof"));
        });
        let said = "/flaghoist.login.v1.AccountService/GetAccount with a proof, which is good once,";
        world.fails(&[said, is_said]);
    }
}

#[test]
fn a_route_of_another_class_is_said() {
    let once = "/flaghoist.login.v1.LoginService/Login";
    let mut world = World::new();
    world.change("VirtualService", "chat-login", |one| {
        let retries = route(
            one,
            CREATE.replace("send.v1.MessageService/CreateMessage", "login.v1.AccountService/GetAccount").as_str(),
        );
        let retries = retries["retries"].clone();
        route(one, once)["retries"] = retries;
    });
    world.fails(&[
        "each is retried as its contract allows, and no stream has a timeout",
        &format!("{once} is retried, and may have a second effect"),
    ]);

    let mut world = World::new();
    world.change("VirtualService", "chat-gateway", |one| {
        route(one, "ReceiverService/Receive")["timeout"] = "30s".into()
    });
    world
        .fails(&["/flaghoist.receiver.v1.ReceiverService/Receive is a stream, and ends after \"30s\", at the gateway"]);
}

#[test]
fn a_route_that_names_nothing_and_one_that_is_missing_at_the_gateway_are_said() {
    let mut world = World::new();
    world.change("VirtualService", "chat-gateway", |one| {
        let matched = &mut route(one, CREATE)["match"];
        matched.as_array_mut().unwrap().iter_mut().find(|one| one["uri"]["exact"] == CREATE).unwrap()["uri"] =
            json!({ "prefix": "/" });
    });
    let failed = world.said(Verdict::Failed);
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed[0].contains("chat-gateway routes everything, or a pattern"), "{}", failed[0]);
    assert!(
        failed[1].contains(&format!("what people call is reached by the gateway: {CREATE} is not")),
        "{}",
        failed[1]
    );
}

#[test]
fn a_way_from_outside_to_an_internal_method_is_said() {
    let internal = "/flaghoist.auth.v1.SubjectService/CreateSession";
    let mut world = World::new();
    world.change("VirtualService", "chat-gateway", |one| {
        route(one, CREATE)["match"].as_array_mut().unwrap().push(json!({ "uri": { "exact": internal } }));
    });
    world.fails(&["no method of the services among themselves", &format!("{internal} is reached by chat-gateway")]);
}

#[test]
fn another_virtual_service_for_our_hosts_is_a_warning() {
    let mut world = World::new();
    world.beside("VirtualService", json!({ "hosts": ["chat-send"], "http": [] }));
    world.warns(&[
        "no other VirtualService is for the services' hosts: theirs is for chat-send",
        "the older one counts",
    ]);
}

#[test]
fn sidecars_that_know_another_issuer_are_said() {
    let mut world = World::new();
    world.change("RequestAuthentication", "chat", |one| {
        one["spec"]["jwtRules"][0]["issuer"] = "https://elsewhere".into()
    });
    let failed = world.said(Verdict::Failed);
    assert!(
        failed
            .iter()
            .any(|line| line
                .starts_with("tokens: the sidecars know the issuer: no RequestAuthentication for auth names")),
        "{failed:#?}"
    );

    let mut world = World::new();
    world.beside(
        "RequestAuthentication",
        json!({ "jwtRules": [{ "issuer": "https://elsewhere", "jwksUri": "https://elsewhere/jwks" }] }),
    );
    world.warns(&["they take tokens of no other issuer: theirs takes tokens of \"https://elsewhere\" at auth"]);
}

#[test]
fn tokens_that_are_taken_otherwise_than_the_services_do_are_said() {
    for (field, value, what) in [
        ("audiences", json!(["else"]), "audiences lacks flaghoist"),
        ("fromParams", json!(["access_token"]), "looked for outside the authorization header"),
        ("fromHeaders", Value::Null, "looked for outside the authorization header"),
        ("forwardOriginalToken", json!(false), "the services see no token"),
        ("jwksUri", json!("http://chat-auth.talk.svc:8080/oauth2/jwks"), "is not port 8081 of auth"),
    ] {
        let mut world = World::new();
        world.change("RequestAuthentication", "chat", |one| one["spec"]["jwtRules"][0][field] = value);
        world.fails(&["tokens: they take its tokens as the services do: chat: ", what]);
    }
}

#[test]
fn a_gateway_that_no_pod_answers_for_is_said() {
    let mut world = World::new();
    world.0.gateway_pods[0].1 = Ok(Vec::new());
    world.fails(&[
        "gateway: pods answer for the gateway chat: no pod has the labels istio=ingressgateway",
        "istio.gateway.selector",
    ]);
    world.0.gateway_pods[0].1 = Ok(vec![json!({ "metadata": { "name": "door" }, "status": {} })]);
    world.fails(&["none of the pods with istio=ingressgateway is ready"]);
    world.0.gateway_pods[0].1 = Err(Refusal::Forbidden("you may not".into()));
    world.warns(&["pods answer for the gateway chat: you may not"]);
}

#[test]
fn the_gateway_api_says_by_itself_what_became_of_it() {
    let labels = json!({ "app.kubernetes.io/instance": "chat" });
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "message": "because" });
    let gateway = |conditions: Value| {
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "chat", "labels": labels },
            "spec": { "listeners": [{ "hostname": "localhost", "tls": { "certificateRefs": [{ "name": "chat-tls" }] } }] },
            "status": { "conditions": conditions } })
    };
    let route = |status: Value| json!({ "kind": "GRPCRoute", "metadata": { "name": "chat-send", "labels": labels }, "status": status });
    let good = json!([condition("Accepted", "True"), condition("Programmed", "True")]);
    let taken =
        json!({ "parents": [{ "conditions": [condition("Accepted", "True"), condition("ResolvedRefs", "True")] }] });
    let mut world = World::new();
    world.remove("Gateway", "chat");
    world.remove("VirtualService", "chat-gateway");
    world.0.certificates.insert("talk/chat-tls".into(), Ok(include_str!("../../../tests/cli/tls/server.pem").into()));
    world.0.doors = Ok(vec![gateway(good.clone()), route(taken.clone())]);
    assert!(world.said(Verdict::Failed).is_empty(), "{}", world.report().text());

    world.0.doors =
        Ok(vec![gateway(json!([condition("Accepted", "True"), condition("Programmed", "False")])), route(taken)]);
    world.fails(&["the gateway chat is in force: not Programmed: because"]);
    world.0.doors = Ok(vec![gateway(good.clone()), route(json!({}))]);
    world.fails(&["every route of the Gateway API is taken: GRPCRoute chat-send: no gateway has taken it"]);
    let unresolved =
        json!({ "parents": [{ "conditions": [condition("Accepted", "True"), condition("ResolvedRefs", "False")] }] });
    world.0.doors = Ok(vec![gateway(good), route(unresolved)]);
    world.fails(&["chat-send: not ResolvedRefs: because"]);
}

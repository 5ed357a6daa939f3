//! Every method has exactly one access rule, and the rule lets through whom the contracts name: asked for each method with every kind
//! of caller that there is.

use flaghoist_mesh::served::PORTS;
use serde_json::Value;

use super::charts::{Chart, Helm, NAMESPACE, RELEASE, items, name, of_kind, texts};
use super::contracts::{Audience, Method, SERVICES, methods};
use super::judge::{Labels, Request, Token, allows};
use super::paths::others;

/// The labels by which the pods of a service are known.
pub(crate) fn pod(release: &str, service: &str) -> Labels {
    [("name", "flaghoist"), ("instance", release), ("component", service)]
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
        .into()
}

/// How the certificate of a service names it.
fn principal(fullname: &str, service: &str) -> String {
    format!("cluster.local/ns/{NAMESPACE}/sa/{fullname}-{service}")
}

/// The issuer whose tokens the sidecars take.
fn issuer(resources: &[Value]) -> &str {
    let authentications = of_kind(resources, "RequestAuthentication");
    assert_eq!(authentications.len(), 1);
    authentications[0]["spec"]["jwtRules"][0]["issuer"].as_str().expect("an issuer")
}

/// Asks for every method with every kind of caller.
pub(crate) fn judge(resources: &[Value], release: &str, fullname: &str) {
    let issuer = issuer(resources);
    let person = Token { issuer, session: true, scopes: &["chat.read", "chat.send"] };
    let admin = Token { scopes: &["chat.read", "chat.send", "admin"], ..person };
    let client = Token { session: false, scopes: &["chat.read", "admin"], ..person };
    let stranger = Token { issuer: "https://elsewhere.example", ..admin };
    let near = Token { scopes: &["administrator"], ..person };
    let tokens = [None, Some(person), Some(admin), Some(client), Some(stranger), Some(near)];
    let services = SERVICES.map(|service| Some(principal(fullname, service)));
    let gateway = Some("cluster.local/ns/istio-system/sa/istio-ingressgateway".to_owned());
    let namesake = Some(format!("cluster.local/ns/elsewhere/sa/{fullname}-login"));
    let callers: Vec<Option<String>> = services.into_iter().chain([gateway, namesake, None]).collect();

    for method in methods() {
        for (principal, token) in callers.iter().flat_map(|caller| tokens.iter().map(move |token| (caller, token))) {
            for (service, port) in SERVICES.iter().flat_map(|service| PORTS.map(|port| (service, port))) {
                let (principal, token) = (principal.as_deref(), *token);
                let request = Request { port, method: "POST", path: &method.path, principal, token };
                let at_home = *service == method.owner && port == method.port();
                let expected = at_home && wanted(method, &request, fullname, issuer);
                let allowed = allows(resources, &pod(release, service), &request);
                assert_eq!(allowed, expected, "{request:?} at {service}, for {:?}", method.audience);
            }
        }
        let preflight =
            Request { port: method.port(), method: "OPTIONS", path: &method.path, principal: None, token: None };
        let allowed = allows(resources, &pod(release, &method.owner), &preflight);
        assert_eq!(allowed, !method.internal(), "a preflight of {}", method.path);
    }
}

/// Whether the contracts let this request through.
fn wanted(method: &Method, request: &Request<'_>, fullname: &str, issuer: &str) -> bool {
    let person = request.token.filter(|token| token.issuer == issuer && token.session);
    match &method.audience {
        Audience::Anyone => true,
        Audience::User => person.is_some(),
        Audience::Admin => person.is_some_and(|token| token.scopes.contains(&"admin")),
        Audience::Services(callers) => {
            callers.iter().any(|caller| request.principal == Some(&principal(fullname, caller)))
        }
    }
}

/// Each method, and each path beside them, is in exactly one rule; no rule names anything else.
pub(crate) fn named_once(resources: &[Value]) {
    let methods = methods();
    let others = others();
    let mut named: Vec<(String, String)> = Vec::new();
    for policy in of_kind(resources, "AuthorizationPolicy") {
        for rule in items(&policy["spec"]["rules"]) {
            for to in items(&rule["to"]) {
                let operation = &to["operation"];
                if texts(&operation["methods"]) == ["OPTIONS"] {
                    continue;
                }
                for path in texts(&operation["paths"]) {
                    let service = policy["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"].as_str();
                    let at = format!("{}:{}", service.unwrap_or_default(), texts(&operation["ports"]).join(","));
                    named.push((at, path.to_owned()));
                }
            }
        }
    }
    let mut expected: Vec<(String, String)> =
        methods.iter().map(|method| (format!("{}:{}", method.owner, method.port()), method.path.clone())).collect();
    expected.extend(others.iter().map(|other| (format!("{}:{}", other.service, other.port), other.path.clone())));
    named.sort();
    expected.sort();
    assert_eq!(named, expected);
}

#[test]
fn every_method_has_exactly_one_rule_and_no_rule_names_anything_else() {
    let Some(helm) = Helm::find("rules of methods") else { return };
    for chart in Chart::ALL {
        named_once(&helm.renders(chart, &[]));
    }
}

#[test]
fn the_mesh_lets_through_whom_the_contracts_name_and_nobody_else() {
    let Some(helm) = Helm::find("who may call what") else { return };
    for chart in Chart::ALL {
        judge(&helm.renders(chart, &[]), RELEASE, RELEASE);
    }
}

#[test]
fn what_is_no_method_is_refused_to_everyone() {
    let Some(helm) = Helm::find("unknown paths") else { return };
    let resources = helm.renders(Chart::Istio, &[]);
    let token = Some(Token { issuer: issuer(&resources), session: true, scopes: &["admin"] });
    let principal = principal(RELEASE, "login");
    let paths = ["/", "/flaghoist.send.v1.MessageService/Nothing", "/metrics", "/flaghoist.send.v1.MessageService"];
    for (path, service) in paths.into_iter().flat_map(|path| SERVICES.map(|service| (path, service))) {
        for port in PORTS {
            let request = Request { port, method: "POST", path, principal: Some(&principal), token };
            assert!(!allows(&resources, &pod(RELEASE, service), &request), "{request:?}");
        }
    }
}

#[test]
fn another_pod_of_the_namespace_is_closed_unless_the_policies_are_for_this_release_alone() {
    let Some(helm) = Helm::find("deny all") else { return };
    let stranger = vec![("app".to_owned(), "database".to_owned())];
    let concerned = |values: &[String]| {
        let resources = helm.renders(Chart::Istio, values);
        let policies = of_kind(&resources, "AuthorizationPolicy");
        let mtls = of_kind(&resources, "PeerAuthentication");
        policies.iter().chain(&mtls).filter(|one| super::judge::chosen(&one["spec"]["selector"], &stranger)).count()
    };
    assert_eq!(concerned(&[]), 2, "deny-all and STRICT");
    assert_eq!(concerned(&["wholeNamespace=false".into()]), 0);
}

#[test]
fn nothing_but_the_keys_is_spoken_without_mtls() {
    let Some(helm) = Helm::find("mTLS") else { return };
    let resources = helm.renders(Chart::Istio, &[]);
    for authentication in of_kind(&resources, "PeerAuthentication") {
        let spec = &authentication["spec"];
        assert_eq!(spec["mtls"]["mode"], "STRICT", "{}", name(authentication));
        let ports = spec["portLevelMtls"].as_object();
        if let Some(ports) = ports {
            assert_eq!(ports.keys().collect::<Vec<_>>(), ["8081"]);
            assert_eq!(spec["selector"]["matchLabels"]["app.kubernetes.io/component"], "auth");
        }
    }
    // And there nothing else is offered.
    let keys = |path| Request { port: 8081, method: "GET", path, principal: None, token: None };
    assert!(allows(&resources, &pod(RELEASE, "auth"), &keys("/oauth2/jwks")));
    assert!(!allows(&resources, &pod(RELEASE, "auth"), &keys("/oauth2/token")));
}

#[test]
fn tokens_are_looked_for_in_the_authorization_header_only() {
    let Some(helm) = Helm::find("where tokens are") else { return };
    let resources = helm.renders(Chart::Istio, &["issuer=https://chat.example.com".into()]);
    let authentication = of_kind(&resources, "RequestAuthentication")[0];
    let rules = items(&authentication["spec"]["jwtRules"]);
    assert_eq!(rules.len(), 1);
    let places: Vec<_> = items(&rules[0]["fromHeaders"])
        .iter()
        .map(|place| (place["name"].as_str().unwrap_or_default(), place["prefix"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(places, [("authorization", "Bearer "), ("authorization", "DPoP ")]);
    assert!(rules[0]["fromParams"].is_null() && rules[0]["fromCookies"].is_null());
    assert_eq!(rules[0]["issuer"], "https://chat.example.com");
    assert_eq!(texts(&rules[0]["audiences"]), [flaghoist_runtime::token::AUDIENCE]);
    assert_eq!(rules[0]["forwardOriginalToken"], true);
    let keys = rules[0]["jwksUri"].as_str().expect("where the keys are");
    assert_eq!(keys, format!("http://{RELEASE}-auth.{NAMESPACE}.svc.cluster.local:8081/oauth2/jwks"));
    // Seven pauses of a second, and time to answer: with less istiod may miss that auth has become ready (`slow-start` on a real mesh).
    let timeout = rules[0]["timeout"].as_str().and_then(|text| text.strip_suffix('s')).expect("a time in seconds");
    assert!(timeout.parse::<u32>().unwrap() >= 10, "{timeout}");
}

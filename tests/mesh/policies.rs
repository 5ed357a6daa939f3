//! Every method has exactly one access rule, and the rule lets through whom the contracts name: asked for each method with every kind
//! of caller that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

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

/// How the certificate of a pod that runs under this account names it.
fn principal(account: &str) -> String {
    format!("cluster.local/ns/{NAMESPACE}/sa/{account}")
}

/// The issuer whose tokens the sidecars take.
fn issuer(resources: &[Value]) -> &str {
    let authentications = of_kind(resources, "RequestAuthentication");
    assert_eq!(authentications.len(), 1);
    authentications[0]["spec"]["jwtRules"][0]["issuer"].as_str().expect("an issuer")
}

/// Asks for every method with every kind of caller.
pub(crate) fn judge(resources: &[Value], release: &str) {
    let accounts = accounts(resources, release);
    let issuer = issuer(resources);
    let person = Token { issuer, session: true, scopes: &["chat.read", "chat.send"] };
    let admin = Token { scopes: &["chat.read", "chat.send", "admin"], ..person };
    let client = Token { session: false, scopes: &["chat.read", "admin"], ..person };
    let stranger = Token { issuer: "https://elsewhere.example", ..admin };
    let near = Token { scopes: &["administrator"], ..person };
    let tokens = [None, Some(person), Some(admin), Some(client), Some(stranger), Some(near)];
    let of_services = accounts.values().map(|account| Some(principal(account)));
    let gateway = Some("cluster.local/ns/istio-system/sa/istio-ingressgateway".to_owned());
    let namesake = Some(format!("cluster.local/ns/elsewhere/sa/{}", accounts["login"]));
    let others = [gateway, namesake, Some(principal(&format!("{release}-test"))), Some(principal("default")), None];
    let callers: Vec<Option<String>> = of_services.chain(others).collect();
    // Nothing else among the resources has a say, and there are many of them.
    let policies: Vec<Value> = of_kind(resources, "AuthorizationPolicy").into_iter().cloned().collect();

    for method in methods() {
        for (caller, token) in callers.iter().flat_map(|caller| tokens.iter().map(move |token| (caller, token))) {
            for (service, port) in SERVICES.iter().flat_map(|service| PORTS.map(|port| (service, port))) {
                let (principal, token) = (caller.as_deref(), *token);
                let request = Request { port, method: "POST", path: &method.path, principal, token };
                let at_home = *service == method.owner && port == method.port();
                let expected = at_home && wanted(method, &request, &accounts, issuer);
                let allowed = allows(&policies, &pod(release, service), &request);
                assert_eq!(allowed, expected, "{request:?} at {service}, for {:?}", method.audience);
            }
        }
        let preflight =
            Request { port: method.port(), method: "OPTIONS", path: &method.path, principal: None, token: None };
        let allowed = allows(&policies, &pod(release, &method.owner), &preflight);
        assert_eq!(allowed, !method.internal(), "a preflight of {}", method.path);
    }
}

/// [`judge`], unless the same policies were judged for other values already.
pub(crate) fn judge_once(resources: &[Value], release: &str) {
    static JUDGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let concerned = [of_kind(resources, "AuthorizationPolicy"), of_kind(resources, "RequestAuthentication")].concat();
    let text = format!("{release} {:?} {concerned:?}", accounts(resources, release));
    if JUDGED.lock().unwrap_or_else(PoisonError::into_inner).insert(text) {
        judge(resources, release);
    }
}

/// The account that the pods of each service run under, by which its callers' policies have to know it. The mesh configuration by itself
/// has no pods: there it is what the whole chart names it.
fn accounts(resources: &[Value], release: &str) -> BTreeMap<&'static str, String> {
    let of = |service: &'static str| {
        let run: BTreeSet<&str> = resources
            .iter()
            .map(|resource| &resource["spec"]["template"])
            .filter(|template| template["metadata"]["labels"]["app.kubernetes.io/component"] == service)
            .filter_map(|template| template["spec"]["serviceAccountName"].as_str())
            .collect();
        assert!(run.len() <= 1, "the pods of {service} run under {run:?}");
        (service, run.first().map_or_else(|| format!("{release}-{service}"), |&account| account.to_owned()))
    };
    let accounts: BTreeMap<&'static str, String> = SERVICES.into_iter().map(of).collect();
    let different: BTreeSet<&String> = accounts.values().collect();
    assert_eq!(different.len(), SERVICES.len(), "no policy can tell services of one account apart: {accounts:?}");
    accounts
}

/// Whether the contracts let this request through.
fn wanted(method: &Method, request: &Request<'_>, accounts: &BTreeMap<&'static str, String>, issuer: &str) -> bool {
    let person = request.token.filter(|token| token.issuer == issuer && token.session);
    match &method.audience {
        Audience::Anyone => true,
        Audience::User => person.is_some(),
        Audience::Admin => person.is_some_and(|token| token.scopes.contains(&"admin")),
        Audience::Services(callers) => {
            callers.iter().any(|caller| request.principal == Some(&principal(&accounts[caller.as_str()])))
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
        judge(&helm.renders(chart, &[]), RELEASE);
    }
}

#[test]
fn a_policy_that_lets_somebody_else_through_is_noticed() {
    let Some(helm) = Helm::find("holes in policies") else { return };
    let mut resources = helm.renders(Chart::Whole, &[]);
    let rules = resources
        .iter_mut()
        .filter(|resource| resource["kind"] == "AuthorizationPolicy")
        .flat_map(|policy| policy["spec"]["rules"].as_array_mut().into_iter().flatten());
    let principals = rules.filter_map(|rule| rule.pointer_mut("/from/0/source/principals")?.as_array_mut());
    principals.into_iter().next().expect("an internal rule").push(principal("default").into());
    assert!(std::panic::catch_unwind(|| judge(&resources, RELEASE)).is_err());
}

#[test]
fn services_that_no_policy_could_tell_apart_are_not_installed_into_a_mesh() {
    let Some(helm) = Helm::find("accounts that are shared") else { return };
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let nameless = helm.refuses(Chart::Whole, &values(&["send.serviceAccount.create=false"]));
    assert!(nameless.contains("send.serviceAccount.name"), "{nameless}");
    let shared =
        helm.refuses(Chart::Whole, &values(&["send.serviceAccount.name=one", "receiver.serviceAccount.name=one"]));
    assert!(shared.contains("receiver") && shared.contains("send"), "{shared}");
    // Without a mesh nobody is known by an account.
    helm.renders(Chart::Whole, &values(&["send.serviceAccount.create=false", "istio.enabled=false"]));
}

#[test]
fn what_is_no_method_is_refused_to_everyone() {
    let Some(helm) = Helm::find("unknown paths") else { return };
    let resources = helm.renders(Chart::Istio, &[]);
    let token = Some(Token { issuer: issuer(&resources), session: true, scopes: &["admin"] });
    let principal = principal(&format!("{RELEASE}-login"));
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

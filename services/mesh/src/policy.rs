//! Decides as a sidecar would: whether the `AuthorizationPolicies` that concern a pod let a request through, and which of them.
//!
//! What cannot be known here (addresses, headers, a field that is newer than this) makes the answer uncertain, never wrong.

use serde_json::Value;

use crate::labels::{Labels, chosen};
use crate::{items, texts};

/// A request as the sidecar of the called pod sees it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The port of the pod.
    pub port: u16,
    /// The HTTP method.
    pub method: &'a str,
    /// The HTTP path.
    pub path: &'a str,
    /// Whom the certificate of the connection names, as `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`; nobody where it is plain text.
    pub principal: Option<&'a str>,
    /// The token that `RequestAuthentication` has found to be in order.
    pub token: Option<Token<'a>>,
}

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// Its `iss`.
    pub issuer: &'a str,
    /// Whether it has a `sid`.
    pub session: bool,
    /// The parts of its `scope`.
    pub scopes: &'a [&'a str],
}

/// What the policies say about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// It goes through. By the rule of this policy, or by none because no policy concerns the pod.
    Allowed(Option<&'a Value>),
    /// It is refused: by a DENY policy, or because no policy allows it.
    Refused(Option<&'a Value>),
    /// It depends on something that cannot be known here; the policy, and what it is.
    Perhaps(&'a Value, String),
}

/// Asks the `policies` about a request to a pod. They are those of the pod's namespace and of the mesh's root namespace; which of them
/// concern the pod is found out here.
pub fn ask<'a>(policies: &[&'a Value], pod: &Labels, request: &Request<'_>) -> Answer<'a> {
    let concerned = |policy: &&&Value| {
        // What is bound to a gateway or waypoint does not concern a sidecar.
        policy["spec"]["targetRefs"].is_null()
            && policy["spec"]["targetRef"].is_null()
            && chosen(&policy["spec"]["selector"], pod)
    };
    let mut allows = Vec::new();
    let mut perhaps = None;
    for policy in policies.iter().filter(concerned) {
        match policy["spec"]["action"].as_str().unwrap_or("ALLOW") {
            "ALLOW" => allows.push(*policy),
            "DENY" => match rules(policy, request) {
                Tri::Yes => return Answer::Refused(Some(policy)),
                Tri::Perhaps(why) => perhaps = Some(Answer::Perhaps(policy, why)),
                Tri::No => {}
            },
            "AUDIT" => {}
            other => perhaps = Some(Answer::Perhaps(policy, format!("the action {other}"))),
        }
    }
    let mut allowed = if allows.is_empty() { Some(Answer::Allowed(None)) } else { None };
    for policy in allows {
        match rules(policy, request) {
            Tri::Yes => {
                allowed = Some(Answer::Allowed(Some(policy)));
                break;
            }
            Tri::Perhaps(why) => allowed = Some(Answer::Perhaps(policy, why)),
            Tri::No => {}
        }
    }
    match (allowed, perhaps) {
        (None, _) => Answer::Refused(None),
        (Some(_), Some(perhaps)) => perhaps,
        (Some(allowed), None) => allowed,
    }
}

/// Whether any rule of a policy fits a request.
fn rules(policy: &Value, request: &Request<'_>) -> Tri {
    any(items(&policy["spec"]["rules"]), |rule| {
        // Most rules are for other paths, and that is told soonest.
        let to = given(&rule["to"], |to| operation(&to["operation"], request));
        if matches!(to, Tri::No) {
            return Tri::No;
        }
        all([
            to,
            only(rule, &["to", "from", "when"]),
            given(&rule["from"], |from| source(&from["source"], request)),
            all(items(&rule["when"]).iter().map(|condition| when(condition, request))),
        ])
    })
}

fn operation(operation: &Value, request: &Request<'_>) -> Tri {
    let path = both(operation, "paths", "notPaths", Some(request.path));
    if matches!(path, Tri::No) {
        return Tri::No;
    }
    let port = request.port.to_string();
    all([
        path,
        only(operation, &["ports", "methods", "paths", "hosts", "notPorts", "notMethods", "notPaths", "notHosts"]),
        both(operation, "ports", "notPorts", Some(&port)),
        both(operation, "methods", "notMethods", Some(request.method)),
        unknown(operation, &["hosts", "notHosts"]),
    ])
}

fn source(source: &Value, request: &Request<'_>) -> Tri {
    let of_token = request.token.map(|token| format!("{}/somebody", token.issuer));
    all([
        only(
            source,
            &[
                "principals",
                "notPrincipals",
                "requestPrincipals",
                "notRequestPrincipals",
                "namespaces",
                "notNamespaces",
                "serviceAccounts",
                "notServiceAccounts",
                "ipBlocks",
                "notIpBlocks",
                "remoteIpBlocks",
                "notRemoteIpBlocks",
            ],
        ),
        both(source, "principals", "notPrincipals", request.principal),
        both(source, "requestPrincipals", "notRequestPrincipals", of_token.as_deref()),
        both(source, "namespaces", "notNamespaces", request.principal.and_then(namespace)),
        unknown(
            source,
            &[
                "serviceAccounts",
                "notServiceAccounts",
                "ipBlocks",
                "notIpBlocks",
                "remoteIpBlocks",
                "notRemoteIpBlocks",
            ],
        ),
    ])
}

fn when(condition: &Value, request: &Request<'_>) -> Tri {
    let key = condition["key"].as_str().unwrap_or_default();
    let is: Vec<&str> = match key {
        "request.auth.claims[sid]" => {
            request.token.filter(|token| token.session).map(|_| "a session").into_iter().collect()
        }
        "request.auth.claims[iss]" => request.token.map(|token| token.issuer).into_iter().collect(),
        // Istio splits this claim at its spaces.
        "request.auth.claims[scope]" => request.token.map(|token| token.scopes.to_vec()).unwrap_or_default(),
        "source.principal" => request.principal.into_iter().collect(),
        "source.namespace" => request.principal.and_then(namespace).into_iter().collect(),
        _ if key.starts_with("request.auth.") && request.token.is_none() => Vec::new(),
        _ => return Tri::Perhaps(format!("the condition on {key}")),
    };
    let fitting = |patterns: &Value| is.iter().any(|is| texts(patterns).iter().any(|pattern| fits(pattern, is)));
    let (values, others) = (&condition["values"], &condition["notValues"]);
    all([
        only(condition, &["key", "values", "notValues"]),
        (values.is_null() || fitting(values)).into(),
        (others.is_null() || !fitting(others)).into(),
    ])
}

/// The namespace in a principal.
fn namespace(principal: &str) -> Option<&str> {
    principal.split('/').skip_while(|part| *part != "ns").nth(1)
}

/// What is said of one thing: it is among those of a field, if that is there, and not among those of the opposite one.
fn both(of: &Value, field: &str, opposite: &str, is: Option<&str>) -> Tri {
    let among = |patterns: &Value| -> Tri {
        any(items(patterns), |pattern| match (pattern.as_str(), is) {
            (Some(pattern), Some(is)) if fits(pattern, is) => Tri::Yes,
            (Some(pattern), _) if pattern.contains(['{', '}']) => Tri::Perhaps(format!("the pattern {pattern}")),
            _ => Tri::No,
        })
    };
    let positive = if of[field].is_null() { Tri::Yes } else { among(&of[field]) };
    let negative = if of[opposite].is_null() { Tri::Yes } else { among(&of[opposite]).not() };
    all([positive, negative])
}

/// Istio's patterns: exact, a prefix before `*`, a suffix after it, or anything that is there.
fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(""), _) => !text.is_empty(),
        (Some(prefix), _) => text.starts_with(prefix),
        (_, Some(suffix)) => text.ends_with(suffix),
        _ => pattern == text,
    }
}

/// Yes, no, or perhaps, with what it depends on.
enum Tri {
    Yes,
    No,
    Perhaps(String),
}

impl Tri {
    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            perhaps @ Self::Perhaps(_) => perhaps,
        }
    }
}

impl From<bool> for Tri {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

fn all(parts: impl IntoIterator<Item = Tri>) -> Tri {
    let mut together = Tri::Yes;
    for part in parts {
        match part {
            Tri::No => return Tri::No,
            Tri::Perhaps(why) => together = Tri::Perhaps(why),
            Tri::Yes => {}
        }
    }
    together
}

fn any<T>(parts: &[T], judge: impl Fn(&T) -> Tri) -> Tri {
    let mut together = Tri::No;
    for part in parts {
        match judge(part) {
            Tri::Yes => return Tri::Yes,
            Tri::Perhaps(why) => together = Tri::Perhaps(why),
            Tri::No => {}
        }
    }
    together
}

/// A list of which one item must fit, if it is there at all.
fn given(list: &Value, judge: impl Fn(&Value) -> Tri) -> Tri {
    if list.is_null() { Tri::Yes } else { any(items(list), judge) }
}

/// Uncertain if any of these fields is there.
fn unknown(object: &Value, fields: &[&str]) -> Tri {
    match fields.iter().find(|field| !object[**field].is_null()) {
        Some(field) => Tri::Perhaps(format!("{field}, which cannot be known here")),
        None => Tri::Yes,
    }
}

/// Uncertain if there is any other field.
fn only(object: &Value, known: &[&str]) -> Tri {
    let mut fields = object.as_object().into_iter().flat_map(|object| object.keys());
    match fields.find(|field| !known.contains(&field.as_str())) {
        Some(field) => Tri::Perhaps(format!("the field {field}, which is not known here")),
        None => Tri::Yes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOGIN: &str = "cluster.local/ns/talk/sa/chat-login";

    fn asked(specs: &[Value], request: &Request<'_>) -> String {
        let policies: Vec<Value> = specs.iter().map(|spec| json!({ "spec": spec })).collect();
        let policies: Vec<&Value> = policies.iter().collect();
        match ask(&policies, &vec![("app".into(), "auth".into())], request) {
            Answer::Allowed(_) => "allowed".into(),
            Answer::Refused(None) => "refused".into(),
            Answer::Refused(Some(_)) => "denied".into(),
            Answer::Perhaps(_, why) => why,
        }
    }

    fn request() -> Request<'static> {
        let token = Token { issuer: "https://chat", session: true, scopes: &["chat.read", "admin"] };
        Request { port: 9000, method: "POST", path: "/a.B/C", principal: Some(LOGIN), token: Some(token) }
    }

    #[test]
    fn without_a_policy_everything_is_allowed_and_with_one_only_what_it_says() {
        assert_eq!(asked(&[], &request()), "allowed");
        assert_eq!(asked(&[json!({ "action": "ALLOW" })], &request()), "refused");
        let elsewhere = json!({ "selector": { "matchLabels": { "app": "send" } } });
        assert_eq!(asked(&[elsewhere], &request()), "allowed", "it does not concern the pod");
        assert_eq!(
            asked(&[json!({ "targetRefs": [{ "kind": "Gateway" }] })], &request()),
            "allowed",
            "nor does a gateway's"
        );
        assert_eq!(asked(&[json!({ "rules": [{}] })], &request()), "allowed", "a rule that asks for nothing fits");
    }

    #[test]
    fn what_is_denied_is_refused_whatever_is_allowed() {
        let all = json!({ "rules": [{}] });
        let deny = |from: Value| json!({ "action": "DENY", "rules": [{ "from": [{ "source": from }] }] });
        assert_eq!(asked(&[all.clone(), deny(json!({ "namespaces": ["talk"] }))], &request()), "denied");
        assert_eq!(asked(&[all.clone(), deny(json!({ "notNamespaces": ["talk"] }))], &request()), "allowed");
        assert_eq!(asked(&[all.clone(), deny(json!({ "notPrincipals": ["*/sa/chat-login"] }))], &request()), "allowed");
        let blocks = asked(&[all, deny(json!({ "ipBlocks": ["10.0.0.0/8"] }))], &request());
        assert!(blocks.starts_with("ipBlocks"), "{blocks}");
    }

    #[test]
    fn each_field_of_a_rule_is_asked() {
        let says = |rule: Value| asked(&[json!({ "rules": [rule] })], &request());
        let to = |operation: Value| says(json!({ "to": [{ "operation": operation }] }));
        assert_eq!(to(json!({ "ports": ["9000"], "methods": ["POST"], "paths": ["/a.B/*"] })), "allowed");
        for other in [json!({ "ports": ["9001"] }), json!({ "methods": ["GET"] }), json!({ "paths": ["/a.B"] })] {
            assert_eq!(to(other), "refused");
        }
        assert_eq!(to(json!({ "notPaths": ["*/C"] })), "refused");
        assert_eq!(to(json!({ "paths": ["/a.B/{*}"] })), "the pattern /a.B/{*}");
        assert_eq!(to(json!({ "planets": ["mars"] })), "the field planets, which is not known here");
        let when = |key: &str, value: &str| says(json!({ "when": [{ "key": key, "values": [value] }] }));
        assert_eq!(when("request.auth.claims[scope]", "admin"), "allowed");
        assert_eq!(when("request.auth.claims[scope]", "adm"), "refused");
        assert_eq!(when("request.auth.claims[sid]", "*"), "allowed");
        assert_eq!(when("source.namespace", "elsewhere"), "refused");
        assert_eq!(when("request.headers[x]", "1"), "the condition on request.headers[x]");
        let from = |source: Value| says(json!({ "from": [{ "source": source }] }));
        assert_eq!(from(json!({ "requestPrincipals": ["https://chat/*"] })), "allowed");
        assert_eq!(from(json!({ "requestPrincipals": ["https://other/*"] })), "refused");
    }
}

//! Decides as a sidecar would: given the `AuthorizationPolicies` of a namespace, whether a request goes through. It knows the fields that
//! the charts use and refuses to guess about any other.

use serde_json::Value;

use super::charts::{items, of_kind, texts};

/// A request as the sidecar of the called pod sees it.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) port: u16,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Whom the certificate of the connection names; nobody where it is plain text.
    pub(crate) principal: Option<String>,
    /// The token that `RequestAuthentication` has found to be in order.
    pub(crate) token: Option<Token<'a>>,
}

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) session: bool,
    pub(crate) scopes: &'a [&'a str],
}

/// The labels of a pod, as a selector compares them.
pub(crate) type Labels = Vec<(String, String)>;

/// Whether a selector's `matchLabels` choose a pod; without a selector every pod is chosen.
pub(crate) fn chosen(selector: &Value, pod: &Labels) -> bool {
    let Some(wanted) = selector["matchLabels"].as_object() else { return true };
    wanted.iter().all(|(key, value)| pod.iter().any(|(of, is)| of == key && value == is))
}

/// Whether the policies among `resources` let `request` through to `pod`: some ALLOW policy must have a rule for it, since there is
/// at least one that concerns the pod.
#[track_caller]
pub(crate) fn allows(resources: &[Value], pod: &Labels, request: &Request<'_>) -> bool {
    let policies = of_kind(resources, "AuthorizationPolicy");
    let concerned: Vec<_> = policies.into_iter().filter(|policy| chosen(&policy["spec"]["selector"], pod)).collect();
    assert!(!concerned.is_empty(), "no policy concerns the pod {pod:?}: everything is allowed");
    let rules = concerned.into_iter().flat_map(|policy| {
        only(&policy["spec"], &["selector", "action", "rules"]);
        assert_eq!(policy["spec"]["action"], "ALLOW", "only what is allowed is said");
        items(&policy["spec"]["rules"])
    });
    rules.filter(|rule| matches(rule, request)).count() > 0
}

fn matches(rule: &Value, request: &Request<'_>) -> bool {
    only(rule, &["to", "from", "when"]);
    let any = |list: &Value, judge: &dyn Fn(&Value) -> bool| list.is_null() || items(list).iter().any(judge);
    any(&rule["to"], &|to| operation(&to["operation"], request))
        && any(&rule["from"], &|from| source(&from["source"], request))
        && items(&rule["when"]).iter().all(|condition| claim(condition, request))
}

fn operation(operation: &Value, request: &Request<'_>) -> bool {
    only(operation, &["ports", "methods", "paths"]);
    let port = request.port.to_string();
    [("ports", port.as_str()), ("methods", request.method), ("paths", request.path)].into_iter().all(|(field, is)| {
        operation[field].is_null() || texts(&operation[field]).iter().any(|pattern| fits(pattern, is))
    })
}

fn source(source: &Value, request: &Request<'_>) -> bool {
    only(source, &["principals", "requestPrincipals"]);
    let of_token = request.token.map(|token| format!("{}/somebody", token.issuer));
    [("principals", &request.principal), ("requestPrincipals", &of_token)].into_iter().all(|(field, is)| {
        let patterns = texts(&source[field]);
        source[field].is_null() || is.as_ref().is_some_and(|is| patterns.iter().any(|pattern| fits(pattern, is)))
    })
}

fn claim(condition: &Value, request: &Request<'_>) -> bool {
    only(condition, &["key", "values"]);
    let values = match condition["key"].as_str() {
        Some("request.auth.claims[sid]") => request.token.filter(|token| token.session).map(|_| vec!["a session"]),
        // Istio splits this claim at its spaces.
        Some("request.auth.claims[scope]") => request.token.map(|token| token.scopes.to_vec()),
        other => panic!("a condition on {other:?}, which this test cannot judge"),
    };
    let patterns = texts(&condition["values"]);
    values.is_some_and(|values| values.iter().any(|value| patterns.iter().any(|pattern| fits(pattern, value))))
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

/// Fails on a field that this judge does not know.
#[track_caller]
fn only(object: &Value, known: &[&str]) {
    for field in object.as_object().into_iter().flat_map(|object| object.keys()) {
        assert!(known.contains(&field.as_str()), "{field} is nothing that this test can judge: {object}");
    }
}

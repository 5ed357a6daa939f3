//! `VirtualServices` read as one route for each path, and what the class of a method asks of its route.

use serde_json::Value;

use crate::served::Class;
use crate::{items, texts};

/// The route of one path.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The `VirtualService` that it is in.
    pub within: &'a Value,
    /// The port that the caller meant; none at a gateway.
    pub port: Option<u64>,
    /// The path; none where a match is no exact path.
    pub path: Option<&'a str>,
    /// Whether it is for calls only that come with a proof of possession.
    pub proven: bool,
    /// The whole of it: matches, retries, destinations.
    pub http: &'a Value,
}

/// The header with a proof of possession (DPoP, RFC 9449). A proof is good once, so a call that has reached a service is not made again with
/// the same one: a client would be told that it was used before.
const PROOF_HEADER: &str = "dpop";

/// After what a try has certainly not reached the service.
const UNREACHED: [&str; 3] = ["connect-failure", "refused-stream", "reset-before-request"];

/// Every match of those `VirtualServices` among `resources` that hold within the mesh, or at gateways. One that names no gateway holds
/// in the mesh.
pub fn routes<'a>(resources: &[&'a Value], at_gateway: bool) -> Vec<Route<'a>> {
    let mut routes = Vec::new();
    for within in resources.iter().copied() {
        let gateways = texts(&within["spec"]["gateways"]);
        let holds = if at_gateway { gateways.iter().any(|name| *name != "mesh") } else { in_mesh(&gateways) };
        if !holds {
            continue;
        }
        for http in items(&within["spec"]["http"]) {
            let one = |one: &'a Value| {
                let proven = one["headers"][PROOF_HEADER].is_object();
                Route { within, port: one["port"].as_u64(), path: one["uri"]["exact"].as_str(), proven, http }
            };
            let matches = items(&http["match"]);
            if matches.is_empty() {
                routes.push(Route { within, port: None, path: None, proven: false, http });
            }
            routes.extend(matches.iter().map(one));
        }
    }
    routes
}

fn in_mesh(gateways: &[&str]) -> bool {
    gateways.is_empty() || gateways.contains(&"mesh")
}

/// Whether calls of this class at this port may come with a proof, and have a route of their own then.
pub fn with_proof(class: Class, port: u64) -> bool {
    class == Class::Retried && matches!(port, 9000 | 8080)
}

/// What is wrong with the retries and the timeout of a route for a method of this class, for all calls or those with a proof; nothing if
/// they are as they should be.
pub fn faults(class: Class, proven: bool, http: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let retries = &http["retries"];
    match (class, retries["attempts"].as_u64()) {
        // Left out, it is Istio's default, which retries twice; a 0 is left out too when a resource is written anew.
        (_, None) if retries.is_null() => faults.push("has Istio's default retries".to_owned()),
        (Class::Retried, attempts) if attempts.unwrap_or(0) == 0 => faults.push("is not retried".to_owned()),
        (Class::Retried, _) if proven => {
            let on: Vec<&str> = retries["retryOn"].as_str().unwrap_or_default().split(',').collect();
            if on.iter().any(|condition| !UNREACHED.contains(condition)) {
                let on = on.join(",");
                faults.push(format!("is retried on {on} with a proof, which is good once"));
            }
        }
        (Class::Retried, _) => {
            let on: Vec<&str> = retries["retryOn"].as_str().unwrap_or_default().split(',').collect();
            for condition in ["unavailable"].iter().chain(&UNREACHED) {
                if !on.contains(condition) {
                    faults.push(format!("is not retried on {condition}"));
                }
            }
            if !retries["perTryTimeout"].is_string() {
                faults.push("has no time for one try, so a slow one takes all of it".to_owned());
            }
            if !on.contains(&"gateway-error") && !on.contains(&"reset") {
                faults.push("is not retried after a slow try".to_owned());
            }
            for never in ["5xx", "resource-exhausted", "cancelled", "internal", "deadline-exceeded"] {
                if on.contains(&never) {
                    faults.push(format!("is retried on {never}"));
                }
            }
        }
        (Class::Once | Class::Stream, attempts) if attempts.unwrap_or(0) > 0 => {
            faults.push("is retried, and may have a second effect".to_owned());
        }
        _ => {}
    }
    match (class, http["timeout"].is_null()) {
        (Class::Stream, false) => faults.push(format!("is a stream, and ends after {}", http["timeout"])),
        (Class::Retried | Class::Once, true) => faults.push("has no timeout".to_owned()),
        _ => {}
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_class_is_treated_as_it_should_be() {
        let on = "unavailable,connect-failure,refused-stream,reset-before-request,reset";
        let retried = json!({ "timeout": "15s", "retries": { "attempts": 3, "perTryTimeout": "3s", "retryOn": on } });
        let once = json!({ "timeout": "15s", "retries": { "attempts": 0 } });
        let stream = json!({ "retries": {} });
        assert!(faults(Class::Retried, false, &retried).is_empty());
        assert!(faults(Class::Once, false, &once).is_empty());
        assert!(faults(Class::Stream, false, &stream).is_empty());
        assert_eq!(faults(Class::Once, false, &retried), ["is retried, and may have a second effect"]);
        assert_eq!(faults(Class::Retried, false, &once), ["is not retried"]);
        assert_eq!(faults(Class::Stream, false, &once), ["is a stream, and ends after \"15s\""]);
        assert_eq!(faults(Class::Once, false, &json!({})), ["has Istio's default retries", "has no timeout"]);
        // With a proof, which is good once, only what has not reached the service is tried again.
        let unreached = json!({ "timeout": "15s", "retries": { "attempts": 3, "retryOn": UNREACHED.join(",") } });
        assert!(faults(Class::Retried, true, &unreached).is_empty());
        assert_eq!(faults(Class::Retried, true, &once), ["is not retried"]);
        let on = "connect-failure,refused-stream,unavailable";
        let answered = json!({ "timeout": "15s", "retries": { "attempts": 3, "retryOn": on } });
        let said = format!("is retried on {on} with a proof, which is good once");
        assert_eq!(faults(Class::Retried, true, &answered), [said]);
        assert!(with_proof(Class::Retried, 9000) && with_proof(Class::Retried, 8080));
        assert!(!with_proof(Class::Retried, 9001) && !with_proof(Class::Once, 9000));
        let all = json!({ "timeout": "15s", "retries": { "attempts": 1, "retryOn": "5xx" } });
        assert_eq!(faults(Class::Retried, false, &all).len(), 7);
    }

    #[test]
    fn a_route_holds_in_the_mesh_or_at_gateways() {
        let of = |gateways: Value| json!({ "spec": { "gateways": gateways, "http": [{ "match": [{ "port": 9000, "uri": { "exact": "/a" } }] }] } });
        let (mesh, door, unsaid) = (of(json!(["mesh"])), of(json!(["talk/chat"])), of(Value::Null));
        let all = [&mesh, &door, &unsaid];
        assert_eq!((routes(&all, false).len(), routes(&all, true).len()), (2, 1));
        assert_eq!(routes(&all, true)[0].path, Some("/a"));
    }
}

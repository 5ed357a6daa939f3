//! mTLS: what the resources make of each port, and what comes of a call in plain text.

use flaghoist_mesh::mtls::{Mode, mode};
use flaghoist_mesh::served::PORTS;
use serde_json::Value;

use super::docs;
use super::kubectl::Refusal;
use super::report::Group;
use super::sight::{Installed, Sight, name, of_kind};

/// The port of auth that istiod, which has no sidecar, fetches the keys at.
const KEYS_PORT: u16 = 8081;

/// Judges it.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>) -> Group {
    let mut group = Group::new("mTLS");
    let mesh = match &sight.mesh {
        Ok(mesh) => mesh,
        Err(refusal) => {
            group.warning("the PeerAuthentications may be read", refusal.why(), docs::RIGHTS);
            return group;
        }
    };
    let own = of_kind(mesh, "PeerAuthentication");
    let root = sight.root.as_deref().map(|root| of_kind(root, "PeerAuthentication")).unwrap_or_default();
    let said = |by: Option<&Value>| {
        by.map_or("no PeerAuthentication says otherwise".to_owned(), |by| {
            format!("by the PeerAuthentication {}", name(by))
        })
    };
    let (mut open, mut keys) = (Vec::new(), Vec::new());
    for part in installed.parts.iter().filter(|part| !part.workloads.is_empty()) {
        for port in PORTS {
            let (found, by) = mode(&own, &root, &part.labels, port);
            if part.service == "auth" && port == KEYS_PORT {
                if found == Mode::Strict {
                    keys.push(format!("port {port} of auth is STRICT, {}", said(by)));
                }
            } else if found != Mode::Strict {
                open.push(format!("port {port} of {} is {found}, {}", part.service, said(by)));
            }
        }
    }
    group.must(
        "every port takes mTLS and nothing else",
        open,
        format!("helm upgrade restores ours; one for the same pods that is older goes before it: {}", docs::POLICIES),
    );
    group.must(
        "istiod reaches the keys of auth",
        keys,
        "it has no sidecar, so this one port has to be PERMISSIVE: without the keys every token is refused",
    );
    let rules = of_kind(mesh, "DestinationRule");
    let plain = rules.iter().filter(|rule| {
        let mode = &rule["spec"]["trafficPolicy"]["tls"]["mode"];
        let host = rule["spec"]["host"].as_str().unwrap_or_default();
        (mode == "DISABLE" || mode == "SIMPLE") && ours(sight, installed, host)
    });
    group.must(
        "no DestinationRule makes callers speak anything else",
        plain
            .map(|rule| format!("{} does, to {}", name(rule), rule["spec"]["host"].as_str().unwrap_or_default()))
            .collect(),
        "take its tls out, or the rule away: the services would refuse those calls",
    );
    plain_calls(&mut group, sight);
    group
}

/// Whether a host is, or covers, a service of the release.
pub(crate) fn ours(sight: &Sight, installed: &Installed<'_>, host: &str) -> bool {
    installed.parts.iter().any(|part| {
        let Some(workload) = part.workloads.first() else { return false };
        let (service, namespace) = (name(workload), &sight.name);
        let full = format!("{service}.{namespace}.svc.");
        host == service
            || host == format!("{service}.{namespace}")
            || host == format!("{service}.{namespace}.svc")
            || host.starts_with(&full)
            || host.strip_prefix('*').is_some_and(|suffix| format!("{full}cluster.local").ends_with(suffix))
    })
}

/// The API server is no part of the mesh: what it asks of a pod is asked in plain text.
fn plain_calls(group: &mut Group, sight: &Sight) {
    let what = "a call in plain text from outside the mesh is refused";
    let (mut answered, mut unseen, mut refused) = (Vec::new(), Vec::new(), 0);
    for call in &sight.plain_calls {
        let at = format!("port {} of {}", call.port, call.pod);
        match &call.outcome {
            Ok(_) => answered.push(format!("{at} answered")),
            Err(refusal) => match tried(refusal) {
                Call::Refused => refused += 1,
                Call::Answered => answered.push(format!("{at} answered: {}", refusal.why())),
                Call::Unseen => unseen.push(format!("{at}: {}", refusal.why())),
            },
        }
    }
    if !answered.is_empty() {
        let hint = "plain text gets in: does the pod have a sidecar, and do its logs say that it is connected?";
        group.must(what, answered, hint);
    } else if refused > 0 {
        group.ok(format!("{what} ({refused} ports tried)"));
    } else {
        let why = unseen.into_iter().next().unwrap_or_else(|| "no pod runs".into());
        group.warning(what, format!("it could not be tried: {why}"), "`helm test` tries it from a pod of its own");
    }
}

/// What came of a call that the API server made.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Refused,
    Answered,
    Unseen,
}

fn tried(refusal: &Refusal) -> Call {
    let why = refusal.why();
    let cut = ["EOF", "connection reset", "broken pipe", "malformed HTTP", "server closed"];
    match refusal {
        Refusal::Forbidden(why) if why.contains("pods/proxy") => Call::Unseen,
        _ if why.contains("error trying to reach service") => {
            if cut.iter().any(|sign| why.contains(sign)) {
                Call::Refused
            } else {
                Call::Unseen
            }
        }
        Refusal::Failed(why) if why.contains("kubectl") || why.contains("no answer in") => Call::Unseen,
        // Whatever else is said, the pod said it.
        Refusal::Failed(_) | Refusal::Forbidden(_) | Refusal::Missing(_) if !unreached(why) => Call::Answered,
        _ => Call::Unseen,
    }
}

fn unreached(why: &str) -> bool {
    ["timeout", "timed out", "no route to host", "was refused", "Unable to connect"]
        .iter()
        .any(|sign| why.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_call_is_told_by_what_kubectl_says() {
        let failed = |why: &str| tried(&Refusal::Failed(why.into()));
        let reach = "Error from server (ServiceUnavailable): error trying to reach service: ";
        assert_eq!(failed(&format!("{reach}EOF")), Call::Refused);
        assert_eq!(
            failed(&format!("{reach}read tcp 10.0.0.1:1->10.0.0.2:9000: read: connection reset by peer")),
            Call::Refused
        );
        assert_eq!(failed(&format!("{reach}dial tcp 10.0.0.2:9000: i/o timeout")), Call::Unseen);
        assert_eq!(
            failed("Error from server (MethodNotAllowed): the server does not allow this method"),
            Call::Answered
        );
        assert_eq!(
            tried(&Refusal::Missing("Error from server (NotFound): the server could not find it".into())),
            Call::Answered
        );
        let right =
            r#"Error from server (Forbidden): pods "a" is forbidden: User "bob" cannot get resource "pods/proxy""#;
        assert_eq!(tried(&Refusal::Forbidden(right.into())), Call::Unseen);
        assert_eq!(
            tried(&Refusal::Forbidden("Error from server (Forbidden): RBAC: access denied".into())),
            Call::Answered
        );
    }
}

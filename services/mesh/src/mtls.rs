//! Whether a port of a pod speaks mTLS and nothing else, by the `PeerAuthentications` that concern it.

use std::fmt;

use serde_json::Value;

use crate::labels::{Labels, chosen};

/// What a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// mTLS only.
    Strict,
    /// mTLS and plain text.
    Permissive,
    /// Plain text only.
    Disable,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "STRICT",
            Self::Permissive => "PERMISSIVE",
            Self::Disable => "DISABLE",
        })
    }
}

/// The mode of a port of a pod, and the resource that says so; none does where it is Istio's default.
///
/// `own` are the resources of the pod's namespace, `root` those of the mesh's root namespace. The narrowest that says something
/// counts, and of equals the oldest.
pub fn mode<'a>(own: &[&'a Value], root: &[&'a Value], pod: &Labels, port: u16) -> (Mode, Option<&'a Value>) {
    let of_pods = oldest(own, |one| !unselective(one) && chosen(&one["spec"]["selector"], pod));
    let of_namespace = oldest(own, unselective);
    let of_mesh = oldest(root, unselective);
    let at_port = of_pods.and_then(|one| Some((said(&one["spec"]["portLevelMtls"][port.to_string()])?, one)));
    let general = [of_pods, of_namespace, of_mesh].into_iter().flatten();
    let found = at_port.or_else(|| general.into_iter().find_map(|one| Some((said(&one["spec"]["mtls"])?, one))));
    found.map_or((Mode::Permissive, None), |(mode, one)| (mode, Some(one)))
}

fn unselective(one: &Value) -> bool {
    one["spec"]["selector"]["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty)
}

fn oldest<'a>(all: &[&'a Value], fits: impl Fn(&Value) -> bool) -> Option<&'a Value> {
    let age = |one: &&Value| {
        let metadata = &one["metadata"];
        (metadata["creationTimestamp"].as_str().map(str::to_owned), metadata["name"].as_str().map(str::to_owned))
    };
    all.iter().copied().filter(|one| fits(one)).min_by_key(age)
}

fn said(mtls: &Value) -> Option<Mode> {
    match mtls["mode"].as_str()? {
        "STRICT" => Some(Mode::Strict),
        "PERMISSIVE" => Some(Mode::Permissive),
        "DISABLE" => Some(Mode::Disable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_narrowest_that_says_something_counts() {
        let pod: Labels = vec![("app".into(), "auth".into())];
        let root = json!({ "metadata": { "name": "mesh" }, "spec": { "mtls": { "mode": "DISABLE" } } });
        let namespace = json!({ "metadata": { "name": "all" }, "spec": { "mtls": { "mode": "STRICT" } } });
        let selector = json!({ "matchLabels": { "app": "auth" } });
        let port = json!({ "metadata": { "name": "port" },
            "spec": { "selector": selector, "mtls": { "mode": "UNSET" }, "portLevelMtls": { "8081": { "mode": "PERMISSIVE" } } } });
        assert_eq!(mode(&[], &[], &pod, 9000), (Mode::Permissive, None));
        assert_eq!(mode(&[], &[&root], &pod, 9000), (Mode::Disable, Some(&root)));
        let own = [&namespace, &port];
        assert_eq!(mode(&own, &[&root], &pod, 9000), (Mode::Strict, Some(&namespace)));
        assert_eq!(mode(&own, &[&root], &pod, 8081), (Mode::Permissive, Some(&port)));
        assert_eq!(mode(&own, &[&root], &vec![], 8081), (Mode::Strict, Some(&namespace)), "it is another pod");
    }

    #[test]
    fn of_two_for_the_same_pods_the_older_one_counts() {
        let one = |name: &str, at: &str, mode: &str| json!({ "metadata": { "name": name, "creationTimestamp": at }, "spec": { "mtls": { "mode": mode } } });
        let (new, old) = (one("a", "2026-02-01T00:00:00Z", "DISABLE"), one("b", "2026-01-01T00:00:00Z", "STRICT"));
        assert_eq!(mode(&[&new, &old], &[], &vec![], 9000), (Mode::Strict, Some(&old)));
    }
}

//! The cluster and the namespace.

use super::kubectl::Refusal;
use super::report::Group;
use super::sight::Sight;

/// The oldest Kubernetes that the chart installs into.
const KUBERNETES: (u32, u32) = (1, 30);

/// Whether the cluster answers and is new enough. Nothing else can be judged where it does not answer.
pub(crate) fn judge(sight: &Sight, before: bool) -> Group {
    let mut group = Group::new("cluster");
    let what = "the cluster answers";
    let version = match &sight.version {
        Ok(version) => version["serverVersion"]["gitVersion"].as_str().unwrap_or_default(),
        Err(refusal) => {
            group.failed(
                what,
                refusal.why(),
                "does `kubectl version` answer? --context and --kubeconfig choose the cluster",
            );
            return group;
        }
    };
    group.ok(format!("{what}: Kubernetes {version}"));
    let what = format!("Kubernetes is {}.{} or newer", KUBERNETES.0, KUBERNETES.1);
    match numbers(version) {
        Some(numbers) if numbers >= KUBERNETES => group.ok(what),
        Some(_) => group.failed(
            what,
            format!("it is {version}"),
            "upgrade the cluster: the chart needs preStop sleep and native sidecars",
        ),
        None => group.warning(what, format!("its version is {version:?}"), ""),
    }
    let what = format!("the namespace {} is there", sight.name);
    match &sight.namespace {
        Ok(namespace) if namespace["status"]["phase"] == "Terminating" => {
            group.failed(what, "it is being deleted", "wait until it is gone, then create it anew");
        }
        Ok(_) => group.ok(what),
        Err(Refusal::Missing(_)) if before => {
            group.warning(what, "it is not there yet", format!("kubectl create namespace {}", sight.name));
        }
        Err(Refusal::Missing(why)) => {
            group.failed(what, why, "--namespace names the one that the chart is installed in")
        }
        Err(refusal) => group.warning(what, refusal.why(), ""),
    }
    group
}

/// The first two numbers of a version such as `v1.33.0-gke.1`, `1.32-dev` or `1.31.0`.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (version, expected) in
            [("v1.33.0-gke.1", (1, 33)), ("1.32-dev", (1, 32)), ("1.31.0-distroless", (1, 31)), ("v1.30+", (1, 30))]
        {
            assert_eq!(numbers(version), Some(expected), "{version}");
        }
        assert_eq!((numbers("latest"), numbers("")), (None, None));
    }

    #[test]
    fn the_version_is_what_the_chart_asks_for() {
        let chart = include_str!("../../../../charts/flaghoist/Chart.yaml");
        assert!(chart.contains(&format!("kubeVersion: \">={}.{}.0-0\"", KUBERNETES.0, KUBERNETES.1)));
    }
}

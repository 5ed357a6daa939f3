//! What runs: the four services, their pods, volumes and firewalls, and whether each pod has its sidecar.

use flaghoist_mesh::items;
use flaghoist_mesh::labels::{chosen, labels};
use serde_json::Value;

use super::docs;
use super::report::Group;
use super::sight::{Installed, Sight, name, of_kind};

/// Judges it.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>) -> Group {
    let mut group = Group::new("pods");
    let things = sight.things.as_deref().unwrap_or_default();
    let workloads = || installed.parts.iter().flat_map(|part| &part.workloads).copied();
    let pods: Vec<&Value> = installed.parts.iter().flat_map(|part| &part.pods).copied().collect();

    let missing = installed.parts.iter().filter(|part| part.workloads.is_empty());
    group.must(
        format!("the four services of the release {} are installed", installed.release),
        missing.map(|part| format!("{} is missing", part.service)).collect(),
        "helm upgrade brings it back",
    );
    group.must(
        "every workload is as it was asked for",
        workloads().filter_map(unsettled).collect(),
        "give a rollout its time (--wait 5m); what holds up a pod stands below",
    );
    group.must(
        "every pod is ready",
        pods.iter().filter_map(|pod| Some(format!("{}: {}", name(pod), unready(pod)?))).collect(),
        format!(
            "kubectl -n {} describe pod POD; its log is `kubectl -n {} logs POD -c SERVICE`",
            sight.name, sight.name
        ),
    );
    group.should(
        "no pod was ended for want of memory or by an error",
        pods.iter().flat_map(|pod| ended(pod)).collect(),
        "kubectl logs --previous says why; after OOMKilled raise resources.limits.memory",
    );
    volumes(&mut group, things, installed);
    group.should(
        format!("the services are of this program's version, {}", env!("CARGO_PKG_VERSION")),
        workloads().filter_map(other_version).collect(),
        "policies are compared with this program's contracts: use the flaghoist of the installed version for that",
    );
    if installed.meshed {
        sidecars(&mut group, &pods);
    }
    let firewalls = of_kind(things, "NetworkPolicy");
    let bare = installed.parts.iter().filter(|part| {
        !part.workloads.is_empty() && !firewalls.iter().any(|one| chosen(&one["spec"]["podSelector"], &part.labels))
    });
    group.should(
        "each service has a firewall (NetworkPolicy)",
        bare.map(|part| format!("{} has none", part.service)).collect(),
        "networkPolicy.enabled=true, unless the cluster has others in its place",
    );
    group
}

/// What a `StatefulSet` or Deployment still has to do.
fn unsettled(workload: &Value) -> Option<String> {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    let wanted = spec["replicas"].as_u64().unwrap_or(1);
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
    let seen = status["observedGeneration"].as_u64() == workload["metadata"]["generation"].as_u64();
    let says = |what: String| Some(format!("{}: {what}", name(workload)));
    match () {
        () if !seen => says("its last change has not been looked at yet".into()),
        () if count("readyReplicas") < wanted => says(format!("{} of {wanted} pods are ready", count("readyReplicas"))),
        () if count("updatedReplicas") < wanted => {
            says(format!("{} of {wanted} pods are of its last change", count("updatedReplicas")))
        }
        () if wanted == 0 => says("no pod is wanted".into()),
        () => None,
    }
}

/// Why a pod is not ready, if it is not.
fn unready(pod: &Value) -> Option<String> {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let status = &pod["status"];
    let conditions = items(&status["conditions"]);
    let condition = |kind: &str| conditions.iter().find(|one| one["type"] == kind);
    if condition("Ready").is_some_and(|one| one["status"] == "True") {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(one) = condition("PodScheduled").filter(|one| one["status"] == "False") {
        return Some(format!("no node takes it: {}", text(&one["message"])));
    }
    let containers = items(&status["initContainerStatuses"]).iter().chain(items(&status["containerStatuses"]));
    let waiting = containers.clone().find_map(|one| {
        let waiting = &one["state"]["waiting"];
        let reason = waiting["reason"].as_str().filter(|reason| *reason != "PodInitializing")?;
        Some(format!("{} waits: {reason} {}", text(&one["name"]), text(&waiting["message"])).trim().to_owned())
    });
    waiting.or_else(|| {
        let unready = containers.filter(|one| one["ready"] != true).map(|one| text(&one["name"])).collect::<Vec<_>>();
        let phase = text(&status["phase"]);
        Some(if unready.is_empty() { phase } else { format!("{phase}, {} not ready", unready.join(" and ")) })
    })
}

/// How containers of a pod have ended that run again.
fn ended(pod: &Value) -> Vec<String> {
    let statuses =
        items(&pod["status"]["containerStatuses"]).iter().chain(items(&pod["status"]["initContainerStatuses"]));
    let ended = statuses.filter_map(|one| {
        let last = &one["lastState"]["terminated"];
        let code = last["exitCode"].as_i64().filter(|code| *code != 0)?;
        let (container, reason) =
            (one["name"].as_str().unwrap_or_default(), last["reason"].as_str().unwrap_or_default());
        Some(format!("{}: {container} ended with {reason} ({code}), {} restarts", name(pod), one["restartCount"]))
    });
    ended.collect()
}

fn volumes(group: &mut Group, things: &[Value], installed: &Installed<'_>) {
    let claims = of_kind(things, "PersistentVolumeClaim");
    let ours = claims.into_iter().filter(|claim| Sight::of_release(claim, &installed.release));
    let faults = ours.filter(|claim| claim["status"]["phase"] != "Bound").map(|claim| {
        let class = claim["spec"]["storageClassName"].as_str().unwrap_or("no storage class");
        format!("{} is {}, of {class}", name(claim), claim["status"]["phase"].as_str().unwrap_or("not bound"))
    });
    group.must(
        "every volume is bound",
        faults.collect(),
        "is there a default storage class, or does persistence.storageClass name one that exists?",
    );
}

fn other_version(workload: &Value) -> Option<String> {
    let labels = labels(&workload["spec"]["template"]["metadata"]);
    let version = flaghoist_mesh::labels::label(&labels, "app.kubernetes.io/version")?;
    (version != env!("CARGO_PKG_VERSION")).then(|| format!("{} is of {version}", name(workload)))
}

fn sidecars(group: &mut Group, pods: &[&Value]) {
    let has = |pod: &Value, list: &str| items(&pod["spec"][list]).iter().any(|one| one["name"] == "istio-proxy");
    let bare = pods.iter().filter(|pod| !has(pod, "containers") && !has(pod, "initContainers"));
    group.must(
        "each pod has a sidecar",
        bare.map(|pod| format!("{} has none: nothing vouches for who calls it, and no policy is in force", name(pod)))
            .collect(),
        "make injection work (the group istio), then kubectl rollout restart",
    );
    let beside = pods.iter().filter(|pod| has(pod, "containers"));
    group.should(
        "sidecars are native, so they start before the service and stop after it",
        beside.map(|pod| format!("that of {} is a container beside it", name(pod))).collect(),
        format!("Istio 1.27 and Kubernetes 1.29 make them native: {}", docs::RUNS),
    );
}

//! What must be so before the chart is installed: whether whoever asks may create what it creates, and whether there is room for it.

use serde_json::Value;

use super::docs;
use super::kubectl::Refusal;
use super::report::Group;
use super::sight::{CREATED, CREATED_FOR_GATEWAY_API, CREATED_IN_MESH, Sight, name, of_kind};

/// What the installation will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// With the mesh's part.
    pub(crate) istio: bool,
    /// With the Gateway API's door.
    pub(crate) gateway_api: bool,
    /// With stores on volumes.
    pub(crate) sqlite: bool,
}

impl Plan {
    /// What will be created.
    pub(crate) fn created(self) -> Vec<&'static str> {
        let mesh: &[&str] = if self.istio { &CREATED_IN_MESH } else { &[] };
        let doors: &[&str] = if self.gateway_api { &CREATED_FOR_GATEWAY_API } else { &[] };
        [&CREATED, mesh, doors].concat()
    }
}

/// Judges it.
pub(crate) fn judge(sight: &Sight, plan: Plan, release: Option<&str>) -> Group {
    let mut group = Group::new("before the installation");
    rights(&mut group, sight);
    if plan.sqlite {
        storage(&mut group, sight);
    }
    if plan.gateway_api {
        gateway_api(&mut group, sight);
    }
    if let Err(refusal) = &sight.things {
        group.warning("what is in the namespace may be read", refusal.why(), docs::RIGHTS);
        return group;
    }
    let there = sight.releases();
    let there = there.iter().filter(|there| release.is_none_or(|release| release == *there));
    group.should(
        "it is not installed yet",
        there.map(|release| format!("the release {release} is in {}", sight.name)).collect(),
        "without --pre this command looks at what is installed",
    );
    if plan.istio {
        others(&mut group, sight);
    }
    group
}

fn rights(group: &mut Group, sight: &Sight) {
    let what = "you may create what the chart creates";
    match &sight.rights {
        Ok(rights) => {
            let refused = rights.iter().filter(|right| right["status"]["allowed"] != true);
            let resource = |right: &Value| {
                let asked = &right["spec"]["resourceAttributes"];
                let (resource, group) =
                    (asked["resource"].as_str().unwrap_or("?"), asked["group"].as_str().unwrap_or(""));
                let at = if group.is_empty() { String::new() } else { format!(".{group}") };
                format!("not {resource}{at}")
            };
            group.must(
                what,
                refused.map(resource).collect(),
                "ask whoever runs the cluster for the role `admin` in the namespace, and for Istio's resources beside it",
            );
        }
        Err(refusal) => group.warning(what, refusal.why(), ""),
    }
}

fn storage(group: &mut Group, sight: &Sight) {
    let what = "there is a default storage class for the volumes of SQLite";
    match &sight.storage {
        Ok(classes) => {
            let usual = |class: &&Value| {
                let annotations = &class["metadata"]["annotations"];
                annotations["storageclass.kubernetes.io/is-default-class"] == "true"
            };
            if classes.iter().any(|class| usual(&class)) {
                return group.ok(what);
            }
            let named: Vec<&str> = classes.iter().map(name).collect();
            let named = if named.is_empty() { "none at all".to_owned() } else { format!("only {}", named.join(", ")) };
            group.failed(
                what,
                format!("there is {named}"),
                "set persistence.storageClass of each service, or store.type=postgresql (--store postgresql here)",
            );
        }
        Err(refusal) => group.warning(what, refusal.why(), docs::RIGHTS),
    }
}

fn gateway_api(group: &mut Group, sight: &Sight) {
    let what = "the Gateway API is there, with GRPCRoute";
    match &sight.gateway_api {
        Ok(api) => {
            let known = |kind: &str| flaghoist_mesh::items(&api["resources"]).iter().any(|one| one["kind"] == kind);
            let missing = ["Gateway", "GRPCRoute", "HTTPRoute"].into_iter().filter(|kind| !known(kind));
            group.must(
                what,
                missing.map(|kind| format!("{kind} is not known in version 1")).collect(),
                "install the Gateway API's standard resources, 1.1 or newer, or leave gateway.kind=istio",
            );
        }
        Err(Refusal::Missing(_)) => group.failed(
            what,
            "gateway.networking.k8s.io/v1 is not known",
            "install the Gateway API's standard resources, or leave gateway.kind=istio",
        ),
        Err(refusal) => group.warning(what, refusal.why(), ""),
    }
}

/// The chart closes the namespace: what else has a sidecar there would be refused every call.
fn others(group: &mut Group, sight: &Sight) {
    let things = sight.things.as_deref().unwrap_or_default();
    let strangers = of_kind(things, "Pod").into_iter().filter(|pod| {
        let containers = |list: &str| flaghoist_mesh::items(&pod["spec"][list]).iter();
        pod["metadata"]["labels"]["app.kubernetes.io/part-of"] != "flaghoist"
            && containers("containers").chain(containers("initContainers")).any(|one| one["name"] == "istio-proxy")
    });
    group.should(
        "no other pods with sidecars are in the namespace",
        strangers.map(|pod| format!("calls to {} will be refused", name(pod))).collect(),
        format!("give them policies of their own, or set istio.wholeNamespace=false: {}", docs::BEFORE),
    );
}

//! Istio: whether it is there and new enough, and whether a pod that is made now would get a sidecar.

use flaghoist_mesh::items;
use flaghoist_mesh::labels::{Labels, chosen, labels};
use serde_json::Value;

use super::cluster::numbers;
use super::docs;
use super::kubectl::Refusal;
use super::report::Group;
use super::sight::{Sight, name};

/// The oldest Istio that takes the chart as it is.
const ISTIO: (u32, u32) = (1, 31);

/// Judges it for pods with these labels.
pub(crate) fn judge(sight: &Sight, pod: &Labels) -> Group {
    let mut group = Group::new("istio");
    let what = "Istio's resources are known (security.istio.io/v1)";
    match &sight.istio_api {
        Ok(_) => group.ok(what),
        Err(Refusal::Missing(_)) => {
            group.failed(
                what,
                "this cluster does not know them",
                format!(
                    "install Istio, or the chart with istio.enabled=false: {} says what is lost then",
                    docs::WITHOUT_ISTIO
                ),
            );
            return group;
        }
        Err(refusal) => group.warning(what, refusal.why(), ""),
    }
    control_plane(&mut group, sight);
    injection(&mut group, sight, pod);
    restricted(&mut group, sight);
    group
}

fn control_plane(group: &mut Group, sight: &Sight) {
    let what = "istiod runs";
    let istiods = match &sight.istiod {
        Ok(istiods) if istiods.is_empty() => {
            return group.warning(
                what,
                "none is seen in this cluster",
                "is it managed from elsewhere? Then look at it there",
            );
        }
        Ok(istiods) => istiods,
        Err(refusal) => return group.warning(what, refusal.why(), docs::RIGHTS),
    };
    let down = istiods.iter().filter(|one| one["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0);
    group.must(
        what,
        down.map(|one| format!("no pod of {} is ready", at(one))).collect(),
        "without it no new pod gets its certificate and no policy arrives: kubectl describe it",
    );
    let what = format!("Istio is {}.{} or newer", ISTIO.0, ISTIO.1);
    let versions: Vec<(String, Option<(u32, u32)>)> =
        istiods.iter().map(version).map(|version| (version.clone(), numbers(&version))).collect();
    let old = versions.iter().filter(|(_, read)| read.is_none_or(|read| read < ISTIO));
    group.should(
        what,
        old.map(|(version, _)| format!("it is {version}")).collect(),
        format!(
            "an older one may refuse fields of the DestinationRules: {} names the values that leave them out",
            docs::BEFORE
        ),
    );
}

/// The version of an istiod, from its image, else from its labels.
fn version(istiod: &Value) -> String {
    let image = items(&istiod["spec"]["template"]["spec"]["containers"])
        .iter()
        .filter_map(|container| container["image"].as_str())
        .find_map(|image| image.split('@').next()?.rsplit('/').next()?.split_once(':'));
    let label = &istiod["metadata"]["labels"]["app.kubernetes.io/version"];
    image
        .map(|(_, tag)| tag.to_owned())
        .or_else(|| label.as_str().map(str::to_owned))
        .unwrap_or_else(|| "unknown".into())
}

fn injection(group: &mut Group, sight: &Sight, pod: &Labels) {
    let what = format!("a pod made in {} gets a sidecar", sight.name);
    let namespace = match &sight.namespace {
        Ok(namespace) => labels(&namespace["metadata"]),
        // One that is made later has no labels of its own.
        Err(_) => vec![("kubernetes.io/metadata.name".to_owned(), sight.name.clone())],
    };
    let webhooks = match &sight.webhooks {
        Ok(webhooks) => webhooks,
        Err(refusal) => return group.warning(what, refusal.why(), docs::RIGHTS),
    };
    let injectors: Vec<&Value> = webhooks
        .iter()
        .flat_map(|one| items(&one["webhooks"]))
        .filter(|webhook| webhook["name"].as_str().is_some_and(|name| name.contains("sidecar-injector.istio.io")))
        .collect();
    let takes =
        |webhook: &&Value| chosen(&webhook["namespaceSelector"], &namespace) && chosen(&webhook["objectSelector"], pod);
    if injectors.iter().any(takes) {
        return group.ok(what);
    }
    if injectors.is_empty() {
        return group.failed(
            what,
            "Istio's sidecar injector is not registered",
            "is istiod installed, with sidecar injection?",
        );
    }
    let relevant = |labels: &Labels| {
        let of_istio = labels.iter().filter(|(key, _)| key.contains("istio"));
        let said: Vec<String> = of_istio.map(|(key, value)| format!("{key}={value}")).collect();
        if said.is_empty() { "no label of Istio".to_owned() } else { said.join(" ") }
    };
    group.failed(
        what,
        format!("no injector takes it: the namespace has {}, the pod {}", relevant(&namespace), relevant(pod)),
        format!(
            "kubectl label namespace {} istio-injection=enabled --overwrite, or istio.io/rev=REVISION and sidecar.revision=REVISION",
            sight.name
        ),
    );
}

/// A namespace that enforces the restricted profile refuses every pod whose traffic an init container redirects.
fn restricted(group: &mut Group, sight: &Sight) {
    let enforced = sight.namespace.as_ref().is_ok_and(|namespace| {
        matches!(
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].as_str(),
            Some("restricted" | "baseline")
        )
    });
    if !enforced {
        return;
    }
    let what = "pods with sidecars satisfy the profile that the namespace enforces";
    match &sight.plugin {
        Ok(plugins) if plugins.is_empty() => group.failed(
            what,
            "Istio's network plugin (istio-cni) is not seen, so each pod has an init container with NET_ADMIN",
            format!("install Istio with its network plugin: {}", docs::RUNS),
        ),
        Ok(_) => group.ok(what),
        Err(refusal) => group.warning(what, refusal.why(), docs::RIGHTS),
    }
}

fn at(resource: &Value) -> String {
    format!("{}/{}", resource["metadata"]["namespace"].as_str().unwrap_or_default(), name(resource))
}

//! All that was seen of a cluster, fetched before anything is judged: so a judgement is a pure function of it, and tests make one up.

use std::collections::BTreeMap;
use std::time::SystemTime;

use flaghoist_mesh::items;
use flaghoist_mesh::labels::{Labels, label, labels};
use flaghoist_mesh::served::SERVICES;
use serde_json::{Value, json};

use super::inside::Answers;
use super::kubectl::{Asked, Kubectl, Refusal};

/// The label whose value is the release.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label whose value is the service.
const COMPONENT: &str = "app.kubernetes.io/component";

/// What the chart may create, as `group/resource`; whoever installs it must be allowed to.
pub(crate) const CREATED: [&str; 10] = [
    "/serviceaccounts",
    "/secrets",
    "/services",
    "/configmaps",
    "/pods",
    "apps/statefulsets",
    "apps/deployments",
    "policy/poddisruptionbudgets",
    "networking.k8s.io/networkpolicies",
    "autoscaling/horizontalpodautoscalers",
];
/// The same of the mesh's part.
pub(crate) const CREATED_IN_MESH: [&str; 9] = [
    "security.istio.io/authorizationpolicies",
    "security.istio.io/peerauthentications",
    "security.istio.io/requestauthentications",
    "networking.istio.io/virtualservices",
    "networking.istio.io/destinationrules",
    "networking.istio.io/gateways",
    "networking.istio.io/sidecars",
    "networking.istio.io/serviceentries",
    "telemetry.istio.io/telemetries",
];
/// The same of the Gateway API's door.
pub(crate) const CREATED_FOR_GATEWAY_API: [&str; 3] = [
    "gateway.networking.k8s.io/gateways",
    "gateway.networking.k8s.io/grpcroutes",
    "gateway.networking.k8s.io/httproutes",
];

/// What was seen.
#[derive(Debug)]
pub(crate) struct Sight {
    /// When.
    pub(crate) now: SystemTime,
    /// The namespace that is looked at.
    pub(crate) name: String,
    /// `kubectl version`.
    pub(crate) version: Asked<Value>,
    /// The namespace itself.
    pub(crate) namespace: Asked<Value>,
    /// Workloads, pods, claims and firewalls of the namespace.
    pub(crate) things: Asked<Vec<Value>>,
    /// Istio's API, version 1.
    pub(crate) istio_api: Asked<Value>,
    /// The Gateway API, version 1.
    pub(crate) gateway_api: Asked<Value>,
    /// Istio's resources of the namespace.
    pub(crate) mesh: Asked<Vec<Value>>,
    /// The Gateway API's resources of the namespace.
    pub(crate) doors: Asked<Vec<Value>>,
    /// Istio's policies of the mesh's root namespace.
    pub(crate) root: Asked<Vec<Value>>,
    /// The mesh's configuration: `rootNamespace` and `trustDomain`.
    pub(crate) config: MeshConfig,
    /// istiod's Deployments.
    pub(crate) istiod: Asked<Vec<Value>>,
    /// What changes pods when they are made.
    pub(crate) webhooks: Asked<Vec<Value>>,
    /// Istio's network plugin.
    pub(crate) plugin: Asked<Vec<Value>>,
    /// What whoever asks may create, before an installation.
    pub(crate) rights: Asked<Vec<Value>>,
    /// Storage classes, before an installation.
    pub(crate) storage: Asked<Vec<Value>>,
    /// What pods answered by themselves.
    pub(crate) answers: BTreeMap<String, Asked<Answers>>,
    /// What came of calls in plain text, by pod and port.
    pub(crate) plain_calls: Vec<PlainCall>,
    /// Pods of gateways, by the selector in a Gateway.
    pub(crate) gateway_pods: Vec<(Value, Asked<Vec<Value>>)>,
    /// Certificates by `namespace/secret`, as PEM.
    pub(crate) certificates: BTreeMap<String, Asked<String>>,
}

/// A call in plain text from outside the mesh.
#[derive(Debug)]
pub(crate) struct PlainCall {
    /// The pod.
    pub(crate) pod: String,
    /// Its port.
    pub(crate) port: u16,
    /// What came of it: an answer, or what was said instead.
    pub(crate) outcome: Asked<String>,
}

/// What is read of the mesh's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshConfig {
    /// Whose policies hold for the whole mesh.
    pub(crate) root: String,
    /// The beginning of every principal.
    pub(crate) trust_domain: String,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self { root: "istio-system".into(), trust_domain: "cluster.local".into() }
    }
}

impl MeshConfig {
    /// From the text of the mesh's `ConfigMap`: two keys at the beginning of a line.
    pub(crate) fn read(text: &str) -> Self {
        let value = |key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            Some(rest.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
        };
        let usual = Self::default();
        Self {
            root: value("rootNamespace").unwrap_or(usual.root),
            trust_domain: value("trustDomain").unwrap_or(usual.trust_domain),
        }
    }
}

/// One of the four services, as installed.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// Its name.
    pub(crate) service: &'static str,
    /// Its `StatefulSet` or Deployment, and that of a canary.
    pub(crate) workloads: Vec<&'a Value>,
    /// Its pods.
    pub(crate) pods: Vec<&'a Value>,
    /// The labels of its pods, from the template.
    pub(crate) labels: Labels,
    /// How its certificate names it, with the usual trust domain.
    pub(crate) principal: String,
}

/// A release of the chart.
#[derive(Debug)]
pub(crate) struct Installed<'a> {
    /// Its name.
    pub(crate) release: String,
    /// Its parts; one that is missing has no workload.
    pub(crate) parts: Vec<Part<'a>>,
    /// Whether its pods are to have sidecars.
    pub(crate) meshed: bool,
}

impl Installed<'_> {
    /// A part.
    pub(crate) fn part(&self, service: &str) -> Option<&Part<'_>> {
        self.parts.iter().find(|part| part.service == service)
    }
}

impl Part<'_> {
    /// What a container of it is told by the variable `FLAGHOIST_<SERVICE>_<name>`.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        let variable = format!("FLAGHOIST_{}_{name}", self.service.to_uppercase());
        let containers = items(&self.workloads.first()?["spec"]["template"]["spec"]["containers"]);
        let mut variables = containers.iter().flat_map(|container| items(&container["env"]));
        variables.find(|one| one["name"] == variable.as_str()).and_then(|one| one["value"].as_str())
    }
}

/// A resource's name.
pub(crate) fn name(resource: &Value) -> &str {
    resource["metadata"]["name"].as_str().unwrap_or_default()
}

/// Those of a kind.
pub(crate) fn of_kind<'a>(resources: &'a [Value], kind: &str) -> Vec<&'a Value> {
    resources.iter().filter(|one| one["kind"] == kind).collect()
}

impl Sight {
    /// What is seen before anything was asked.
    pub(crate) fn new(name: &str) -> Self {
        fn unasked<T>() -> Asked<T> {
            Err(Refusal::Failed("it was not asked".into()))
        }
        Self {
            now: SystemTime::now(),
            name: name.to_owned(),
            version: unasked(),
            namespace: unasked(),
            things: unasked(),
            istio_api: unasked(),
            gateway_api: unasked(),
            mesh: unasked(),
            doors: unasked(),
            root: unasked(),
            config: MeshConfig::default(),
            istiod: unasked(),
            webhooks: unasked(),
            plugin: unasked(),
            rights: unasked(),
            storage: unasked(),
            answers: BTreeMap::new(),
            plain_calls: Vec::new(),
            gateway_pods: Vec::new(),
            certificates: BTreeMap::new(),
        }
    }

    /// Asks for what both checks need: the cluster, the namespace, and the mesh as far as it is there.
    pub(crate) async fn of(kubectl: &Kubectl, name: &str) -> Self {
        let mut sight = Self::new(name);
        let inside = format!("--namespace={name}");
        // Asked first and alone: without an answer the rest would be ten times the same failure.
        sight.version = kubectl.asks(&["version", "--output=json"]).await;
        if sight.version.is_err() {
            return sight;
        }
        let things = "statefulsets.apps,deployments.apps,pods,persistentvolumeclaims,networkpolicies.networking.k8s.io";
        let mesh = "authorizationpolicies.security.istio.io,peerauthentications.security.istio.io,\
                    requestauthentications.security.istio.io,virtualservices.networking.istio.io,\
                    destinationrules.networking.istio.io,gateways.networking.istio.io";
        let doors = "gateways.gateway.networking.k8s.io,grpcroutes.gateway.networking.k8s.io,httproutes.gateway.networking.k8s.io";
        let things = [things, &inside];
        let mesh_here = [mesh, &inside];
        let doors = [doors, &inside];
        let space = ["get", "namespace", name, "--output=json"];
        let config;
        (
            sight.namespace,
            sight.things,
            sight.istio_api,
            sight.gateway_api,
            sight.mesh,
            sight.doors,
            config,
            sight.istiod,
            sight.webhooks,
            sight.plugin,
        ) = tokio::join!(
            kubectl.asks(&space),
            kubectl.lists(&things),
            kubectl.asks(&["get", "--raw=/apis/security.istio.io/v1"]),
            kubectl.asks(&["get", "--raw=/apis/gateway.networking.k8s.io/v1"]),
            kubectl.lists(&mesh_here),
            kubectl.lists(&doors),
            kubectl.lists(&["configmaps", "istio", "--namespace=istio-system"]),
            kubectl.lists(&["deployments.apps", "--all-namespaces", "--selector=app=istiod"]),
            kubectl.lists(&["mutatingwebhookconfigurations.admissionregistration.k8s.io"]),
            kubectl.lists(&["daemonsets.apps", "--all-namespaces", "--selector=k8s-app=istio-cni-node"]),
        );
        if let Some(text) = config.ok().as_deref().and_then(|maps| maps.first()?["data"]["mesh"].as_str()) {
            sight.config = MeshConfig::read(text);
        }
        if sight.config.root == name {
            sight.root = Ok(Vec::new());
        } else {
            let policies = mesh.split(',').take(3).collect::<Vec<_>>().join(",");
            sight.root = kubectl.lists(&[&policies, &format!("--namespace={}", sight.config.root)]).await;
        }
        for resources in [&mut sight.mesh, &mut sight.root].into_iter().flatten() {
            for resource in resources {
                usual_trust_domain(resource, &sight.config.trust_domain);
            }
        }
        sight
    }

    /// Asks for what only a coming installation needs.
    pub(crate) async fn looks_ahead(&mut self, kubectl: &Kubectl, created: &[&str]) {
        let questions: Vec<Value> = created
            .iter()
            .filter_map(|resource| resource.split_once('/'))
            .map(|(group, resource)| {
                json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
                    "resourceAttributes": { "namespace": self.name, "verb": "create", "group": group, "resource": resource } } })
            })
            .collect();
        (self.rights, self.storage) =
            tokio::join!(kubectl.posts(&questions), kubectl.lists(&["storageclasses.storage.k8s.io"]));
    }

    /// The policies that may concern pods of the namespace: its own, and those of the whole mesh.
    pub(crate) fn policies(&self, kind: &str) -> Vec<&Value> {
        let both = [&self.mesh, &self.root].into_iter().flatten();
        both.flat_map(|resources| of_kind(resources, kind)).collect()
    }

    /// The releases in the namespace.
    pub(crate) fn releases(&self) -> Vec<String> {
        let mut releases: Vec<String> = self
            .workloads()
            .filter_map(|workload| label(&labels(&workload["metadata"]), INSTANCE).map(str::to_owned))
            .collect();
        releases.sort();
        releases.dedup();
        releases
    }

    fn workloads(&self) -> impl Iterator<Item = &Value> {
        let things = self.things.as_deref().unwrap_or_default();
        things.iter().filter(|thing| {
            (thing["kind"] == "StatefulSet" || thing["kind"] == "Deployment")
                && thing["metadata"]["labels"]["app.kubernetes.io/part-of"] == "flaghoist"
        })
    }

    /// The release of this name.
    pub(crate) fn installed(&self, release: &str) -> Installed<'_> {
        let things = self.things.as_deref().unwrap_or_default();
        let is = |thing: &Value, service: &str| {
            let labels = labels(&thing["metadata"]);
            label(&labels, INSTANCE) == Some(release) && label(&labels, COMPONENT) == Some(service)
        };
        let parts: Vec<Part<'_>> = SERVICES
            .into_iter()
            .map(|service| {
                let mut workloads: Vec<&Value> = self.workloads().filter(|workload| is(workload, service)).collect();
                workloads.sort_by_key(|workload| name(workload).ends_with("-canary"));
                let template = workloads.first().map_or(&Value::Null, |workload| &workload["spec"]["template"]);
                // Of one that is missing it is what the chart would call it.
                let named = template["spec"]["serviceAccountName"].as_str().map(str::to_owned);
                let missing = if workloads.is_empty() { format!("{release}-{service}") } else { "default".to_owned() };
                let account = named.unwrap_or(missing);
                Part {
                    service,
                    pods: of_kind(things, "Pod").into_iter().filter(|pod| is(pod, service)).collect(),
                    labels: labels(&template["metadata"]),
                    principal: format!("cluster.local/ns/{}/sa/{account}", self.name),
                    workloads,
                }
            })
            .collect();
        let meshed = parts.iter().any(|part| label(&part.labels, "sidecar.istio.io/inject") == Some("true"));
        Installed { release: release.to_owned(), parts, meshed }
    }

    /// Whether a resource is one of this release.
    pub(crate) fn of_release(resource: &Value, release: &str) -> bool {
        resource["metadata"]["labels"][INSTANCE] == release
    }
}

/// Writes the mesh's trust domain as Istio's usual name for it, which stands for it wherever a principal is named.
fn usual_trust_domain(value: &mut Value, trust_domain: &str) {
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(trust_domain).filter(|rest| rest.starts_with("/ns/")) {
                *text = format!("cluster.local{rest}");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| usual_trust_domain(value, trust_domain)),
        Value::Object(fields) => fields.values_mut().for_each(|value| usual_trust_domain(value, trust_domain)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_are_read_of_the_meshs_configuration() {
        let text = "defaultConfig:\n  rootNamespace: wrong\nrootNamespace: mesh-root\ntrustDomain: \"td.example\"\n";
        let read = MeshConfig::read(text);
        assert_eq!(read, MeshConfig { root: "mesh-root".into(), trust_domain: "td.example".into() });
        assert_eq!(MeshConfig::read("enablePrometheusMerge: true\n"), MeshConfig::default());
    }

    #[test]
    fn the_meshs_own_trust_domain_is_the_usual_one() {
        let mut policy = json!({ "principals": ["td.example/ns/a/sa/b", "td.example.org/ns/a/sa/b", "*"] });
        usual_trust_domain(&mut policy, "td.example");
        assert_eq!(policy["principals"], json!(["cluster.local/ns/a/sa/b", "td.example.org/ns/a/sa/b", "*"]));
    }
}

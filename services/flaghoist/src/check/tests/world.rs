//! A cluster with the chart installed as it is by default: the rendering itself, and what a cluster makes of it.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::before::Plan;
use super::super::inside::Answers;
use super::super::kubectl::Refusal;
use super::super::report::{Report, Verdict};
use super::super::sight::{PlainCall, Sight, name};
use super::super::{judge, judge_before};

/// What the chart renders as `chat` in `talk`; `tests/mesh` compares it with the chart.
const RENDERED: &str = include_str!("../../../tests/check/installed.jsonl");

/// What was seen of it.
#[derive(Debug)]
pub(super) struct World(pub(super) Sight);

/// The moment at which everything here is looked at.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A pod as a `StatefulSet` makes it, its sidecar with it.
fn pod(workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    pod["metadata"]["name"] = format!("{}-0", name(workload)).into();
    pod["metadata"]["namespace"] = "talk".into();
    pod["spec"]["initContainers"] = json!([{ "name": "istio-proxy", "restartPolicy": "Always" }]);
    pod["status"] = json!({ "phase": "Running",
        "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": template["spec"]["containers"][0]["name"], "ready": true, "restartCount": 0, "state": { "running": {} } }] });
    pod
}

fn claim(workload: &Value) -> Value {
    let template = &workload["spec"]["volumeClaimTemplates"][0];
    let mut claim =
        json!({ "kind": "PersistentVolumeClaim", "metadata": template["metadata"], "spec": template["spec"] });
    claim["metadata"]["name"] = format!("data-{}-0", name(workload)).into();
    claim["status"] = json!({ "phase": "Bound" });
    claim
}

fn answers(service: &str) -> Answers {
    let mut metrics = "flaghoist_peer_reachable{peer=\"auth\"} 1\nflaghoist_bus_up 1\n".to_owned();
    if service == "auth" {
        metrics += "flaghoist_signing_key_due_timestamp_seconds 1800864000\n";
    }
    let sidecar = "cluster_manager.cds.update_rejected: 0\ncontrol_plane.connected_state: 1\n";
    Answers { waiting_for: None, metrics, clock_ahead: 0, sidecar: Some(Ok(sidecar.into())) }
}

impl World {
    pub(super) fn new() -> Self {
        let mut sight = Sight::new("talk");
        let mut rendered: Vec<Value> = RENDERED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_istio = |resource: &Value| resource["apiVersion"].as_str().unwrap().contains("istio.io/");
        let mesh = rendered.extract_if(.., |resource| of_istio(resource)).collect();
        // The pods of `helm test` are made when it runs.
        rendered.retain(|resource| resource["kind"] != "Pod");
        for workload in rendered.iter_mut().filter(|resource| resource["kind"] == "StatefulSet") {
            workload["metadata"]["generation"] = 1.into();
            workload["status"] = json!({ "observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1 });
        }
        let workloads: Vec<Value> = rendered.iter().filter(|one| one["kind"] == "StatefulSet").cloned().collect();
        for workload in &workloads {
            rendered.extend([pod(workload), claim(workload)]);
            let pod = format!("{}-0", name(workload));
            sight.answers.insert(pod.clone(), Ok(answers(name(workload).trim_start_matches("chat-"))));
            let why = "Error from server (ServiceUnavailable): error trying to reach service: EOF";
            for port in [9000, 9001] {
                sight.plain_calls.push(PlainCall { pod: pod.clone(), port, outcome: Err(Refusal::Failed(why.into())) });
            }
        }
        sight.now = now();
        sight.version = Ok(json!({ "serverVersion": { "gitVersion": "v1.33.1" } }));
        sight.namespace =
            Ok(json!({ "metadata": { "name": "talk", "labels": { "kubernetes.io/metadata.name": "talk" } } }));
        sight.things = Ok(rendered);
        sight.istio_api = Ok(json!({}));
        sight.gateway_api =
            Ok(json!({ "resources": [{ "kind": "Gateway" }, { "kind": "GRPCRoute" }, { "kind": "HTTPRoute" }] }));
        sight.mesh = Ok(mesh);
        sight.doors = Ok(Vec::new());
        sight.root = Ok(Vec::new());
        sight.istiod = Ok(vec![
            json!({ "kind": "Deployment", "metadata": { "name": "istiod", "namespace": "istio-system" },
            "spec": { "template": { "spec": { "containers": [{ "image": "docker.io/istio/pilot:1.31.0-distroless" }] } } },
            "status": { "readyReplicas": 1 } }),
        ]);
        // The two that matter of the four that Istio registers.
        let expression =
            |key: &str, operator: &str, values: &[&str]| json!({ "key": key, "operator": operator, "values": values });
        sight.webhooks = Ok(vec![json!({ "webhooks": [
            { "name": "namespace.sidecar-injector.istio.io",
              "namespaceSelector": { "matchExpressions": [expression("istio-injection", "In", &["enabled"])] },
              "objectSelector": { "matchExpressions": [expression("sidecar.istio.io/inject", "NotIn", &["false"])] } },
            { "name": "object.sidecar-injector.istio.io",
              "namespaceSelector": { "matchExpressions": [
                  expression("istio-injection", "DoesNotExist", &[]), expression("istio.io/rev", "DoesNotExist", &[])] },
              "objectSelector": { "matchExpressions": [
                  expression("sidecar.istio.io/inject", "In", &["true"]), expression("istio.io/rev", "DoesNotExist", &[])] } },
        ] })]);
        sight.plugin = Ok(Vec::new());
        sight.rights = Ok(vec![
            json!({ "spec": { "resourceAttributes": { "group": "apps", "resource": "statefulsets" } }, "status": { "allowed": true } }),
        ]);
        sight.storage = Ok(vec![
            json!({ "metadata": { "name": "fast", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } } }),
        ]);
        let selector = json!({ "istio": "ingressgateway" });
        let door = json!({ "metadata": { "name": "door", "namespace": "doors" }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        sight.gateway_pods.push((selector, Ok(vec![door])));
        Self(sight)
    }

    /// Changes one resource of the release or the mesh.
    #[track_caller]
    pub(super) fn change(&mut self, kind: &str, named: &str, change: impl FnOnce(&mut Value)) {
        let both = [&mut self.0.things, &mut self.0.mesh].into_iter().flatten();
        let found = both.flatten().find(|one| one["kind"] == kind && name(one) == named);
        change(found.unwrap_or_else(|| panic!("there is no {kind} {named}")));
    }

    #[track_caller]
    pub(super) fn remove(&mut self, kind: &str, named: &str) {
        let mut removed = 0;
        for resources in [&mut self.0.things, &mut self.0.mesh].into_iter().flatten() {
            removed += resources.extract_if(.., |one| one["kind"] == kind && name(one) == named).count();
        }
        assert_eq!(removed, 1, "{kind} {named}");
    }

    /// Puts a resource of somebody else's into the namespace.
    pub(super) fn beside(&mut self, kind: &str, spec: Value) {
        let metadata = json!({ "name": "theirs", "namespace": "talk", "creationTimestamp": "2020-01-01T00:00:00Z" });
        self.0.mesh.as_mut().unwrap().push(json!({ "kind": kind, "metadata": metadata, "spec": spec }));
    }

    /// Changes what a pod answers.
    pub(super) fn answers(&mut self, pod: &str, change: impl FnOnce(&mut Answers)) {
        change(self.0.answers.get_mut(pod).unwrap().as_mut().unwrap());
    }

    pub(super) fn report(&self) -> Report {
        judge(&self.0, None)
    }

    pub(super) fn report_before(&self, plan: Plan) -> Report {
        judge_before(&self.0, plan, None, None)
    }

    /// The lines that ended so, as `group: what: found; found → hint`.
    pub(super) fn said(&self, verdict: Verdict) -> Vec<String> {
        said(&self.report(), verdict)
    }

    /// This fails and nothing else, and its line has every one of these parts.
    #[track_caller]
    pub(super) fn fails(&self, parts: &[&str]) {
        only(&self.said(Verdict::Failed), parts);
    }

    /// This is warned of, and nothing fails.
    #[track_caller]
    pub(super) fn warns(&self, parts: &[&str]) {
        assert_eq!(self.said(Verdict::Failed), Vec::<String>::new());
        let warned = self.said(Verdict::Warning);
        let usual = |line: &String| line.contains("people reach");
        let warned: Vec<String> = warned.into_iter().filter(|line| !usual(line)).collect();
        only(&warned, parts);
    }
}

/// The lines of a report that ended so.
pub(super) fn said(report: &Report, verdict: Verdict) -> Vec<String> {
    let lines = report.0.iter().flat_map(|group| group.lines.iter().map(move |line| (group.name, line)));
    let lines = lines.filter(|(_, line)| line.verdict == verdict);
    lines.map(|(group, line)| format!("{group}: {}: {} → {}", line.what, line.found.join("; "), line.hint)).collect()
}

#[track_caller]
pub(super) fn only(lines: &[String], parts: &[&str]) {
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in parts {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
}

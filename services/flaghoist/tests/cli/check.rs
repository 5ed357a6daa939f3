//! `flaghoist check` as a person or a script uses it, with a program that stands for kubectl on the `PATH`: what it is asked, what is
//! printed, and how the command ends. What is judged, and how, is tested beside the code (`src/check/tests`).

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::pods::{SERVICES, Site};
use crate::stage::{flaghoist, objects, stderr};

/// What the chart renders as `chat` in `talk`.
const RENDERED: &str = include_str!("../check/installed.jsonl");

/// A cluster that answers from files.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    /// One with Istio and nothing else in it.
    fn new() -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        let hook = json!({ "name": "object.sidecar-injector.istio.io", "namespaceSelector": {}, "objectSelector": {} });
        let istiod = json!({ "metadata": { "name": "istiod", "namespace": "istio-system" }, "status": { "readyReplicas": 1 },
            "spec": { "template": { "spec": { "containers": [{ "image": "istio/pilot:1.32.0" }] } } } });
        let usual = json!({ "metadata": { "name": "fast", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } } });
        cluster.answers("version", &json!({ "serverVersion": { "gitVersion": "v1.33.1" } }));
        cluster.answers("config", &json!({ "contexts": [{ "context": { "namespace": "talk" } }] }));
        cluster.answers("namespace", &json!({ "metadata": { "name": "talk" } }));
        cluster.answers("apis_security.istio.io_v1", &json!({}));
        cluster.lists("mutatingwebhookconfigurations.admissionregistration.k8s.io", &[json!({ "webhooks": [hook] })]);
        cluster.lists("deployments.apps", &[istiod]);
        cluster.lists("daemonsets.apps", &[]);
        cluster.lists("storageclasses.storage.k8s.io", &[usual]);
        for nothing in ["statefulsets.apps", "authorizationpolicies.security.istio.io", "root"] {
            cluster.lists(nothing, &[]);
        }
        let right =
            json!({ "spec": { "resourceAttributes": { "resource": "secrets" } }, "status": { "allowed": true } });
        cluster.answers("rights", &right);
        cluster
    }

    /// The same with the release, its pods led to those of `site`: all of them to one, since only one port can be said.
    fn installed(forward: &str) -> Self {
        let cluster = Self::new();
        let all: Vec<Value> = RENDERED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (mesh, mut things): (Vec<Value>, Vec<Value>) =
            all.into_iter().partition(|one| one["apiVersion"].as_str().unwrap().contains("istio.io/"));
        things.retain(|one| one["kind"] != "Pod");
        let mut pods = Vec::new();
        for workload in things.iter_mut().filter(|one| one["kind"] == "StatefulSet") {
            workload["metadata"]["generation"] = 1.into();
            workload["status"] = json!({ "observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1 });
            let mut pod = json!({ "kind": "Pod", "metadata": workload["spec"]["template"]["metadata"] });
            pod["metadata"]["name"] = format!("{}-0", workload["metadata"]["name"].as_str().unwrap()).into();
            pod["spec"] = json!({ "initContainers": [{ "name": "istio-proxy" }] });
            pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
            pods.push(pod);
        }
        things.extend(pods);
        let door = json!({ "metadata": { "name": "door", "namespace": "doors" }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        cluster.lists("statefulsets.apps", &things);
        cluster.lists("authorizationpolicies.security.istio.io", &mesh);
        cluster.lists("pods", &[door]);
        std::fs::write(cluster.file("forward"), forward).unwrap();
        cluster
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// What a question is answered with.
    fn answers(&self, name: &str, answer: &Value) {
        std::fs::write(self.file(&format!("{name}.json")), answer.to_string()).unwrap();
    }

    fn lists(&self, name: &str, items: &[Value]) {
        self.answers(name, &json!({ "items": items }));
    }

    /// What was asked, one question a line.
    fn asked(&self) -> String {
        std::fs::read_to_string(self.file("asked")).unwrap_or_default()
    }

    fn check(&self, arguments: &[&str]) -> Output {
        let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = flaghoist();
        command.arg("check").args(arguments).env("WORLD", self.folder.path());
        command.env("PATH", format!("{}:{path}", kubectl.display())).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn before_an_installation_a_cluster_that_can_take_it_ends_with_0() {
    let cluster = Cluster::new();
    let checked = cluster.check(&["--pre", "--context=prod", "--kubeconfig=/dev/null"]);
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}{}", stderr(&checked));
    assert!(said.starts_with("cluster\n✓ the cluster answers: Kubernetes v1.33.1\n"), "{said}");
    assert!(said.contains("✓ the namespace talk is there\n"), "it is that of kubectl's context: {said}");
    assert!(said.contains("✓ you may create what the chart creates\n"), "{said}");
    assert!(said.ends_with("0 failed\n"), "{said}");
    let asked = cluster.asked();
    assert!(asked.lines().all(|line| line.ends_with("--kubeconfig=/dev/null --context=prod")), "{asked}");
    assert!(!asked.contains("port-forward"), "{asked}");
}

#[test]
fn what_fails_before_an_installation_ends_with_1_and_says_what_to_do() {
    let cluster = Cluster::new();
    cluster.lists("storageclasses.storage.k8s.io", &[]);
    let checked = cluster.check(&["--pre", "-n", "talk"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains(
        "✗ there is a default storage class for the volumes of SQLite\n    there is none at all\n    → set persistence.storageClass"
    ));
    assert!(stderr(&checked).is_empty(), "all is said in its place: {}", stderr(&checked));
    let other = cluster.check(&["--pre", "-n", "talk", "--store=postgresql"]);
    assert_eq!(other.status.code(), Some(0), "{}", stdout(&other));
    let doors = cluster.check(&["--pre", "-n", "talk", "--store=postgresql", "--gateway=gateway-api"]);
    assert!(stdout(&doors).contains("gateway.networking.k8s.io/v1 is not known"), "{}", stdout(&doors));
}

#[test]
fn an_installation_is_asked_by_its_pods_and_scripts_get_a_line_for_each_check() {
    // Real services, so what is read of their pages is what they say; the last of them stands for every pod.
    let site = Site::new();
    let _pods = site.starts_all(&[]);
    let port = site.address("auth", "metrics").port();
    let cluster = Cluster::installed(&format!("{port} {port}\n"));
    let checked = cluster.check(&["-n", "talk", "--json"]);
    let lines = objects(&checked);
    let failed: Vec<&Value> =
        lines.iter().filter(|line| line["type"] == "check" && line["result"] == "failed").collect();
    assert_eq!(failed, Vec::<&Value>::new());
    assert_eq!(checked.status.code(), Some(0));
    let line =
        |check: &str| lines.iter().find(|line| line["check"].as_str().is_some_and(|said| said.starts_with(check)));
    for check in [
        "stores are reached, migrations are done, keys are known",
        "the signing key is replaced in time: due in",
        "the pods' clocks agree",
        "a call in plain text from outside the mesh is refused (8 ports tried)",
        "they let in everyone whom the contracts name",
    ] {
        let line = line(check).unwrap_or_else(|| panic!("{check} is missing: {}", stdout(&checked)));
        assert_eq!((&line["result"], &line["hint"]), (&json!("ok"), &Value::Null), "{line}");
    }
    assert_eq!(lines.last().unwrap()["result"], "ok");
    let asked = cluster.asked();
    for service in SERVICES {
        assert!(
            asked.contains(&format!(
                "port-forward --address=127.0.0.1 --namespace=talk pod/chat-{service}-0 :9464 :15000"
            )),
            "{asked}"
        );
    }
    assert!(!asked.contains("secret"), "no door shows a certificate, so no Secret is looked at: {asked}");
}

#[test]
fn pods_that_cannot_be_asked_are_warnings_and_end_with_0() {
    // No line, so no way.
    let cluster = Cluster::installed("");
    let checked = cluster.check(&["-n", "talk"]);
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(
        said.contains("! each pod can be asked\n    chat-auth-0: error: unable to forward port: pod is not running\n"),
        "{said}"
    );
}

#[test]
fn a_check_waits_for_what_is_still_starting_and_no_longer() {
    let cluster = Cluster::new();
    let began = std::time::Instant::now();
    let checked = cluster.check(&["-n", "talk", "--wait=4s"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains("there is none in the namespace talk"), "{}", stdout(&checked));
    let looks = cluster.asked().lines().filter(|line| line.starts_with("version")).count();
    assert_eq!(looks, 2, "at once and three seconds later");
    assert!(began.elapsed().as_secs() >= 3);
}

#[test]
fn without_kubectl_that_is_what_fails() {
    let nowhere = tempfile::tempdir().unwrap();
    let checked = flaghoist().args(["check", "-n", "talk"]).env("PATH", nowhere.path()).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains("✗ the cluster answers\n    kubectl cannot be run: "), "{}", stdout(&checked));
}

#[test]
fn what_is_only_for_before_is_refused_after() {
    let checked = flaghoist().args(["check", "--store=postgresql"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(64));
    assert!(stderr(&checked).contains("--pre"), "{}", stderr(&checked));
}

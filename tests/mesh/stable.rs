//! Istio takes what is rendered: its own validation says so, and nothing of it is kept out by the stable validation policy.

use std::process::Command;

use serde_json::Value;

use super::charts::{Chart, Helm, NAMESPACE, RELEASE, items, name, tool};
use super::contracts::SERVICES;

/// What a cluster has besides: the gateway's pods, another gateway, a certificate, and the Services where only the mesh
/// configuration is rendered.
fn surroundings(chart: Chart) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{ name: {NAMESPACE}, labels: {{ istio-injection: enabled }} }}
---
apiVersion: v1
kind: Pod
metadata: {{ name: gateway, namespace: istio-system, labels: {{ istio: ingressgateway }} }}
spec: {{ containers: [{{ name: istio-proxy, image: proxy }}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: istio-ingressgateway, namespace: istio-system }}
spec: {{ selector: {{ istio: ingressgateway }}, ports: [{{ name: http, port: 80 }}, {{ name: https, port: 443 }}] }}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: front, namespace: doors }}
spec:
  selector: {{ istio: ingressgateway }}
  servers: [{{ port: {{ number: 80, name: http, protocol: HTTP }}, hosts: [elsewhere.example.com] }}]
---
apiVersion: v1
kind: Secret
metadata: {{ name: chat-tls, namespace: istio-system }}
---
apiVersion: v1
kind: Service
metadata: {{ name: db, namespace: stores }}
spec: {{ selector: {{ app: db }}, ports: [{{ name: tcp-postgresql, port: 5432 }}] }}
"
    );
    for service in SERVICES.iter().filter(|_| chart == Chart::Istio) {
        text += &format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{ name: {RELEASE}-{service}, namespace: {NAMESPACE} }}
spec:
  selector: {{ app.kubernetes.io/name: flaghoist, app.kubernetes.io/instance: {RELEASE}, app.kubernetes.io/component: {service} }}
  ports:
    - {{ name: grpc-public, port: 9000, appProtocol: grpc }}
    - {{ name: grpc-internal, port: 9001, appProtocol: grpc }}
    - {{ name: http-oauth, port: 8080, appProtocol: http }}
    - {{ name: http-jwks, port: 8081, appProtocol: http }}
---
apiVersion: v1
kind: Pod
metadata:
  name: {RELEASE}-{service}
  namespace: {NAMESPACE}
  annotations: {{ sidecar.istio.io/status: '{{}}' }}
  labels:
    app.kubernetes.io/name: flaghoist
    app.kubernetes.io/instance: {RELEASE}
    app.kubernetes.io/component: {service}
    flaghoist.dev/track: stable
spec: {{ containers: [{{ name: istio-proxy, image: proxy }}] }}
"
        );
    }
    text
}

/// `istioctl analyze` and `istioctl validate` find nothing in what was rendered.
#[track_caller]
pub(crate) fn istio_takes(rendered: &str, chart: Chart) {
    let Some(istioctl) = tool("istioctl") else {
        return flaghoist_tests::skip("Istio's own validation", "istioctl is missing; tests/mesh/install gets it");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, around) = (folder.path().join("rendered.yaml"), folder.path().join("around.yaml"));
    std::fs::write(&ours, rendered).expect("the disk takes it");
    std::fs::write(&around, surroundings(chart)).expect("the disk takes it");
    let mut analyze = Command::new(&istioctl);
    analyze.args(["analyze", "--use-kube=false", "--failure-threshold", "Info", "--namespace", NAMESPACE]);
    // What it says of an Istio that is not there is not about the charts.
    analyze.args(["--suppress", "IST0102=*"]).args([&ours, &around]);
    let mut validate = Command::new(&istioctl);
    validate.arg("validate").arg("--filename").arg(&ours);
    for mut command in [analyze, validate] {
        let output = command.env("KUBECONFIG", "/dev/null").output().expect("istioctl starts");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}:\n{said}");
    }
}

/// What Istio's stable validation policy keeps out, as its chart says it (`stable-channel-default-policy`).
pub(crate) fn keeps_to_the_stable_policy(resources: &[Value]) {
    for resource in resources {
        let found = unstable(resource);
        assert!(found.is_none(), "{} {}: {}", resource["kind"], name(resource), found.unwrap_or_default());
    }
}

fn unstable(resource: &Value) -> Option<&'static str> {
    let (kind, spec) = (resource["kind"].as_str().unwrap_or_default(), &resource["spec"]);
    let any = |list: &Value, field: &str| items(list).iter().any(|item| !item[field].is_null());
    let domains = |rule: &Value| {
        let sources = || items(&rule["from"]).iter().map(|from| &from["source"]);
        sources().any(|source| !source["trustDomains"].is_null() || !source["notTrustDomains"].is_null())
    };
    let version = resource["apiVersion"].as_str().unwrap_or_default();
    match kind {
        "EnvoyFilter" | "WasmPlugin" | "ProxyConfig" => Some("a kind that is not stable"),
        "Telemetry" if any(&spec["tracing"], "useRequestIdForTraceSampling") => Some("useRequestIdForTraceSampling"),
        "Telemetry" if any(&spec["metrics"], "reportingInterval") => Some("reportingInterval"),
        "Telemetry" if any(&spec["accessLogging"], "filter") => Some("a filter of the access log"),
        "AuthorizationPolicy" if items(&spec["rules"]).iter().any(domains) => Some("trustDomains"),
        _ if version.contains("istio.io/") && !version.ends_with("/v1") => Some("a version that is not v1"),
        _ => None,
    }
}

#[test]
fn istio_takes_what_is_installed_by_default() {
    let Some(helm) = Helm::find("Istio's own validation") else { return };
    for chart in Chart::ALL {
        let text = helm.text(chart, RELEASE, &[]);
        istio_takes(&text, chart);
        keeps_to_the_stable_policy(&super::charts::read(&text));
    }
}

#[test]
fn what_is_not_stable_is_noticed() {
    let filtered = serde_json::json!({ "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
        "spec": { "accessLogging": [{ "filter": { "expression": "true" } }] } });
    assert!(unstable(&filtered).is_some());
    let filter = serde_json::json!({ "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter" });
    assert!(unstable(&filter).is_some());
}

//! Istio takes what is rendered: its own validation says so, and nothing of it is kept out by the stable validation policy.

use std::process::Command;

use flaghoist_tests::tool;
use serde_json::Value;

use super::charts::{Chart, Helm, NAMESPACE, RELEASE, items, name};

/// A gateway that is there already, which some rendering may name.
const AROUND: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front, namespace: doors }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
";

/// `istioctl analyze` and `istioctl validate` find nothing in what was rendered. Without a cluster the first looks for no Services,
/// ports and pods: that every host, port and selector means something is shown by `routes.rs` and `names.rs`.
#[track_caller]
pub(crate) fn istio_takes(rendered: &str) {
    let Some(istioctl) = tool("istioctl") else {
        return flaghoist_tests::skip("Istio's own validation", "istioctl is missing; tests/mesh/install gets it");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, around) = (folder.path().join("rendered.yaml"), folder.path().join("around.yaml"));
    std::fs::write(&ours, rendered).expect("the disk takes it");
    std::fs::write(&around, AROUND).expect("the disk takes it");
    let mut analyze = Command::new(&istioctl);
    analyze.args(["analyze", "--use-kube=false", "--failure-threshold", "Info", "--namespace", NAMESPACE]);
    // A server outside may be known by its name alone.
    analyze.args(["--suppress", "IST0134=ServiceEntry *"]).args([&ours, &around]);
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
        istio_takes(&text);
        keeps_to_the_stable_policy(&super::charts::read(&text));
    }
}

#[test]
#[should_panic(expected = "duration must be greater than 1ms")]
fn what_istio_does_not_take_is_noticed() {
    let helm = Helm::find("Istio's own validation").filter(|_| tool("istioctl").is_some());
    let helm = helm.expect("(left out: duration must be greater than 1ms)");
    let text = helm.text(Chart::Istio, RELEASE, &[]);
    istio_takes(&text.replace("timeout: 15s", "timeout: 0s"));
}

#[test]
fn what_is_not_stable_is_noticed() {
    let filtered = serde_json::json!({ "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
        "spec": { "accessLogging": [{ "filter": { "expression": "true" } }] } });
    assert!(unstable(&filtered).is_some());
    let filter = serde_json::json!({ "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter" });
    assert!(unstable(&filter).is_some());
}

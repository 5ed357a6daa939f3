//! Every container keeps to the restricted profile of pod security, as Kubernetes defines it.

use serde_json::Value;

use super::charts::{Chart, Helm, items, name, texts};

/// The pod templates of workloads, and pods by themselves.
fn pods(resources: &[Value]) -> Vec<(String, &Value)> {
    let named = |resource: &Value| format!("{} {}", resource["kind"].as_str().unwrap_or_default(), name(resource));
    let found = resources.iter().filter_map(|resource| match resource["kind"].as_str()? {
        "Pod" => Some((named(resource), &resource["spec"])),
        "CronJob" => Some((named(resource), &resource["spec"]["jobTemplate"]["spec"]["template"]["spec"])),
        _ => {
            let spec = &resource["spec"]["template"]["spec"];
            spec.is_object().then(|| (named(resource), spec))
        }
    });
    found.filter(|(_, spec)| spec["containers"].is_array()).collect()
}

/// What keeps a pod out of a namespace that enforces the profile.
fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        expect(spec[field].as_bool() != Some(true), field);
    }
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in items(&spec["volumes"]) {
        let kinds = volume.as_object().expect("a volume").keys().filter(|key| *key != "name");
        for kind in kinds {
            expect(allowed.contains(&kind.as_str()), &format!("volume {kind}"));
        }
    }
    let of_pod = &spec["securityContext"];
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            let own = &container["securityContext"];
            let either = |field: &str| if own[field].is_null() { &of_pod[field] } else { &own[field] };
            expect(own["privileged"].as_bool() != Some(true), "privileged");
            expect(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
            expect(texts(&own["capabilities"]["drop"]).contains(&"ALL"), "capabilities are not dropped");
            let added = texts(&own["capabilities"]["add"]);
            expect(added.iter().all(|added| *added == "NET_BIND_SERVICE"), "capabilities are added");
            expect(*either("runAsNonRoot") == true, "runAsNonRoot");
            expect(*either("runAsUser") != 0, "runs as root");
            let seccomp = either("seccompProfile")["type"].as_str();
            expect(matches!(seccomp, Some("RuntimeDefault" | "Localhost")), "seccompProfile");
            // Not of the profile, and asked for all the same.
            expect(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
            for port in items(&container["ports"]) {
                expect(port["hostPort"].is_null() || port["hostPort"] == 0, "hostPort");
            }
        }
    }
    found
}

pub(crate) fn restricted(resources: &[Value]) {
    for (pod, spec) in pods(resources) {
        let found = violations(spec);
        assert!(found.is_empty(), "{pod} is refused where the restricted profile is enforced: {found:?}");
    }
}

#[test]
fn every_container_keeps_to_the_restricted_profile() {
    let Some(helm) = Helm::find("pod security") else { return };
    let resources = helm.renders(Chart::Whole, &[]);
    assert!(pods(&resources).len() >= 4, "four services have pods");
    restricted(&resources);
}

#[test]
fn a_pod_that_is_not_restricted_is_noticed() {
    let bare = serde_json::json!({ "containers": [{ "name": "bare", "ports": [{ "hostPort": 80 }] }], "hostNetwork": true,
        "volumes": [{ "name": "host", "hostPath": { "path": "/" } }] });
    let found = violations(&bare).join(" ");
    for what in
        ["hostNetwork", "volume hostPath", "allowPrivilegeEscalation", "runAsNonRoot", "seccompProfile", "hostPort"]
    {
        assert!(found.contains(what), "{what} is not among {found}");
    }
}

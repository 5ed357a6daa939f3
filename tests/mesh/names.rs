//! Names are no longer than Kubernetes takes, whatever a release is called, and the two charts mean the same by them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::charts::{Chart, Helm, items, name, of_kind};

/// The longest name that helm takes for a release.
const LONG: &str = "a-release-whose-name-is-as-long-as-helm-will-let-it-b";

/// Every name and label value within 63 characters; no two resources of a kind share a name.
pub(crate) fn bounded(resources: &[Value]) {
    let mut seen = BTreeSet::new();
    for resource in resources {
        let kind = resource["kind"].as_str().expect("a kind");
        let name = name(resource);
        assert!(!name.is_empty() && name.len() <= 63, "{kind} {name} has {} characters", name.len());
        let group = resource["apiVersion"].as_str().and_then(|version| version.split('/').next());
        assert!(seen.insert((group, kind, name)), "{kind} {name} is there twice");
        let template = &resource["spec"]["template"];
        for labels in [&resource["metadata"]["labels"], &template["metadata"]["labels"]] {
            for (label, value) in labels.as_object().into_iter().flatten() {
                assert!(value.as_str().is_some_and(|value| value.len() <= 63), "{kind} {name}: {label}: {value}");
            }
        }
        for list in ["initContainers", "containers", "volumes"] {
            for part in items(&template["spec"][list]) {
                assert!(part["name"].as_str().is_some_and(|name| name.len() <= 63), "{kind} {name}: {part}");
            }
        }
        for port in items(&resource["spec"]["ports"]) {
            assert!(port["name"].as_str().is_none_or(|name| name.len() <= 63), "{kind} {name}: {port}");
        }
    }
}

#[test]
fn no_name_is_longer_than_63_characters() {
    let Some(helm) = Helm::find("lengths of names") else { return };
    assert_eq!(LONG.len(), 53);
    for chart in Chart::ALL {
        for canary in ["0", "10"] {
            let mut values = vec![chart.value(&format!("send.canary.weight={canary}"))];
            if chart == Chart::Whole {
                values.extend(super::matrix::postgresql());
                values.push(format!("send.canary.weight={canary}"));
            }
            bounded(&helm.renders_as(chart, LONG, &values));
        }
    }
}

/// What policies and routes are about has to exist under the names by which they mean it.
pub(crate) fn meant<'a>(resources: &'a [Value]) {
    let names = |kind: &str| -> BTreeSet<&'a str> { of_kind(resources, kind).into_iter().map(name).collect() };
    let services = names("Service");
    for rule in of_kind(resources, "DestinationRule") {
        let host = rule["spec"]["host"].as_str().and_then(|host| host.split('.').next()).unwrap_or_default();
        assert!(services.contains(host), "{host} is no Service among {services:?}");
    }
    // One that somebody else makes is known by the pods that run under it.
    let run_under = |resource: &'a Value| resource["spec"]["template"]["spec"]["serviceAccountName"].as_str();
    let accounts: BTreeSet<&str> =
        names("ServiceAccount").into_iter().chain(resources.iter().filter_map(run_under)).collect();
    for policy in of_kind(resources, "AuthorizationPolicy") {
        for rule in items(&policy["spec"]["rules"]) {
            for from in items(&rule["from"]) {
                for principal in super::charts::texts(&from["source"]["principals"]) {
                    let account = principal.rsplit('/').next().unwrap_or_default();
                    assert!(accounts.contains(account), "{account} is no ServiceAccount among {accounts:?}");
                }
            }
        }
    }
    let authentication = of_kind(resources, "RequestAuthentication");
    let issuer = authentication.first().map(|one| &one["spec"]["jwtRules"][0]["issuer"]);
    for container in resources.iter().flat_map(|resource| items(&resource["spec"]["template"]["spec"]["containers"])) {
        for variable in items(&container["env"]) {
            let of_issuer = variable["name"].as_str().is_some_and(|name| name.ends_with("_ISSUER"));
            let same = issuer.is_none_or(|issuer| *issuer == variable["value"]);
            assert!(!of_issuer || same, "{variable} is not the issuer whose tokens the sidecars take");
        }
    }
    for service in of_kind(resources, "Service") {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        assert_eq!(kind, "ClusterIP", "{} is reached from outside, its internal port too", name(service));
    }
    assert!(of_kind(resources, "Ingress").is_empty(), "the gateway is the only door");
    let pods: Vec<super::judge::Labels> = resources
        .iter()
        .filter_map(|resource| resource["spec"]["template"]["metadata"]["labels"].as_object())
        .map(|labels| {
            labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().into())).collect()
        })
        .collect();
    for policy in
        of_kind(resources, "AuthorizationPolicy").into_iter().chain(of_kind(resources, "RequestAuthentication"))
    {
        let selector = &policy["spec"]["selector"];
        let of_gateway = selector["matchLabels"]["gateway.networking.k8s.io/gateway-name"].is_string();
        let chosen = pods.iter().any(|pod| super::judge::chosen(selector, pod));
        assert!(chosen || of_gateway, "{} concerns no pod: {selector}", name(policy));
    }
}

#[test]
fn policies_and_routes_mean_what_the_chart_installs() {
    let Some(helm) = Helm::find("what is meant") else { return };
    for release in ["chat", LONG] {
        meant(&helm.renders_as(Chart::Whole, release, &[]));
    }
    let renamed: Vec<String> = [
        "fullnameOverride=talk",
        "nameOverride=speech",
        "login.serviceAccount.name=porter",
        "issuer.url=https://chat.example",
    ]
    .map(str::to_owned)
    .into();
    meant(&helm.renders(Chart::Whole, &renamed));
}

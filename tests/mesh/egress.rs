//! What the pods may call: what is named, and nothing else.

use serde_json::Value;

use super::charts::{Chart, Helm, items, of_kind, texts};

/// What a sidecar lets its pod call: the hosts that it is told, and whether the rest is refused.
fn known(resources: &[Value]) -> (Vec<&str>, bool) {
    let sidecars = of_kind(resources, "Sidecar");
    assert_eq!(sidecars.len(), 1);
    let spec = &sidecars[0]["spec"];
    let hosts = items(&spec["egress"]).iter().flat_map(|egress| texts(&egress["hosts"])).collect();
    (hosts, spec["outboundTrafficPolicy"]["mode"] == "REGISTRY_ONLY")
}

#[test]
fn a_pod_calls_what_is_named_and_nothing_else() {
    let Some(helm) = Helm::find("egress") else { return };
    let values = [
        "egress.postgresql[0].host=db.example.com",
        "egress.postgresql[0].port=5432",
        "egress.nats[0].host=nats.buses.svc.cluster.local",
        "egress.nats[0].port=4222",
        "egress.others[0].name=traces",
        "egress.others[0].host=10.20.30.40",
        "egress.others[0].port=4317",
        "egress.others[0].protocol=GRPC",
        "egress.others[1].name=near",
        "egress.others[1].host=near",
        "egress.others[1].port=80",
    ];
    let resources = helm.renders(Chart::Istio, &values.map(str::to_owned));
    let (hosts, restricted) = known(&resources);
    assert!(restricted);
    // What is in the cluster is known by its namespace, what is not by an entry.
    assert_eq!(hosts, ["./*", "istio-system/*", "buses/nats.buses.svc.cluster.local"]);
    let entries: Vec<_> = of_kind(&resources, "ServiceEntry")
        .into_iter()
        .map(|entry| {
            let spec = &entry["spec"];
            let port = &spec["ports"][0];
            (
                spec["hosts"][0].as_str(),
                spec["addresses"][0].as_str(),
                port["number"].as_u64(),
                port["protocol"].as_str(),
            )
        })
        .collect();
    let outside = (Some("chat-traces.outside"), Some("10.20.30.40"), Some(4317), Some("GRPC"));
    assert_eq!(entries, [(Some("db.example.com"), None, Some(5432), Some("TCP")), outside]);
}

#[test]
fn by_default_a_pod_calls_its_namespace_and_the_mesh() {
    let Some(helm) = Helm::find("egress by default") else { return };
    let resources = helm.renders(Chart::Istio, &[]);
    assert_eq!(known(&resources), (vec!["./*", "istio-system/*"], true));
    assert!(of_kind(&resources, "ServiceEntry").is_empty());
}

#[test]
fn the_stores_of_the_whole_chart_are_among_what_a_pod_may_call() {
    let Some(helm) = Helm::find("stores and egress") else { return };
    let resources = helm.renders(Chart::Whole, &super::matrix::postgresql());
    let entries = of_kind(&resources, "ServiceEntry");
    let hosts: Vec<_> = entries.iter().filter_map(|entry| entry["spec"]["hosts"][0].as_str()).collect();
    assert_eq!(hosts, ["db.example.com", "nats.example.com"]);
}

#[test]
fn the_mail_relay_of_the_whole_chart_is_among_what_a_pod_may_call() {
    let Some(helm) = Helm::find("mail and egress") else { return };
    let render = |more: &[&str]| {
        let values: Vec<String> = super::matrix::MAIL.iter().chain(more).map(|value| (*value).to_owned()).collect();
        helm.renders(Chart::Whole, &values)
    };
    let entries = |resources: &[Value]| -> Vec<(String, u64, String)> {
        let entries = of_kind(resources, "ServiceEntry").into_iter().map(|entry| {
            let port = &entry["spec"]["ports"][0];
            let host = entry["spec"]["hosts"][0].as_str().unwrap_or_default().to_owned();
            (host, port["number"].as_u64().unwrap_or(0), port["protocol"].as_str().unwrap_or_default().to_owned())
        });
        entries.collect()
    };
    // The relay speaks first, so a guess at its protocol would wait for ever.
    let outside = ("smtp.example.com".to_owned(), 587, "TCP".to_owned());
    assert_eq!(entries(&render(&[])), [outside]);
    assert!(entries(&helm.renders(Chart::Whole, &[])).is_empty(), "without mail nothing is open");
    // What is said of it below `istio` stays.
    let said = ["istio.egress.others[0].name=relay", "istio.egress.others[0].host=smtp.example.com"];
    let said = [said.as_slice(), &["istio.egress.others[0].port=2525"]].concat();
    assert_eq!(entries(&render(&said)), [("smtp.example.com".to_owned(), 2525, "TCP".to_owned())]);
    // One within the cluster is known by its namespace.
    let within = render(&["login.notifier.smtp.host=relay.mail.svc"]);
    assert!(entries(&within).is_empty());
    assert!(known(&within).0.contains(&"mail/relay.mail.svc.cluster.local"));
}

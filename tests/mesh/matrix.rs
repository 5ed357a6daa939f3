//! Every flag of the charts on and off, in every pair: whatever is chosen, what is proven of the defaults holds.

use std::collections::BTreeSet;

use super::charts::{Chart, Helm, RELEASE, of_kind};
use super::{firewall, flags, names, pods, policies, routes, stable};

/// Values that make a flag be on or off.
pub(crate) type Flag = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The flags of the mesh configuration, below `istio.` in the whole chart.
pub(crate) const OF_THE_MESH: [Flag; 13] = [
    ("namespace", &["wholeNamespace=true"], &["wholeNamespace=false"]),
    ("gateway", &["gateway.enabled=true"], &["gateway.enabled=false"]),
    ("own gateway", &["gateway.existing="], &["gateway.existing=doors/front"]),
    ("TLS", &["gateway.tls.credentialName=chat-tls"], &[]),
    ("hosts", &["gateway.hosts={chat.example.com,talk.example.com}"], &[]),
    ("restricted egress", &["egress.restrict=true"], &["egress.restrict=false"]),
    (
        "servers outside",
        &[
            "egress.postgresql[0].host=db.example.com",
            "egress.postgresql[0].port=5432",
            "egress.nats[0].host=10.1.2.3",
            "egress.nats[0].port=4222",
            "egress.others[0].name=traces",
            "egress.others[0].host=otel.example.com",
            "egress.others[0].port=4317",
            "egress.others[0].protocol=GRPC",
        ],
        &["egress.postgresql[0].host=db.stores.svc", "egress.postgresql[0].port=5432"],
    ),
    ("telemetry", &["telemetry.enabled=true"], &["telemetry.enabled=false"]),
    ("tracing provider", &["telemetry.tracingProvider=otel"], &[]),
    ("access log", &["telemetry.accessLog=enabled"], &["telemetry.accessLog=disabled"]),
    ("retry budget", &[], &["destinations.retryBudget=null"]),
    ("keepalive", &[], &["destinations.http2KeepAlive=null"]),
    ("issuer", &[], &["issuer=https://chat.example.com"]),
];

/// The flags of the whole chart.
pub(crate) const OF_THE_WHOLE: [Flag; 28] = [
    ("istio", &["istio.enabled=true"], &["istio.enabled=false"]),
    ("firewall", &["networkPolicy.enabled=true"], &["networkPolicy.enabled=false"]),
    ("accounts", &[], &["login.serviceAccount.name=porter"]),
    ("monitor", &["metrics.podMonitor.enabled=true"], &["metrics.podMonitor.enabled=false"]),
    ("alerts", &["metrics.prometheusRule.enabled=true"], &["metrics.prometheusRule.enabled=false"]),
    ("dashboard", &["metrics.dashboard.enabled=true"], &["metrics.dashboard.enabled=false"]),
    ("mail", &MAIL, &["login.notifier.type=log"]),
    ("annotations", &["metrics.annotations=true"], &["metrics.annotations=false"]),
    ("helm test", &["tests.enabled=true"], &["tests.enabled=false"]),
    ("startup probe", &["startupProbe.enabled=true"], &["startupProbe.enabled=false"]),
    ("readiness probe", &["readinessProbe.enabled=true"], &["readinessProbe.enabled=false"]),
    ("liveness probe", &["livenessProbe.enabled=true"], &["livenessProbe.enabled=false"]),
    ("volume of auth", &["auth.persistence.enabled=true"], &["auth.persistence.enabled=false"]),
    ("budget of auth", &["auth.podDisruptionBudget.enabled=true"], &["auth.podDisruptionBudget.enabled=false"]),
    ("scaling of auth", &["auth.autoscaling.enabled=true"], &["auth.autoscaling.enabled=false"]),
    (
        "account of auth",
        &["auth.serviceAccount.create=true"],
        &["auth.serviceAccount.create=false", "auth.serviceAccount.name=made-for-auth"],
    ),
    ("volume of login", &["login.persistence.enabled=true"], &["login.persistence.enabled=false"]),
    ("budget of login", &["login.podDisruptionBudget.enabled=true"], &["login.podDisruptionBudget.enabled=false"]),
    ("scaling of login", &["login.autoscaling.enabled=true"], &["login.autoscaling.enabled=false"]),
    (
        "account of login",
        &["login.serviceAccount.create=true"],
        &["login.serviceAccount.create=false", "login.serviceAccount.name=made-for-login"],
    ),
    ("volume of send", &["send.persistence.enabled=true"], &["send.persistence.enabled=false"]),
    ("budget of send", &["send.podDisruptionBudget.enabled=true"], &["send.podDisruptionBudget.enabled=false"]),
    ("scaling of send", &["send.autoscaling.enabled=true"], &["send.autoscaling.enabled=false"]),
    (
        "account of send",
        &["send.serviceAccount.create=true"],
        &["send.serviceAccount.create=false", "send.serviceAccount.name=made-for-send"],
    ),
    ("volume of receiver", &["receiver.persistence.enabled=true"], &["receiver.persistence.enabled=false"]),
    (
        "budget of receiver",
        &["receiver.podDisruptionBudget.enabled=true"],
        &["receiver.podDisruptionBudget.enabled=false"],
    ),
    ("scaling of receiver", &["receiver.autoscaling.enabled=true"], &["receiver.autoscaling.enabled=false"]),
    (
        "account of receiver",
        &["receiver.serviceAccount.create=true"],
        &["receiver.serviceAccount.create=false", "receiver.serviceAccount.name=made-for-receiver"],
    ),
];

/// The values by which login sends mail, by a relay outside the cluster that asks who it is.
pub(crate) const MAIL: [&str; 4] = [
    "login.notifier.type=smtp",
    "login.notifier.smtp.host=smtp.example.com",
    "login.notifier.smtp.from=chat@example.com",
    "login.notifier.smtp.existingSecret=chat-smtp",
];

/// The values that choose PostgreSQL and NATS in the whole chart.
pub(crate) fn postgresql() -> Vec<String> {
    let values = [
        "store.type=postgresql",
        "store.postgresql.host=db.example.com",
        "store.postgresql.existingSecret=chat-postgresql",
        "bus.type=nats",
        "bus.nats.url=nats://nats.example.com:4222",
    ];
    values.map(str::to_owned).into()
}

/// The most flags that [`pairs`] holds.
const PAIRS_MAX: usize = 56;

/// Rows in which every two of `count` flags take all four combinations. Each flag has a row of its own kind: off in the first, and
/// on in five of the other eight; any two such sets overlap and differ (Kleitman and Spencer, 1973).
fn pairs(count: usize) -> Vec<Vec<bool>> {
    let fives: Vec<u32> = (0_u32..256).filter(|set| set.count_ones() == 5).collect();
    assert!(count <= fives.len(), "nine rows hold 56 flags");
    let row = |number: u32| fives.iter().take(count).map(|set| number > 0 && set & (1 << (number - 1)) != 0).collect();
    (0..9).map(row).collect()
}

fn values(chart: Chart, row: &[bool]) -> Vec<String> {
    let mesh = OF_THE_MESH.iter().map(|flag| (flag, true));
    let whole = OF_THE_WHOLE.iter().map(|flag| (flag, false)).filter(|_| chart == Chart::Whole);
    let flags = mesh.chain(whole).zip(row);
    let values = flags.flat_map(|((flag, of_mesh), on)| {
        let chosen = if *on { flag.1 } else { flag.2 };
        chosen.iter().map(move |value| match (chart, value.strip_prefix("issuer=")) {
            // Auth has to know it too.
            (Chart::Whole, Some(issuer)) => format!("issuer.url={issuer}"),
            _ if of_mesh => chart.value(value),
            _ => (*value).to_owned(),
        })
    });
    values.collect()
}

/// What is proven of the defaults, for whatever was chosen.
fn holds(helm: &Helm, chart: Chart, values: &[String]) {
    let on = |value: &str| values.iter().any(|chosen| *chosen == chart.value(value));
    let off = |flag: &str| on(&format!("{flag}=false"));
    let text = helm.text(chart, RELEASE, values);
    let resources = super::charts::read(&text);
    names::bounded(&resources);
    pods::restricted(&resources);
    let istio = chart == Chart::Istio || !values.contains(&"istio.enabled=false".to_owned());
    if istio {
        policies::named_once(&resources);
        policies::judge_once(&resources, RELEASE);
        let gateway_api = on("gateway.kind=gateway-api");
        routes::judge(&resources, !off("gateway.enabled") && !gateway_api);
        if gateway_api && !off("gateway.enabled") {
            routes::judge_gateway_api(&resources);
        }
        stable::keeps_to_the_stable_policy(&resources);
        stable::istio_takes(&text);
    } else {
        let groups: BTreeSet<_> = resources.iter().filter_map(|resource| resource["apiVersion"].as_str()).collect();
        assert!(groups.iter().all(|group| !group.contains("istio.io")), "Istio is off, and yet there is {groups:?}");
    }
    if chart == Chart::Whole {
        names::meant(&resources);
        flags::followed(&resources, values);
        if !of_kind(&resources, "NetworkPolicy").is_empty() {
            let door =
                match (off("gateway.enabled"), on("gateway.kind=gateway-api"), on("gateway.existing=doors/front")) {
                    (true, _, _) => None,
                    (false, false, _) => Some(firewall::DOORS[0]),
                    (false, true, false) => Some(firewall::DOORS[1]),
                    (false, true, true) => Some(firewall::DOORS[2]),
                };
            firewall::judge(&resources, RELEASE, istio, door.filter(|_| istio));
        }
    }
}

#[test]
fn every_two_flags_meet_in_every_way() {
    for count in [2, OF_THE_MESH.len() + OF_THE_WHOLE.len(), PAIRS_MAX] {
        let rows = pairs(count);
        for (one, other) in (0..count).flat_map(|one| (0..one).map(move |other| (one, other))) {
            let met: BTreeSet<(bool, bool)> = rows.iter().map(|row| (row[one], row[other])).collect();
            assert_eq!(met.len(), 4, "flags {other} and {one} of {count}");
        }
    }
}

#[test]
fn whatever_is_chosen_for_the_mesh_what_is_proven_holds() {
    let Some(helm) = Helm::find("the matrix of the mesh configuration") else { return };
    for kind in ["gateway.kind=istio", "gateway.kind=gateway-api"] {
        for row in pairs(OF_THE_MESH.len()) {
            let mut values = values(Chart::Istio, &row);
            values.push(kind.to_owned());
            holds(&helm, Chart::Istio, &values);
        }
    }
}

#[test]
fn whatever_is_chosen_for_the_whole_what_is_proven_holds() {
    let Some(helm) = Helm::find("the matrix of the whole chart") else { return };
    let canary = || postgresql().into_iter().chain(["send.canary.weight=10".to_owned()]).collect();
    for base in [Vec::new(), vec!["istio.gateway.kind=gateway-api".to_owned()], postgresql(), canary()] {
        for row in pairs(OF_THE_MESH.len() + OF_THE_WHOLE.len()) {
            let mut values = values(Chart::Whole, &row);
            let has = |value: &str| base.iter().any(|chosen| chosen == value);
            // A canary without a mesh is refused, and so is more than one pod on a file.
            values.retain(|value| value != "istio.enabled=false" || !has("send.canary.weight=10"));
            values.retain(|value| !value.ends_with("autoscaling.enabled=true") || has("store.type=postgresql"));
            values.extend(base.iter().cloned());
            holds(&helm, Chart::Whole, &values);
        }
    }
}

#[test]
fn the_files_of_values_that_come_with_the_chart_hold() {
    let Some(helm) = Helm::find("files of values") else { return };
    let files = std::fs::read_dir(Chart::Whole.folder().join("ci")).expect("there are some");
    let examples = files
        .map(|file| format!("@ci/{}", file.expect("it can be read").file_name().display()))
        .filter(|file| file.ends_with("-values.yaml"));
    for file in examples.chain(["@values-production.yaml".to_owned()]) {
        let text = helm.text(Chart::Whole, RELEASE, std::slice::from_ref(&file));
        let resources = super::charts::read(&text);
        names::bounded(&resources);
        names::meant(&resources);
        pods::restricted(&resources);
        if !of_kind(&resources, "PeerAuthentication").is_empty() {
            policies::named_once(&resources);
            policies::judge_once(&resources, RELEASE);
            routes::judge(&resources, of_kind(&resources, "GRPCRoute").is_empty());
            stable::keeps_to_the_stable_policy(&resources);
            stable::istio_takes(&text);
        }
    }
}

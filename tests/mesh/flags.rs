//! What each flag of the whole chart is for: with it on there is what it names, with it off there is not, whatever else is chosen. And the
//! matrix leaves out no flag: every boolean of the files of values is in it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::charts::{Chart, items, of_kind};
use super::contracts::SERVICES;
use super::matrix::{OF_THE_MESH, OF_THE_WHOLE};

/// Booleans that are no flags of the chart but fields of Kubernetes: with another value a pod leaves the restricted profile, which
/// [`super::pods`] holds.
const OF_KUBERNETES: [&str; 3] = [
    "podSecurityContext.runAsNonRoot",
    "securityContext.allowPrivilegeEscalation",
    "securityContext.readOnlyRootFilesystem",
];

/// The values of a chart as its file has them.
fn defaults(chart: Chart) -> Value {
    let text = std::fs::read_to_string(chart.folder().join("values.yaml")).expect("the chart has values");
    serde_saphyr::from_str(&text).expect("YAML")
}

/// The names of the booleans among `values`, lists left out: they are the operator's.
fn booleans(values: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, value) in values.as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        match value {
            Value::Bool(_) => drop(found.insert(name)),
            value => booleans(value, &format!("{name}."), found),
        }
    }
}

/// Whether a flag is on among `values`, of which the last one counts.
fn on(values: &[String], flag: &str) -> bool {
    let said = values.iter().rev().find_map(|value| value.strip_prefix(flag)?.strip_prefix('='));
    match said {
        Some(said) => said == "true",
        None => {
            let pointer = format!("/{}", flag.replace('.', "/"));
            defaults(Chart::Whole).pointer(&pointer).and_then(Value::as_bool).expect(flag)
        }
    }
}

/// The pod templates of a service.
fn templates<'a>(resources: &'a [Value], service: &str) -> Vec<&'a Value> {
    let of_it = |template: &&Value| template["metadata"]["labels"]["app.kubernetes.io/component"] == service;
    resources.iter().map(|resource| &resource["spec"]["template"]).filter(of_it).collect()
}

/// Each flag of the whole chart has made the difference that it is for.
pub(crate) fn followed(resources: &[Value], values: &[String]) {
    let on = |flag: &str| on(values, flag);
    let shared = values.iter().any(|value| value == "store.type=postgresql");
    let any = |kind: &str| !of_kind(resources, kind).is_empty();
    assert_eq!(any("NetworkPolicy"), on("networkPolicy.enabled"));
    assert_eq!(any("PodMonitor"), on("metrics.podMonitor.enabled"));
    assert_eq!(any("PrometheusRule"), on("metrics.prometheusRule.enabled"));
    assert_eq!(any("ConfigMap"), on("metrics.dashboard.enabled"), "the dashboard is the one ConfigMap");
    assert_eq!(any("Pod"), on("tests.enabled"), "the pods of `helm test` are the only ones by themselves");
    for service in SERVICES {
        let flag = |name: &str| on(&format!("{service}.{name}"));
        let has = |kind: &str| {
            let of_it = |resource: &&&Value| resource["metadata"]["labels"]["app.kubernetes.io/component"] == service;
            of_kind(resources, kind).iter().filter(of_it).count()
        };
        assert_eq!(has("HorizontalPodAutoscaler"), usize::from(flag("autoscaling.enabled")), "{service} is scaled");
        assert_eq!(has("PodDisruptionBudget"), usize::from(flag("podDisruptionBudget.enabled")), "{service}");
        assert_eq!(has("ServiceAccount"), usize::from(flag("serviceAccount.create")), "the account of {service}");
        let claimed = of_kind(resources, "StatefulSet").iter().any(|set| {
            set["metadata"]["labels"]["app.kubernetes.io/component"] == service
                && !items(&set["spec"]["volumeClaimTemplates"]).is_empty()
        });
        assert_eq!(claimed, flag("persistence.enabled") && !shared, "the volume of {service}");
        let templates = templates(resources, service);
        assert!(!templates.is_empty(), "{service} has pods");
        for template in templates {
            let scraped = template["metadata"]["annotations"]["prometheus.io/scrape"] == "true";
            assert_eq!(scraped, on("metrics.annotations"), "{service}");
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let there = template["spec"]["containers"][0][probe].is_object();
                assert_eq!(there, on(&format!("{probe}.enabled")), "{probe} of {service}");
            }
        }
    }
    let scaled = |resource: &&Value| resource["spec"]["replicas"].is_null();
    for deployment in of_kind(resources, "Deployment").iter().filter(|resource| scaled(resource)) {
        let service = &deployment["metadata"]["labels"]["app.kubernetes.io/component"];
        let flag = format!("{}.autoscaling.enabled", service.as_str().expect("a part"));
        assert!(on(&flag), "{flag} is off, and nobody says how many pods there are");
    }
}

#[test]
fn every_boolean_of_the_values_is_a_flag_of_the_matrix() {
    let mut known = BTreeSet::new();
    let mut booleans_of = |chart: Chart| {
        let mut found = BTreeSet::new();
        booleans(&defaults(chart), "", &mut found);
        known.extend(found);
    };
    for chart in Chart::ALL {
        booleans_of(chart);
    }
    // What `condition` of Chart.yaml asks is a value of the chart above, and in this file for those who read it.
    known.remove("enabled");
    let chosen: BTreeSet<&str> =
        OF_THE_MESH.iter().chain(&OF_THE_WHOLE).flat_map(|(_, on, off)| on.iter().chain(*off)).copied().collect();
    for flag in known.iter().filter(|flag| !OF_KUBERNETES.contains(&flag.as_str())) {
        for choice in ["true", "false"] {
            let value = format!("{flag}={choice}");
            assert!(chosen.contains(&*value), "{value} is nowhere in the matrix: tests/mesh/matrix.rs names the flags");
        }
    }
    for flag in OF_KUBERNETES {
        assert!(known.contains(flag), "{flag} is no value any more");
    }
}

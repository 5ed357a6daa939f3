//! `--pre`: what an installation would meet.

use serde_json::{Value, json};

use super::super::before::Plan;
use super::super::kubectl::Refusal;
use super::super::report::Verdict;
use super::super::sight::{CREATED, CREATED_FOR_GATEWAY_API, CREATED_IN_MESH};
use super::world::{World, only, said};

const PLAN: Plan = Plan { istio: true, gateway_api: false, sqlite: true };

/// The cluster without the release.
fn empty() -> World {
    let mut world = World::new();
    world.0.things = Ok(Vec::new());
    world.0.mesh = Ok(Vec::new());
    world
}

#[track_caller]
fn fails(world: &World, plan: Plan, parts: &[&str]) {
    only(&said(&world.report_before(plan), Verdict::Failed), parts);
}

#[track_caller]
fn warns(world: &World, plan: Plan, parts: &[&str]) {
    let report = world.report_before(plan);
    assert_eq!(said(&report, Verdict::Failed), Vec::<String>::new());
    only(&said(&report, Verdict::Warning), parts);
}

#[test]
fn a_cluster_that_can_take_it_is_told_nothing() {
    let report = empty().report_before(PLAN);
    assert_eq!((report.count(Verdict::Failed), report.count(Verdict::Warning)), (0, 0), "{}", report.text());
    assert!(report.count(Verdict::Ok) >= 11, "{}", report.text());
}

#[test]
fn everything_that_the_chart_creates_is_asked_for() {
    let rendered = include_str!("../../../tests/check/installed.jsonl");
    for resource in rendered.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let group = resource["apiVersion"].as_str().unwrap().rsplit_once('/').map_or("", |(group, _)| group);
        let kind = resource["kind"].as_str().unwrap().to_lowercase();
        let plural = kind.strip_suffix("cy").map_or_else(|| format!("{kind}s"), |stem| format!("{stem}cies"));
        let plural = plural.replace("serviceentrys", "serviceentries").replace("telemetrys", "telemetries");
        let asked = format!("{group}/{plural}");
        assert!(PLAN.created().contains(&asked.as_str()), "{asked}");
    }
    assert_eq!(Plan { istio: false, ..PLAN }.created(), CREATED);
    let all = Plan { gateway_api: true, ..PLAN }.created().len();
    assert_eq!(all, CREATED.len() + CREATED_IN_MESH.len() + CREATED_FOR_GATEWAY_API.len());
}

#[test]
fn a_right_that_is_missing_is_named() {
    let mut world = empty();
    world.0.rights.as_mut().unwrap()[0]["status"]["allowed"] = false.into();
    fails(
        &world,
        PLAN,
        &["you may create what the chart creates: not statefulsets.apps → ask whoever runs the cluster"],
    );
    world.0.rights = Err(Refusal::Failed("no".into()));
    warns(&world, PLAN, &["you may create what the chart creates: no"]);
}

#[test]
fn without_a_default_storage_class_sqlite_has_no_volume() {
    let mut world = empty();
    world.0.storage = Ok(vec![json!({ "metadata": { "name": "slow" } })]);
    fails(&world, PLAN, &["there is only slow → set persistence.storageClass"]);
    world.0.storage = Ok(Vec::new());
    fails(&world, PLAN, &["there is none at all"]);
    let report = world.report_before(Plan { sqlite: false, ..PLAN });
    assert_eq!(report.count(Verdict::Failed), 0, "PostgreSQL needs none");
}

#[test]
fn the_gateway_api_is_asked_for_where_it_is_wanted() {
    let wanted = Plan { gateway_api: true, ..PLAN };
    let mut world = empty();
    assert_eq!(world.report_before(wanted).count(Verdict::Failed), 0);
    world.0.gateway_api = Ok(json!({ "resources": [{ "kind": "Gateway" }, { "kind": "HTTPRoute" }] }));
    fails(&world, wanted, &["the Gateway API is there, with GRPCRoute: GRPCRoute is not known in version 1"]);
    world.0.gateway_api = Err(Refusal::Missing("not found".into()));
    fails(&world, wanted, &["gateway.networking.k8s.io/v1 is not known → install"]);
    assert_eq!(world.report_before(PLAN).count(Verdict::Failed), 0);
}

#[test]
fn a_namespace_that_is_not_there_yet_and_a_release_that_is_are_warnings() {
    let mut world = empty();
    world.0.namespace = Err(Refusal::Missing("not found".into()));
    warns(&world, PLAN, &["it is not there yet → kubectl create namespace talk"]);
    warns(&World::new(), PLAN, &["it is not installed yet: the release chat is in talk → without --pre"]);
}

#[test]
fn a_namespace_that_may_not_be_read_is_not_said_to_be_empty() {
    let mut world = empty();
    world.0.things = Err(Refusal::Forbidden("you may not".into()));
    warns(&world, PLAN, &["what is in the namespace may be read: you may not"]);
}

#[test]
fn other_pods_of_the_mesh_in_the_namespace_would_be_refused() {
    let mut world = empty();
    let pod = json!({ "kind": "Pod", "metadata": { "name": "database-0" }, "spec": { "containers": [{ "name": "istio-proxy" }] } });
    world.0.things = Ok(vec![pod]);
    warns(&world, PLAN, &["calls to database-0 will be refused", "istio.wholeNamespace=false"]);
    assert_eq!(world.report_before(Plan { istio: false, ..PLAN }).count(Verdict::Warning), 0);
}

#[test]
fn a_cluster_without_istio_is_told_of_the_other_form() {
    let mut world = empty();
    world.0.istio_api = Err(Refusal::Missing("not found".into()));
    fails(
        &world,
        PLAN,
        &["Istio's resources are known (security.istio.io/v1): this cluster does not know them", "istio.enabled=false"],
    );
    assert_eq!(world.report_before(Plan { istio: false, ..PLAN }).count(Verdict::Failed), 0);
}

#[test]
fn an_istiod_that_is_down_old_or_elsewhere_is_said() {
    let mut world = empty();
    world.0.istiod.as_mut().unwrap()[0]["status"]["readyReplicas"] = 0.into();
    fails(&world, PLAN, &["istiod runs: no pod of istio-system/istiod is ready"]);
    let image = |image: &str| json!([{ "image": image }]);
    let mut world = empty();
    world.0.istiod.as_mut().unwrap()[0]["spec"]["template"]["spec"]["containers"] =
        image("registry:5000/istio/pilot:1.30.2");
    warns(&world, PLAN, &["Istio is 1.31 or newer: it is 1.30.2", "good-to-know-before-it-is-installed"]);
    world.0.istiod.as_mut().unwrap()[0]["spec"]["template"]["spec"]["containers"] =
        image("registry:5000/istio/pilot@sha256:00");
    warns(&world, PLAN, &["it is unknown"]);
    world.0.istiod = Ok(Vec::new());
    warns(&world, PLAN, &["istiod runs: none is seen in this cluster → is it managed from elsewhere?"]);
}

#[test]
fn a_namespace_that_no_injector_takes_pods_of_is_said_with_its_labels() {
    let mut world = empty();
    world.0.namespace.as_mut().unwrap()["metadata"]["labels"]["istio-injection"] = "disabled".into();
    fails(
        &world,
        PLAN,
        &[
            "a pod made in talk gets a sidecar: no injector takes it: the namespace has istio-injection=disabled, the pod sidecar.istio.io/inject=true",
            "kubectl label namespace talk istio-injection=enabled",
        ],
    );
    world.0.namespace.as_mut().unwrap()["metadata"]["labels"]["istio-injection"] = "enabled".into();
    assert_eq!(world.report_before(PLAN).count(Verdict::Failed), 0);
    world.0.namespace.as_mut().unwrap()["metadata"]["labels"]["istio-injection"] = Value::Null;
    let revision = super::super::judge_before(&world.0, PLAN, None, Some("canary"));
    only(&said(&revision, Verdict::Failed), &["the pod sidecar.istio.io/inject=true istio.io/rev=canary"]);
    world.0.webhooks = Ok(Vec::new());
    fails(&world, PLAN, &["Istio's sidecar injector is not registered"]);
}

#[test]
fn a_restricted_namespace_needs_the_network_plugin() {
    let mut world = empty();
    let label = "pod-security.kubernetes.io/enforce";
    world.0.namespace.as_mut().unwrap()["metadata"]["labels"][label] = "restricted".into();
    fails(
        &world,
        PLAN,
        &["satisfy the profile that the namespace enforces: Istio's network plugin (istio-cni) is not seen"],
    );
    world.0.plugin = Ok(vec![json!({ "metadata": { "name": "istio-cni-node" } })]);
    assert_eq!(world.report_before(PLAN).count(Verdict::Failed), 0);
}

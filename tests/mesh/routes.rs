//! Every method has exactly one route of its class, within the mesh and, if people call it, at the gateway; nothing else has one.

use std::collections::BTreeMap;

use flaghoist_mesh::route;
use serde_json::Value;

use super::charts::{Chart, Helm, NAMESPACE, RELEASE, items, name, of_kind, texts};
use super::contracts::{Class, methods};
use super::paths::others;

/// The route of one path, which it names exactly.
#[derive(Clone, Debug)]
struct Route<'a> {
    /// The `VirtualService` it is in.
    within: &'a str,
    /// The port that the caller meant; none at a gateway.
    port: Option<u64>,
    path: &'a str,
    /// Whether it is for calls only that come with a proof of possession.
    proven: bool,
    http: &'a Value,
}

/// Every match of the `VirtualServices` that hold at gateways, or within the mesh.
fn routes(resources: &[Value], at_gateway: bool) -> Vec<Route<'_>> {
    let all = route::routes(&of_kind(resources, "VirtualService"), at_gateway).into_iter();
    all.map(|one| {
        let within = name(one.within);
        let path = one.path.unwrap_or_else(|| panic!("{within} takes what is no exact path: {}", one.http));
        Route { within, port: one.port, path, proven: one.proven, http: one.http }
    })
    .collect()
}

/// Whether retries and timeout are those of the class.
fn keeps_to(class: Class, route: &Route<'_>) {
    let faults = route::faults(class, route.proven, route.http);
    assert!(faults.is_empty(), "{} {faults:?}", route.path);
}

/// The class of what a route is for, which is crossed off: first its route for calls with a proof, where there may be such calls, then the
/// one for all others, which would take them too. None if nothing is left of it.
fn taken<K: Ord>(left: &mut BTreeMap<K, (Class, bool)>, at: K, route: &Route<'_>, port: u64) -> Option<Class> {
    let (class, proven) = left.get_mut(&at)?;
    let class = *class;
    if route.proven {
        assert!(route::with_proof(class, port), "{} takes no proofs", route.path);
        assert!(!std::mem::replace(proven, true), "{} with a proof has two routes", route.path);
        return Some(class);
    }
    assert_eq!(*proven, route::with_proof(class, port), "{}: calls with a proof are made again", route.path);
    left.remove(&at);
    Some(class)
}

/// All of it, for one rendering. `gateway` says whether there is a gateway of Istio's kind.
pub(crate) fn judge(resources: &[Value], gateway: bool) {
    // Within the mesh: every method and every other path, at its port.
    let mut expected: BTreeMap<(String, u64, String), Class> = BTreeMap::new();
    for method in methods() {
        expected.insert((method.owner.clone(), method.port().into(), method.path.clone()), method.class);
    }
    for other in others() {
        expected.insert((other.service, other.port.into(), other.path), other.class);
    }
    let mut left: BTreeMap<_, _> = expected.iter().map(|(at, class)| (at.clone(), (*class, false))).collect();
    for route in routes(resources, false) {
        let (_, service) = route.within.rsplit_once('-').expect("a release and a service");
        let port = route.port.unwrap_or_else(|| panic!("{} has no port", route.path));
        let class = taken(&mut left, (service.to_owned(), port, route.path.to_owned()), &route, port);
        let class = class.unwrap_or_else(|| panic!("{} at {service}:{port} does not exist, or twice", route.path));
        keeps_to(class, &route);
        leads_to(&route, service, port);
    }
    assert!(left.is_empty(), "no route within the mesh: {left:?}");

    // At the gateway: what is public, and health and reflection of one service.
    let mut public: BTreeMap<String, (String, u64, Class)> = BTreeMap::new();
    for ((service, port, path), class) in expected {
        if (port == 9000 && (!path.starts_with("/grpc.") || service == "send")) || port == 8080 {
            public.insert(path, (service, port, class));
        }
    }
    if !gateway {
        assert!(routes(resources, true).is_empty());
        return;
    }
    let mut left: BTreeMap<_, _> = public.iter().map(|(path, (_, _, class))| (path.clone(), (*class, false))).collect();
    for route in routes(resources, true) {
        let at = public.get(route.path).map(|(service, port, _)| (service.clone(), *port));
        let (service, port) = at.unwrap_or_else(|| panic!("{} is reached from outside", route.path));
        let class = taken(&mut left, route.path.to_owned(), &route, port).expect("it is there");
        keeps_to(class, &route);
        leads_to(&route, &service, port);
        let cors = &route.http["corsPolicy"];
        assert_eq!(cors.is_object(), port == 9000, "{}: gRPC-Web is for methods", route.path);
        if cors.is_object() {
            assert_eq!(
                texts(&cors["exposeHeaders"]),
                ["grpc-status", "grpc-message", "grpc-status-details-bin", "dpop-nonce"]
            );
            assert!(texts(&cors["allowHeaders"]).contains(&"authorization"));
        }
    }
    assert!(left.is_empty(), "not reached from outside: {left:?}");
}

/// A route leads to the port of the service by which it is named, in whatever shares.
fn leads_to(route: &Route<'_>, service: &str, port: u64) {
    let destinations = items(&route.http["route"]);
    assert!(!destinations.is_empty(), "{} leads nowhere", route.path);
    for destination in destinations {
        let destination = &destination["destination"];
        let host = destination["host"].as_str().unwrap_or_default();
        let (part, domain) = host.split_once('.').expect("a full name");
        assert!(part.ends_with(&format!("-{service}")), "{} leads to {host}", route.path);
        assert!(domain.starts_with(&format!("{NAMESPACE}.svc.")), "{} leads to {host}", route.path);
        assert_eq!(destination["port"]["number"], port, "{}", route.path);
    }
    let weights: u64 = destinations.iter().filter_map(|one| one["weight"].as_u64()).sum();
    assert!(destinations.len() == 1 || weights == 100, "{}: weights {weights}", route.path);
}

/// The Gateway API's routes: exactly what is public.
pub(crate) fn judge_gateway_api(resources: &[Value]) {
    let mut reached = Vec::new();
    for route in of_kind(resources, "GRPCRoute") {
        let (_, service) = name(route).rsplit_once('-').expect("a release and a service");
        for rule in items(&route["spec"]["rules"]) {
            assert!((1..=64).contains(&items(&rule["matches"]).len()), "a rule has 64 matches at most");
            for one in items(&rule["matches"]) {
                let method = &one["method"];
                assert_eq!(method["type"], "Exact");
                let text = |part: &str| method[part].as_str().unwrap_or_else(|| panic!("no {part} in {one}"));
                reached.push((service.to_owned(), 9000, format!("/{}/{}", text("service"), text("method"))));
            }
            for backend in items(&rule["backendRefs"]) {
                assert_eq!((backend["name"].as_str(), &backend["port"]), (Some(name(route)), &Value::from(9000)));
            }
        }
    }
    for route in of_kind(resources, "HTTPRoute") {
        let (_, service) = name(route).rsplit_once('-').expect("a release and a service");
        for rule in items(&route["spec"]["rules"]) {
            for one in items(&rule["matches"]) {
                assert_eq!(one["path"]["type"], "Exact");
                reached.push((service.to_owned(), 8080, one["path"]["value"].as_str().unwrap_or_default().to_owned()));
            }
            for backend in items(&rule["backendRefs"]) {
                assert_eq!((backend["name"].as_str(), &backend["port"]), (Some(name(route)), &Value::from(8080)));
            }
        }
    }
    let methods = methods()
        .iter()
        .filter(|method| !method.internal())
        .map(|method| (method.owner.clone(), 9000, method.path.clone()));
    let others =
        others().into_iter().filter(|other| other.port == 8080 || (other.port == 9000 && other.service == "send"));
    let mut public: Vec<_> = methods.chain(others.map(|other| (other.service, other.port, other.path))).collect();
    public.sort();
    reached.sort();
    assert_eq!(reached, public);
}

#[test]
fn every_method_has_exactly_one_route_of_its_class_and_no_route_names_anything_else() {
    let Some(helm) = Helm::find("routes of methods") else { return };
    for chart in Chart::ALL {
        judge(&helm.renders(chart, &[]), true);
    }
}

#[test]
fn the_gateway_api_reaches_the_same_as_the_gateway_of_istio() {
    let Some(helm) = Helm::find("the Gateway API") else { return };
    for chart in Chart::ALL {
        let resources = helm.renders(chart, &[chart.value("gateway.kind=gateway-api")]);
        judge(&resources, false);
        judge_gateway_api(&resources);
        assert!(
            of_kind(&resources, "Gateway")[0]["apiVersion"].as_str().unwrap().starts_with("gateway.networking.k8s.io/")
        );
    }
}

#[test]
fn a_canary_gets_its_share_of_every_call_to_send_and_of_no_other() {
    let Some(helm) = Helm::find("a canary") else { return };
    for chart in Chart::ALL {
        // The value of the installation is the mesh's too.
        let mut values = vec!["send.canary.weight=10".to_owned()];
        if chart == Chart::Whole {
            values.extend(super::matrix::postgresql());
        }
        let resources = helm.renders(chart, &values);
        judge(&resources, true);
        for route in routes(&resources, false).into_iter().chain(routes(&resources, true)) {
            let shares: Vec<_> = items(&route.http["route"])
                .iter()
                .map(|one| (one["destination"]["subset"].as_str(), one["weight"].as_u64()))
                .collect();
            let to_send = items(&route.http["route"])[0]["destination"]["host"].as_str().unwrap().contains("-send.");
            let expected = [(Some("stable"), Some(90)), (Some("canary"), Some(10))];
            assert!(if to_send { shares == expected } else { shares == [(None, None)] }, "{}: {shares:?}", route.path);
        }
        let rules = of_kind(&resources, "DestinationRule");
        let rule = rules.iter().find(|rule| name(rule) == format!("{RELEASE}-send")).expect("a rule for send");
        let subsets: Vec<_> = items(&rule["spec"]["subsets"])
            .iter()
            .map(|subset| (&subset["name"], &subset["labels"]["flaghoist.dev/track"]))
            .collect();
        assert!(subsets.iter().all(|(name, track)| name == track) && subsets.len() == 2, "{subsets:?}");
    }
    let refusal = helm.refuses(Chart::Istio, &["send.canary.weight=10", "gateway.kind=gateway-api"].map(str::to_owned));
    assert!(refusal.contains("a canary needs gateway.kind=istio"), "{refusal}");
}

#[test]
fn every_service_is_called_within_bounds() {
    let Some(helm) = Helm::find("bounds of calls") else { return };
    let resources = helm.renders(Chart::Istio, &[]);
    let rules = of_kind(&resources, "DestinationRule");
    assert_eq!(rules.len(), 4);
    for rule in rules {
        let policy = &rule["spec"]["trafficPolicy"];
        assert_eq!(policy["loadBalancer"]["simple"], "LEAST_REQUEST");
        let pool = &policy["connectionPool"];
        assert!(pool["http"]["http1MaxPendingRequests"].as_u64().is_some_and(|bound| bound > 0));
        assert!(pool["http"]["http2KeepAlive"]["interval"].is_string());
        assert!(policy["retryBudget"]["percent"].as_f64().is_some_and(|percent| percent > 0.0));
        assert!(policy["outlierDetection"]["maxEjectionPercent"].as_u64().is_some_and(|percent| percent <= 50));
        let of_receiver = name(rule).ends_with("-receiver");
        assert_eq!(pool["tcp"]["maxConnectionDuration"].is_string(), of_receiver, "{}", name(rule));
    }
}

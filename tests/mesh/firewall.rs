//! The `NetworkPolicies` let through exactly the calls that the contracts name: asked for each pair of pods, as a network plugin would.

use serde_json::Value;

use super::charts::{Chart, Helm, NAMESPACE, RELEASE, items, of_kind};
use super::contracts::{SERVICES, may_call, methods};
use super::judge::{Labels, chosen};
use super::policies::pod;

/// A pod somewhere in the cluster.
#[derive(Clone, Debug)]
struct Peer {
    namespace: &'static str,
    labels: Labels,
}

impl Peer {
    fn service(release: &str, service: &str) -> Self {
        Self { namespace: NAMESPACE, labels: pod(release, service) }
    }

    fn labelled(namespace: &'static str, key: &str, value: &str) -> Self {
        Self { namespace, labels: vec![(key.to_owned(), value.to_owned())] }
    }

    fn fits(&self, peer: &Value) -> bool {
        assert!(peer["ipBlock"].is_null(), "addresses of pods are not known here: {peer}");
        let namespace = vec![("kubernetes.io/metadata.name".to_owned(), self.namespace.to_owned())];
        let in_namespace = match &peer["namespaceSelector"] {
            Value::Null => self.namespace == NAMESPACE,
            selector => selects(selector, &namespace),
        };
        in_namespace && (peer["podSelector"].is_null() || selects(&peer["podSelector"], &self.labels))
    }
}

/// Whether a selector chooses what has these labels; only `matchLabels` are known here.
fn selects(selector: &Value, labels: &Labels) -> bool {
    let fields = selector.as_object().expect("a selector");
    assert!(fields.keys().all(|field| field == "matchLabels"), "{selector} cannot be judged here");
    chosen(selector, labels)
}

/// Whether the policies let a pod call another one at a port: out of the one and into the other.
fn passes(resources: &[Value], from: &Peer, to: &Peer, port: u64) -> bool {
    let one_way = |of: &Peer, other: &Peer, direction: &str, rules: &str, peers: &str| {
        let policies = of_kind(resources, "NetworkPolicy");
        let concerned: Vec<_> = policies
            .into_iter()
            .filter(|policy| of.namespace == NAMESPACE && selects(&policy["spec"]["podSelector"], &of.labels))
            .filter(|policy| items(&policy["spec"]["policyTypes"]).iter().any(|kind| kind == direction))
            .collect();
        // A pod that no policy chooses is open.
        concerned.is_empty()
            || concerned.iter().flat_map(|policy| items(&policy["spec"][rules])).any(|rule| {
                let ports = items(&rule["ports"]);
                let at_port =
                    ports.is_empty() || ports.iter().any(|open| open["port"] == port && open["protocol"] != "UDP");
                at_port && (items(&rule[peers]).is_empty() || items(&rule[peers]).iter().any(|peer| other.fits(peer)))
            })
    };
    one_way(from, to, "Egress", "egress", "to") && one_way(to, from, "Ingress", "ingress", "from")
}

/// The label by which the pods of a gateway are known.
pub(crate) type Door = (&'static str, &'static str);

/// Those of Istio's gateway, and of the Gateway API's: our own, and one that is there already.
pub(crate) const DOORS: [Door; 3] = [
    ("istio", "ingressgateway"),
    ("gateway.networking.k8s.io/gateway-name", RELEASE),
    ("gateway.networking.k8s.io/gateway-name", "front"),
];

/// All of it, for one rendering that has the policies. `door` is the one gateway that may call; without a mesh no gateway is known,
/// and unless one is named anyone may.
pub(crate) fn judge(resources: &[Value], release: &str, istio: bool, door: Option<Door>) {
    let methods = methods();
    let gateway = Peer::labelled("doors", DOORS[0].0, DOORS[0].1);
    let istiod = Peer::labelled("istio-system", "app", "istiod");
    let neighbour = Peer::labelled(NAMESPACE, "app", "neighbour");
    let elsewhere = Peer { namespace: "elsewhere", labels: pod(release, "login") };
    for service in SERVICES {
        let called = Peer::service(release, service);
        for caller in SERVICES.iter().filter(|caller| **caller != service) {
            let passed = passes(resources, &Peer::service(release, caller), &called, 9001);
            assert_eq!(passed, may_call(methods, caller, service), "{caller} calls {service}");
            // Login's account pages are a client of auth; no other service is a client of one.
            let passed = passes(resources, &Peer::service(release, caller), &called, 9000);
            assert_eq!(passed, (*caller, service) == ("login", "auth"), "{caller} is a client of {service}");
        }
        for (stranger, who) in [(&gateway, "the gateway"), (&neighbour, "a neighbour"), (&elsewhere, "a namesake")] {
            assert!(!passes(resources, stranger, &called, 9001), "{who} reaches the internal port of {service}");
            assert!(!passes(resources, stranger, &called, 8081), "{who} reaches the port of the mesh at {service}");
        }
        for (key, value) in DOORS {
            let passed = passes(resources, &Peer::labelled("doors", key, value), &called, 9000);
            assert_eq!(passed, !istio || door == Some((key, value)), "{key}={value} and {service}");
        }
        assert_eq!(passes(resources, &neighbour, &called, 9000), !istio, "a neighbour and {service}");
        assert_eq!(passes(resources, &istiod, &called, 8081), service == "auth" && istio, "istiod and {service}");
        // What they call out.
        for port in [80, 443] {
            assert!(!passes(resources, &called, &neighbour, port), "{service} calls whatever it wants at {port}");
        }
        if istio {
            assert!(passes(resources, &called, &istiod, 15012), "the sidecar of {service} gets no configuration");
        }
    }
}

#[test]
fn the_firewall_lets_through_exactly_the_calls_that_the_contracts_name() {
    let Some(helm) = Helm::find("firewalls") else { return };
    for istio in [true, false] {
        let resources = helm.renders(Chart::Whole, &[format!("istio.enabled={istio}")]);
        assert_eq!(of_kind(&resources, "NetworkPolicy").len(), 4, "one per service");
        judge(&resources, RELEASE, istio, Some(DOORS[0]).filter(|_| istio));
    }
}

#[test]
fn login_alone_reaches_the_mail_relay_and_no_pod_does_without_mail() {
    let Some(helm) = Helm::find("firewalls and mail") else { return };
    let relay = Peer::labelled("mail", "app", "relay");
    let namesake = Peer::labelled("elsewhere", "app", "relay");
    let mail = super::matrix::MAIL.map(str::to_owned);
    let at = "networkPolicy.smtp.to[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=mail".to_owned();
    let by_mail = helm.renders(Chart::Whole, &[mail.as_slice(), &[at]].concat());
    let by_default = helm.renders(Chart::Whole, &[]);
    for service in SERVICES {
        let from = Peer::service(RELEASE, service);
        assert_eq!(passes(&by_mail, &from, &relay, 587), service == "login", "{service}");
        assert!(!passes(&by_mail, &from, &relay, 25) && !passes(&by_mail, &from, &namesake, 587), "{service}");
        assert!(!passes(&by_default, &from, &relay, 587), "{service}");
    }
    let anywhere = helm.renders(Chart::Whole, &mail);
    assert!(passes(&anywhere, &Peer::service(RELEASE, "login"), &namesake, 587), "where it is is not said");
}

#[test]
fn a_firewall_with_a_hole_is_noticed() {
    let Some(helm) = Helm::find("holes in firewalls") else { return };
    let mut resources = helm.renders(Chart::Whole, &[]);
    let auth = Peer::service(RELEASE, "auth");
    let receiver = Peer::service(RELEASE, "receiver");
    assert!(!passes(&resources, &auth, &receiver, 9001));
    for policy in resources.iter_mut().filter(|resource| resource["kind"] == "NetworkPolicy") {
        policy["spec"]["egress"] = serde_json::json!([{}]);
        policy["spec"]["ingress"] = serde_json::json!([{ "from": [{ "podSelector": {} }] }]);
    }
    assert!(passes(&resources, &auth, &receiver, 9001));
    let noticed = std::panic::catch_unwind(|| judge(&resources, RELEASE, true, Some(DOORS[0])));
    assert!(noticed.is_err());
}

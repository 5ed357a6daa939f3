//! The door: whether pods answer for it, whether it speaks TLS, and how long its certificates last and for which names.

use std::time::{Duration, SystemTime};

use flaghoist_mesh::{items, texts};
use serde_json::Value;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::docs;
use super::kubectl::Refusal;
use super::report::Group;
use super::sight::{Sight, name, of_kind};

/// A certificate that ends sooner than this should have been renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// A certificate that a door shows.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The Gateway.
    gateway: String,
    /// The Secret.
    pub(crate) secret: String,
    /// The namespace of the Secret; none where no pod tells it.
    pub(crate) namespace: Option<String>,
    /// The names that callers use; none for any.
    hosts: Vec<String>,
}

/// The Gateways of a release, of either kind.
pub(crate) fn gateways<'a>(sight: &'a Sight, release: &str) -> Vec<&'a Value> {
    let both = [&sight.mesh, &sight.doors].into_iter().flatten();
    both.flat_map(|resources| of_kind(resources, "Gateway")).filter(|one| Sight::of_release(one, release)).collect()
}

/// Whether it is one of the Gateway API.
fn of_api(gateway: &Value) -> bool {
    gateway["apiVersion"].as_str().is_some_and(|version| version.starts_with("gateway.networking.k8s.io/"))
}

/// What has to be looked for to know the pods of a Gateway of Istio.
pub(crate) fn selector(gateway: &Value) -> Option<String> {
    let labels = gateway["spec"]["selector"].as_object()?;
    let pairs: Vec<String> =
        labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    Some(pairs.join(","))
}

/// The certificates that the Gateways show.
pub(crate) fn shown(sight: &Sight, gateways: &[&Value]) -> Vec<Shown> {
    let mut all = Vec::new();
    for gateway in gateways {
        if of_api(gateway) {
            for listener in items(&gateway["spec"]["listeners"]) {
                for reference in items(&listener["tls"]["certificateRefs"]) {
                    all.push(Shown {
                        gateway: name(gateway).to_owned(),
                        secret: name_of(reference),
                        namespace: Some(reference["namespace"].as_str().unwrap_or(&sight.name).to_owned()),
                        hosts: listener["hostname"].as_str().map(str::to_owned).into_iter().collect(),
                    });
                }
            }
            continue;
        }
        for server in items(&gateway["spec"]["servers"]) {
            let Some(secret) = server["tls"]["credentialName"].as_str() else { continue };
            let pods = sight.gateway_pods.iter().find(|(selector, _)| *selector == gateway["spec"]["selector"]);
            let namespace = pods.and_then(|(_, pods)| pods.as_ref().ok()?.first()?["metadata"]["namespace"].as_str());
            let hosts = texts(&server["hosts"]).into_iter().map(|host| host.rsplit('/').next().unwrap_or(host));
            all.push(Shown {
                gateway: name(gateway).to_owned(),
                secret: secret.to_owned(),
                namespace: namespace.map(str::to_owned),
                hosts: hosts.filter(|host| *host != "*").map(str::to_owned).collect(),
            });
        }
    }
    all
}

fn name_of(reference: &Value) -> String {
    reference["name"].as_str().unwrap_or_default().to_owned()
}

/// Judges it.
pub(crate) fn judge(sight: &Sight, release: &str) -> Group {
    let mut group = Group::new("gateway");
    let gateways = gateways(sight, release);
    if gateways.is_empty() {
        group.ok("no gateway of this release's own has to be looked at");
        return group;
    }
    for gateway in &gateways {
        if of_api(gateway) { programmed(&mut group, gateway) } else { answered_for(&mut group, sight, gateway) }
    }
    routes_taken(&mut group, sight, release);
    let shown = shown(sight, &gateways);
    let plain = gateways.iter().filter(|gateway| !shown.iter().any(|one| one.gateway == name(gateway)));
    group.should(
        "people reach it by TLS",
        plain
            .map(|gateway| {
                format!("{} speaks plain HTTP: passwords and messages cross the network as they are", name(gateway))
            })
            .collect(),
        "set istio.gateway.tls.credentialName, unless something before it ends TLS",
    );
    for one in &shown {
        certificate(&mut group, sight, one);
    }
    group
}

/// Istio's kind: some ready pod must have the labels that it selects.
fn answered_for(group: &mut Group, sight: &Sight, gateway: &Value) {
    let what = format!("pods answer for the gateway {}", name(gateway));
    let pods = sight.gateway_pods.iter().find(|(selector, _)| *selector == gateway["spec"]["selector"]);
    match pods.map(|(_, pods)| pods) {
        Some(Ok(pods)) => {
            let ready = pods.iter().any(|pod| {
                items(&pod["status"]["conditions"]).iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            let selector = selector(gateway).unwrap_or_default();
            let fault = match (pods.is_empty(), ready) {
                (true, _) => Some(format!("no pod has the labels {selector}")),
                (false, false) => Some(format!("none of the pods with {selector} is ready")),
                (false, true) => None,
            };
            group.must(
                what,
                fault.into_iter().collect(),
                "install Istio's ingress gateway, or say in istio.gateway.selector how yours is labelled",
            );
        }
        Some(Err(refusal)) => group.warning(what, refusal.why(), docs::RIGHTS),
        None => group.warning(what, "they were not looked for", ""),
    }
}

/// The Gateway API's kind says by itself what became of it.
fn programmed(group: &mut Group, gateway: &Value) {
    group.must(
        format!("the gateway {} is in force", name(gateway)),
        unmet(&gateway["status"]["conditions"], &["Accepted", "Programmed"]),
        "does its gatewayClassName exist, and has its Service an address? `kubectl describe` it",
    );
}

fn routes_taken(group: &mut Group, sight: &Sight, release: &str) {
    let doors = sight.doors.as_deref().unwrap_or_default();
    let routes: Vec<&Value> = ["GRPCRoute", "HTTPRoute"].into_iter().flat_map(|kind| of_kind(doors, kind)).collect();
    let routes: Vec<&Value> = routes.into_iter().filter(|route| Sight::of_release(route, release)).collect();
    if routes.is_empty() {
        return;
    }
    let mut faults = Vec::new();
    for route in routes {
        let parents = items(&route["status"]["parents"]);
        if parents.is_empty() {
            faults.push(format!(
                "{} {}: no gateway has taken it",
                route["kind"].as_str().unwrap_or_default(),
                name(route)
            ));
        }
        for parent in parents {
            let unmet = unmet(&parent["conditions"], &["Accepted", "ResolvedRefs"]);
            faults.extend(unmet.into_iter().map(|why| format!("{}: {why}", name(route))));
        }
    }
    group.must(
        "every route of the Gateway API is taken",
        faults,
        "`kubectl describe` it: the conditions say what is missing",
    );
}

fn unmet(conditions: &Value, wanted: &[&str]) -> Vec<String> {
    let one = |kind: &&str| items(conditions).iter().find(|one| one["type"] == **kind);
    let fault = |kind: &&str| match one(kind) {
        Some(condition) if condition["status"] == "True" => None,
        Some(condition) => Some(format!("not {kind}: {}", condition["message"].as_str().unwrap_or_default())),
        None => Some(format!("nothing says that it is {kind}")),
    };
    wanted.iter().filter_map(fault).collect()
}

fn certificate(group: &mut Group, sight: &Sight, shown: &Shown) {
    let what = format!("the certificate {} of the gateway {} is good", shown.secret, shown.gateway);
    let Some(namespace) = &shown.namespace else {
        return group.warning(what, "no pod of the gateway tells in which namespace its Secret is", "");
    };
    let place = format!("{namespace}/{}", shown.secret);
    let pem = match sight.certificates.get(&place) {
        Some(Ok(pem)) if pem.trim().is_empty() => {
            return group.failed(
                what,
                format!("the Secret {place} has no tls.crt"),
                "it has to be of the type kubernetes.io/tls",
            );
        }
        Some(Ok(pem)) => pem,
        Some(Err(Refusal::Missing(_))) => {
            return group.failed(
                what,
                format!("there is no Secret {place}"),
                format!("kubectl -n {namespace} create secret tls {} --cert=… --key=…: it belongs where the gateway's pods are", shown.secret),
            );
        }
        Some(Err(refusal)) => return group.warning(what, refusal.why(), "whoever may read Secrets there can look"),
        None => return group.warning(what, "it was not looked at", ""),
    };
    match read(pem) {
        Err(why) => group.failed(what, format!("the Secret {place}: {why}"), "put a certificate in PEM into tls.crt"),
        Ok(read) => {
            let (wrong, soon) = read.faults(sight.now, &shown.hosts);
            if wrong.is_empty() {
                group.should(what, soon, "renew it, or see why whatever renews it has not");
            } else {
                group.must(what, wrong, format!("renew it, for {}", or_any(&shown.hosts)));
            }
        }
    }
}

fn or_any(hosts: &[String]) -> String {
    if hosts.is_empty() { "the names by which people call".into() } else { hosts.join(" and ") }
}

/// What is read of a certificate.
#[derive(Debug)]
struct Certificate {
    not_before: SystemTime,
    not_after: SystemTime,
    names: Vec<String>,
}

fn read(pem: &str) -> Result<Certificate, String> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| "it is no certificate in PEM".to_owned())?;
    let certificate = pem.parse_x509().map_err(|error| format!("it cannot be read: {error}"))?;
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map(|names| &names.value.general_names).into_iter().flatten();
    Ok(Certificate {
        not_before: at(certificate.validity().not_before.timestamp()),
        not_after: at(certificate.validity().not_after.timestamp()),
        names: names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
    })
}

impl Certificate {
    /// What is wrong with it, and what will be soon.
    fn faults(&self, now: SystemTime, hosts: &[String]) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut soon) = (Vec::new(), Vec::new());
        match self.not_after.duration_since(now) {
            Err(over) => wrong.push(format!("it ended {} ago", days(over.duration()))),
            Ok(left) if left < RENEWED_BEFORE => soon.push(format!("it ends in {}", days(left))),
            Ok(_) => {}
        }
        if let Some(until) = self.not_before.duration_since(now).ok().filter(|until| !until.is_zero()) {
            wrong.push(format!("it begins in {}", days(until)));
        }
        for host in hosts.iter().filter(|host| !self.names.iter().any(|name| covers(name, host))) {
            wrong.push(format!("it is for {}, not for {host}", or_any(&self.names)));
        }
        (wrong, soon)
    }
}

/// Whether a certificate's name is good for a host; `*` stands for one label.
fn covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    name == host || name.strip_prefix("*.").is_some_and(|rest| host.split_once('.').is_some_and(|(_, of)| of == rest))
}

fn days(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours @ 0..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_certificate_stands_for_one_label() {
        assert!(covers("chat.example.com", "Chat.example.com") && covers("*.example.com", "chat.example.com"));
        assert!(!covers("*.example.com", "example.com") && !covers("*.example.com", "a.b.example.com"));
        assert!(covers("*.example.com", "*.example.com"));
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(read("hello").is_err());
        assert!(read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}

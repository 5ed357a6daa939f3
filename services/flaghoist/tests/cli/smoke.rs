//! `flaghoist smoke` on four services, each at an address of its own as in a cluster: it says what is as it should be, and notices what
//! is not.

use std::collections::BTreeMap;
use std::process::Output;

use crate::pods::{Pod, SERVICES, Site};
use crate::stage::{flaghoist, stderr};

/// Four services that differ by host and not by port, and the ports.
struct Cluster {
    site: Site,
    _pods: BTreeMap<&'static str, Pod>,
}

fn host(service: &str) -> String {
    let nth = SERVICES.iter().position(|name| *name == service).unwrap();
    format!("127.0.0.{}", nth + 2)
}

impl Cluster {
    /// Starts them with these extra settings.
    fn new(settings: &[(&str, &str)]) -> Self {
        let site = Site::new();
        let (grpc, internal) = ports(&site);
        let mut own = Vec::new();
        for service in SERVICES {
            let prefix = format!("FLAGHOIST_{}", service.to_uppercase());
            own.push((format!("{prefix}_GRPC_ADDR"), format!("{}:{grpc}", host(service))));
            own.push((format!("{prefix}_INTERNAL_ADDR"), format!("{}:{internal}", host(service))));
        }
        for (service, peer) in [
            ("login", "auth"),
            ("login", "send"),
            ("login", "receiver"),
            ("send", "auth"),
            ("send", "login"),
            ("send", "receiver"),
            ("receiver", "auth"),
            ("receiver", "send"),
        ] {
            let name = format!("FLAGHOIST_{}_{}_ADDR", service.to_uppercase(), peer.to_uppercase());
            own.push((name, format!("http://{}:{internal}", host(peer))));
        }
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = own.chain(settings.iter().copied()).collect::<Vec<_>>();
        let pods = site.starts_all(&settings);
        Self { site, _pods: pods }
    }

    fn smokes(&self, arguments: &[&str]) -> Output {
        smoke(&self.site, arguments)
    }
}

fn ports(site: &Site) -> (u16, u16) {
    (site.address("auth", "grpc").port(), site.address("auth", "internal").port())
}

fn smoke(site: &Site, arguments: &[&str]) -> Output {
    let (grpc, internal) = ports(site);
    let services = SERVICES.map(|service| format!("--{service}=http://{}:{grpc}", host(service)));
    let mut command = flaghoist();
    command.arg("smoke").args(services).arg(format!("--internal-port={internal}")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_smoke_test_finds_that_an_installation_works_and_leaves_nobody_behind() {
    let cluster = Cluster::new(&[]);
    let smoked = cluster.smokes(&["--patience=20s"]);
    assert_eq!(smoked.status.code(), Some(0), "{}{}", stdout(&smoked), stderr(&smoked));
    let said = stdout(&smoked);
    for service in SERVICES {
        for what in ["refuses a call without a token", "refuses a call that is for other services", "takes the token"] {
            assert!(said.contains(&format!("ok: {service} {what}\n")), "{said}");
        }
    }
    assert!(said.ends_with("ok: it arrives and is acknowledged\n"), "{said}");
    assert!(stderr(&smoked).is_empty(), "both accounts are deleted: {}", stderr(&smoked));
}

#[test]
fn a_smoke_test_notices_an_internal_port_that_asks_for_nothing() {
    let cluster = Cluster::new(&[("FLAGHOIST_AUTH_INTERNAL_CREDENTIAL_FILE", "")]);
    let smoked = cluster.smokes(&["--patience=1s", "--no-people"]);
    assert_eq!(smoked.status.code(), Some(1), "{}", stdout(&smoked));
    assert!(stderr(&smoked).contains("not so: auth refuses a call that is for other services: it was answered"));
}

#[test]
fn a_smoke_test_tells_an_answer_in_plain_text_from_silence() {
    let cluster = Cluster::new(&[]);
    let smoked = cluster.smokes(&["--patience=1s", "--plain-text"]);
    assert_eq!(smoked.status.code(), Some(1), "{}", stdout(&smoked));
    assert!(stderr(&smoked).contains("it answered Unauthenticated"), "{}", stderr(&smoked));

    let silent = smoke(&Site::new(), &["--patience=1s", "--plain-text"]);
    assert_eq!(silent.status.code(), Some(0), "{}", stderr(&silent));
    assert_eq!(stdout(&silent).lines().count(), 8, "two ports of each: {}", stdout(&silent));
}

#[test]
fn a_smoke_test_without_people_says_what_it_left_out() {
    let cluster = Cluster::new(&[("FLAGHOIST_LOGIN_REGISTRATION", "closed")]);
    let smoked = cluster.smokes(&["--patience=20s", "--no-people"]);
    assert_eq!(smoked.status.code(), Some(0), "{}", stderr(&smoked));
    assert!(stdout(&smoked).contains("left out: two people"), "{}", stdout(&smoked));
    let tried = cluster.smokes(&["--patience=1s"]);
    assert_eq!(tried.status.code(), Some(1));
    assert!(stderr(&tried).contains("not so: a person registers and signs in"), "{}", stderr(&tried));
}

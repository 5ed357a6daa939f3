//! Who may call what, asked: every method of the contracts, by pods with every account, by people, and by nobody.

use std::collections::HashMap;
use std::time::Duration;

use flaghoist_proto::{Access, METHODS, Method};
use flaghoist_tests::mesh::owner;
use tonic::Code;
use tonic::transport::Channel;

use crate::Outcome;
use crate::ask::{Answer, ask, channel};
use crate::installation::{Installation, RELEASE, SERVICES};
use crate::lab::Lab;
use crate::pods::{self, Place, Relay};
use crate::programs::kubectl;

/// How long an answer may take; a stream that is still open then was allowed.
const LIMIT: Duration = Duration::from_millis(1500);

/// Somebody who calls from within the cluster.
#[derive(Debug)]
struct Caller {
    /// What a test calls them.
    name: String,
    /// The service whose account it is, if it is one's.
    service: Option<&'static str>,
    /// By the service that is called.
    internal: HashMap<&'static str, Channel>,
}

pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let people = lab.people().await?;
    let callers = callers(lab, &installation).await?;
    let (alice, admin) = (people.alice.token(), people.admin.token());
    let [from_alice, from_admin] = [format!("Bearer {alice}"), format!("Bearer {admin}")];
    let outside = channel(lab.gateway().await?);
    let mut counted = Counted::default();

    let (internal, public): (Vec<&Method>, Vec<&Method>) =
        METHODS.iter().partition(|method| matches!(method.access, Access::Service(_)));
    for method in &internal {
        let Access::Service(named) = method.access else { continue };
        for caller in &callers {
            let way = &caller.internal[owner(method)];
            let may = caller.service.is_some_and(|service| named.contains(&service));
            let call = async || ask(way, method.path, &[], Vec::new(), LIMIT).await;
            counted.expect(may, &format!("{} calls {}", caller.name, method.path), call).await?;
            // A person's token makes nobody a service.
            if caller.service.is_none() {
                let call = async || ask(way, method.path, &[("authorization", &from_admin)], Vec::new(), LIMIT).await;
                counted
                    .expect(false, &format!("{} with an admin's token calls {}", caller.name, method.path), call)
                    .await?;
            }
        }
        let answer = ask(&outside, method.path, &[("authorization", &from_admin)], Vec::new(), LIMIT).await;
        if answer.code != Code::Unimplemented {
            return Err(format!("the gateway answers {} for {}", answer.said(), method.path));
        }
        counted.refused += 1;
    }
    for method in &public {
        let (by_alice, by_admin) = match method.access {
            Access::Anyone => (true, true),
            Access::User => (true, true),
            _ => (false, true),
        };
        let anonymous = matches!(method.access, Access::Anyone);
        let askers = [
            ("nobody", None, anonymous),
            ("a person", Some(&from_alice), by_alice),
            ("an admin", Some(&from_admin), by_admin),
        ];
        for (name, token, may) in askers {
            let headers: Vec<(&str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
            // What may be called is called with nothing in it, and the service complains of that.
            let call = async || ask(&outside, method.path, &headers, Vec::new(), LIMIT).await;
            counted.expect(may, &format!("{name} calls {} from outside", method.path), call).await?;
        }
        // On the internal port there is no public method, for whomever.
        for caller in &callers {
            let way = &caller.internal[owner(method)];
            let call = async || ask(way, method.path, &[("authorization", &from_admin)], Vec::new(), LIMIT).await;
            counted.expect(false, &format!("{} calls {} at port 9001", caller.name, method.path), call).await?;
        }
    }
    kubectl(&["delete", "namespace", STRANGERS, "--wait=false"]).await?;
    Ok(format!(
        "{} methods, {} callers within and 3 outside: {} calls refused, {} let through",
        METHODS.len(),
        callers.len(),
        counted.refused,
        counted.allowed
    ))
}

#[derive(Debug, Default)]
struct Counted {
    refused: u32,
    allowed: u32,
}

impl Counted {
    /// Asks until the answer is what it must be. Where a call must be refused once is enough: a policy never lets less through.
    async fn expect(&mut self, may: bool, what: &str, mut call: impl AsyncFnMut() -> Answer) -> Result<(), String> {
        let answer = call().await;
        let good = |answer: &Answer| {
            // Nobody at all is no refusal.
            let reached = !matches!(answer.code, Code::Unavailable | Code::Unknown);
            let unknown = answer.code == Code::Unimplemented;
            // A service that was reached may still find fault with who calls: a client without a secret, for one.
            reached && if may { !answer.by_sidecar() && !unknown } else { answer.turned_away() || unknown }
        };
        if !good(&answer) {
            pods::settles(what, async || {
                let answer = call().await;
                if good(&answer) { Ok(()) } else { Err(answer.said()) }
            })
            .await?;
        }
        *(if may { &mut self.allowed } else { &mut self.refused }) += 1;
        Ok(())
    }
}

/// Another namespace, with accounts of the same names.
const STRANGERS: &str = "flaghoist-test-strangers";

/// The four services, the account of `helm test`, an account that is nobody's, and one of another namespace that is called as send's.
async fn callers(lab: &mut Lab, installation: &Installation) -> Result<Vec<Caller>, String> {
    let accounts: Vec<String> = SERVICES.iter().map(|service| format!("{RELEASE}-{service}")).collect();
    let test = format!("{RELEASE}-test");
    let mut names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    names.extend([test.as_str(), "default"]);
    let relays = lab.relays(&names).await?;
    let mut callers = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let service = SERVICES.get(place).copied();
        callers.push(Caller {
            name: (*name).to_owned(),
            service,
            internal: internal(&relays[*name], installation).await?,
        });
    }
    let stranger = stranger(lab, installation).await?;
    let name = format!("{RELEASE}-send of another namespace");
    callers.push(Caller { name, service: None, internal: internal(&stranger, installation).await? });
    for caller in &callers {
        pods::reachable(&caller.internal["send"], "/nothing/Nothing").await;
    }
    Ok(callers)
}

async fn internal(relay: &Relay, installation: &Installation) -> Result<HashMap<&'static str, Channel>, String> {
    let mut ways = HashMap::new();
    for service in SERVICES {
        let host = format!("{RELEASE}-{service}.{}", installation.namespace);
        ways.insert(service, relay.to_host(&host, 9001).await?);
    }
    Ok(ways)
}

/// A pod of another namespace whose account has the name of send's.
async fn stranger(lab: &Lab, installation: &Installation) -> Result<Relay, String> {
    let account = format!("{RELEASE}-send");
    crate::installation::remove(STRANGERS).await?;
    kubectl(&["create", "namespace", STRANGERS]).await?;
    kubectl(&["label", "namespace", STRANGERS, "flaghoist.dev/made-by=cluster-test"]).await?;
    kubectl(&["create", "serviceaccount", &account, "-n", STRANGERS]).await?;
    let elsewhere = installation.elsewhere(STRANGERS);
    let place = Place { name: "as-send", account: &account, sidecar: true };
    let relay = Relay::start(&elsewhere, &lab.images.probe, place).await?;
    pods::ready(&elsewhere, &[place.name]).await?;
    Ok(relay)
}

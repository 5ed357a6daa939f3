//! The pods that the tests put beside an installation, all of the probe's image: relays, each with the account of somebody, and
//! stand-ins for a service.

use std::net::SocketAddr;
use std::time::Duration;

use flaghoist_tests::eventually_within;
use serde_json::json;
use tonic::transport::Channel;

use crate::ask;
use crate::forward::Forward;
use crate::installation::{Installation, RELEASE};

/// How long a pod may take until it is ready.
const READY_MAX: &str = "--timeout=120s";

/// A pod that lends its place in the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    way: Forward,
    namespace: String,
}

/// A pod that stands where a service stands.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    pub(crate) name: String,
    control: Forward,
}

/// What a pod of ours is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) sidecar: bool,
}

impl Relay {
    /// Starts one in the namespace of an installation. Several may be started before one is waited for.
    pub(crate) async fn start(beside: &Installation, image: &str, place: Place<'_>) -> Result<Self, String> {
        beside.apply(&pod(image, place, &["relay"], &[]).to_string()).await?;
        let way = Forward::new(&beside.namespace, &format!("pod/{}", place.name), 7000);
        Ok(Self { way, namespace: beside.namespace.clone() })
    }

    /// A connection of its own from there to a port of a service.
    pub(crate) async fn to(&self, service: &str, port: u16) -> Result<Channel, String> {
        self.to_host(&format!("{RELEASE}-{service}.{}", self.namespace), port).await
    }

    /// A connection of its own from there to any port.
    pub(crate) async fn to_host(&self, host: &str, port: u16) -> Result<Channel, String> {
        let target = format!("{host}:{port}");
        // The sidecar goes by the name that is called.
        Ok(ask::channel_to(self.way.relayed(&target).await?, &target))
    }

    /// An address of this machine that leads from there to a port of a service.
    pub(crate) async fn address_to(&self, service: &str, port: u16) -> Result<SocketAddr, String> {
        self.way.relayed(&format!("{RELEASE}-{service}.{}:{port}", self.namespace)).await
    }
}

impl StandIn {
    /// Starts one that the mesh takes for a pod of `service`; with [`StandIn::takes_over`] it gets the calls.
    pub(crate) async fn start(beside: &Installation, image: &str, service: &str, name: &str) -> Result<Self, String> {
        let account = format!("{RELEASE}-{service}");
        let labels = [
            ("app.kubernetes.io/name", "flaghoist"),
            ("app.kubernetes.io/instance", RELEASE),
            ("app.kubernetes.io/component", service),
            // Not `stable`, by which the service's own workload knows its pods.
            ("flaghoist.dev/track", "stand-in"),
        ];
        let place = Place { name, account: &account, sidecar: true };
        let keys = format!("{}:8081", real(service));
        // An issuer's keys must be there for whoever reads them.
        let arguments: &[&str] = if service == "auth" { &["stand-in", &keys] } else { &["stand-in"] };
        beside.apply(&pod(image, place, arguments, &labels).to_string()).await?;
        Ok(Self { name: name.to_owned(), control: Forward::new(&beside.namespace, &format!("pod/{name}"), 7001) })
    }

    /// Leads the calls of a service to the stand-ins, or back to its own pods. Meanwhile these are reached under the name [`real`].
    pub(crate) async fn takes_over(beside: &Installation, service: &str, yes: bool) -> Result<(), String> {
        if yes {
            beside.apply(&real_service(service).to_string()).await?;
        } else {
            beside.kubectl(&["delete", "service", &real(service), "--ignore-not-found"]).await?;
        }
        let track = if yes { json!("stand-in") } else { json!(null) };
        let patch = json!({"spec": {"selector": {"flaghoist.dev/track": track}}}).to_string();
        beside.kubectl(&["patch", "service", &format!("{RELEASE}-{service}"), "-p", &patch]).await.map(drop)
    }

    /// How many tries of a call it has seen.
    pub(crate) async fn tries(&self, call: &str) -> Result<u64, String> {
        self.number(&format!("count {call}")).await
    }

    /// How many calls it has seen.
    pub(crate) async fn total(&self) -> Result<u64, String> {
        self.number("total").await
    }

    /// Answers everything with this code from now on; 0 leaves it to the calls again.
    pub(crate) async fn answers(&self, code: u32) -> Result<(), String> {
        self.number(&format!("code {code}")).await.map(drop)
    }

    async fn number(&self, line: &str) -> Result<u64, String> {
        let said = self.control.asks(line).await?;
        said.parse().map_err(|_| format!("{} says {said:?}", self.name))
    }
}

/// The Service by which a service is reached while a stand-in has its place.
pub(crate) fn real(service: &str) -> String {
    format!("real-{service}")
}

fn real_service(service: &str) -> serde_json::Value {
    let mut ports =
        vec![json!({"name": "grpc-public", "port": 9000, "targetPort": "grpc-public", "appProtocol": "grpc"})];
    if service == "auth" {
        ports.push(json!({"name": "http-jwks", "port": 8081, "targetPort": "http-jwks", "appProtocol": "http"}));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": real(service)},
        "spec": {
            "selector": {
                "app.kubernetes.io/instance": RELEASE,
                "app.kubernetes.io/component": service,
                "flaghoist.dev/track": "stable",
            },
            "ports": ports,
        },
    })
}

/// Starts a pod that does something else.
pub(crate) async fn start(
    beside: &Installation,
    image: &str,
    place: Place<'_>,
    arguments: &[&str],
) -> Result<(), String> {
    beside.apply(&pod(image, place, arguments, &[]).to_string()).await
}

/// Waits until pods are ready.
pub(crate) async fn ready(beside: &Installation, names: &[&str]) -> Result<(), String> {
    let pods: Vec<String> = names.iter().map(|name| format!("pod/{name}")).collect();
    let mut words = vec!["wait", "--for=condition=Ready", READY_MAX];
    words.extend(pods.iter().map(String::as_str));
    beside.kubectl(&words).await.map(drop)
}

/// Removes pods without ceremony.
pub(crate) async fn remove(beside: &Installation, names: &[&str]) -> Result<(), String> {
    let words = [&["delete", "pod", "--ignore-not-found", "--grace-period=1"], names].concat();
    beside.kubectl(&words).await.map(drop)
}

/// Asks until the answer is what is wanted three times in a row: a policy or a route holds for new connections, and a sidecar keeps
/// one or two of the old ones.
pub(crate) async fn settles(what: &str, wanted: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    settles_within(Duration::from_secs(90), what, wanted).await
}

/// The same for what may take longer.
pub(crate) async fn settles_within(
    limit: Duration,
    what: &str,
    mut wanted: impl AsyncFnMut() -> Result<(), String>,
) -> Result<(), String> {
    let mut in_a_row = 0;
    let deadline = tokio::time::Instant::now() + limit;
    while in_a_row < 3 {
        match wanted().await {
            Ok(()) => in_a_row += 1,
            Err(seen) => {
                in_a_row = 0;
                if tokio::time::Instant::now() > deadline {
                    return Err(format!("not within {limit:?}: {what}; {seen}"));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
    Ok(())
}

/// A pod that satisfies the restricted profile.
fn pod(image: &str, place: Place<'_>, arguments: &[&str], labels: &[(&str, &str)]) -> serde_json::Value {
    let inject = if place.sidecar { "true" } else { "false" };
    let mut all = json!({"sidecar.istio.io/inject": inject, "flaghoist.dev/test": place.name});
    for (name, value) in labels {
        all[*name] = json!(value);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": place.name,
            "labels": all,
            "annotations": {
                "sidecar.istio.io/nativeSidecar": "true",
                "proxy.istio.io/config": "{holdApplicationUntilProxyStarts: true}",
                // Keys are read as istiod reads them: a sidecar would go by the name that is asked for, which is the stand-in's.
                "traffic.sidecar.istio.io/excludeOutboundPorts": "8081",
            },
        },
        "spec": {
            "serviceAccountName": place.account,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": arguments,
                "ports": [
                    {"name": "grpc-public", "containerPort": 9000},
                    {"name": "grpc-internal", "containerPort": 9001},
                    {"name": "http-jwks", "containerPort": 8081},
                ],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// Waits until a call by this connection gets through to a program, whatever it answers.
pub(crate) async fn reachable(channel: &Channel, path: &str) {
    eventually_within(Duration::from_secs(60), "a pod is reached", async || {
        let answer = ask::ask(channel, path, &[], Vec::new(), Duration::from_secs(2)).await;
        (answer.code != tonic::Code::Unavailable && answer.code != tonic::Code::Unknown).then_some(())
    })
    .await;
}

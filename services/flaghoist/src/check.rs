//! `flaghoist check`: whether a cluster can take an installation (`--pre`), and whether one that is there is as it should be. Everything is
//! fetched first, by `kubectl`; what is said is a function of that alone. Nothing is created or changed.

mod before;
mod cluster;
mod gateway;
mod inside;
mod istio;
mod kubectl;
mod mtls;
mod policies;
mod report;
mod routes;
mod sight;
mod tokens;
mod workloads;

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine as _;
use flaghoist_mesh::labels::Labels;
use flaghoist_runtime::settings::parse_duration;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::before::Plan;
use self::kubectl::{Asked, Kubectl, Refusal};
use self::report::{Group, Report, Verdict};
use self::sight::{Installed, PlainCall, Sight, name};
use crate::client::Output;
use crate::exit::{Exit, Failure};

/// How long between two looks while `--wait` lasts.
const PAUSE: Duration = Duration::from_secs(3);
/// How many pods are asked at once.
const PODS_AT_ONCE: usize = 4;
/// The ports that are tried in plain text.
const PLAIN_PORTS: [u16; 2] = [9000, 9001];

/// Where a reader finds more: headings of this repository's documents.
mod docs {
    pub(super) const BEFORE: &str = "istio/README.md#good-to-know-before-it-is-installed";
    pub(super) const WITHOUT_ISTIO: &str = "istio/README.md#what-is-lost-when-it-is-off";
    pub(super) const POLICIES: &str = "istio/README.md#reading-the-policies";
    pub(super) const RUNS: &str = "charts/flaghoist/README.md#what-runs";
    pub(super) const INSTALL: &str = "README.md#install-into-a-cluster";
    pub(super) const RIGHTS: &str = "whoever may read it can look: services/flaghoist/README.md#looking-at-a-cluster";

    #[cfg(test)]
    pub(super) const ALL: [&str; 6] = [BEFORE, WITHOUT_ISTIO, POLICIES, RUNS, INSTALL, RIGHTS];
}

/// What to check, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist check --pre -n chat
  flaghoist check -n chat --wait 5m
  flaghoist check -n chat --json | jq -r 'select(.result == \"failed\") | .check'

Exit codes: 0 if nothing failed, 1 if something did; warnings alone are 0. The cluster is asked by kubectl, which has
to be on the PATH; nothing in it is changed.")]
pub(crate) struct Arguments {
    /// Check whether the cluster can take an installation, before there is one
    #[arg(long)]
    pre: bool,
    /// The namespace [default: the one of kubectl's context]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The Helm release; need not be said where there is one
    #[arg(long, value_name = "NAME")]
    release: Option<String>,
    /// kubectl's context
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// kubectl's file with clusters and users
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// How long to look again while something fails, such as 5m
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    wait: Duration,
    /// With --pre: the chart's store.type
    #[arg(long, value_name = "TYPE", default_value = "sqlite", requires = "pre")]
    store: Store,
    /// With --pre: the chart's istio.gateway.kind
    #[arg(long, value_name = "KIND", default_value = "istio", requires = "pre")]
    gateway: GatewayKind,
    /// With --pre: the chart's sidecar.revision
    #[arg(long, value_name = "NAME", requires = "pre")]
    revision: Option<String>,
    /// With --pre: the chart is to be installed with istio.enabled=false
    #[arg(long, requires = "pre", conflicts_with = "revision")]
    no_istio: bool,
}

/// The chart's `store.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Sqlite,
    Postgresql,
}

/// The chart's `istio.gateway.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GatewayKind {
    Istio,
    GatewayApi,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time like 5m".into())
}

/// Does what `arguments` say, and prints what was found.
pub(crate) async fn run(arguments: Arguments, json: bool) -> Result<(), Failure> {
    let kubectl = Kubectl::new(arguments.kubeconfig.as_deref(), arguments.context.as_deref());
    let namespace = match &arguments.namespace {
        Some(namespace) => namespace.clone(),
        None => usual_namespace(&kubectl).await,
    };
    let deadline = Instant::now() + arguments.wait;
    let report = loop {
        let report = if arguments.pre {
            arguments.looks_ahead(&kubectl, &namespace).await
        } else {
            arguments.looks(&kubectl, &namespace).await
        };
        if report.count(Verdict::Failed) == 0 || Instant::now() + PAUSE > deadline {
            break report;
        }
        sleep(PAUSE).await;
    };
    let output = Output::new(json);
    if json {
        for object in report.objects() {
            output.show(&object, String::new)?;
        }
    } else {
        output.show(&Value::Null, || report.text().trim_end().to_owned())?;
    }
    // What failed has been said above.
    if report.count(Verdict::Failed) == 0 { Ok(()) } else { Err(Failure::new(Exit::Failed, "")) }
}

/// The namespace of kubectl's context.
async fn usual_namespace(kubectl: &Kubectl) -> String {
    let config = kubectl.asks(&["config", "view", "--minify", "--output=json"]).await;
    let said = config.ok().and_then(|config| Some(config["contexts"][0]["context"]["namespace"].as_str()?.to_owned()));
    said.unwrap_or_else(|| "default".into())
}

impl Arguments {
    async fn looks_ahead(&self, kubectl: &Kubectl, namespace: &str) -> Report {
        let plan = Plan {
            istio: !self.no_istio,
            gateway_api: self.gateway == GatewayKind::GatewayApi && !self.no_istio,
            sqlite: self.store == Store::Sqlite,
        };
        let mut sight = Sight::of(kubectl, namespace).await;
        if sight.version.is_ok() {
            sight.looks_ahead(kubectl, &plan.created()).await;
        }
        judge_before(&sight, plan, self.release.as_deref(), self.revision.as_deref())
    }

    async fn looks(&self, kubectl: &Kubectl, namespace: &str) -> Report {
        let mut sight = Sight::of(kubectl, namespace).await;
        if let Ok(release) = chosen(&sight, self.release.as_deref()) {
            look_closer(&mut sight, kubectl, &release).await;
        }
        judge(&sight, self.release.as_deref())
    }
}

/// The release to look at: the one that is named, or the only one there is.
fn chosen(sight: &Sight, named: Option<&str>) -> Result<String, (String, String)> {
    let there = sight.releases();
    match (named, there.as_slice()) {
        (Some(named), there) if there.iter().any(|one| one == named) => Ok(named.to_owned()),
        (None, [only]) => Ok(only.clone()),
        (_, []) => Err((
            format!("there is none in the namespace {}", sight.name),
            format!("--namespace names another; to install it: {}", docs::INSTALL),
        )),
        (Some(named), there) => {
            Err((format!("there is no release {named}"), format!("--release {} is there", there.join(" or "))))
        }
        (None, there) => Err((format!("there are {}", there.join(" and ")), "say which one by --release".into())),
    }
}

/// Asks the pods of a release, and what its gateways name.
async fn look_closer(sight: &mut Sight, kubectl: &Kubectl, release: &str) {
    let namespace = sight.name.clone();
    let (mut pods, mut tried) = (Vec::new(), Vec::new());
    let installed = sight.installed(release);
    for part in &installed.parts {
        let running: Vec<&str> =
            part.pods.iter().filter(|pod| pod["status"]["phase"] == "Running").map(|pod| name(pod)).collect();
        tried.extend(running.first().filter(|_| installed.meshed).map(|pod| (*pod).to_owned()));
        pods.extend(running.into_iter().map(str::to_owned));
    }
    let meshed = installed.meshed;
    let gateways: Vec<Value> = gateway::gateways(sight, release).into_iter().cloned().collect();

    for some in pods.chunks(PODS_AT_ONCE) {
        let asked = some.iter().map(|pod| inside::ask(kubectl, &namespace, pod, meshed));
        for (pod, answers) in some.iter().zip(all(asked).await) {
            sight.answers.insert(pod.clone(), answers);
        }
    }
    for pod in tried {
        let calls = PLAIN_PORTS.map(|port| {
            let path = format!("--raw=/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/");
            async move { kubectl.says(&["get", &path], None).await }
        });
        for (port, outcome) in PLAIN_PORTS.into_iter().zip(all(calls).await) {
            sight.plain_calls.push(PlainCall { pod: pod.clone(), port, outcome });
        }
    }
    for gateway in &gateways {
        let Some(selector) = gateway::selector(gateway) else { continue };
        let pods = kubectl.lists(&["pods", "--all-namespaces", &format!("--selector={selector}")]).await;
        sight.gateway_pods.push((gateway["spec"]["selector"].clone(), pods));
    }
    let gateways: Vec<&Value> = gateways.iter().collect();
    for shown in gateway::shown(sight, &gateways) {
        let Some(namespace) = shown.namespace else { continue };
        let certificate = certificate(kubectl, &namespace, &shown.secret).await;
        sight.certificates.insert(format!("{namespace}/{}", shown.secret), certificate);
    }
}

/// The certificate in a Secret. Only it is asked for: the key beside it is nothing that this program should hold.
async fn certificate(kubectl: &Kubectl, namespace: &str, secret: &str) -> Asked<String> {
    let namespace = format!("--namespace={namespace}");
    let text =
        kubectl.says(&["get", "secret", secret, &namespace, r"--output=jsonpath={.data.tls\.crt}"], None).await?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Refusal::Failed("tls.crt is no text".into()))
}

/// All of them, at once, in their order.
async fn all<T>(futures: impl IntoIterator<Item: Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(futures).await
}

/// What is to be said before an installation.
fn judge_before(sight: &Sight, plan: Plan, release: Option<&str>, revision: Option<&str>) -> Report {
    let mut groups = vec![cluster::judge(sight, true)];
    if sight.version.is_ok() {
        if plan.istio {
            let revision = revision.map(|revision| ("istio.io/rev".to_owned(), revision.to_owned()));
            let pod: Labels =
                [("sidecar.istio.io/inject".to_owned(), "true".to_owned())].into_iter().chain(revision).collect();
            groups.push(istio::judge(sight, &pod));
        }
        groups.push(before::judge(sight, plan, release));
    }
    Report(groups)
}

/// What is to be said of an installation.
fn judge(sight: &Sight, release: Option<&str>) -> Report {
    let mut groups = vec![cluster::judge(sight, false)];
    if sight.version.is_err() {
        return Report(groups);
    }
    let mut found = Group::new("installation");
    let what = "a release of the chart is there";
    if let Err(refusal) = &sight.things {
        found.failed(what, refusal.why(), "without seeing pods and workloads nothing else can be judged");
        groups.push(found);
        return Report(groups);
    }
    let installed = match chosen(sight, release) {
        Ok(release) => sight.installed(&release),
        Err((why, hint)) => {
            found.failed(what, why, hint);
            groups.push(found);
            return Report(groups);
        }
    };
    found.ok(format!("{what}: {}", installed.release));
    groups.push(found);
    groups.extend(judge_installed(sight, &installed));
    Report(groups)
}

fn judge_installed(sight: &Sight, installed: &Installed<'_>) -> Vec<Group> {
    let pods = workloads::judge(sight, installed);
    let inside = inside::judge(sight, installed);
    if !installed.meshed {
        let mut istio = Group::new("istio");
        istio.warning(
            "the release is in a mesh",
            "its pods ask for no sidecar (istio.enabled=false), so nothing of the mesh is looked at",
            docs::WITHOUT_ISTIO,
        );
        return vec![istio, pods, inside];
    }
    let labels = installed.parts.iter().find(|part| !part.labels.is_empty()).map(|part| part.labels.clone());
    let istio = istio::judge(sight, &labels.unwrap_or_default());
    // Told what a token's `iss` is by what tells auth itself.
    let issuer = installed.part("auth").and_then(|part| part.setting("ISSUER")).unwrap_or("(auth is told no issuer)");
    vec![
        istio,
        pods,
        inside,
        mtls::judge(sight, installed),
        policies::judge(sight, installed, issuer),
        routes::judge(sight, installed),
        tokens::judge(sight, installed, issuer),
        gateway::judge(sight, &installed.release),
    ]
}

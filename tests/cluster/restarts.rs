//! The promises, while everything that an operator or a node does to pods is done to every service under load: rolling restarts, deleted
//! pods, killed pods, a bus that is cut off. PostgreSQL and NATS run beside the cluster, on this machine.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use flaghoist_backends::{Link, Nats, Postgres};
use flaghoist_tests::talk::{Seen, Talk};

use crate::Outcome;
use crate::configuration;
use crate::installation::{Installation, RELEASE, SERVICES};
use crate::lab::{Kind, Lab};
use crate::programs::get;

/// How late a delivery may be while the bus is away (promise 7), and what a busy machine may add to it.
const LATE_MAX: Duration = Duration::from_millis(6_500);

/// How long the bus is cut off.
const CUT: Duration = Duration::from_secs(10);

/// PostgreSQL and NATS, and the ways to them by which pods come.
#[derive(Debug)]
pub(crate) struct Stores {
    _postgres: Postgres,
    _nats: Nats,
    to_postgres: Link,
    to_nats: Link,
    password: String,
    databases: Vec<String>,
}

impl Stores {
    /// Starts them, where this machine has them and pods reach it.
    async fn start() -> Result<Self, String> {
        let lacking = || "this machine lacks PostgreSQL or nats-server; tests/backends/install gets them".to_owned();
        let at = address().await?;
        let postgres = Postgres::start().await.ok_or_else(lacking)?;
        let nats = Nats::start().await.ok_or_else(lacking)?;
        let mut databases = Vec::new();
        for _ in SERVICES {
            let url = postgres.database().await;
            databases.push(url.rsplit('/').next().unwrap_or_default().to_owned());
        }
        let to_postgres = Link::at(at, ([127, 0, 0, 1], postgres.port()).into());
        let to_nats = Link::at(at, nats.address());
        let password = postgres.password().to_owned();
        Ok(Self { _postgres: postgres, _nats: nats, to_postgres, to_nats, password, databases })
    }

    /// What the chart is told.
    fn values(&self) -> Vec<String> {
        let (postgres, nats) = (self.to_postgres.address(), self.to_nats.address());
        let mut values = vec![
            "store.type=postgresql".into(),
            format!("store.postgresql.host={}", postgres.ip()),
            format!("store.postgresql.port={}", postgres.port()),
            "store.postgresql.existingSecret=flaghoist-postgresql".into(),
            format!("test.password={}", self.password),
            "bus.type=nats".into(),
            format!("bus.nats.url=nats://{nats}"),
            format!("bus.nats.port={}", nats.port()),
            // Limits that this test is not about.
            "send.settings.RATE_PER_SECOND=100000".into(),
            "send.settings.RATE_BURST=100000".into(),
            "login.settings.REGISTRATION_BURST=1000".into(),
            "login.settings.ADDRESS_BURST=1000".into(),
        ];
        for (service, database) in SERVICES.iter().zip(&self.databases) {
            values.push(format!("{service}.replicaCount=2"));
            values.push(format!("{service}.database.name={database}"));
            values.push(format!("{service}.database.user=flaghoist"));
            values.push(format!("{service}.database.connections=8"));
        }
        values
    }
}

/// An installation of two pods of each service on PostgreSQL and NATS, made if it is not there.
pub(crate) async fn shared(lab: &mut Lab) -> Result<Installation, String> {
    if let Some(installation) = lab.installed(Kind::Shared) {
        return Ok(installation);
    }
    let stores = Stores::start().await?;
    let values = stores.values();
    let installation = lab.installs(Kind::Shared, &values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    lab.stores = Some(stores);
    Ok(installation)
}

/// Under load, one after the other.
pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = shared(lab).await?;
    lab.people().await?;
    let world = lab.world().await?;
    let seed = rand::random();
    println!("        seed {seed}");
    let mut talk = Talk::begin(&world, seed).await;
    let mut done = Vec::new();
    for service in SERVICES {
        let workload = format!("deployment/{RELEASE}-{service}");
        for (what, seen) in [("restarted", Seen::Drains), ("deleted", Seen::Drains), ("killed", Seen::Failures)] {
            let began = Instant::now();
            let act = async {
                if what == "restarted" {
                    installation.kubectl(&["rollout", "restart", &workload]).await?;
                } else {
                    let pods = installation.pods(service).await?;
                    let pod = pods.first().ok_or("no pod is there")?;
                    // Until it is gone: before that the Deployment may not know that it lacks one.
                    let how: &[&str] = if what == "killed" { &["--grace-period=0", "--force"] } else { &[] };
                    installation.kubectl(&[&["delete", pod.as_str()], how].concat()).await?;
                    installation.kubectl(&["wait", "--for=delete", pod.as_str(), "--timeout=90s"]).await?;
                }
                installation.kubectl(&["rollout", "status", &workload, "--timeout=300s"]).await.map(drop)
            };
            let late =
                talk.during(seen, act).await.map_err(|broken| format!("{service} {what}: {broken} (seed {seed})"))?;
            let took = began.elapsed().as_secs();
            println!("        {service} {what}: {took} s, latest delivery {late:.1?}; {}", talk.totals());
        }
        done.push(service);
    }
    let stores = lab.stores.as_ref().ok_or("there is no bus")?;
    let cut = async {
        stores.to_nats.cut();
        tokio::time::sleep(CUT).await;
        stores.to_nats.mend();
        Ok(())
    };
    let late = talk.during(Seen::Drains, cut).await.map_err(|broken| format!("the bus cut off: {broken}"))?;
    println!("        the bus cut off for {CUT:?}: latest delivery {late:.1?}; {}", talk.totals());
    if late > LATE_MAX {
        return Err(format!("promise 7: a delivery was {late:.1?} late, and only the bus was away"));
    }
    let totals = talk.end().await?;
    let sidecars = configuration::of(&installation).await?;
    let done = done.join(", ");
    Ok(format!("{done} each restarted, a pod deleted, a pod killed, and the bus cut off: {totals}; then {sidecars}"))
}

/// The address under which pods reach this machine: `FLAGHOIST_TEST_HOST`, or that of a node which is this machine.
async fn address() -> Result<IpAddr, String> {
    if let Ok(said) = std::env::var("FLAGHOIST_TEST_HOST") {
        return said.parse().map_err(|_| format!("FLAGHOIST_TEST_HOST is {said}, and no address"));
    }
    let nodes = get(&["nodes"]).await?;
    let addresses = nodes["items"].as_array().into_iter().flatten();
    let addresses = addresses.flat_map(|node| node["status"]["addresses"].as_array().cloned().unwrap_or_default());
    let mut addresses = addresses.filter_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok());
    let ours = addresses.find(|&address| std::net::TcpListener::bind((address, 0)).is_ok());
    ours.ok_or_else(|| "no node is this machine: say by FLAGHOIST_TEST_HOST under which address pods reach it".into())
}

//! The chart as it comes: it installs, `helm test` passes, nothing answers to plain text.

use std::time::{Duration, Instant};

use flaghoist_tests::http1;

use crate::Outcome;
use crate::ask::ask;
use crate::installation::{RELEASE, SERVICES, restrictable};
use crate::lab::{Kind, Lab};
use crate::pods::{self, Place, Relay};
use crate::programs::helm;

/// Without a value set.
pub(crate) async fn install(lab: &mut Lab) -> Outcome {
    let installation = lab.installs(Kind::Defaults, &[]).await?;
    let mut restarts = 0;
    for pod in installation.get(&["pods"]).await?["items"].as_array().into_iter().flatten() {
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        restarts += containers.filter_map(|container| container["restartCount"].as_u64()).sum::<u64>();
        let sidecars = pod["spec"]["initContainers"].as_array().into_iter().flatten();
        if !sidecars.into_iter().any(|container| container["name"] == "istio-proxy") {
            return Err(format!("{} has no sidecar", pod["metadata"]["name"]));
        }
    }
    if restarts > 0 {
        return Err(format!("containers were restarted {restarts} times while it was installed"));
    }
    let profile = if restrictable().await? { "restricted" } else { "no (the mesh has no network plugin)" };
    Ok(format!("all pods ready, each with its sidecar, none restarted; the namespace enforces the {profile} profile"))
}

/// Pods take a while to start, as where images have to be fetched first: istiod asks auth for its keys before auth answers, and gives up
/// after some seconds. Whenever that is, tokens must be taken once the pods are ready.
pub(crate) async fn slow_start(lab: &mut Lab) -> Outcome {
    let mut seen = Vec::new();
    for seconds in STARTS_SECONDS {
        let mut values: Vec<String> = SERVICES.map(|service| format!("{service}.persistence.enabled=false")).to_vec();
        values.push("startupProbe.periodSeconds=1".into());
        values.push(format!("startupProbe.initialDelaySeconds={seconds}"));
        lab.installs(Kind::Defaults, &values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let ready = Instant::now();
        let alice = lab.world().await?.person("alice").await;
        let taken = lab.answered_within(&alice, KEYS_AFTER_READY_MAX).await;
        taken.map_err(|error| format!("auth answers {seconds} s after its start: {error}"))?;
        seen.push(format!("{seconds} s: {:.1?}", ready.elapsed()));
        // The next ones are not to find what is delayed here.
        lab.clear().await?;
    }
    Ok(format!(
        "auth answers so long after its start: so long after the last pod was ready tokens are taken: {}",
        seen.join(", ")
    ))
}

/// How long the pods are made to start: around the seconds after which istiod gives up, and long after them.
const STARTS_SECONDS: [u32; 4] = [3, 4, 5, 15];

/// How long it may take until tokens are taken: istiod asks once a second, and tells the sidecars.
const KEYS_AFTER_READY_MAX: Duration = Duration::from_secs(30);

/// What the chart itself brings.
pub(crate) async fn helm_test(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let said = helm(&["test", RELEASE, "--namespace", &installation.namespace, "--logs", "--timeout", "6m"]).await?;
    let held = said.lines().filter(|line| line.starts_with("ok: ")).count();
    if held < 20 {
        return Err(format!("only {held} lines say ok:\n{said}"));
    }
    Ok(format!("{held} lines say ok"))
}

/// From a pod without a sidecar.
pub(crate) async fn plain_text(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let place = Place { name: "outside-the-mesh", account: "default", sidecar: false };
    let relay = Relay::start(&installation, &lab.images.probe, place).await?;
    pods::ready(&installation, &[place.name]).await?;
    let mut silent = 0;
    for service in SERVICES {
        for port in [9000, 9001] {
            pods::settles(&format!("{service} at port {port} is silent"), async || {
                // Health is anyone's: nothing but mTLS keeps it from answering.
                let channel = relay.to(service, port).await?;
                let answer = ask(&channel, "/grpc.health.v1.Health/Check", &[], Vec::new(), LIMIT).await;
                // What was said by nobody has no headers.
                if answer.headers.is_empty() { Ok(()) } else { Err(answer.said()) }
            })
            .await?;
            silent += 1;
        }
    }
    let get = async |port, path| {
        let address = relay.address_to("auth", port).await?;
        Ok::<_, String>(http1::request(address, "GET", path, &[], b"").await)
    };
    pods::settles("auth at port 8080 is silent", async || {
        get(8080, "/healthz").await?.map_or_else(|_| Ok(()), |answer| Err(format!("{answer:?}")))
    })
    .await?;
    silent += 1;
    // The same way leads somewhere, so silence means something; and there is nothing else at this port.
    let (keys, other) = (get(8081, "/oauth2/jwks").await?, get(8081, "/healthz").await?);
    match (&keys, &other) {
        (Ok(keys), Ok(other)) if keys.status == 200 && other.status != 200 => {}
        _ => return Err(format!("port 8081, which istiod reads keys from: {keys:?}, and beside them {other:?}")),
    }
    pods::remove(&installation, &[place.name]).await?;
    Ok(format!("{silent} ports are silent, 8081 has the keys and nothing else"))
}

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

//! The chart as it comes: it installs, `helm test` passes, nothing answers to plain text.

use std::time::Duration;

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

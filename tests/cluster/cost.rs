//! What sidecars cost: the same pods with them and without, the same sends from within the cluster, latency as the caller sees it and
//! processor time as the kubelet counts it.

use std::collections::BTreeMap;
use std::time::Duration;

use flaghoist_tests::eventually_within;
use serde_json::Value;

use crate::Outcome;
use crate::installation::{Installation, RELEASE};
use crate::lab::{Kind, Lab};
use crate::pods::{self, Place};
use crate::programs::kubectl;

/// For how long is measured.
const SECONDS: u64 = 15;

/// How old the kubelet's figures may be.
const FIGURES_AGE: Duration = Duration::from_secs(25);

/// Limits that this is not about.
const VALUES: [&str; 2] = ["send.settings.RATE_PER_SECOND=100000", "send.settings.RATE_BURST=100000"];

pub(crate) async fn measure(lab: &mut Lab) -> Outcome {
    let mut lines = Vec::new();
    for (kind, values, name) in [
        (Kind::WithSidecars, &VALUES[..], "with sidecars"),
        (Kind::WithoutSidecars, &[VALUES[0], VALUES[1], "istio.enabled=false"], "without"),
    ] {
        let installation = lab.installs(kind, values).await?;
        if kind == Kind::WithSidecars {
            // Until the sidecars know the keys.
            lab.people().await?;
        }
        for at_a_time in [1, 16] {
            let seen = one(lab, &installation, kind, at_a_time).await?;
            println!("        {name}, {at_a_time} at a time: {seen}");
            lines.push(format!("{name}, {at_a_time} at a time: {seen}"));
        }
    }
    Ok(lines.join("; "))
}

async fn one(lab: &Lab, installation: &Installation, kind: Kind, at_a_time: u32) -> Result<String, String> {
    let name = format!("sends-{at_a_time}");
    let place = Place { name: &name, account: "default", sidecar: kind == Kind::WithSidecars };
    let before = processor(installation).await?;
    let (send, login) = (format!("{RELEASE}-send:9000"), format!("{RELEASE}-login:9000"));
    let (seconds, at_a_time) = (SECONDS.to_string(), at_a_time.to_string());
    let arguments = ["sends", &send, &login, &seconds, &at_a_time];
    pods::start(installation, &lab.images.probe, place, &arguments).await?;
    let line = eventually_within(Duration::from_secs(SECONDS + 60), "sends are measured", async || {
        let said = installation.kubectl(&["logs", &name, "-c", "probe"]).await.unwrap_or_default();
        said.lines().find(|line| line.starts_with("sends=")).map(str::to_owned)
    })
    .await;
    tokio::time::sleep(FIGURES_AGE).await;
    let after = processor(installation).await?;
    pods::remove(installation, &[&name]).await?;
    let sends: f64 = line.split(['=', ' ']).nth(1).and_then(|count| count.parse().ok()).unwrap_or(1.0);
    let mut spent: BTreeMap<&str, f64> = BTreeMap::new();
    for ((pod, container), used) in &after {
        let used = used - before.get(&(pod.clone(), container.clone())).copied().unwrap_or_default();
        let part = match container.as_str() {
            "istio-proxy" if pod.contains("-send-") => "send's sidecar",
            "istio-proxy" if *pod == name => "the caller's sidecar",
            "istio-proxy" => "other sidecars",
            "probe" => "the caller",
            "send" => "send",
            _ => "other services",
        };
        *spent.entry(part).or_default() += used / sends / 1000.0;
    }
    let spent: Vec<String> = spent.into_iter().map(|(part, micros)| format!("{part} {micros:.0} µs")).collect();
    Ok(format!("{line}; processor time per send: {}", spent.join(", ")))
}

/// How much processor time each container of the namespace has used, in nanoseconds.
async fn processor(installation: &Installation) -> Result<BTreeMap<(String, String), f64>, String> {
    let nodes = kubectl(&["get", "nodes", "-o", "name"]).await?;
    let mut used = BTreeMap::new();
    for node in nodes.lines().filter_map(|line| line.strip_prefix("node/")) {
        let page = kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]).await?;
        let page: Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
        for pod in page["pods"].as_array().into_iter().flatten() {
            if pod["podRef"]["namespace"] != installation.namespace.as_str() {
                continue;
            }
            for container in pod["containers"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let nanoseconds = container["cpu"]["usageCoreNanoSeconds"].as_f64().unwrap_or_default();
                used.insert((text(&pod["podRef"]["name"]), text(&container["name"])), nanoseconds);
            }
        }
    }
    Ok(used)
}

//! What the mesh itself says about its configuration.

use flaghoist_tests::http1;

use crate::Outcome;
use crate::forward::Forward;
use crate::installation::Installation;
use crate::lab::Lab;
use crate::programs::{get, istioctl};

/// What `istioctl analyze` remarks of an installation that is as it should be: the namespace has no label, for each pod asks for its sidecar
/// itself; and a server outside is known by its port. istio/README.md says both.
const REMARKS: [&str; 2] = ["IST0102", "IST0134"];

pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    of(&installation).await
}

/// `istioctl analyze` finds nothing, and nothing that istiod sent was refused, by its own count and by the sidecars'.
pub(crate) async fn of(installation: &Installation) -> Outcome {
    let analysis = istioctl(&["analyze", "--namespace", &installation.namespace, "--output", "json"]).await?;
    let found: serde_json::Value = serde_json::from_str(&analysis).map_err(|error| format!("{error}: {analysis}"))?;
    let found = found.as_array().cloned().unwrap_or_default();
    let remark = |message: &serde_json::Value| message["code"].as_str().is_some_and(|code| REMARKS.contains(&code));
    if let Some(fault) = found.iter().find(|message| !remark(message)) {
        return Err(format!("istioctl analyze: {fault}"));
    }
    let mut rejections = 0;
    let istiods =
        get(&["pods", "--all-namespaces", "-l", "app=istiod", "--field-selector=status.phase=Running"]).await?;
    let istiods = istiods["items"].as_array().cloned().unwrap_or_default();
    for istiod in &istiods {
        let text = |name: &str| istiod["metadata"][name].as_str().unwrap_or_default().to_owned();
        let way = Forward::new(&text("namespace"), &format!("pod/{}", text("name")), 15014);
        let page = http1::get(way.address().await?, "/metrics").await.text();
        // Absent until the first one.
        let counts = page.lines().filter(|line| line.starts_with("pilot_total_xds_rejects"));
        rejections += counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64;
    }
    if istiods.is_empty() || rejections > 0 {
        return Err(format!("{} istiods count {rejections} rejections", istiods.len()));
    }
    let (mut sidecars, mut counters) = (0, 0);
    for pod in installation.get(&["pods", "--field-selector=status.phase=Running"]).await?["items"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let containers = pod["spec"]["initContainers"].as_array();
        if !containers.is_some_and(|containers| containers.iter().any(|container| container["name"] == "istio-proxy")) {
            continue;
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let ask = ["pilot-agent", "request", "GET", "stats?filter=update_rejected"];
        let said = installation.kubectl(&[&["exec", name, "-c", "istio-proxy", "--"], ask.as_slice()].concat()).await?;
        for line in said.lines().filter(|line| !line.is_empty()) {
            counters += 1;
            if !line.ends_with(": 0") {
                return Err(format!("the sidecar of {name} has refused what it was sent: {line}"));
            }
        }
        sidecars += 1;
    }
    if sidecars == 0 || counters == 0 {
        return Err("no sidecar could be asked".into());
    }
    Ok(format!(
        "istioctl finds nothing ({} remarks of those that are known), istiod counts no rejection, {sidecars} sidecars none",
        found.len()
    ))
}

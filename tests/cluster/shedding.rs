//! What the sidecars keep from a service that has too much to do, and from a pod that fails.

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::Code;

use crate::Outcome;
use crate::ask::ask;
use crate::installation::{Installation, RELEASE};
use crate::lab::Lab;
use crate::pods::{self, StandIn};

/// A method that anyone may call and that is never retried, so that every call is one try.
const PATH: &str = "/flaghoist.login.v1.LoginService/Login";

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How many calls a service is given at once while its bound is tried.
const REQUESTS_MAX: usize = 4;

/// Calls above the bound are refused at once; those below it go on.
pub(crate) async fn overflow(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let nobody = lab.nobody().await?;
    let [stand_in] = stand_ins(lab, &installation, ["stand-in-login"]).await?;
    let before = bound(&installation, None).await?;
    bound(&installation, Some(REQUESTS_MAX as u64)).await?;
    let way = nobody.to("login", 9000).await?;
    let (at_once, slow) = (20, Duration::from_secs(3));
    let after = slow.as_millis().to_string();
    let mut seen = String::new();
    pods::settles("calls above the bound are refused", async || {
        let headers = [("stand-in-after-ms", after.as_str())];
        let calls = (0..at_once).map(|_| ask(&way, PATH, &headers, Vec::new(), LIMIT));
        let answers = futures_util::future::join_all(calls).await;
        let done = answers.iter().filter(|answer| answer.code == Code::Ok).count();
        let shed: Vec<_> = answers.iter().filter(|answer| answer.code == Code::Unavailable).collect();
        let latest = shed.iter().map(|answer| answer.took).max().unwrap_or_default();
        seen = format!("{done} of {at_once} calls at once done, {} refused within {latest:.1?}", shed.len());
        // Envoy's threads count together, and one may be let in while another is counted.
        let enough = (REQUESTS_MAX..=REQUESTS_MAX + 2).contains(&done);
        if enough && done + shed.len() == at_once && latest < slow / 2 { Ok(()) } else { Err(seen.clone()) }
    })
    .await?;
    bound(&installation, Some(before)).await?;
    pods::settles("the bound is lifted", async || {
        let headers = [("stand-in-after-ms", "300")];
        let calls = (0..at_once).map(|_| ask(&way, PATH, &headers, Vec::new(), LIMIT));
        let answers = futures_util::future::join_all(calls).await;
        let done = answers.iter().filter(|answer| answer.code == Code::Ok).count();
        if done == at_once { Ok(()) } else { Err(format!("{done} of {at_once} done")) }
    })
    .await?;
    leave(&installation, &[&stand_in.name]).await?;
    Ok(format!("bound to {REQUESTS_MAX}: {seen}; with that of the chart, {before}, all {at_once} are done"))
}

/// One of two pods fails: after a few calls it gets none, and after a while it is tried again.
pub(crate) async fn ejection(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let nobody = lab.nobody().await?;
    let [good, bad] = stand_ins(lab, &installation, ["stand-in-good", "stand-in-bad"]).await?;
    let way = nobody.to("login", 9000).await?;
    let call = || ask(&way, PATH, &[], Vec::new(), LIMIT);
    pods::settles("both pods are called", async || {
        let before = (good.total().await?, bad.total().await?);
        for _ in 0..20 {
            call().await;
        }
        let now = (good.total().await?, bad.total().await?);
        if now.0 > before.0 && now.1 > before.1 { Ok(()) } else { Err(format!("{before:?} became {now:?}")) }
    })
    .await?;
    // A sidecar takes what changes within a second of another change together with that: both pods have only just come.
    tokio::time::sleep(Duration::from_secs(2)).await;
    bad.answers(14).await?;
    let (began, mut failures) = (Instant::now(), 0_u64);
    let mut in_a_row = 0;
    while in_a_row < 50 {
        let answer = call().await;
        in_a_row = if answer.code == Code::Ok { in_a_row + 1 } else { 0 };
        failures += u64::from(answer.code != Code::Ok);
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("after {failures} failures the pod still gets calls"));
        }
    }
    let noticed = began.elapsed();
    let rule = installation.get(&["destinationrule", &format!("{RELEASE}-login")]).await?;
    let said = rule["spec"]["trafficPolicy"]["outlierDetection"]["consecutiveGatewayErrors"].as_u64();
    let said = said.ok_or("the chart does not say after how many failures a pod is ejected")?;
    // A few more may be under way while the sidecar's threads tell one another.
    if failures > 3 * said {
        return Err(format!(
            "the pod was ejected only after {failures} failures, {noticed:.1?}; the chart says {said}"
        ));
    }
    let before = bad.total().await?;
    let (mut calls, began) = (0, Instant::now());
    // It is out for 10 s at least.
    while began.elapsed() < Duration::from_secs(4) {
        let answer = call().await;
        if answer.code != Code::Ok {
            return Err(format!("an ejected pod was called: {}", answer.said()));
        }
        calls += 1;
    }
    let meanwhile = bad.total().await? - before;
    if meanwhile > 0 {
        return Err(format!("an ejected pod got {meanwhile} of {calls} calls"));
    }
    bad.answers(0).await?;
    let began = Instant::now();
    pods::settles("it is tried again", async || {
        let before = bad.total().await?;
        for _ in 0..20 {
            call().await;
        }
        if bad.total().await? > before { Ok(()) } else { Err("none of 20 calls".into()) }
    })
    .await?;
    leave(&installation, &[&good.name, &bad.name]).await?;
    Ok(format!(
        "ejected after {failures} failures, {noticed:.1?}; then 0 of {calls} calls; back after another {:.0} s",
        began.elapsed().as_secs_f64()
    ))
}

/// How many calls login is given at once, as the chart's rule says it, and set to another number if one is given.
async fn bound(installation: &Installation, to: Option<u64>) -> Result<u64, String> {
    let rule = format!("{RELEASE}-login");
    if let Some(to) = to {
        let pool = json!({"http": {"http2MaxRequests": to}});
        let patch = json!({"spec": {"trafficPolicy": {"connectionPool": pool}}}).to_string();
        installation.kubectl(&["patch", "destinationrule", &rule, "--type=merge", "-p", &patch]).await?;
    }
    let rule = installation.get(&["destinationrule", &rule]).await?;
    let said = rule["spec"]["trafficPolicy"]["connectionPool"]["http"]["http2MaxRequests"].as_u64();
    said.ok_or_else(|| "the chart sets no bound".into())
}

/// Puts stand-ins in the place of login.
async fn stand_ins<const N: usize>(
    lab: &Lab,
    installation: &Installation,
    names: [&str; N],
) -> Result<[StandIn; N], String> {
    StandIn::takes_over(installation, "login", true).await?;
    let mut started = Vec::new();
    for name in names {
        started.push(StandIn::start(installation, &lab.images.probe, "login", name).await?);
    }
    pods::ready(installation, &names).await?;
    Ok(started.try_into().expect("as many as names"))
}

async fn leave(installation: &Installation, names: &[&str]) -> Result<(), String> {
    StandIn::takes_over(installation, "login", false).await?;
    pods::remove(installation, names).await
}

//! What an operator does by `helm`: an upgrade to another image and other values under load, a canary, an uninstallation and its undoing.

use std::time::{Duration, Instant};

use flaghoist_tests::http1;
use flaghoist_tests::talk::{Seen, Talk};
use flaghoist_tests::{PASSWORD, Person};

use crate::Outcome;
use crate::forward::Forward;
use crate::installation::{Installation, RELEASE, SERVICES};
use crate::lab::{Kind, Lab};
use crate::restarts::shared;

/// How many percent of the calls the canary gets, and how many calls are made.
const WEIGHT_PERCENT: u32 = 20;
const CALLS: u32 = 400;

/// How many of them it gets at least and at most: four standard deviations around 80.
const SHARE: std::ops::RangeInclusive<u32> = 48..=112;

/// How long a delivery may take while a service on SQLite, which has one pod only, is replaced: the pod leaves, its volume goes over, the next
/// one starts with its sidecar.
const PAUSE_MAX: Duration = Duration::from_secs(90);

/// On PostgreSQL and NATS: another image and other values, there and back. Clients see streams that are told to go elsewhere, nothing else.
pub(crate) async fn upgrade(lab: &mut Lab) -> Outcome {
    let installation = shared(lab).await?;
    lab.people().await?;
    let world = lab.world().await?;
    let mut talk = Talk::begin(&world, rand::random()).await;
    let next = installation.with_image(&lab.images.next);
    let mut latest = Duration::ZERO;
    for (what, to) in [("up", &next), ("back", &installation)] {
        let before = installation.pods("send").await?;
        let began = Instant::now();
        let late = talk.during(Seen::Drains, to.upgrade(&["send.settings.GROUP_MEMBERS_MAX=900"])).await;
        let late = late.map_err(|broken| format!("{what}: {broken}"))?;
        latest = latest.max(late);
        let after = installation.pods("send").await?;
        if before.iter().any(|pod| after.contains(pod)) {
            return Err(format!("{what}: a pod of send is still the one of before: {after:?}"));
        }
        println!("        {what}: {} s, latest delivery {late:.1?}; {}", began.elapsed().as_secs(), talk.totals());
    }
    let totals = talk.end().await?;
    installation.upgrade(&[]).await?;
    Ok(format!(
        "to another image with other values and back, all services at once: {totals}, latest delivery {latest:.1?}"
    ))
}

/// A canary of send gets its share of the calls, whoever makes them, and people notice nothing of it.
pub(crate) async fn canary(lab: &mut Lab) -> Outcome {
    let installation = shared(lab).await?;
    let people = lab.people().await?;
    let (_, tag) = lab.images.next_parts();
    let weight = format!("send.canary.weight={WEIGHT_PERCENT}");
    installation.upgrade(&[&weight, &format!("send.canary.image.tag={tag}")]).await?;
    let pods = installation.pods("send").await?;
    let canaries: Vec<_> = pods.iter().filter(|pod| pod.contains("-canary-")).collect();
    let [canary] = canaries[..] else { return Err(format!("not one pod of a canary, but {pods:?}")) };
    let counted = async || sends_at(&installation, canary).await;
    let before = counted().await?;
    for number in 0..CALLS {
        says(&people.alice, &people.admin, number).await?;
    }
    let got = counted().await? - before;
    let all = people.alice.reads_all(&people.alice.direct(&people.admin).await).await.len();
    installation.upgrade(&[]).await?;
    if !SHARE.contains(&got) || all < CALLS as usize {
        return Err(format!(
            "{got} of {CALLS} messages went to the canary, which is to get {WEIGHT_PERCENT} %; {all} are there"
        ));
    }
    if installation.pods("send").await?.contains(canary) {
        return Err("the canary outlives its weight".into());
    }
    Ok(format!("{got} of {CALLS} messages went to a canary of {WEIGHT_PERCENT} %, all are there"))
}

async fn says(from: &Person, to: &Person, number: u32) -> Result<(), String> {
    from.sends(format!("canary {number}"))
        .tries(to)
        .await
        .map(drop)
        .map_err(|status| format!("send {number}: {status}"))
}

/// How many sends a pod has answered.
async fn sends_at(installation: &Installation, pod: &str) -> Result<u32, String> {
    let way = Forward::new(&installation.namespace, pod, 9464);
    let page = http1::get(way.address().await?, "/metrics").await.text();
    let lines =
        page.lines().filter(|line| line.starts_with("flaghoist_rpc_requests_total{") && line.contains("CreateMessage"));
    lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<u32>().ok()).ok_or(line.to_owned())).sum()
}

/// On SQLite: an upgrade is a pause, and loses nothing; an uninstallation leaves volumes and keys, with which the next one goes on.
pub(crate) async fn uninstall(lab: &mut Lab) -> Outcome {
    // Limits that this check is not about.
    let limits = ["login.settings.REGISTRATION_BURST=1000", "login.settings.ADDRESS_BURST=1000"];
    let installation = lab.installs(Kind::Defaults, &limits).await?;
    let people = lab.people().await?;
    let world = lab.world().await?;
    let mut talk = Talk::begin(&world, rand::random()).await;
    let began = Instant::now();
    let next = installation.with_image(&lab.images.next);
    let late = talk.during(Seen::Failures, next.upgrade(&[])).await.map_err(|broken| format!("upgrade: {broken}"))?;
    let upgraded = began.elapsed();
    if late > PAUSE_MAX {
        return Err(format!("the upgrade held a delivery up for {late:.0?}"));
    }
    let totals = talk.end().await?;

    let alice = people.alice.another_session().await;
    let conversation = alice.direct(&people.admin).await;
    alice.sends("before").to(&people.admin).await;
    installation.uninstall().await?;
    // helm waits for what it made itself, and pods are made by StatefulSets.
    let of = format!("app.kubernetes.io/instance={RELEASE}");
    installation.kubectl(&["wait", "--for=delete", "pods", "-l", &of, "--timeout=120s"]).await?;
    let volumes = installation.get(&["persistentvolumeclaims"]).await?;
    let volumes = volumes["items"].as_array().map_or(0, Vec::len);
    if volumes < SERVICES.len() {
        return Err(format!("the uninstallation left {volumes} volumes of {}", SERVICES.len()));
    }
    installation.install_again().await?;
    lab.answered(&alice).await?;
    let alice = Person::try_sign_in(&world, &alice.handle, PASSWORD).await;
    let alice = alice.map_err(|status| format!("nobody can sign in after a new installation: {status}"))?;
    let texts: Vec<_> = alice.reads_all(&conversation).await.into_iter().map(|message| message.text).collect();
    if texts != ["before"] {
        return Err(format!("after a new installation the conversation is {texts:?}"));
    }
    Ok(format!(
        "an upgrade took {upgraded:.0?} and held deliveries up for {late:.1?} at most, {totals}; uninstalled, {volumes} volumes stay; installed \
         again, people sign in, their tokens of before are good, and messages are there",
    ))
}

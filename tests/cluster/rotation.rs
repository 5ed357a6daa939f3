//! The signing key changes, with times set short on both sides: the sidecars know each new key before the first token that it signs. A
//! token that has expired is seen off here as well, since it does so soon.

use std::time::{Duration, Instant};

use flaghoist_tests::forge::Parts;
use tonic::Code;

use crate::Outcome;
use crate::ask::{ask, channel};
use crate::forward::Forward;
use crate::installation::SERVICES;
use crate::lab::Lab;
use crate::programs::{get, kubectl};
use crate::restarts::shared;
use crate::tokens::READS;

/// How often istiod reads the keys; 20 minutes unless it is told otherwise.
const REFRESH: &str = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL";

/// What the issuer is told: a key is published for as long as it signs, which is more than twice what istiod takes to notice.
const TIMES: [&str; 4] = [
    "auth.settings.KEY_PERIOD=40s",
    "auth.settings.KEY_LEAD=40s",
    "auth.settings.KEY_KEEP=90s",
    "auth.settings.ACCESS_TOKEN_LIFETIME=30s",
];

/// How many new keys are waited for, and for how long.
const ROTATIONS: usize = 2;
const LIMIT: Duration = Duration::from_secs(240);

/// After how long a token is refused everywhere: it lives 30 s, and a sidecar allows a clock that is a minute late.
const EXPIRED: Duration = Duration::from_secs(95);

pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = shared(lab).await?;
    let istiods = get(&["deployments", "--all-namespaces", "-l", "app=istiod"]).await?;
    let istiod = &istiods["items"][0]["metadata"];
    let (Some(name), Some(namespace)) = (istiod["name"].as_str(), istiod["namespace"].as_str()) else {
        return Err("istiod is no Deployment with the label app=istiod here: its interval cannot be set".into());
    };
    let (istiod, before) = (format!("deployment/{name}"), interval(&istiods["items"][0]));
    set(namespace, &istiod, &format!("{REFRESH}=10s")).await?;
    installation.upgrade(&TIMES).await?;
    let outcome = watch(lab).await;
    installation.upgrade(&[]).await?;
    let back = before.map_or_else(|| format!("{REFRESH}-"), |value| format!("{REFRESH}={value}"));
    set(namespace, &istiod, &back).await?;
    outcome
}

async fn watch(lab: &mut Lab) -> Outcome {
    let people = lab.people().await?;
    let nobody = lab.nobody().await?;
    let outside = channel(lab.gateway().await?);
    let mut within = Vec::new();
    for service in SERVICES {
        within.push(nobody.to(service, 9000).await?);
    }
    let mut person = people.alice.another_session().await;
    let (old, issued) = (person.token(), Instant::now());
    let mut keys = vec![key(&old)];
    let (mut tokens, mut calls) = (0, 0);
    let began = Instant::now();
    // The first key is waited out: it may have been published before istiod's times were short.
    while keys.len() <= ROTATIONS + 1 || issued.elapsed() < EXPIRED {
        if began.elapsed() > LIMIT {
            return Err(format!("{} new keys within {LIMIT:?}", keys.len() - 1));
        }
        person.refreshes().await.map_err(|error| format!("no new token: {error:?}"))?;
        tokens += 1;
        let key = key(&person.token());
        // For a moment one pod may sign with the next key and the other with the one before.
        let new = !keys.contains(&key);
        if new {
            keys.push(key.clone());
        }
        let bearer = format!("Bearer {}", person.token());
        for (place, path) in READS.iter().enumerate() {
            for way in [&within[place], &outside] {
                let answer = ask(way, path, &[("authorization", &bearer)], Vec::new(), Duration::from_secs(5)).await;
                if answer.code != Code::Ok {
                    let which = if new { "the first token" } else { "a token" };
                    return Err(format!("{which} of the key {key} is answered {} at {path}", answer.said()));
                }
                calls += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let bearer = format!("Bearer {old}");
    let installation = shared(lab).await?;
    for (place, service) in SERVICES.iter().enumerate() {
        let pods = installation.pods(service).await?;
        let way = Forward::new(&installation.namespace, &pods[0], 9000);
        let past = channel(way.address().await?);
        for (way, by_sidecar) in [(&within[place], true), (&past, false)] {
            let answer =
                ask(way, READS[place], &[("authorization", &bearer)], Vec::new(), Duration::from_secs(5)).await;
            if answer.code != Code::Unauthenticated || answer.by_sidecar() != by_sidecar {
                return Err(format!("an expired token is answered {} by {service}", answer.said()));
            }
        }
    }
    Ok(format!(
        "{} keys signed one after the other, {tokens} tokens: all {calls} calls taken, from the first token of each key on; an \
         expired token is refused by every sidecar and every service",
        keys.len()
    ))
}

/// The id of the key that signed a token.
fn key(token: &str) -> String {
    Parts::of(token).header["kid"].as_str().unwrap_or_default().to_owned()
}

/// What istiod is told now.
fn interval(deployment: &serde_json::Value) -> Option<String> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array()?;
    let mut said = containers.iter().filter_map(|container| container["env"].as_array()).flatten();
    let found = said.find(|variable| variable["name"] == REFRESH)?;
    found["value"].as_str().map(str::to_owned)
}

async fn set(namespace: &str, istiod: &str, variable: &str) -> Result<(), String> {
    kubectl(&["set", "env", "-n", namespace, istiod, variable]).await?;
    kubectl(&["rollout", "status", "-n", namespace, istiod, "--timeout=180s"]).await.map(drop)
}

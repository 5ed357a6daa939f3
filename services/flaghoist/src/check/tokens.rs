//! Whose tokens the sidecars take: those of auth's issuer, and nobody else's.

use flaghoist_mesh::labels::chosen;
use flaghoist_mesh::{items, texts};
use flaghoist_runtime::token::AUDIENCE;
use serde_json::Value;

use super::docs;
use super::report::Group;
use super::sight::{Installed, Sight, name};

/// Judges it. `issuer` is auth's own.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>, issuer: &str) -> Group {
    let mut group = Group::new("tokens");
    if let Err(refusal) = &sight.mesh {
        group.warning("the RequestAuthentications may be read", refusal.why(), docs::RIGHTS);
        return group;
    }
    let all = sight.policies("RequestAuthentication");
    let (mut lacking, mut wrong, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for part in installed.parts.iter().filter(|part| !part.workloads.is_empty()) {
        let rules: Vec<(&Value, &Value)> = all
            .iter()
            .filter(|one| chosen(&one["spec"]["selector"], &part.labels))
            .flat_map(|one| items(&one["spec"]["jwtRules"]).iter().map(move |rule| (*one, rule)))
            .collect();
        let ours = rules.iter().find(|(_, rule)| rule["issuer"] == issuer);
        match ours {
            None => lacking.push(format!("no RequestAuthentication for {} names {issuer}", part.service)),
            Some((one, rule)) => {
                let mut says = |what: &str| wrong.push(format!("{}: {what}", name(one)));
                if !texts(&rule["audiences"]).contains(&AUDIENCE) {
                    says(&format!("audiences lacks {AUDIENCE}"));
                }
                if rule["fromHeaders"].is_null() || !rule["fromParams"].is_null() || !rule["fromCookies"].is_null() {
                    says("tokens are looked for outside the authorization header too");
                }
                if rule["forwardOriginalToken"] != true {
                    says("forwardOriginalToken is not set, so the services see no token");
                }
                if rule["jwks"].is_null() && !keys(rule).is_some_and(|keys| reached(sight, installed, keys)) {
                    says(&format!("jwksUri {} is not port 8081 of auth", keys(rule).unwrap_or("(none)")));
                }
            }
        }
        for (one, rule) in rules.iter().filter(|(_, rule)| rule["issuer"] != issuer) {
            others.push(format!("{} takes tokens of {} at {}", name(one), rule["issuer"], part.service));
        }
    }
    wrong.sort();
    wrong.dedup();
    group.must(
        "the sidecars know the issuer",
        lacking,
        format!(
            "without it every call with a token is refused; issuer.url and istio.issuer must be the same: {}",
            docs::POLICIES
        ),
    );
    group.must(
        "they take its tokens as the services do",
        wrong,
        "helm upgrade with the chart of this version restores it",
    );
    group.should(
        "they take tokens of no other issuer",
        others,
        "the services refuse them all the same; take the other one away unless something else needs it",
    );
    let inside = issuer.starts_with("http://") && issuer.contains(".svc.");
    group.should(
        "the issuer is an address that people reach",
        inside.then(|| format!("it is {issuer}, which only the cluster reaches")).into_iter().collect(),
        "set issuer.url before programs outside sign people in by OAuth; changing it later ends every session",
    );
    group
}

fn keys(rule: &Value) -> Option<&str> {
    rule["jwksUri"].as_str()
}

/// Whether the address of the keys is auth's port for them.
fn reached(sight: &Sight, installed: &Installed<'_>, keys: &str) -> bool {
    let Some(auth) = installed.part("auth").and_then(|part| part.workloads.first()) else { return false };
    let host = format!("http://{}.{}.svc", name(auth), sight.name);
    keys.strip_prefix(&host).is_some_and(|rest| rest.ends_with(":8081/oauth2/jwks"))
}

//! Whether the policies let through whom the contracts name, and nobody else. The policies are not read but asked: each kind of caller
//! for each method, at each port, with whatever stands in the namespace and in the mesh's root beside ours.

use std::collections::{BTreeMap, BTreeSet};

use flaghoist_mesh::labels::chosen;
use flaghoist_mesh::policy::{Answer, Request, Token, ask};
use flaghoist_mesh::served::{PORTS, Served, served};
use flaghoist_mesh::{items, texts};
use flaghoist_proto::Access;
use serde_json::Value;

use super::docs;
use super::report::Group;
use super::sight::{Installed, Part, Sight, name};

/// A caller that the policies are asked about.
#[derive(Clone, Copy, Debug)]
struct Caller<'a> {
    principal: Option<&'a str>,
    token: Option<Token<'a>>,
}

/// Judges it. `issuer` is auth's own.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>, issuer: &str) -> Group {
    let mut group = Group::new("policies");
    if let Err(refusal) = &sight.mesh {
        group.warning("the AuthorizationPolicies may be read", refusal.why(), docs::RIGHTS);
        return group;
    }
    if let Err(refusal) = &sight.root {
        group.warning(
            format!("the policies of the whole mesh ({}) may be read", sight.config.root),
            refusal.why(),
            "they count too, and are left out of what is said below",
        );
    }
    let policies = sight.policies("AuthorizationPolicy");
    let restore = format!("helm upgrade with the chart of this version restores it: {}", docs::POLICIES);
    let (unnamed, twice, unknown) = named(&policies, installed);
    group.must("each method has a rule", unnamed, &restore);
    group.must(
        "no method has two",
        twice,
        "two rules for one method add up: take the one away that does not belong there",
    );
    group.must(
        "no rule names what does not exist",
        unknown,
        "is the chart of another version than this program? Compare with `flaghoist --version` of the installed one",
    );
    group.must(
        "what no policy names is refused to every pod of the release",
        undenied(&policies, installed),
        format!("the policy {}-deny-all is missing or changed; {restore}", installed.release),
    );
    let asked = ask_for_all(sight, &policies, installed, issuer);
    group.must(
        "the policies let nobody in whom the contracts do not name",
        asked.too_much,
        "an ALLOW policy adds to the others, so one more opens what is closed: take it away, or give it a selector",
    );
    group.must("they let in everyone whom the contracts name", asked.too_little, restore);
    group.should(
        "every policy can be judged from here",
        asked.perhaps,
        "what depends on addresses, hosts or headers has to be read by a person",
    );
    group
}

/// Paths of methods that no rule of ours names, that two name, and paths that are no methods.
fn named(policies: &[&Value], installed: &Installed<'_>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut rules: BTreeMap<(&str, u16, &str), u32> = BTreeMap::new();
    let mut unknown = Vec::new();
    for policy in policies.iter().filter(|policy| Sight::of_release(policy, &installed.release)) {
        let part = installed.parts.iter().find(|part| {
            !policy["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"].is_null()
                && chosen(&policy["spec"]["selector"], &part.labels)
        });
        let Some(part) = part else { continue };
        for operation in
            items(&policy["spec"]["rules"]).iter().flat_map(|rule| items(&rule["to"])).map(|to| &to["operation"])
        {
            for (port, path) in texts(&operation["ports"])
                .iter()
                .flat_map(|port| texts(&operation["paths"]).into_iter().map(move |path| (port, path)))
            {
                let Ok(port) = port.parse() else { continue };
                match served().iter().find(|one| one.service == part.service && one.port == port && one.path == path) {
                    Some(one) => *rules.entry((one.service, port, one.path)).or_default() += 1,
                    None => unknown.push(format!("{} names {path} at port {port} of {}", name(policy), part.service)),
                }
            }
        }
    }
    let at = |one: &Served| (one.service, one.port, one.path);
    let count = |one: &&Served| rules.get(&at(one)).copied().unwrap_or(0);
    let here =
        || served().iter().filter(|one| installed.part(one.service).is_some_and(|part| !part.workloads.is_empty()));
    let unnamed = here().filter(|one| count(one) == 0).map(|one| format!("none names {}", one.path));
    let twice = here().filter(|one| count(one) > 1).map(|one| format!("{} is in {} rules", one.path, count(&one)));
    (unnamed.collect(), twice.collect(), unknown)
}

/// Pods to which a path that does not exist gets through, and a namespace without a policy that closes it.
fn undenied(policies: &[&Value], installed: &Installed<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let closes = |policy: &&&Value| {
        policy["spec"]["action"].as_str().unwrap_or("ALLOW") == "ALLOW"
            && items(&policy["spec"]["rules"]).is_empty()
            && policy["spec"]["targetRefs"].is_null()
    };
    let closing: Vec<&&Value> = policies.iter().filter(closes).collect();
    for part in installed.parts.iter().filter(|part| !part.workloads.is_empty()) {
        if !closing.iter().any(|policy| chosen(&policy["spec"]["selector"], &part.labels)) {
            faults.push(format!("no policy without rules closes the pods of {}", part.service));
        }
        for port in PORTS {
            let request =
                Request { port, method: "POST", path: "/flaghoist.none.v1.None/None", principal: None, token: None };
            if let Answer::Allowed(by) = ask(policies, &part.labels, &request) {
                let by = by.map_or("because no policy concerns it".to_owned(), |by| format!("by {}", named_as(by)));
                faults.push(format!("port {port} of {} is open to everyone, {by}", part.service));
            }
        }
    }
    faults
}

/// What the policies were found to do.
#[derive(Debug, Default)]
struct Found {
    too_much: Vec<String>,
    too_little: Vec<String>,
    perhaps: Vec<String>,
}

/// Paths and ports by who is let through, or is not, and by which policy.
#[derive(Debug, Default)]
struct Ways(BTreeMap<String, (BTreeSet<&'static str>, BTreeSet<u16>)>);

impl Ways {
    fn note(&mut self, what: String, path: &'static str, port: u16) {
        let (paths, ports) = self.0.entry(what).or_default();
        paths.insert(path);
        ports.insert(port);
    }

    fn told(self) -> Vec<String> {
        let told = |(what, (paths, ports)): (String, (BTreeSet<&str>, BTreeSet<u16>))| {
            let first = paths.first().copied().unwrap_or_default();
            let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("{what} {first}{more}, at port {}", ports.join(", "))
        };
        self.0.into_iter().map(told).collect()
    }
}

fn ask_for_all(sight: &Sight, policies: &[&Value], installed: &Installed<'_>, issuer: &str) -> Found {
    let principals = principals(sight, policies, installed);
    let authentications = sight.policies("RequestAuthentication");
    let rules = authentications.iter().flat_map(|one| items(&one["spec"]["jwtRules"]));
    let issuers = rules.filter_map(|rule| rule["issuer"].as_str()).filter(|other| *other != issuer);
    let issuers: BTreeSet<&str> = issuers.chain(["https://elsewhere.example"]).collect();
    let person = Token { issuer, session: true, scopes: &["chat.read", "chat.send"] };
    let admin = Token { scopes: &["chat.read", "admin"], ..person };
    let mut tokens = vec![
        (String::new(), None),
        ("a person".to_owned(), Some(person)),
        ("an admin".to_owned(), Some(admin)),
        ("a program".to_owned(), Some(Token { session: false, ..admin })),
    ];
    tokens.extend(
        issuers.into_iter().map(|other| (format!("a person of {other}"), Some(Token { issuer: other, ..admin }))),
    );
    // Those with the least to show come first.
    let callers: Vec<(String, Caller<'_>)> = principals
        .iter()
        .flat_map(|(who, principal)| {
            tokens.iter().map(move |(holder, token)| {
                let named = if token.is_none() { who.clone() } else { format!("{holder} (from {who})") };
                (named, Caller { principal: principal.as_deref(), token: *token })
            })
        })
        .collect();

    let (mut too_much, mut too_little, mut perhaps) = (Ways::default(), Ways::default(), Ways::default());
    for one in served() {
        let Some(part) = installed.part(one.service).filter(|part| !part.workloads.is_empty()) else { continue };
        // The others would be passed over for each question again.
        let here: Vec<&Value> =
            policies.iter().filter(|policy| chosen(&policy["spec"]["selector"], &part.labels)).copied().collect();
        // The same path may be another row's at another port.
        let others = served().iter().filter(|row| row.service == one.service && row.path == one.path);
        let others: Vec<u16> = others.map(|row| row.port).filter(|port| *port != one.port).collect();
        for port in PORTS.into_iter().filter(|port| !others.contains(port)) {
            // Who else gets through where somebody with less does is no news.
            let mut through: Vec<Caller<'_>> = Vec::new();
            let mut kept_out = false;
            for (who, caller) in &callers {
                let wanted = port == one.port && wanted(one, caller, installed, issuer);
                let (principal, token) = (caller.principal, caller.token);
                let request = Request { port, method: one.methods[0], path: one.path, principal, token };
                match ask(&here, &part.labels, &request) {
                    Answer::Allowed(by) if !wanted => {
                        if !through.iter().any(|less| less.shows_no_more_than(caller)) {
                            let by = by.map_or("no policy".to_owned(), named_as);
                            too_much.note(format!("{by} lets {who} call {}:", part.service), one.path, port);
                        }
                        through.push(*caller);
                    }
                    Answer::Refused(by) if wanted && !kept_out => {
                        kept_out = true;
                        let by = by.map_or("nothing allows".to_owned(), |by| format!("{} forbids", named_as(by)));
                        too_little.note(format!("{by} {who} to call {}:", part.service), one.path, port);
                    }
                    Answer::Perhaps(policy, why) => {
                        perhaps.note(format!("{} depends on {why}, for", named_as(policy)), one.path, port);
                    }
                    _ => {}
                }
            }
        }
    }
    Found { too_much: too_much.told(), too_little: too_little.told(), perhaps: perhaps.told() }
}

impl Caller<'_> {
    /// Whether whoever lets this caller through cannot have looked at what the other one has besides.
    fn shows_no_more_than(&self, other: &Self) -> bool {
        (self.principal.is_none() || self.principal == other.principal) && self.token.is_none()
    }
}

/// Whether the contracts let this caller call it.
fn wanted(one: &Served, caller: &Caller<'_>, installed: &Installed<'_>, issuer: &str) -> bool {
    let person = caller.token.filter(|token| token.issuer == issuer && token.session);
    match one.access {
        Access::Anyone => true,
        Access::User => person.is_some(),
        Access::Admin => person.is_some_and(|token| token.scopes.contains(&"admin")),
        Access::Service(callers) => {
            let principal = |caller: &&str| installed.part(caller).map(|part: &Part<'_>| part.principal.as_str());
            caller.principal.is_some() && callers.iter().any(|named| principal(named) == caller.principal)
        }
    }
}

/// Callers that may be tried: the services, everybody whom a policy names, somebody else, and who has no certificate.
fn principals(sight: &Sight, policies: &[&Value], installed: &Installed<'_>) -> Vec<(String, Option<String>)> {
    let mut principals: BTreeMap<String, String> = BTreeMap::new();
    for part in &installed.parts {
        principals.insert(part.principal.clone(), part.service.to_owned());
    }
    let sources = policies.iter().flat_map(|policy| items(&policy["spec"]["rules"]));
    for source in sources.flat_map(|rule| items(&rule["from"])).map(|from| &from["source"]) {
        for field in ["principals", "notPrincipals"] {
            for principal in texts(&source[field]) {
                // A pattern is tried by one who fits it.
                let example = match (principal.strip_suffix('*'), principal.strip_prefix('*')) {
                    (Some(""), _) => continue,
                    (Some(begin), _) => format!("{begin}somebody"),
                    (_, Some(end)) => format!("cluster.local/ns/elsewhere{end}"),
                    _ => principal.to_owned(),
                };
                principals.entry(example.clone()).or_insert(example);
            }
        }
        for field in ["namespaces", "notNamespaces"] {
            for namespace in texts(&source[field]).into_iter().filter(|namespace| !namespace.contains('*')) {
                let example = format!("cluster.local/ns/{namespace}/sa/somebody");
                principals.entry(example.clone()).or_insert(example);
            }
        }
    }
    for stranger in
        [format!("cluster.local/ns/{}/sa/default", sight.name), "cluster.local/ns/elsewhere/sa/default".into()]
    {
        principals.entry(stranger.clone()).or_insert(stranger);
    }
    let nobody = ("a caller without a certificate".to_owned(), None);
    [nobody].into_iter().chain(principals.into_iter().map(|(principal, who)| (who, Some(principal)))).collect()
}

fn named_as(policy: &Value) -> String {
    let namespace = policy["metadata"]["namespace"].as_str().unwrap_or_default();
    format!("the policy {namespace}/{}", name(policy))
}

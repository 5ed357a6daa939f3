//! Retries, timeouts and ways in: each method has the route of its class within the mesh and, if people call it, at the gateway.

use std::collections::{BTreeMap, BTreeSet};

use flaghoist_mesh::route::{Route, faults, routes, with_proof};
use flaghoist_mesh::served::{Served, served};
use flaghoist_mesh::texts;
use serde_json::Value;

use super::docs;
use super::mtls::ours;
use super::report::Group;
use super::sight::{Installed, Sight, name, of_kind};

/// Judges it.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>) -> Group {
    let mut group = Group::new("routes");
    let mesh = match &sight.mesh {
        Ok(mesh) => mesh,
        Err(refusal) => {
            group.warning("the VirtualServices may be read", refusal.why(), docs::RIGHTS);
            return group;
        }
    };
    let (own, foreign): (Vec<&Value>, Vec<&Value>) =
        of_kind(mesh, "VirtualService").into_iter().partition(|one| Sight::of_release(one, &installed.release));
    let restore = format!("helm upgrade with the chart of this version restores it: {}", docs::POLICIES);

    let mut within: BTreeMap<(&str, u16, &str), Vec<Route<'_>>> = BTreeMap::new();
    // The first route that fits is taken.
    let mut proven = BTreeSet::new();
    let (mut wrong, mut strange) = (Vec::new(), Vec::new());
    for route in routes(&own, false) {
        let at = found(&route, |one, path| {
            one.path == path && Some(u64::from(one.port)) == route.port && belongs(&route, one)
        });
        match at {
            Some(one) => {
                let mut faults = faults(one.class, route.proven, route.http);
                let at = (one.service, one.port, one.path);
                if route.proven {
                    proven.insert(at);
                } else {
                    faults.extend(made_again(one, proven.contains(&at)));
                    within.entry(at).or_default().push(route);
                }
                wrong.extend(faults.into_iter().map(|fault| format!("{} {fault}", one.path)));
            }
            None => strange.push(strangely(&route)),
        }
    }
    let here = |one: &&Served| installed.part(one.service).is_some_and(|part| !part.workloads.is_empty());
    let unrouted = served().iter().filter(here).filter(|one| !within.contains_key(&(one.service, one.port, one.path)));
    group.must(
        "each method has a route within the mesh",
        unrouted.map(|one| format!("none for {}: callers get UNIMPLEMENTED or Istio's default", one.path)).collect(),
        &restore,
    );

    let at_gateway = routes(&own, true);
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    let mut inside_out = Vec::new();
    proven.clear();
    for route in &at_gateway {
        match found(route, |one, path| one.path == path && matches!(one.port, 9000 | 8080)) {
            Some(one) => {
                let mut faults = faults(one.class, route.proven, route.http);
                let at = (one.service, one.port, one.path);
                if route.proven {
                    proven.insert(at);
                } else {
                    faults.extend(made_again(one, proven.contains(&at)));
                    *reached.entry(one.path).or_default() += 1;
                }
                wrong.extend(faults.into_iter().map(|fault| format!("{} {fault}, at the gateway", one.path)));
            }
            None if found(route, |one, path| one.path == path && one.internal()).is_some() => {
                inside_out.push(format!("{} is reached by {}", route.path.unwrap_or("everything"), name(route.within)));
            }
            None => strange.push(strangely(route)),
        }
    }
    group.must("each is retried as its contract allows, and no stream has a timeout", wrong, &restore);
    group.must("no route names what does not exist", strange, "is the chart of another version than this program?");
    if !at_gateway.is_empty() {
        let unreached = served().iter().filter(here).filter(|one| one.outside() && !reached.contains_key(one.path));
        group.must(
            "what people call is reached by the gateway",
            unreached.map(|one| format!("{} is not", one.path)).collect(),
            restore,
        );
        group.must(
            "no method of the services among themselves is reached by the gateway",
            inside_out,
            "take the route away: policies refuse such a call, but no way should lead there",
        );
    }
    let beside =
        foreign.iter().filter(|one| texts(&one["spec"]["hosts"]).iter().any(|host| ours(sight, installed, host)));
    group.should(
        "no other VirtualService is for the services' hosts",
        beside.map(|one| format!("{} is for {}", name(one), texts(&one["spec"]["hosts"]).join(", "))).collect(),
        "of two for one host the older one counts: retries and timeouts may be its own",
    );
    group
}

/// What is wrong with a route that takes calls with a proof too, unless another one takes them before.
fn made_again(one: &Served, proven: bool) -> Option<String> {
    let wrong = with_proof(one.class, one.port.into()) && !proven;
    wrong.then(|| "with a proof, which is good once, is retried like any other call".to_owned())
}

fn found(route: &Route<'_>, is: impl Fn(&Served, &str) -> bool) -> Option<&'static Served> {
    let path = route.path?;
    served().iter().find(|one| is(one, path))
}

/// Whether a route is in the resource of the service: health and reflection have the same paths everywhere.
fn belongs(route: &Route<'_>, one: &Served) -> bool {
    name(route.within).rsplit('-').next() == Some(one.service)
}

fn strangely(route: &Route<'_>) -> String {
    let path = route.path.unwrap_or("everything, or a pattern");
    let port = route.port.map(|port| format!(" at port {port}")).unwrap_or_default();
    format!("{} routes {path}{port}", name(route.within))
}

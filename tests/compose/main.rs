//! Whether what `compose.yaml` brings beside the services agrees with them: the dashboard and the chart's alerts name figures that there
//! are, and Envoy tries again what the contracts call repeatable and nothing else. `tests/compose/test` runs all of it for real.

use std::collections::BTreeSet;

use flaghoist_proto::{Access, METHODS, Method};
use flaghoist_tests::{Person, World, eventually};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../charts/flaghoist/dashboards/flaghoist.json");
const ALERTS: &str = include_str!("../../charts/flaghoist/templates/alerts.yaml");
const ENVOY: &str = include_str!("envoy.yaml");
const COMPOSE: &str = include_str!("../../compose.yaml");
const SETTINGS: &str = include_str!("../../services/flaghoist/SETTINGS.md");

/// Words of an expression that look like the name of a figure.
const NO_FIGURES: [&str; 2] = ["histogram_quantile", "__rate_interval"];

/// Figures that appear with the first connection that is refused, for which nobody waits here.
const SELDOM: [&str; 1] = ["flaghoist_connections_refused_total"];

/// The figures that an expression names: its words with an underscore, but for what stands in quotes.
fn figures(expression: &str) -> impl Iterator<Item = String> {
    let outside = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = outside.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').map(str::to_owned);
    let words = words.filter(|word| word.contains('_') && !NO_FIGURES.contains(&word.as_str()));
    words.collect::<Vec<_>>().into_iter()
}

#[test]
fn words_of_an_expression_are_told_from_figures() {
    let named =
        figures(r#"histogram_quantile(0.9, sum by (le) (rate(a_b_bucket{code!="NO_NAME"}[$__rate_interval]))) / up"#);
    assert_eq!(named.collect::<Vec<_>>(), ["a_b_bucket"]);
}

#[tokio::test]
async fn every_figure_of_the_dashboard_and_the_alerts_exists() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut named: BTreeSet<String> =
        targets.flat_map(|target| figures(target["expr"].as_str().expect("an expression"))).collect();
    assert!(named.len() > 10, "{named:?}");
    // The alerts are a template, so their figures are told by how they begin.
    let words = ALERTS.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let alerting = words.filter(|word| word.starts_with("flaghoist_") && !word.ends_with('_')).map(str::to_owned);
    let alerting = alerting.filter(|name| !SELDOM.contains(&name.as_str())).collect::<Vec<_>>();
    assert!(alerting.len() > 5, "{alerting:?}");
    named.extend(alerting);

    // Some appear with the first thing that they count, a throttled sign-in among them.
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut phone = bob.listens().await;
    alice.sends("hi").to(&bob).await;
    let event = phone.next_message("hi").await;
    phone.ack(&event).await;
    for _ in 0..8 {
        Person::try_sign_in(&world, "bob", "not the password").await.expect_err("the password is wrong");
    }
    // What is about several pods is told by several pods only; `test` asks the Prometheus of such ones.
    let everywhere = |name: &&String| !name.starts_with("flaghoist_bus_") && *name != "flaghoist_peer_reachable";
    for name in named.iter().filter(|name| world.cluster().is_some() || everywhere(name)) {
        eventually(&format!("the page shows {name}"), async || {
            let page = world.figures().await;
            page.lines().any(|line| line.split(['{', ' ']).next() == Some(name)).then_some(())
        })
        .await;
    }
}

/// A method as Envoy's configuration should treat it, if not as all others.
fn exception(method: &Method) -> bool {
    method.streaming || !method.repeatable
}

#[test]
fn envoy_repeats_what_may_be_repeated() {
    let public = ENVOY.find("name: public").expect("a listener for clients");
    let internal = ENVOY.find("name: internal").expect("a listener between services");
    for method in METHODS {
        let named = ENVOY.find(&format!("path: {} }}", method.path));
        assert_eq!(named.is_some(), exception(method), "{}: is it told apart from what is tried again?", method.path);
        if let Some(place) = named {
            let among_internal = matches!(method.access, Access::Service(_));
            assert_eq!(place > internal, among_internal, "{} is named for the other listener", method.path);
            assert!(place > public);
        }
    }
    // And what is named there is a method.
    for path in ENVOY.split("path: /flaghoist.").skip(1).filter_map(|rest| rest.split(' ').next()) {
        let path = format!("/flaghoist.{path}");
        assert!(METHODS.iter().any(|method| method.path == path), "{path} is no method");
    }
}

#[test]
fn compose_sets_only_what_there_is_to_set() {
    let names =
        COMPOSE.lines().filter_map(|line| line.trim().split(':').next()).filter(|name| name.starts_with("FLAGHOIST_"));
    for name in names {
        assert!(SETTINGS.contains(&format!("`{name}`")), "{name} is no setting");
    }
}

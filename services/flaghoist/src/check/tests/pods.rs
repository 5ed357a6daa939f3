//! The cluster, what runs in it, and what the pods say of themselves.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::kubectl::Refusal;
use super::super::report::Verdict;
use super::world::{World, now};

fn forbidden<T>() -> Result<T, Refusal> {
    Err(Refusal::Forbidden("Error from server (Forbidden): you may not".into()))
}

#[test]
fn a_cluster_that_does_not_answer_is_all_that_is_said() {
    let mut world = World::new();
    world.0.version = Err(Refusal::Failed("The connection to the server was refused".into()));
    world.fails(&[
        "cluster: the cluster answers: The connection to the server was refused → does `kubectl version` answer?",
    ]);
    assert_eq!(world.report().0.len(), 1);
}

#[test]
fn an_old_cluster_and_a_namespace_that_goes_are_said() {
    let mut world = World::new();
    world.0.version = Ok(json!({ "serverVersion": { "gitVersion": "v1.29.9" } }));
    world.fails(&["cluster: Kubernetes is 1.30 or newer: it is v1.29.9 → upgrade the cluster"]);

    let mut world = World::new();
    world.0.version = Ok(json!({ "serverVersion": { "gitVersion": "odd" } }));
    world.warns(&["its version is \"odd\""]);

    let mut world = World::new();
    world.0.namespace.as_mut().unwrap()["status"]["phase"] = "Terminating".into();
    world.fails(&["the namespace talk is there: it is being deleted"]);
}

#[test]
fn a_namespace_without_a_release_and_one_with_two_are_told_apart() {
    let mut world = World::new();
    world.0.things = Ok(Vec::new());
    world.fails(&[
        "installation: a release of the chart is there: there is none in the namespace talk",
        "README.md#install",
    ]);

    let mut world = World::new();
    let mut other = world.0.things.as_ref().unwrap().iter().find(|one| one["kind"] == "StatefulSet").unwrap().clone();
    other["metadata"]["labels"]["app.kubernetes.io/instance"] = "talk".into();
    world.0.things.as_mut().unwrap().push(other);
    world.fails(&["there are chat and talk → say which one by --release"]);
    assert_eq!(super::super::judge(&world.0, Some("chat")).count(Verdict::Failed), 0);
    let wrong = super::super::judge(&world.0, Some("chit")).text();
    assert!(wrong.contains("there is no release chit\n    → --release chat or talk is there"), "{wrong}");

    let mut world = World::new();
    world.0.things = forbidden();
    world.fails(&["installation: a release of the chart is there: Error from server (Forbidden): you may not"]);
}

#[test]
fn a_service_that_is_missing_is_said_and_not_its_policies_too() {
    let mut world = World::new();
    world.remove("StatefulSet", "chat-login");
    world.fails(&["pods: the four services of the release chat are installed: login is missing → helm upgrade"]);
}

#[test]
fn what_a_workload_still_has_to_do_is_said() {
    for (field, what) in [
        ("readyReplicas", "chat-send: 0 of 1 pods are ready"),
        ("updatedReplicas", "chat-send: 0 of 1 pods are of its last change"),
        ("observedGeneration", "chat-send: its last change has not been looked at yet"),
    ] {
        let mut world = World::new();
        world.change("StatefulSet", "chat-send", |one| one["status"][field] = 0.into());
        world.fails(&["pods: every workload is as it was asked for", what, "--wait 5m"]);
    }
}

#[test]
fn why_a_pod_is_not_ready_is_said() {
    let unready = |status: Value| {
        let mut world = World::new();
        world.change("Pod", "chat-auth-0", |one| one["status"] = status);
        world
    };
    let waiting = json!({ "phase": "Pending", "containerStatuses": [{ "name": "auth", "ready": false,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } } }] });
    unready(waiting)
        .fails(&["pods: every pod is ready: chat-auth-0: auth waits: ImagePullBackOff Back-off pulling image"]);
    let unplaced = json!({ "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" }] });
    unready(unplaced).fails(&["chat-auth-0: no node takes it: 0/3 nodes are available"]);
    let starting = json!({ "phase": "Running", "containerStatuses": [{ "name": "auth", "ready": false, "state": { "running": {} } }] });
    unready(starting).fails(&["chat-auth-0: Running, auth not ready", "kubectl -n talk describe pod"]);
}

#[test]
fn a_pod_that_was_ended_for_want_of_memory_is_a_warning() {
    let mut world = World::new();
    world.change("Pod", "chat-login-0", |one| {
        one["status"]["containerStatuses"][0]["lastState"] =
            json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        one["status"]["containerStatuses"][0]["restartCount"] = 3.into();
    });
    world.warns(&["chat-login-0: login ended with OOMKilled (137), 3 restarts", "raise resources.limits.memory"]);
}

#[test]
fn a_volume_that_is_not_bound_and_a_firewall_that_is_missing_are_said() {
    let mut world = World::new();
    world.change("PersistentVolumeClaim", "data-chat-send-0", |one| one["status"]["phase"] = "Pending".into());
    world.fails(&["pods: every volume is bound: data-chat-send-0 is Pending, of no storage class", "storageClass"]);

    let mut world = World::new();
    world.remove("NetworkPolicy", "chat-send");
    world.warns(&["each service has a firewall (NetworkPolicy): send has none → networkPolicy.enabled=true"]);
}

#[test]
fn pods_of_another_version_are_a_warning() {
    let mut world = World::new();
    world.change("StatefulSet", "chat-send", |one| {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] = "9.9.9".into();
    });
    world.warns(&["this program's version", "chat-send is of 9.9.9", "use the flaghoist of the installed version"]);
}

#[test]
fn a_pod_without_a_sidecar_fails_and_one_beside_it_is_a_warning() {
    let mut world = World::new();
    world.change("Pod", "chat-send-0", |one| one["spec"]["initContainers"] = Value::Null);
    world.fails(&["pods: each pod has a sidecar: chat-send-0 has none", "kubectl rollout restart"]);

    let mut world = World::new();
    world.change("Pod", "chat-send-0", |one| {
        one["spec"]["initContainers"] = Value::Null;
        one["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "istio-proxy" }));
    });
    world.warns(&["sidecars are native", "that of chat-send-0 is a container beside it"]);
}

#[test]
fn what_a_pod_waits_for_is_said_with_what_it_means() {
    for (waiting, what) in [
        ("send: PostgreSQL", "chat-send-0 waits for send: PostgreSQL →"),
        ("send", "chat-send-0 waits for send itself: its store is being opened, or its migrations run"),
        ("token keys", "chat-send-0 waits for token keys: auth has not answered yet"),
    ] {
        let mut world = World::new();
        world.answers("chat-send-0", |one| one.waiting_for = Some(waiting.into()));
        world.fails(&["stores are reached, migrations are done, keys are known", what, "egress"]);
    }
}

#[test]
fn a_peer_and_a_bus_that_are_away_are_said() {
    let mut world = World::new();
    world.answers("chat-send-0", |one| one.metrics = "flaghoist_peer_reachable{peer=\"login\"} 0\n".into());
    world.fails(&["the services reach one another: the last call of chat-send-0 did not reach login"]);

    let mut world = World::new();
    world.answers("chat-receiver-0", |one| one.metrics = "flaghoist_bus_up 0\n".into());
    world.fails(&["the bus is reached, where there is one: chat-receiver-0 has no connection to NATS"]);
}

#[test]
fn a_signing_key_that_is_overdue_and_one_that_nobody_tells_of_are_said() {
    let at = |seconds: u64| format!("flaghoist_signing_key_due_timestamp_seconds {seconds}\n");
    let mut world = World::new();
    let text = world.report().text();
    assert!(text.contains("✓ the signing key is replaced in time: due in 10 days\n"), "{text}");
    world.answers("chat-auth-0", |one| one.metrics = at(1_800_000_000 - 7200));
    world
        .fails(&["the signing key is replaced in time: chat-auth-0: it was due 2 h ago", "advancing the signing keys"]);
    world.answers("chat-auth-0", |one| one.metrics = at(1_800_000_000 - 1800));
    assert!(world.said(Verdict::Failed).is_empty(), "half an hour is within what the alert allows");
    world.answers("chat-auth-0", |one| one.metrics = String::new());
    world.warns(&["no pod of auth tells when it is due"]);
}

#[test]
fn clocks_that_are_apart_are_said_by_how_much() {
    let mut world = World::new();
    world.answers("chat-send-0", |one| one.clock_ahead = 40);
    world.fails(&[
        "the pods' clocks agree: that of chat-send-0 is 40 s ahead of this machine's → keep the nodes' clocks by NTP",
    ]);
    world.answers("chat-send-0", |one| one.clock_ahead = -5);
    world.warns(&["the pods' clocks agree: that of chat-send-0 is 5 s behind"]);
    for pod in ["chat-auth-0", "chat-login-0", "chat-receiver-0", "chat-send-0"] {
        world.answers(pod, |one| one.clock_ahead = 60);
    }
    world.warns(&["they do among themselves, and are 60 s ahead of this machine's"]);
}

#[test]
fn a_sidecar_that_has_lost_istiod_or_refused_what_it_said_is_told() {
    let stats = |text: &str| Some(Ok(text.to_owned()));
    let mut world = World::new();
    world.answers("chat-send-0", |one| one.sidecar = stats("control_plane.connected_state: 0\n"));
    world.fails(&["every sidecar is connected to istiod: that of chat-send-0 is not", "15012"]);
    world.answers("chat-send-0", |one| one.sidecar = stats("listener_manager.lds.update_rejected: 2\n"));
    world.fails(&["no sidecar has refused its configuration: that of chat-send-0 refused 2 of listener_manager.lds"]);
    world.answers("chat-send-0", |one| one.sidecar = Some(Err(Refusal::Failed("no answer in 5s".into()))));
    world.warns(&["each sidecar can be asked: chat-send-0: no answer in 5s"]);
}

#[test]
fn a_pod_that_may_not_be_asked_is_a_warning_with_the_right_that_is_missing() {
    let mut world = World::new();
    world.0.answers.insert("chat-send-0".into(), forbidden());
    world.warns(&["each pod can be asked: chat-send-0: Error from server (Forbidden)", "pods/portforward"]);
}

#[test]
fn without_istio_only_what_is_left_is_looked_at() {
    let mut world = World::new();
    for service in ["auth", "login", "receiver", "send"] {
        world.change("StatefulSet", &format!("chat-{service}"), |one| {
            one["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = Value::Null;
        });
    }
    world.warns(&["istio: the release is in a mesh: its pods ask for no sidecar", "what-is-lost-when-it-is-off"]);
    assert!(world.report().0.iter().all(|group| group.name != "policies"));
}

#[test]
fn a_certificate_that_ends_or_is_for_another_name_is_said() {
    let day = |days: u64| Duration::from_secs(days * 24 * 3600);
    let mut world = World::new();
    world.change("Gateway", "chat", |one| {
        let tls = json!({ "mode": "SIMPLE", "credentialName": "chat-tls" });
        one["spec"]["servers"] = json!([{ "hosts": ["localhost"], "port": { "number": 443 }, "tls": tls }]);
    });
    let certificate = |world: &mut World, said| world.0.certificates.insert("doors/chat-tls".into(), said);
    let good = include_str!("../../../tests/cli/tls/server.pem");
    certificate(&mut world, Ok(good.into()));
    let text = world.report().text();
    assert!(text.contains("✓ the certificate chat-tls of the gateway chat is good\n"), "{text}");

    let (_, pem) = x509_parser::pem::parse_x509_pem(good.as_bytes()).unwrap();
    let ends = pem.parse_x509().unwrap().validity().not_after.timestamp();
    let ends = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(ends.unsigned_abs());
    // The pods' figures are of another time; they are not what is looked at here.
    world
        .answers("chat-auth-0", |one| one.metrics = "flaghoist_signing_key_due_timestamp_seconds 99999999999\n".into());
    world.0.now = ends - day(3);
    world.warns(&["the certificate chat-tls of the gateway chat is good: it ends in 3 days"]);
    world.0.now = ends + day(3);
    world.fails(&["it ended 3 days ago → renew it, for localhost"]);
    world.0.now = now() - day(20_000);
    world.fails(&["it begins in"]);
    world.0.now = now();
    world.change("Gateway", "chat", |one| one["spec"]["servers"][0]["hosts"] = json!(["*/chat.example.com"]));
    world.fails(&["it is for localhost", "not for chat.example.com"]);
    certificate(&mut world, Ok("hello".into()));
    world.fails(&["the Secret doors/chat-tls: it is no certificate in PEM"]);
    certificate(&mut world, Ok(String::new()));
    world.fails(&["the Secret doors/chat-tls has no tls.crt"]);
    certificate(&mut world, Err(Refusal::Missing("not found".into())));
    world.fails(&["there is no Secret doors/chat-tls → kubectl -n doors create secret tls chat-tls"]);
    certificate(&mut world, forbidden());
    world.warns(&["you may not", "whoever may read Secrets there can look"]);
}

//! What is served beside the methods of the contracts: the list that the charts are given, compared with a running server.

use std::collections::BTreeSet;

use flaghoist_mesh::served::served;
use flaghoist_proto::method;
use flaghoist_tests::{World, http1};
use serde_json::Value;

use super::charts::{Chart, items, texts};
use super::contracts::{Class, SERVICES};

/// A path that is no method.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) service: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) methods: Vec<String>,
    pub(crate) class: Class,
}

/// Every such path of every service.
pub(crate) fn others() -> Vec<Other> {
    let file = Chart::Istio.folder().join("files/paths.yaml");
    let list: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).expect("the list is there")).expect("YAML");
    let ports = [("public", 9000), ("internal", 9001), ("http", 8080), ("jwks", 8081)];
    let mut others = Vec::new();
    for service in SERVICES {
        for (name, port) in ports {
            for row in items(&list["all"][name]).iter().chain(items(&list[service][name])) {
                assert_eq!(row["access"], "ANYONE", "the tests know no other access of {row}");
                let methods = if row["methods"].is_null() { vec!["POST"] } else { texts(&row["methods"]) };
                others.push(Other {
                    service: service.to_owned(),
                    port,
                    path: row["path"].as_str().expect("a path").to_owned(),
                    methods: methods.into_iter().map(str::to_owned).collect(),
                    class: match row["class"].as_str() {
                        Some("read" | "repeatable") => Class::Retried,
                        Some("once") => Class::Once,
                        Some("stream") => Class::Stream,
                        other => panic!("no class: {other:?}"),
                    },
                });
            }
        }
    }
    others
}

#[test]
fn the_paths_that_flaghoist_check_knows_are_those_that_are_listed() {
    let served = served().iter().filter(|one| method(one.path).is_none());
    let known: BTreeSet<String> = served
        .map(|one| format!("{}:{}{} {:?} {:?}", one.service, one.port, one.path, one.methods, one.class))
        .collect();
    let listed: BTreeSet<String> = others()
        .iter()
        .map(|one| format!("{}:{}{} {:?} {:?}", one.service, one.port, one.path, one.methods, one.class))
        .collect();
    assert_eq!(known, listed, "services/mesh/src/served.rs and istio/files/paths.yaml");
}

#[tokio::test]
async fn a_server_has_the_paths_that_are_listed_and_names_no_others() {
    let world = World::shared().await;
    let others = others();
    let of_http = others.iter().filter(|other| other.port == 8080);
    for other in of_http {
        for method in ["GET", "HEAD", "POST"] {
            let answer = http1::request(world.http(), method, &other.path, &[], b"").await;
            let status = answer.expect("an answer").status;
            let listed = other.methods.iter().any(|listed| listed == method);
            assert_ne!(status, 404, "{} does not exist", other.path);
            assert_eq!(status != 405, listed, "{method} {}: {status}", other.path);
        }
    }
    // Health and reflection, as a browser would call them: what is called does not matter, that it exists does.
    let grpc = world.grpc().expect("it runs");
    let web = [("content-type", "application/grpc-web+proto")];
    let unknown = async |path: &str| {
        let answer = http1::request(grpc, "POST", path, &web, b"").await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        answer.header("grpc-status") == "12"
    };
    for other in others.iter().filter(|other| other.port == 9000) {
        assert!(!unknown(&other.path).await, "{} does not exist", other.path);
    }
    assert!(unknown("/grpc.health.v1.Health/Nothing").await);
    let metadata = http1::get(world.http(), "/.well-known/openid-configuration").await.json();
    let issuer = metadata["issuer"].as_str().expect("an issuer").trim_end_matches('/');
    let endpoints = metadata.as_object().expect("metadata").values().filter_map(Value::as_str);
    for path in endpoints.filter_map(|value| value.strip_prefix(issuer)).filter(|path| path.starts_with('/')) {
        assert!(others.iter().any(|other| other.path == path && other.port == 8080), "{path} is not listed");
    }
}

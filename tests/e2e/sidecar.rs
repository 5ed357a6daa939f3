//! Access tokens pass, or do not pass, the filter of a real Envoy that a sidecar judges them with (`jwt_authn`). It is configured from the
//! chart's own `RequestAuthentication` in the way of istiod, and nothing else stands between it and the services: what it lets through is
//! counted.

use std::net::{Ipv4Addr, SocketAddr};

use flaghoist_backends::Envoy;
use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_tests::{Calls, forge, http1};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::prelude::*;
use crate::sign_in;

/// What `helm install` puts into the cluster, a resource a line; `tests/mesh` keeps it what the chart renders.
const INSTALLED: &str = include_str!("../../services/flaghoist/tests/check/installed.jsonl");

/// An Envoy with the filter, before a gRPC port.
pub(crate) struct Sidecar {
    envoy: Envoy,
    at: SocketAddr,
    channel: Channel,
}

/// What came of a call: its status, and whether it got past the filter.
pub(crate) struct Outcome {
    pub(crate) answer: Result<(), Status>,
    pub(crate) passed: bool,
}

impl Sidecar {
    /// Starts one with the keys that the world publishes; `None` without an Envoy.
    async fn before(world: &World) -> Option<Self> {
        let discovery = http1::get(world.http(), "/.well-known/openid-configuration").await.json();
        let jwks = http1::get(world.http(), "/oauth2/jwks").await.text();
        let issuer = discovery["issuer"].as_str().expect("an issuer");
        Self::with_keys(issuer, &jwks, world.grpc().expect("it runs")).await
    }

    /// Starts one that takes the tokens of this issuer; `None` without an Envoy.
    pub(crate) async fn with_keys(issuer: &str, jwks: &str, to: SocketAddr) -> Option<Self> {
        let program = Envoy::program()?;
        let host = Ipv4Addr::new(127, rand::random_range(1..=254), rand::random(), 2);
        let (at, admin) = (SocketAddr::from((host, 9000)), SocketAddr::from((host, 9901)));
        let filter = jwt_authn(issuer, jwks);
        let configuration = configuration(at, admin, to, &filter);
        let envoy = Envoy::start(program, configuration.to_string(), admin).await.expect("Envoy starts");
        let channel = Endpoint::from_shared(format!("http://{at}")).expect("an address").connect_lazy();
        Some(Self { envoy, at, channel })
    }

    /// Asks who the caller is, with this header.
    async fn whoami(&self, authorization: Option<&str>) -> Outcome {
        let before = self.passed();
        let mut request = tonic::Request::new(GetAccountRequest::default());
        if let Some(value) = authorization {
            let value = MetadataValue::try_from(value).expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        let answer = AccountServiceClient::new(self.channel.clone()).get_account(request).await.map(drop);
        Outcome { answer, passed: self.passed() > before }
    }

    /// Calls a method with this token and an empty request.
    pub(crate) async fn asks(&self, method: &'static str, token: &str) -> Outcome {
        let before = self.passed();
        let answer = Calls::new(self.channel.clone(), Some(token.to_owned())).raw(method, Vec::new()).await.map(drop);
        Outcome { answer, passed: self.passed() > before }
    }

    /// How many calls got past the filter.
    fn passed(&self) -> u64 {
        let said = self.envoy.asks("/stats?filter=^cluster.app.upstream_rq_total$").expect("Envoy tells its figures");
        said.trim().rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    }
}

/// The filter as istiod makes it of the chart's rule (`convertToEnvoyJwtConfig`): a token that is there must be in order, none at all
/// goes on to the policies.
fn jwt_authn(issuer: &str, jwks: &str) -> Value {
    let mut resources = INSTALLED.lines().map(|line| serde_json::from_str::<Value>(line).expect("a resource"));
    let rule = resources.find(|resource| resource["kind"] == "RequestAuthentication").expect("it is installed");
    let rules = rule["spec"]["jwtRules"].as_array().expect("rules");
    assert_eq!(rules.len(), 1, "the chart has one issuer");
    let rule = &rules[0];
    let headers = rule["fromHeaders"].as_array().expect("where tokens are looked for").iter();
    let headers: Vec<Value> =
        headers.map(|from| json!({ "name": from["name"], "value_prefix": from["prefix"] })).collect();
    let provider = json!({
        "issuer": issuer,
        "audiences": rule["audiences"],
        "forward": rule["forwardOriginalToken"],
        "from_headers": headers,
        "local_jwks": { "inline_string": jwks },
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": { "space_delimited_claims": ["scope", "permission"] },
    });
    let requirements = json!([{ "provider_name": "origins-0" }, { "allow_missing": {} }]);
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": { "origins-0": provider },
        "rules": [{
            "match": { "prefix": "/" },
            "requires": { "requires_any": { "requirements": requirements } },
        }],
        "bypass_cors_preflight": true,
    })
}

fn configuration(at: SocketAddr, admin: SocketAddr, to: SocketAddr, filter: &Value) -> Value {
    let address =
        |address: SocketAddr| json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "route_config": { "virtual_hosts": [{
            "name": "app",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app", "timeout": "0s" } }],
        }]},
        "http_filters": [
            { "name": "envoy.filters.http.jwt_authn", "typed_config": filter },
            { "name": "router", "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
        ],
    });
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    }});
    let endpoint = json!({ "lb_endpoints": [{ "endpoint": { "address": address(to) } }] });
    json!({
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": [{
                "name": "inbound",
                "address": address(at),
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
            }],
            "clusters": [{
                "name": "app",
                "type": "STATIC",
                "typed_extension_protocol_options": http2,
                "load_assignment": { "cluster_name": "app", "endpoints": [endpoint] },
            }],
        },
    })
}

#[tokio::test]
async fn cases_67_to_71_a_sidecar_lets_good_tokens_in_and_none_that_the_issuer_did_not_sign() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    // The first ID token waits until there is a key for it: before the sidecar is given the keys.
    let tokens = sign_in::tokens(&world, &bob).await;
    let Some(sidecar) = Sidecar::before(&world).await else { return };
    let good = bob.token();
    for prefix in ["Bearer", "bearer"] {
        let outcome = sidecar.whoami(Some(&format!("{prefix} {good}"))).await;
        // The sidecar compares the word in its own case, and leaves the other to the service.
        outcome.answer.unwrap_or_else(|status| panic!("{prefix}: {status:?}"));
        assert!(outcome.passed);
    }

    let jwks = http1::get(world.http(), "/oauth2/jwks").await.json();
    for (what, token) in forge::bad_tokens(&good, &jwks) {
        let outcome = sidecar.whoami(Some(&format!("Bearer {token}"))).await;
        let status = outcome.answer.expect_err(what);
        assert!(!outcome.passed, "{what} got past the filter");
        assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{what}: {status:?}");
    }

    // An ID token is signed by the same issuer, with a key of the same set, but for an application.
    let access = tokens["access_token"].as_str().expect("an access token");
    assert!(sidecar.whoami(Some(&format!("Bearer {access}"))).await.answer.is_ok());
    let id_token = tokens["id_token"].as_str().expect("an ID token");
    let outcome = sidecar.whoami(Some(&format!("Bearer {id_token}"))).await;
    assert_eq!((outcome.answer.expect_err("case 69").code(), outcome.passed), (Code::PermissionDenied, false));

    // Without a token the policies decide, here the service alone.
    let outcome = sidecar.whoami(None).await;
    assert!(outcome.passed);
    refused(outcome.answer, Code::Unauthenticated, Reason::TokenMissing);
    let in_address = format!("/flaghoist.login.v1.AccountService/GetAccount?access_token={good}");
    let headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    let answer = http1::request(sidecar.at, "POST", &in_address, &headers, &[0; 5]).await.expect("answered");
    let said = answer.text() + &format!("{:?}", answer.headers);
    assert!(said.contains("16"), "case 71: {said}");
}

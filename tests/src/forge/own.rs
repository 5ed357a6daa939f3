//! An issuer of the test's own.
//!
//! Whoever is given its keys takes its tokens for signed well, so that what is wrong with one of them can only be what it says: a token of
//! [`super::bad_tokens`] is refused for its signature alone, whatever is written in it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use flaghoist_proto::auth::v1 as pb;
use flaghoist_proto::auth::v1::verification_service_server::{VerificationService, VerificationServiceServer};
use serde_json::{Value, json};
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{Key, Parts};

/// The id of its key.
const KID: &str = "own";

/// An issuer that signs whatever it is told to.
#[derive(Debug)]
pub struct OwnIssuer {
    url: String,
    key: Key,
    sub: String,
}

/// What a sidecar makes of a token that is signed well and says something wrong. The services refuse every one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// It is refused as no token: 401, `UNAUTHENTICATED`.
    Refuses,
    /// It is refused as one for somebody else: 403, `PERMISSION_DENIED`.
    Forbids,
    /// It goes on to the service. Envoy does not look at this.
    LetsThrough,
}

/// A token that is signed well and says something wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub what: &'static str,
    /// The token.
    pub token: String,
    /// What a sidecar makes of it.
    pub sidecar: Sidecar,
}

impl OwnIssuer {
    /// A new one of this name, with a key of its own.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), key: Key::new(), sub: uuid::Uuid::now_v7().to_string() }
    }

    /// Its name, the `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its keys, as they are published.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.key.jwk(KID)] })
    }

    /// A token with which nothing is wrong.
    pub fn good(&self) -> String {
        self.parts().signed_by(&self.key)
    }

    /// Good ones that look unusual.
    pub fn unusual(&self) -> Vec<(&'static str, String)> {
        let good = self.parts();
        [
            ("an audience that is no list", good.clone().claim("aud", json!("flaghoist"))),
            ("several audiences", good.clone().claim("aud", json!(["other", "flaghoist"]))),
            ("the type in capitals", good.clone().header("typ", json!("AT+JWT"))),
            ("a claim that nobody knows", good.clone().claim("surprise", json!({ "inside": [1] }))),
            ("a start that has passed", good.claim("nbf", json!(now() - 10))),
        ]
        .map(|(what, parts)| (what, parts.signed_by(&self.key)))
        .into()
    }

    /// One token of each kind that says something wrong, each signed with the key that is published.
    pub fn wrong(&self) -> Vec<Wrong> {
        use Sidecar::{Forbids, LetsThrough, Refuses};

        let good = self.parts();
        let claim = |name: &str, value: Value| good.clone().claim(name, value);
        let header = |name: &str, value: Value| good.clone().header(name, value);
        let mut wrong: Vec<Wrong> = [
            ("another issuer", claim("iss", json!("http://evil.test")), Refuses),
            ("an issuer with a slash more", claim("iss", json!(format!("{}/", self.url))), Refuses),
            ("no issuer", good.clone().without("iss"), Refuses),
            ("another audience", claim("aud", json!(["other"])), Forbids),
            ("a client as the audience", claim("aud", json!(["flaghoist-cli"])), Forbids),
            ("an audience in capitals", claim("aud", json!("Flaghoist")), Forbids),
            ("an empty list of audiences", claim("aud", json!([])), Forbids),
            ("no audience", good.clone().without("aud"), Forbids),
            ("expired for two minutes", claim("exp", json!(now() - 120)), Refuses),
            ("expired for ten seconds", claim("exp", json!(now() - 10)), LetsThrough),
            ("no exp", good.clone().without("exp"), LetsThrough),
            ("exp as text", claim("exp", json!((now() + 60).to_string())), Refuses),
            ("exp before 1970", claim("exp", json!(-1)), Refuses),
            ("an exp of zero", claim("exp", json!(0)), LetsThrough),
            ("an exp in a year", claim("exp", json!(now() + 31_536_000)), LetsThrough),
            ("not valid before an hour has passed", claim("nbf", json!(now() + 3600)), Refuses),
            ("nbf as text", claim("nbf", json!(now().to_string())), Refuses),
            ("issued in an hour", claim("iat", json!(now() + 3600)).claim("exp", json!(now() + 3700)), LetsThrough),
            ("no iat", good.clone().without("iat"), LetsThrough),
            ("no jti", good.clone().without("jti"), LetsThrough),
            ("no sub", good.clone().without("sub"), LetsThrough),
            ("a sub that is no id of a person", claim("sub", json!("alice")), LetsThrough),
            ("no client", good.clone().without("client_id"), LetsThrough),
            ("bound to a certificate", claim("cnf", json!({ "x5t#S256": "x" })), LetsThrough),
            ("the type of an ID token", header("typ", json!("JWT")), LetsThrough),
            ("the type of a logout token", header("typ", json!("logout+jwt")), LetsThrough),
            ("no type", header("typ", Value::Null), LetsThrough),
            ("a crit that nobody knows", header("crit", json!(["x"])).header("x", json!(1)), LetsThrough),
            ("an algorithm of another key", header("alg", json!("ES256")), Refuses),
            ("alg none, and yet signed", header("alg", json!("none")), Refuses),
        ]
        .into_iter()
        .map(|(what, parts, sidecar)| Wrong { what, token: parts.signed_by(&self.key), sidecar })
        .collect();
        // What no key signs: the claims are those of the good one.
        let unsigned = header("alg", json!("none")).unsigned();
        wrong.push(Wrong { what: "alg none", token: unsigned, sidecar: Refuses });
        let stranger = good.signed_by(&Key::new());
        wrong.push(Wrong { what: "the key of somebody else", token: stranger, sidecar: Refuses });
        wrong
    }

    /// Answers where services ask auth for keys and revocations; there are none of the latter. It ends with the runtime.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn serves(&self) -> SocketAddr {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = incoming.local_addr().expect("it is bound");
        let service = VerificationServiceServer::new(Keys(self.jwks().to_string()));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        address
    }

    fn parts(&self) -> Parts {
        let id = || uuid::Uuid::now_v7().to_string();
        Parts {
            header: json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": KID }),
            claims: json!({
                "iss": self.url, "sub": self.sub, "aud": ["flaghoist"], "iat": now(), "exp": now() + 240, "jti": id(),
                "client_id": "flaghoist-cli", "scope": "chat.read chat.send", "sid": id(), "auth_time": now(), "amr": ["pwd"],
            }),
            signature: String::new(),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Auth as far as the other services need it to check tokens.
#[derive(Debug)]
struct Keys(String);

#[tonic::async_trait]
impl VerificationService for Keys {
    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Result<pb::WatchRevocationsResponse, Status>> + Send>>;

    async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Result<Response<pb::GetJwksResponse>, Status> {
        Ok(Response::new(pb::GetJwksResponse { jwks: self.0.clone() }))
    }

    async fn watch_revocations(
        &self,
        _: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}

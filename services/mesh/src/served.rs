//! What flaghoist serves, and where: the methods of the contracts, and the few paths beside them.

use std::sync::LazyLock;

use flaghoist_proto::{Access, METHODS};

/// The services, each with a part of the contracts.
pub const SERVICES: [&str; 4] = ["auth", "login", "receiver", "send"];

/// The ports of a pod that are anyone's to try.
pub const PORTS: [u16; 5] = [9000, 9001, 8080, 8081, 9464];

/// What may be done with a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may be repeated.
    Retried,
    /// It may have a second effect.
    Once,
    /// It lives as long as both sides want.
    Stream,
}

/// A path at a port of a service.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The service, such as `send`.
    pub service: &'static str,
    /// The port of its pods.
    pub port: u16,
    /// The path, exactly.
    pub path: &'static str,
    /// The HTTP methods.
    pub methods: &'static [&'static str],
    /// Who may call it.
    pub access: Access,
    /// What may be done with a call that failed.
    pub class: Class,
}

impl Served {
    /// Whether it is for other services alone.
    pub fn internal(&self) -> bool {
        matches!(self.access, Access::Service(_))
    }

    /// Whether people and programs outside may reach it: internal methods and the port of the keys are the mesh's, and health and
    /// reflection are shown of one service only.
    pub fn outside(&self) -> bool {
        matches!(self.port, 9000 | 8080) && !self.beside_the_contracts()
    }

    /// Whether it is health or reflection, which every service has.
    pub fn beside_the_contracts(&self) -> bool {
        self.path.starts_with("/grpc.")
    }
}

/// Everything that is served.
pub fn served() -> &'static [Served] {
    static SERVED: LazyLock<Vec<Served>> = LazyLock::new(|| methods().chain(others()).collect());
    &SERVED
}

fn methods() -> impl Iterator<Item = Served> {
    METHODS.iter().map(|method| Served {
        service: method.service.split('.').nth(1).unwrap_or_default(),
        port: if matches!(method.access, Access::Service(_)) { 9001 } else { 9000 },
        path: method.path,
        methods: &["POST"],
        access: method.access,
        class: match method {
            method if method.streaming => Class::Stream,
            method if method.repeatable => Class::Retried,
            _ => Class::Once,
        },
    })
}

/// What is not in the contracts; `tests/mesh` compares it with `istio/files/paths.yaml`, and that with a running server.
fn others() -> impl Iterator<Item = Served> {
    const GET: &[&str] = &["GET", "HEAD"];
    const POST: &[&str] = &["POST"];
    const FORM: &[&str] = &["GET", "HEAD", "POST"];
    // A browser asks first whether a page of another origin may call.
    const FROM_PAGES: &[&str] = &["POST", "OPTIONS"];
    let of_all = [
        ("/grpc.health.v1.Health/Check", Class::Retried),
        ("/grpc.health.v1.Health/Watch", Class::Stream),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Class::Stream),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Class::Stream),
    ];
    let of_one = [
        ("auth", 8080, "/.well-known/openid-configuration", GET, Class::Retried),
        ("auth", 8080, "/.well-known/oauth-authorization-server", GET, Class::Retried),
        ("auth", 8080, "/oauth2/jwks", GET, Class::Retried),
        ("auth", 8080, "/healthz", GET, Class::Retried),
        ("auth", 8080, "/oauth2/token", FROM_PAGES, Class::Once),
        ("auth", 8080, "/oauth2/revoke", FROM_PAGES, Class::Retried),
        ("auth", 8080, "/oauth2/introspect", POST, Class::Retried),
        ("auth", 8080, "/oauth2/authorize", FORM, Class::Once),
        ("auth", 8080, "/oauth2/continue", GET, Class::Once),
        ("auth", 8080, "/oauth2/consent", POST, Class::Once),
        ("auth", 8080, "/oauth2/par", FROM_PAGES, Class::Once),
        ("auth", 8080, "/oauth2/register", POST, Class::Once),
        ("auth", 8080, "/oauth2/device_authorization", FROM_PAGES, Class::Once),
        ("auth", 8080, "/device", FORM, Class::Once),
        ("auth", 8080, "/oauth2/logout", FORM, Class::Once),
        ("auth", 8080, "/userinfo", &["GET", "HEAD", "POST", "OPTIONS"], Class::Retried),
        ("auth", 8081, "/oauth2/jwks", GET, Class::Retried),
        ("login", 8080, "/login", FORM, Class::Once),
        ("login", 8080, "/reset", FORM, Class::Once),
        ("login", 8080, "/login/keys.js", GET, Class::Retried),
        ("login", 8080, "/account", FORM, Class::Once),
        ("login", 8080, "/account/security", FORM, Class::Once),
        ("login", 8080, "/account/authenticator", FORM, Class::Once),
        ("login", 8080, "/account/security-key", FORM, Class::Once),
        ("login", 8080, "/account/password", FORM, Class::Once),
        ("login", 8080, "/account/sessions", FORM, Class::Once),
        ("login", 8080, "/account/applications", FORM, Class::Once),
        ("login", 8080, "/account/callback", GET, Class::Once),
        ("login", 8080, "/account/sign-out", POST, Class::Once),
    ];
    let every = SERVICES.into_iter().flat_map(move |service| {
        of_all.map(|(path, class)| Served { service, port: 9000, path, methods: POST, access: Access::Anyone, class })
    });
    every.chain(of_one.map(|(service, port, path, methods, class)| Served {
        service,
        port,
        path,
        methods,
        access: Access::Anyone,
        class,
    }))
}

//! What the mesh is told of the contracts: `istio/files/methods.yaml`, a table of every method with its access rule and its class.
//!
//! The templates of `istio/` make their policies and routes from it, so that a person who reads them can read the table too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flaghoist_proto::{Access, METHODS, Method};

/// The file within the repository.
pub const TABLE_PATH: &str = "istio/files/methods.yaml";

/// What stands above the table.
const HEAD: &str = "\
# Every method of the contracts (proto/): who may call it, and what the mesh may do with the call. Made by `make mesh`, and
# compared with the contracts by tests/mesh; to change it, change the option `access` or `idempotency_level` of the method.
#
# access   ANYONE      with or without a token; the method itself checks what it needs
#          USER        a person with a valid access token
#          ADMIN       a person whose token has the scope `admin`
#          SERVICE     the services named as callers, known by their certificates
# class    read        changes nothing (NO_SIDE_EFFECTS): retried
#          repeatable  repeated, it has no further effect (IDEMPOTENT): retried
#          once        may have a second effect: never retried
#          stream      lives as long as both sides want: no timeout, never retried
";

/// The class of a method: what the mesh may do with a call that fails, and how long one may take.
pub fn class(method: &Method) -> &'static str {
    match method {
        Method { streaming: true, .. } => "stream",
        Method { safe: true, .. } => "read",
        Method { repeatable: true, .. } => "repeatable",
        _ => "once",
    }
}

/// The service that offers a method: the second part of its package.
pub fn owner(method: &Method) -> &'static str {
    method.service.split('.').nth(1).unwrap_or_default()
}

/// The whole table.
pub fn table() -> String {
    let mut by_service: BTreeMap<&str, [Vec<&Method>; 2]> = BTreeMap::new();
    for method in METHODS {
        let internal = matches!(method.access, Access::Service(_));
        by_service.entry(owner(method)).or_default()[usize::from(internal)].push(method);
    }
    let mut table = HEAD.to_owned();
    for (service, ports) in by_service {
        let _ = write!(table, "\n{service}:\n");
        for (port, methods) in ["public", "internal"].into_iter().zip(ports) {
            let _ = writeln!(table, "  {port}:");
            for method in methods {
                let _ = writeln!(table, "    - {{{}}}", row(method));
            }
        }
    }
    table
}

fn row(method: &Method) -> String {
    let access = match method.access {
        Access::Anyone => "ANYONE".to_owned(),
        Access::User => "USER".to_owned(),
        Access::Admin => "ADMIN".to_owned(),
        Access::Service(callers) => format!("SERVICE, callers: [{}]", callers.join(", ")),
    };
    format!("path: {}, class: {}, access: {access}", method.path, class(method))
}

//! The configuration of the Envoy that stands between the pods, and between them and the clients. It does what the design leaves to
//! the mesh (§6): it balances, asks who is ready, and retries what the contracts call repeatable, never a stream.

use std::net::{Ipv4Addr, SocketAddr};

use flaghoist_proto::{Access, METHODS, Method};
use serde_json::{Value, json};

use super::pod::{HTTP, INTERNAL, METRICS, PUBLIC, Service};

/// Where Envoy shows what it knows.
const ADMIN: u16 = 9901;

/// A call as a whole, its retries included. Clients set shorter ones.
const CALL_MAX: &str = "15s";
/// One try of it. What takes longer is tried on another pod.
const TRY_MAX: &str = "3s";
/// What is retried: nothing of it is an answer of the service but UNAVAILABLE, by which it says that trying again may help.
/// The last two let a try that takes too long be retried.
const RETRY_ON: &str = "unavailable,connect-failure,refused-stream,reset-before-request,reset,gateway-error";

/// The addresses of one cluster: a small network of its own within 127.0.0.0/8, so that every pod has the same ports, as it would
/// in Kubernetes, and no two clusters meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net([u8; 2]);

impl Net {
    /// A network that nobody else is likely to have.
    pub(crate) fn new() -> Self {
        Self([rand::random_range(1..=254), rand::random_range(0..=255)])
    }

    fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0[0], self.0[1], last)
    }

    /// A pod's address.
    pub(crate) fn pod(self, service: Service, number: u8) -> Ipv4Addr {
        self.host(10 * (service as u8 + 1) + number + 1)
    }

    /// Where the internal methods of a service are called, whichever pod answers.
    pub(crate) fn internal(self, service: Service) -> SocketAddr {
        SocketAddr::from((self.host(10 * (service as u8 + 1)), INTERNAL))
    }

    /// Where clients call.
    pub(crate) fn gateway(self) -> SocketAddr {
        SocketAddr::from((self.host(1), PUBLIC))
    }

    /// Where browsers and OAuth clients ask.
    pub(crate) fn gateway_http(self) -> SocketAddr {
        SocketAddr::from((self.host(1), HTTP))
    }

    /// Where Envoy shows what it knows.
    pub(crate) fn admin(self) -> SocketAddr {
        SocketAddr::from((self.host(1), ADMIN))
    }
}

/// The names of all clusters, in Envoy's sense: the pods of one service at one of its ports.
pub(crate) fn cluster_names() -> Vec<String> {
    let mut names = Vec::new();
    for service in Service::ALL {
        names.extend([format!("{}-public", service.name()), format!("{}-internal", service.name())]);
        if service.has_http() {
            names.push(format!("{}-http", service.name()));
        }
    }
    names
}

/// The whole configuration, as JSON.
pub(crate) fn configuration(net: Net, pods_each: u8) -> String {
    let mut listeners = vec![
        listener("gateway", net.gateway(), public_routes(), true),
        listener("gateway-http", net.gateway_http(), http_routes(), true),
    ];
    let mut clusters = Vec::new();
    for service in Service::ALL {
        let name = service.name();
        listeners.push(listener(name, net.internal(service), internal_routes(service), false));
        clusters.push(cluster(&format!("{name}-public"), net, service, pods_each, PUBLIC));
        clusters.push(cluster(&format!("{name}-internal"), net, service, pods_each, INTERNAL));
        if service.has_http() {
            clusters.push(cluster(&format!("{name}-http"), net, service, pods_each, HTTP));
        }
    }
    let configuration = json!({
        "admin": { "address": address(net.admin()) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    configuration.to_string()
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// A listener for HTTP/1.1 and HTTP/2. The gateway writes the caller's address into `X-Forwarded-For`, whatever they claim.
fn listener(name: &str, at: SocketAddr, routes: Vec<Value>, edge: bool) -> Value {
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "AUTO",
                "use_remote_address": edge,
                "server_header_transformation": "PASS_THROUGH",
                "stream_idle_timeout": "0s",
                "http2_protocol_options": { "max_concurrent_streams": 100_000 },
                "route_config": { "virtual_hosts": [{ "name": name, "domains": ["*"], "routes": routes }] },
                "http_filters": [{
                    "name": "router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
            },
        }]}],
    })
}

/// The service that a method belongs to: the second part of its package.
fn owner(method: &Method) -> Option<Service> {
    let name = method.service.split('.').nth(1)?;
    Service::ALL.into_iter().find(|service| service.name() == name)
}

fn public_routes() -> Vec<Value> {
    let public = METHODS.iter().filter(|method| !matches!(method.access, Access::Service(_)));
    let mut routes: Vec<Value> = public.filter_map(|method| Some(route(method, owner(method)?, "public"))).collect();
    for service in Service::ALL {
        let prefix = format!("/flaghoist.{}.", service.name());
        let cluster = format!("{}-public", service.name());
        routes.push(json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster } }));
    }
    // Health and reflection are those of a pod, so any of them has its own; unknown methods have to be refused by someone.
    routes.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": "send-public", "timeout": "0s" } }));
    routes
}

fn internal_routes(service: Service) -> Vec<Value> {
    let internal =
        METHODS.iter().filter(|method| matches!(method.access, Access::Service(_)) && owner(method) == Some(service));
    let mut routes: Vec<Value> = internal.map(|method| route(method, service, "internal")).collect();
    let cluster = format!("{}-internal", service.name());
    routes.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }));
    routes
}

fn http_routes() -> Vec<Value> {
    vec![
        json!({ "match": { "path": "/login" }, "route": { "cluster": "login-http" } }),
        json!({ "match": { "prefix": "/" }, "route": { "cluster": "auth-http" } }),
    ]
}

fn route(method: &Method, service: Service, port: &str) -> Value {
    let cluster = format!("{}-{port}", service.name());
    let action = if method.streaming {
        json!({ "cluster": cluster, "timeout": "0s" })
    } else if method.repeatable {
        json!({
            "cluster": cluster,
            "timeout": CALL_MAX,
            "retry_policy": {
                "retry_on": RETRY_ON,
                "num_retries": 5,
                "per_try_timeout": TRY_MAX,
                "retry_back_off": { "base_interval": "0.025s", "max_interval": "0.5s" },
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    },
                }],
                "host_selection_retry_max_attempts": 3,
            },
        })
    } else {
        json!({ "cluster": cluster, "timeout": CALL_MAX })
    };
    json!({ "match": { "path": method.path }, "route": action })
}

/// The pods of a service at one port. Who does not say that it is ready gets nothing new.
fn cluster(name: &str, net: Net, service: Service, pods_each: u8, port: u16) -> Value {
    let endpoints: Vec<Value> = (0..pods_each)
        .map(|number| {
            let pod = net.pod(service, number);
            json!({ "endpoint": {
                "address": address(SocketAddr::from((pod, port))),
                "health_check_config": { "port_value": METRICS },
            }})
        })
        .collect();
    let many = 100_000;
    let limits =
        json!({ "max_connections": many, "max_pending_requests": many, "max_requests": many, "max_retries": many });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": if service == Service::Receiver { "LEAST_REQUEST" } else { "ROUND_ROBIN" },
        // Nobody ready means nobody, not everybody. And who is ready is told to the threads that carry calls at once: Envoy
        // gathers such news for a second unless told not to, and then refuses calls for pods that it shows as healthy.
        "common_lb_config": { "healthy_panic_threshold": { "value": 0.0 }, "update_merge_window": "0s" },
        "circuit_breakers": { "thresholds": [limits] },
        // A pod that takes no connections is left alone before its health is asked for the next time.
        "outlier_detection": {
            "split_external_local_origin_errors": true,
            "consecutive_local_origin_failure": 2,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": "0.2s",
            "base_ejection_time": "1s",
            "max_ejection_time": "2s",
            "max_ejection_percent": 50,
        },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "health_checks": [{
            "timeout": "1s",
            "interval": "0.5s",
            "no_traffic_interval": "0.5s",
            "unhealthy_interval": "0.1s",
            "no_traffic_healthy_interval": "0.5s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "http_health_check": { "path": "/readyz" },
        }],
    });
    if port != HTTP {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": { "max_concurrent_streams": 10_000 } },
            },
        });
    }
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_route_on_one_listener_and_no_stream_is_retried() {
        let internal = Service::ALL.into_iter().flat_map(internal_routes);
        let routes: Vec<Value> = public_routes().into_iter().chain(internal).collect();
        for method in METHODS {
            let of_it: Vec<&Value> = routes.iter().filter(|route| route["match"]["path"] == method.path).collect();
            assert_eq!(of_it.len(), 1, "{}", method.path);
            let retried = of_it[0]["route"].get("retry_policy").is_some();
            assert_eq!(retried, method.repeatable && !method.streaming, "{}", method.path);
        }
    }

    #[tokio::test]
    async fn envoy_takes_the_configuration() {
        let Some(program) = flaghoist_backends::Envoy::program() else { return };
        let net = Net::new();
        let envoy = flaghoist_backends::Envoy::start(program, configuration(net, 2), net.admin()).await.unwrap();
        let known = envoy.asks("/stats?filter=membership_total").unwrap();
        for name in cluster_names() {
            assert!(known.contains(&format!("cluster.{name}.membership_total: 2")), "{name}: {known}");
        }
    }
}

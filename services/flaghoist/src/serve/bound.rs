//! The ports of a process, bound before anything is started, and what is printed about them once all is ready.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::keys::Keys;
use super::process::Process;
use super::settings::Settings;
use crate::exit::{Exit, Failure};

/// How many connections may wait to be accepted: many clients come back at once after a restart.
const BACKLOG: u32 = 4096;
/// Where a client looks for the server if nothing is said.
const CLIENT_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// The bound ports.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) grpc: TcpListener,
    pub(super) internal: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
    pub(super) jwks: Option<TcpListener>,
    pub(super) metrics: TcpListener,
    addresses: Addresses,
}

/// Where the ports are, by name.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    grpc: SocketAddr,
    others: Vec<(&'static str, SocketAddr)>,
}

impl Bound {
    /// Binds all ports.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, Failure> {
        let (ports, keys) = (settings.ports, Keys::of(settings.process));
        let mut others = Vec::new();
        let mut also = |name, port: Option<SocketAddr>, said: &str| {
            let Some(port) = port else { return Ok(None) };
            let (listener, address) = listen(port, said)?;
            others.push((name, address));
            Ok::<_, Failure>(Some(listener))
        };
        let internal = also("internal", ports.internal, "--internal-addr")?;
        let http = also("http", ports.http, "--http-addr")?;
        let jwks = also("jwks", ports.jwks, keys.jwks_addr.map_or("", |setting| setting.name))?;
        let metrics = also("metrics", Some(ports.metrics), "--metrics-addr")?;
        let (grpc, address) = listen(ports.grpc, "--grpc-addr")?;
        let addresses = Addresses { grpc: address, others };
        let metrics = metrics.ok_or_else(|| Failure::new(Exit::Failed, "no port for metrics"))?;
        Ok(Self { grpc, internal, http, jwks, metrics, addresses })
    }

    /// Where they are.
    pub(super) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }
}

fn listen(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = (|| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        Ok::<_, io::Error>((listener, local))
    })();
    bound.map_err(|error| {
        Failure::new(
            Exit::Occupied,
            format!("cannot listen on {address} ({flag}): {error}; does another program use that port?"),
        )
    })
}

impl Addresses {
    /// Prints where everything is, for people and for programs that start the server, and commands to try.
    pub(super) fn announce(&self, settings: &Settings) {
        let text = self.text(settings, &std::env::args().next().unwrap_or_else(|| "flaghoist".into()));
        // Nobody may be reading; the server serves all the same.
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn text(&self, settings: &Settings, program: &str) -> String {
        let mut text = String::new();
        let names = self.others.iter().map(|(name, _)| name.len()).chain(["issuer".len()]);
        let width = names.max().unwrap_or_default();
        let _ = writeln!(text, "{:width$} http://{}", "grpc", self.grpc);
        for (name, address) in &self.others {
            let _ = writeln!(text, "{name:width$} http://{address}");
        }
        let _ = writeln!(text, "{:width$} {}", "issuer", settings.issuer);
        if settings.uses_folder {
            let _ = writeln!(text, "{:width$} {}", "data", settings.data.display());
        }
        if let Process::One(service) = settings.process {
            let _ = writeln!(text, "{service} is ready");
            return text;
        }
        let server = match reachable(self.grpc) {
            CLIENT_DEFAULT => String::new(),
            address => format!(" --server http://{address}"),
        };
        let _ = writeln!(text, "\nTry, in another shell:");
        for command in ["register alice", "register bob --profile bob", "send @bob 'hi'"] {
            let _ = writeln!(text, "  {program} {command}{server}");
        }
        text
    }
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_server_only_where_they_must() {
        assert_eq!(reachable("0.0.0.0:9000".parse().unwrap()), CLIENT_DEFAULT);
        assert_eq!(reachable("[::]:9000".parse().unwrap()), CLIENT_DEFAULT);
        assert_eq!(reachable("10.0.0.1:9000".parse().unwrap()).to_string(), "10.0.0.1:9000");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let (_first, address) = listen("127.0.0.1:0".parse().unwrap(), "--grpc-addr").unwrap();
        let refused = listen(address, "--grpc-addr").unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains("--grpc-addr"), "{}", refused.message);
    }
}

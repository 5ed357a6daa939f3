//! The ports of `serve`, bound before anything is started, and what is printed about them once all is ready.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

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
    pub(super) http: TcpListener,
    pub(super) metrics: TcpListener,
    addresses: Addresses,
}

/// Where the ports are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    metrics: SocketAddr,
}

impl Bound {
    /// Binds all ports.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, Failure> {
        let (grpc, grpc_addr) = listen(settings.grpc_addr, "--grpc-addr")?;
        let (http, http_addr) = listen(settings.http_addr, "--http-addr")?;
        let (metrics, metrics_addr) = listen(settings.metrics_addr, "--metrics-addr")?;
        let addresses = Addresses { grpc: grpc_addr, http: http_addr, metrics: metrics_addr };
        Ok(Self { grpc, http, metrics, addresses })
    }

    /// Where they are.
    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
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
    /// Prints where everything is, for people and for programs that start the server, and three commands to try.
    pub(super) fn announce(&self, settings: &Settings) {
        let text = self.text(settings, &std::env::args().next().unwrap_or_else(|| "flaghoist".into()));
        // Nobody may be reading; the server serves all the same.
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn text(&self, settings: &Settings, program: &str) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "grpc    http://{}", self.grpc);
        let _ = writeln!(text, "http    http://{}", self.http);
        let _ = writeln!(text, "metrics http://{}", self.metrics);
        let _ = writeln!(text, "issuer  {}", settings.issuer);
        let _ = writeln!(text, "data    {}", settings.data.display());
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

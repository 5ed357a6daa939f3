//! The address of a client: the socket's peer, or what trusted proxies in front say.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// The address of the client. Found in the extensions of every request: on a gRPC listener as far as trusted hops vouch for it, on
/// an HTTP listener the socket's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The address of the client of a gRPC call; the unspecified address for a call that came through no listener.
    pub fn of<T>(request: &tonic::Request<T>) -> IpAddr {
        request.extensions().get::<Self>().map_or(UNKNOWN, |address| address.0)
    }
}

/// The address of a call between parts of one process.
const UNKNOWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// The address of the client of an HTTP request; `trusted_hops` proxies in front are trusted to have added to
/// `X-Forwarded-For`.
pub fn client_address<B>(request: &http::Request<B>, trusted_hops: u8) -> IpAddr {
    let peer = request.extensions().get::<ClientAddress>().map_or(UNKNOWN, |address| address.0);
    forwarded_address(request.headers(), peer, trusted_hops)
}

/// The address that the outermost of `trusted_hops` proxies saw: the entry of `X-Forwarded-For` that many places from the right.
///
/// What stands further left was written by the client itself. `peer` if there are no such proxies or no such entry.
pub fn forwarded_address(headers: &HeaderMap, peer: IpAddr, trusted_hops: u8) -> IpAddr {
    let Some(skipped) = trusted_hops.checked_sub(1) else { return peer };
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    entries.nth(skipped.into()).and_then(|entry| parse(entry.trim())).unwrap_or(peer)
}

/// Reads an address, with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(lines: &[&str], hops: u8) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        forwarded_address(&headers, IpAddr::from([127, 0, 0, 6]), hops).to_string()
    }

    #[test]
    fn only_what_trusted_hops_wrote_is_believed() {
        assert_eq!(address(&["1.1.1.1"], 0), "127.0.0.6");
        assert_eq!(address(&[], 1), "127.0.0.6");
        assert_eq!(address(&["6.6.6.6, 1.1.1.1"], 1), "1.1.1.1");
        assert_eq!(address(&["6.6.6.6", "1.1.1.1,2.2.2.2"], 2), "1.1.1.1");
        assert_eq!(address(&["6.6.6.6", "1.1.1.1"], 2), "6.6.6.6");
        assert_eq!(address(&["1.1.1.1"], 2), "127.0.0.6");
        assert_eq!(address(&["nonsense"], 1), "127.0.0.6");
        assert_eq!(address(&["1.1.1.1:5000"], 1), "1.1.1.1");
        assert_eq!(address(&["[2001:db8::1]:5000"], 1), "2001:db8::1");
        assert_eq!(address(&["::ffff:1.2.3.4"], 1), "1.2.3.4");
    }
}

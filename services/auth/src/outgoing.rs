//! Requests that the issuer itself sends, to addresses that clients have registered: a form, by POST, over TLS (on this machine also
//! without). Nothing is followed, nothing of the answer is read but its status, and nothing takes longer than ten seconds. What an admin
//! has registered may be anywhere, as applications in the same network are; what a program has registered for itself is called only
//! where it leads outside, for beside the issuer others listen who trust whoever reaches them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

/// How long one request may take, with its connection.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Where a form may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Wherever the address leads.
    Anywhere,
    /// To a host that everybody can reach, over TLS.
    Outside,
}

/// Why a form did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    /// The address is none that may be called.
    #[error("the address cannot be called")]
    Address,
    /// It leads to this machine or into the network around it.
    #[error("the address leads inside: have an admin register it")]
    Inside,
    /// The certificates of this machine cannot be used.
    #[error("no trusted certificates on this machine")]
    Certificates,
    /// Nobody answers there.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// The connection broke.
    #[error("cannot send")]
    Send(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer within ten seconds")]
    Late,
    /// The other side did not take it.
    #[error("it was answered {0}")]
    Refused(StatusCode),
}

impl OutgoingError {
    /// Whether nobody was there, so that whatever else is to go to the same address need not be tried now.
    pub(crate) fn nobody_there(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Send(_) | Self::Late)
    }
}

/// What this machine trusts; none if there is nothing.
static TLS: LazyLock<Option<TlsConnector>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});

/// Posts a form. It has arrived when the answer is 200 or 204.
pub(crate) async fn post_form(address: &str, form: String, reach: Reach) -> Result<(), OutgoingError> {
    let sent = tokio::time::timeout(REQUEST_MAX, send(address, form, reach)).await;
    match sent.map_err(|_| OutgoingError::Late)?? {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        other => Err(OutgoingError::Refused(other)),
    }
}

async fn send(address: &str, form: String, reach: Reach) -> Result<StatusCode, OutgoingError> {
    let url = Url::parse(address).map_err(|_| OutgoingError::Address)?;
    let host = url.host_str().ok_or(OutgoingError::Address)?;
    let port = url.port_or_known_default().ok_or(OutgoingError::Address)?;
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(CONTENT_LENGTH, form.len())
        .body(Body::from(form))
        .map_err(|_| OutgoingError::Address)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // Looked up once: what is connected to is what was judged.
    let found: Vec<SocketAddr> = lookup_host((bare, port)).await.map_err(OutgoingError::Connect)?.collect();
    if reach == Reach::Outside && (url.scheme() != "https" || found.iter().any(|address| inside(address.ip()))) {
        return Err(OutgoingError::Inside);
    }
    let stream = TcpStream::connect(found.as_slice()).await.map_err(OutgoingError::Connect)?;
    match url.scheme() {
        "https" => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| OutgoingError::Address)?;
            let tls = TLS.as_ref().ok_or(OutgoingError::Certificates)?;
            exchange(tls.connect(name, stream).await.map_err(OutgoingError::Connect)?, request).await
        }
        "http" => exchange(stream, request).await,
        _ => Err(OutgoingError::Address),
    }
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<StatusCode, OutgoingError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer?.status())
}

/// Whether only this machine and those around it can reach the address. The range 240.0.0.0/4 is not meant by that: a mesh answers with
/// it for hosts outside.
fn inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let shared = first == 100 && (64..128).contains(&second);
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || first == 0
                || shared
        }
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => inside(embedded.into()),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
            }
        },
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped, or behind a NAT64 (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let nat64 = || match address.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    };
    address.to_ipv4_mapped().or_else(nat64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_known_however_it_is_written() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
        ] {
            assert!(inside(address.parse().unwrap()), "{address}");
        }
        for address in
            ["93.184.215.14", "100.63.0.1", "172.32.0.1", "240.240.0.1", "2606:4700::1111", "64:ff9b::5db8:d70e"]
        {
            assert!(!inside(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn case_7_a_name_that_leads_inside_is_called_for_admins_only() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [format!("https://localhost:{port}/bye"), format!("http://localhost:{port}/bye")] {
            let refusal = post_form(&address, String::new(), Reach::Outside).await;
            assert!(matches!(refusal, Err(OutgoingError::Inside)), "{refusal:?}");
        }
        let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(nobody.is_err(), "nobody has connected");
        let address = format!("http://localhost:{port}/bye");
        let called = tokio::spawn(async move { post_form(&address, String::new(), Reach::Anywhere).await });
        drop(listener.accept().await.unwrap());
        assert!(called.await.unwrap().unwrap_err().nobody_there());
    }
}

//! Requests that the issuer itself sends, to addresses that an admin has registered: a form, by POST, over TLS (on this machine also
//! without). Nothing is followed, nothing of the answer is read but its status, and nothing takes longer than ten seconds.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

/// How long one request may take, with its connection.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Why a form did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    /// The address is none that may be called.
    #[error("the address cannot be called")]
    Address,
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
pub(crate) async fn post_form(address: &str, form: String) -> Result<(), OutgoingError> {
    let sent = tokio::time::timeout(REQUEST_MAX, send(address, form)).await;
    match sent.map_err(|_| OutgoingError::Late)?? {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        other => Err(OutgoingError::Refused(other)),
    }
}

async fn send(address: &str, form: String) -> Result<StatusCode, OutgoingError> {
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
    let stream = TcpStream::connect((bare, port)).await.map_err(OutgoingError::Connect)?;
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

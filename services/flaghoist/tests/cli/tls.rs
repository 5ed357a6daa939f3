//! The command line's way to a server behind TLS: it trusts the system's certificate authorities and no others. What ends TLS here is
//! a rustls listener that hands the bytes on to the server, as a gateway would.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::stage::{PASSWORD, Stage, stderr};

/// The certificates of these tests, made for `localhost` with `tests/cli/tls/make`; nobody else trusts them.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/tls").join(name)
}

/// Ends TLS in front of a server; answers the address under which it is reached.
async fn gateway(server: String, protocol: &[u8]) -> String {
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let behind = server.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(behind).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    address
}

/// Registers over `server`, where the system trusts the authority in the file `trusted`.
async fn registers(stage: &Stage, person: &str, server: &str, trusted: &str) -> Output {
    let password = stage.folder.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = stage.command(person, &["register", person, "--server", server, "--password-file"]);
    command.arg(&password).env("SSL_CERT_FILE", file(trusted)).env_remove("SSL_CERT_DIR");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_server_behind_tls_is_reached_if_the_system_trusts_its_certificate() {
    let stage = Stage::new(&[]);
    let server = gateway(stage.server.address("grpc"), b"h2").await;
    let output = registers(&stage, "alice", &server, "authority.pem").await;
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let stage = Stage::new(&[]);
    let server = gateway(stage.server.address("grpc"), b"h2").await;
    let output = registers(&stage, "alice", &server, "stranger.pem").await;
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).to_lowercase().contains("certificate"), "{}", stderr(&output));
    assert!(!stage.profile("alice").exists());
    // The name in the certificate counts as well.
    let other = server.replace("localhost", "127.0.0.1");
    let output = registers(&stage, "alice", &other, "authority.pem").await;
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
}

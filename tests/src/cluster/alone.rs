//! One process of one service on SQLite, with an auth that the test plays: for what must be asked of a service by itself.

use std::net::{Ipv4Addr, SocketAddr};

use flaghoist_backends::Ending;
use tempfile::TempDir;

use super::pod::{self, Pod, Service};
use crate::binary::{Profile, server_binary};

/// A service without the others. It ends when this is dropped.
#[derive(Debug)]
pub struct Alone {
    pod: Pod,
    _folder: TempDir,
}

impl Alone {
    /// Starts one that takes the tokens of `issuer` and asks for its keys at `auth`. There is nobody else to be asked: calls for which it
    /// needs another service fail.
    ///
    /// # Errors
    /// Its log, when it does not get ready.
    ///
    /// # Panics
    /// When the machine has no folder for it.
    pub async fn start(service: Service, issuer: &str, auth: SocketAddr) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("flaghoist-alone-").tempdir().expect("a folder");
        let address = Ipv4Addr::new(127, rand::random_range(1..=254), rand::random(), 3);
        let prefix = format!("FLAGHOIST_{}_", service.name().to_uppercase());
        let mut settings = vec![
            ("DATA".to_owned(), folder.path().join("data").display().to_string()),
            ("ISSUER".to_owned(), issuer.to_owned()),
        ];
        for (name, port) in [("GRPC", pod::PUBLIC), ("INTERNAL", pod::INTERNAL), ("METRICS", pod::METRICS)] {
            settings.push((format!("{name}_ADDR"), format!("{address}:{port}")));
        }
        if service.has_http() {
            settings.push(("HTTP_ADDR".to_owned(), format!("{address}:{}", pod::HTTP)));
        }
        settings.extend(
            service
                .peers()
                .iter()
                .map(|peer| (format!("{}_ADDR", peer.name().to_uppercase()), format!("http://{auth}"))),
        );
        let settings = settings.into_iter().map(|(name, value)| (prefix.clone() + &name, value)).collect();
        let started = tokio::task::spawn_blocking(move || {
            let program = server_binary(Profile::Same).to_owned();
            let pod = Pod::new(service, 0, address, program, settings, Ending::default());
            pod.begin()?;
            pod.until_ready()?;
            Ok::<_, String>(pod)
        });
        let pod = started.await.map_err(|error| error.to_string())??;
        Ok(Self { pod, _folder: folder })
    }

    /// Where it takes public gRPC calls.
    pub fn grpc(&self) -> SocketAddr {
        self.pod.public()
    }
}

//! A stage for services that run by themselves: each a process on ports of its own, all with one data folder, the addresses of the
//! others and a secret that they share.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

use crate::stage::{flaghoist, within_patience};

/// The services, in no order of importance: they start in any.
pub(crate) const SERVICES: [&str; 4] = ["receiver", "send", "login", "auth"];

/// What the services share where no mesh vouches for them.
pub(crate) const SECRET: &str = "a secret for the tests, shared by all four";

/// A folder and the ports of the four services, whether they run or not.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    ports: BTreeMap<(&'static str, &'static str), u16>,
}

/// A service as a process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) process: Child,
    log: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("credential"), SECRET).unwrap();
        let names = SERVICES.into_iter().flat_map(|service| {
            ["grpc", "internal", "http", "jwks", "metrics"].into_iter().map(move |port| (service, port))
        });
        // All at once, so that no port is found twice.
        let bound = names.map(|name| (name, TcpListener::bind("127.0.0.1:0").unwrap())).collect::<Vec<_>>();
        let ports = bound.iter().map(|(name, listener)| (*name, listener.local_addr().unwrap().port())).collect();
        Self { folder, ports }
    }

    pub(crate) fn address(&self, service: &'static str, port: &'static str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[&(service, port)]))
    }

    /// Starts a service with these extra settings.
    pub(crate) fn starts(&self, service: &'static str, settings: &[(&str, &str)]) -> Pod {
        let prefix = format!("FLAGHOIST_{}_", service.to_uppercase());
        let mut command = flaghoist();
        for port in ["grpc", "internal", "metrics"] {
            command.env(format!("{prefix}{}_ADDR", port.to_uppercase()), self.address(service, port).to_string());
        }
        let more: &[&'static str] = match service {
            "auth" => &["http", "jwks"],
            "login" => &["http"],
            _ => &[],
        };
        for port in more {
            command.env(format!("{prefix}{}_ADDR", port.to_uppercase()), self.address(service, port).to_string());
        }
        let peers: &[&'static str] = match service {
            "auth" => &[],
            "login" => &["auth", "send", "receiver"],
            "send" => &["auth", "login", "receiver"],
            _ => &["auth", "send"],
        };
        for peer in peers {
            let address = format!("http://{}", self.address(peer, "internal"));
            command.env(format!("{prefix}{}_ADDR", peer.to_uppercase()), address);
        }
        let log = self.folder.path().join(format!("{service}.log"));
        let process = command
            .arg(service)
            .env(format!("{prefix}DATA"), self.folder.path().join("data"))
            .env(format!("{prefix}INTERNAL_CREDENTIAL_FILE"), self.folder.path().join("credential"))
            .env("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "64")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Pod { process, log }
    }

    /// Starts all four and waits until they are ready.
    pub(crate) fn starts_all(&self, settings: &[(&str, &str)]) -> BTreeMap<&'static str, Pod> {
        let mut pods: BTreeMap<_, _> =
            SERVICES.into_iter().map(|service| (service, self.starts(service, settings))).collect();
        for service in SERVICES {
            within_patience(|| {
                let pod = pods.get_mut(service).unwrap();
                assert!(pod.process.try_wait().unwrap().is_none(), "{service} ended: {}", pod.log());
                self.ready(service).starts_with("HTTP/1.1 200").then_some(())
            });
        }
        pods
    }

    /// What `/readyz` of a service answers; nothing if it does not.
    pub(crate) fn ready(&self, service: &'static str) -> String {
        get(self.address(service, "metrics"), "/readyz").unwrap_or_default()
    }

    /// A channel to a port of a service.
    pub(crate) fn channel(&self, service: &'static str, port: &'static str) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address(service, port))).unwrap().connect_lazy()
    }
}

impl Pod {
    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stops(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        within_patience(|| self.process.try_wait().unwrap())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The answer to a GET, if there is one.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

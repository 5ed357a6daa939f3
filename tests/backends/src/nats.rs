//! A NATS server of the test's own.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Ending, Process, lock};
use crate::{blocking, find, free_port, pause};

/// How long the server may take until it greets.
const READY_MAX: Duration = Duration::from_secs(20);

/// A NATS server. Cloning gives another handle to the same one; with the last handle it ends.
#[derive(Clone, Debug)]
pub struct Nats {
    broker: Arc<Broker>,
}

#[derive(Debug)]
struct Broker {
    program: PathBuf,
    port: u16,
    server: Mutex<Option<Process>>,
}

impl Nats {
    /// Starts one. `None` when this machine has no `nats-server`: that was said then.
    pub async fn start() -> Option<Self> {
        blocking(|| {
            let Some(program) = find::installed("nats-server") else {
                find::left_out("what needs NATS", "nats-server is not installed; `tests/backends/install` does that");
                return None;
            };
            // Another process may take the port before the server does.
            let mut tries = 0;
            loop {
                tries += 1;
                let broker = Broker { program: program.clone(), port: free_port(), server: Mutex::new(None) };
                match broker.serve() {
                    Ok(()) => return Some(Self { broker: Arc::new(broker) }),
                    Err(error) if tries < 5 && error.contains("address already in use") => {}
                    Err(error) => panic!("NATS: {error}"),
                }
            }
        })
        .await
    }

    /// Where it is, as the setting wants it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    /// Kills it; [`Nats::start_again`] begins again on the same port, without what it knew.
    pub async fn stop(&self) {
        let broker = Arc::clone(&self.broker);
        blocking(move || drop(lock(&broker.server).take())).await;
    }

    /// Starts it after a stop and waits until it greets.
    pub async fn start_again(&self) {
        let broker = Arc::clone(&self.broker);
        blocking(move || broker.serve().unwrap_or_else(|error| panic!("NATS: {error}"))).await;
    }

    /// Freezes it: connections stay, nothing moves.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Nats::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(server) = lock(&self.broker.server).as_ref() {
            server.signal(signal);
        }
    }
}

impl Broker {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn serve(&self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]);
        let process = Process::start(command, &Ending::default())?;
        let began = Instant::now();
        while !greets(self.address()) {
            if !process.running() || began.elapsed() > READY_MAX {
                return Err(format!("the server does not come up; its log:\n{}", process.last_words()));
            }
            pause();
        }
        // Somebody else who has the port greets too.
        if !process.running() {
            return Err(format!("address already in use; its log:\n{}", process.last_words()));
        }
        *lock(&self.server) = Some(process);
        Ok(())
    }
}

/// Whether a NATS server says hello there.
fn greets(address: SocketAddr) -> bool {
    let limit = Duration::from_secs(1);
    let mut hello = [0; 4];
    TcpStream::connect_timeout(&address, limit).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(limit)).is_ok() && stream.read_exact(&mut hello).is_ok() && &hello == b"INFO"
    })
}

#[cfg(test)]
mod tests;

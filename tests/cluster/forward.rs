//! A way into a pod or a Service: `kubectl port-forward`, started again when it has given up. Into a pod it leads to the loopback, past
//! the sidecar.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::Mutex;

use crate::programs::command;

/// How long kubectl may take until it listens.
const LISTENING_MAX: Duration = Duration::from_secs(20);

/// A way to one port. It is gone with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Forward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    namespace: String,
    /// `pod/NAME` or `service/NAME`.
    to: String,
    port: u16,
    running: Mutex<Option<(Child, SocketAddr)>>,
}

impl Forward {
    /// A way to a port of `pod/NAME` or `service/NAME`, made when it is first used.
    pub(crate) fn new(namespace: &str, to: &str, port: u16) -> Self {
        let (namespace, to) = (namespace.to_owned(), to.to_owned());
        Self(Arc::new(Inner { namespace, to, port, running: Mutex::default() }))
    }

    /// Where it begins on this machine.
    pub(crate) async fn address(&self) -> Result<SocketAddr, String> {
        let mut running = self.0.running.lock().await;
        if let Some((child, address)) = running.as_mut()
            && matches!(child.try_wait(), Ok(None))
        {
            return Ok(*address);
        }
        let Inner { namespace, to, port, .. } = &*self.0;
        let mut child = command("kubectl")?
            .args(["port-forward", "--namespace", namespace, to, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It says there whenever a connection ends otherwise than it would like.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("kubectl port-forward: {error}"))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("kubectl has no output")?).lines();
        let said = tokio::time::timeout(LISTENING_MAX, lines.next_line()).await;
        // "Forwarding from 127.0.0.1:40001 -> 9000"
        let address = said
            .ok()
            .and_then(Result::ok)
            .flatten()
            .and_then(|line| line.split_whitespace().find_map(|word| word.parse::<SocketAddr>().ok()));
        let address = address.ok_or_else(|| format!("kubectl forwards nothing to {to} in {namespace}"))?;
        // It must be able to go on talking.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        *running = Some((child, address));
        Ok(address)
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> Result<TcpStream, String> {
        let address = self.address().await?;
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{}: {error}", self.0.to))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// Says a line and hears one.
    pub(crate) async fn asks(&self, line: &str) -> Result<String, String> {
        let mut stream = self.connect().await?;
        stream.write_all(format!("{line}\n").as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            answer.push(stream.read_u8().await.map_err(|error| format!("{} says nothing: {error}", self.0.to))?);
        }
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// An address of this machine whose connections go by the relay at the end of this way to `target`.
    pub(crate) async fn relayed(&self, target: &str) -> Result<SocketAddr, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (way, target) = (self.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (way, target) = (way.clone(), target.clone());
                tokio::spawn(async move {
                    let _ = client.set_nodelay(true);
                    let Ok(mut server) = way.connect().await else { return };
                    if server.write_all(format!("{target}\n").as_bytes()).await.is_ok() {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(address)
    }
}

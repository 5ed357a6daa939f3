//! A network between a client and a server that a test can cut: a TCP proxy. While it is cut nothing moves and nothing is refused,
//! as when a switch is gone; afterwards connections go on where they were, or are broken off.

use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How much one direction of one connection holds.
const BUFFER_BYTES: usize = 64 * 1024;

/// A link to a server. It is gone when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    cut: bool,
    /// Rises whenever all connections are broken off.
    generation: u64,
    ended: bool,
}

impl Link {
    /// A link to the server at `to`, on a thread of its own: a test's runtime may end before it.
    pub fn new(to: SocketAddr) -> Self {
        Self::at(IpAddr::from([127, 0, 0, 1]), to)
    }

    /// The same for clients that reach this machine under the address `at`, such as the pods of a cluster.
    pub fn at(at: IpAddr, to: SocketAddr) -> Self {
        let (state, seen) = watch::channel(State::default());
        let listener = std::net::TcpListener::bind((at, 0)).expect("an address of this machine has a free port");
        listener.set_nonblocking(true).expect("a listener of ours");
        let address = listener.local_addr().expect("a listener has an address");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(serve(listener, to, seen));
        });
        Self { address, state, thread: Some(thread) }
    }

    /// Where the client is to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it: what is sent is held back, new connections get no answer.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Ends [`Link::cut`]; what was held back goes on.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Breaks off all connections.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.ended = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, to: SocketAddr, mut seen: watch::Receiver<State>) {
    let listener = TcpListener::from_std(listener).expect("a listener of ours");
    let state = seen.clone();
    let accept = async {
        loop {
            if let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to, state.clone()));
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = seen.wait_for(|state| state.ended) => {}
    }
}

/// One connection, until either side ends it or all are broken off.
async fn carry(client: TcpStream, to: SocketAddr, mut seen: watch::Receiver<State>) {
    let generation = seen.borrow().generation;
    let state = seen.clone();
    let carried = async {
        whole(&mut state.clone()).await;
        let Ok(server) = TcpStream::connect(to).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(copy(from_client, to_server, state.clone()), copy(from_server, to_client, state.clone()));
    };
    tokio::select! {
        () = carried => {}
        _ = seen.wait_for(|state| state.generation != generation) => {}
    }
}

/// Waits until the link is whole.
async fn whole(seen: &mut watch::Receiver<State>) {
    // An error means that the link is gone, and with it this task.
    let _ = seen.wait_for(|state| !state.cut).await;
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut seen: watch::Receiver<State>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length) = from.read(&mut buffer).await {
        whole(&mut seen).await;
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests;

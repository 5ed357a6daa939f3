//! Takes connections in, as many as the file limit of the process allows beside its stores, and says clearly when it does not.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Gauge;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::process::{CONNECTIONS_MAX, ROOM, prepare_process};
use crate::drain::Drain;

/// How long to wait after the system refused to give a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the log mentions refused connections at most.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// After what silence the system asks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// How often it asks.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How many connections a listener takes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The most it keeps; 0 leaves it to the file limit.
    pub(super) max: usize,
    /// How many it takes when the others have used up the file limit, so that operators can still look.
    pub(super) spare: usize,
    /// How long a client may leave what it was sent where it is, before it counts as gone.
    pub(super) silence_max: Duration,
}

/// Accepts connections until the drain starts, and serves each in a task of its own. Ends with the last of them, or with the drain.
pub(super) async fn run<S, F>(name: &'static str, listener: TcpListener, drain: Drain, limits: Limits, serve: S)
where
    S: Fn(TcpStream, IpAddr, Drain, Place) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    prepare_process();
    let own = Arc::new(Semaphore::new(if limits.max == 0 { CONNECTIONS_MAX } else { limits.max }));
    let spare = Arc::new(Semaphore::new(limits.spare));
    let open = metrics::gauge!("flaghoist_connections_open", "listener" => name);
    let tasks = TaskTracker::new();
    let mut trouble = Trouble::new(name);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if trouble.accepting(&error) {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let room = Arc::clone(&ROOM).try_acquire_owned().or_else(|_| Arc::clone(&spare).try_acquire_owned()).ok();
        let Some((permit, room)) = Arc::clone(&own).try_acquire_owned().ok().zip(room) else {
            trouble.no_room();
            continue;
        };
        prepare(&stream, limits.silence_max);
        let place = Place::new(permit, room, open.clone());
        tasks.spawn(serve(stream, peer.ip().to_canonical(), drain.clone(), place));
    }
    // New clients are to be refused now, not left waiting.
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = drain.ended() => {}
    }
}

/// The place of one connection among those that are kept, until it is dropped.
pub(super) struct Place {
    open: Gauge,
    _own: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

impl Place {
    fn new(own: OwnedSemaphorePermit, room: OwnedSemaphorePermit, open: Gauge) -> Self {
        open.increment(1.0);
        Self { open, _own: own, _room: room }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// Small answers go out at once, and a client that is gone or never reads is noticed.
fn prepare(stream: &TcpStream, silence_max: Duration) {
    let set = || -> io::Result<()> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
        // Also when the client's system answers and only the client does not read: what HTTP/2 would say to it has no way out then.
        sockopt::set_tcp_user_timeout(stream, u32::try_from(silence_max.as_millis()).unwrap_or(u32::MAX))?;
        Ok(())
    };
    if let Err(error) = set() {
        // The client may be gone already; then reading says so.
        tracing::debug!(%error, "cannot set socket options");
    }
}

/// What goes wrong with accepting, mentioned in the log once a second.
struct Trouble {
    listener: &'static str,
    logged: Option<Instant>,
    refused: u64,
}

impl Trouble {
    fn new(listener: &'static str) -> Self {
        Self { listener, logged: None, refused: 0 }
    }

    /// Takes note of an error, and says whether to wait before the next try.
    fn accepting(&mut self, error: &io::Error) -> bool {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            Some(Errno::MFILE | Errno::NFILE) => {
                if self.due() {
                    tracing::error!(listener = self.listener, %error, "file limit reached: raise it with ulimit -n or LimitNOFILE");
                }
                true
            }
            Some(Errno::NOBUFS | Errno::NOMEM) => {
                if self.due() {
                    tracing::error!(listener = self.listener, %error, "cannot accept connections: is memory short?");
                }
                true
            }
            // The client went away before it was its turn.
            _ => false,
        }
    }

    /// Takes note of a connection that there is no room for.
    fn no_room(&mut self) {
        self.refused += 1;
        metrics::counter!("flaghoist_connections_refused_total", "listener" => self.listener).increment(1);
        if self.due() {
            let refused = std::mem::take(&mut self.refused);
            tracing::error!(
                listener = self.listener,
                refused,
                "connection limit reached, new ones are closed: raise the file limit with ulimit -n or LimitNOFILE"
            );
        }
    }

    fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL);
        if due {
            self.logged = Some(now);
        }
        due
    }
}

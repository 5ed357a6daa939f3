//! A process that has used up its open files (in a process of its own, since the limit is the process's): the log says so, what is
//! connected goes on, and what came meanwhile is served when there is room again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flaghoist_runtime::Drain;
use flaghoist_runtime::server::{prepare_process, serve_http};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// How many files this process may open.
const LIMIT: u64 = 400;

/// A log that the test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn asks(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let count = timeout(Duration::from_secs(10), stream.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn at_the_file_limit_the_log_says_so_old_connections_go_on_and_new_ones_wait() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let maximum = getrlimit(Resource::Nofile).maximum.map_or(LIMIT, |maximum| maximum.min(LIMIT));
    setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) }).unwrap();
    prepare_process();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_trigger, drain) = Drain::new();
    let router = axum::Router::new().route("/", axum::routing::get(async || "here"));
    tokio::spawn(serve_http(listener, router, drain));
    let mut old = TcpStream::connect(address).await.unwrap();
    assert!(asks(&mut old).await.contains("here"));

    // The client's end is made while there is room for it; the server's end then finds none.
    let late = TcpSocket::new_v4().unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let mut late = late.connect(address).await.unwrap();
    let said = async {
        while !String::from_utf8_lossy(&log.0.lock().unwrap()).contains("file limit reached") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), said).await.expect("the log names the limit");
    assert!(asks(&mut old).await.contains("here"), "who is connected goes on");
    drop(taken);
    assert!(asks(&mut late).await.contains("here"), "who came meanwhile is served");
    let lines = String::from_utf8_lossy(&log.0.lock().unwrap()).matches("file limit reached").count();
    assert!(lines < 12, "about once a second, not at every attempt: {lines}");
}

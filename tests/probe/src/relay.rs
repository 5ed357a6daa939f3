//! Goes on, from within a pod, with connections that came by the pod's loopback. The first line of each says where to: `HOST:PORT`.

use std::io;

use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Where connections come in. Only `kubectl port-forward` reaches it.
const ADDRESS: &str = "127.0.0.1:7000";

/// How long the first line may be.
const LINE_MAX_BYTES: usize = 256;

/// Relays until the pod ends.
pub(crate) async fn serve() -> Result<(), String> {
    let listener = TcpListener::bind(ADDRESS).await.map_err(|error| format!("{ADDRESS}: {error}"))?;
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            if let Err(error) = relay(client).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn relay(mut client: TcpStream) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        match client.read_u8().await? {
            b'\n' => break,
            byte if line.len() < LINE_MAX_BYTES => line.push(byte),
            _ => return Err(io::Error::other("the first line is too long")),
        }
    }
    join(client, &String::from_utf8(line).map_err(io::Error::other)?).await
}

/// Goes on with every connection to the same place.
pub(crate) async fn leads_on(listener: TcpListener, target: String) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let target = target.clone();
        tokio::spawn(async move {
            if let Err(error) = join(client, &target).await {
                eprintln!("a connection to {target} ended: {error}");
            }
        });
    }
}

async fn join(mut client: TcpStream, target: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

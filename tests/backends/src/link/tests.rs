//! What the tests with a cut network rely on.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Link;

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn what_is_sent_while_it_is_cut_arrives_when_it_is_mended() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::new(server.local_addr().unwrap());
    let mut client = TcpStream::connect(link.address()).await.unwrap();
    let (mut other_end, _) = server.accept().await.unwrap();
    let mut heard = [0; 2];
    client.write_all(b"on").await.unwrap();
    other_end.read_exact(&mut heard).await.unwrap();
    link.cut();
    client.write_all(b"no").await.unwrap();
    let mut another = TcpStream::connect(link.address()).await.unwrap();
    assert!(tokio::time::timeout(SOON, other_end.read_exact(&mut heard)).await.is_err());
    assert!(tokio::time::timeout(SOON, server.accept()).await.is_err(), "nothing new gets through");
    link.mend();
    other_end.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"no");
    let (_third, _) = server.accept().await.unwrap();
    link.reset();
    assert_eq!(another.read(&mut heard).await.unwrap_or_default(), 0, "broken off");
    assert_eq!(client.read(&mut heard).await.unwrap_or_default(), 0, "broken off");
}

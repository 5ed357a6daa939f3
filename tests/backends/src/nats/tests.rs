//! What the tests of the bus rely on.

use super::{Nats, greets};

#[tokio::test]
async fn a_server_comes_back_on_the_same_port() {
    let Some(nats) = Nats::start().await else { return };
    let address = nats.address();
    assert!(greets(address));
    nats.stop().await;
    assert!(!greets(address));
    nats.start_again().await;
    assert!(greets(address) && nats.address() == address);
}

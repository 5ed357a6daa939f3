//! A full disk: nothing is answered that is not stored, streams go on, and all is well when there is space again.

use std::sync::Arc;

use flaghoist_backends::SmallDisk;
use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::*;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

#[tokio::test]
async fn fault_02_a_full_disk_answers_no_acknowledgement_and_streams_go_on() {
    let Some(disk) = SmallDisk::mount("fault_02 of the receiver", 4) else { return };
    let folder = Arc::new(tempfile::tempdir_in(disk.folder()).unwrap());
    let world = World::stored_in(folder, quick()).await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut phone = world.listens(&bob).await;
    phone.catches_up().await;
    phone.acked(hall, 1).await;
    disk.fill();
    // New devices, until there is no room for one more.
    let mut refused = 0;
    for _ in 0..2_000 {
        let mut ear = world.listens(&world.person()).await;
        if let Err(status) = ear.hears().await {
            assert_eq!(refusal::<()>(Err(status)), (Code::Unavailable, Some(Reason::Unavailable)));
            refused += 1;
            if refused == 5 {
                break;
            }
        }
    }
    assert_eq!(refused, 5, "the disk never got full");
    // Events still come; what the device acknowledges is not answered, and the stream does not end.
    world.says(&alice, hall, "with a full disk").await;
    assert_eq!(phone.event().await.seq, 2);
    phone.acks(hall, 2).await;
    phone.hears_nothing().await;
    disk.free();
    loop {
        if let Said::Acknowledged(acknowledged) = phone.next().await {
            assert_eq!(acknowledged.positions, [Position { seq: 2, ..world.at(hall, 2) }]);
            break;
        }
    }
    drop(phone);
    let world = world.restarts().await;
    assert!(world.listens(&bob).await.catches_up().await.is_empty(), "what was answered is stored");
}

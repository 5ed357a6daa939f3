//! What login asks for a person: their devices are counted, given out, and removed with their streams.

use flaghoist_proto::receiver::v1::subject_service_client::SubjectServiceClient;
use flaghoist_proto::receiver::v1::{EraseSubjectRequest, ExportSubjectRequest, ListDevicesRequest};
use flaghoist_runtime::Peer;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

fn subjects(world: &World) -> SubjectServiceClient<Peer> {
    SubjectServiceClient::new(world.internal())
}

async fn erased(world: &World, person: &Person, count_only: bool) -> i64 {
    let request = EraseSubjectRequest { user: person.id.name(), count_only };
    subjects(world).erase_subject(request).await.unwrap().into_inner().device_count
}

#[tokio::test]
async fn an_erased_person_has_no_devices_and_no_streams() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut phone = world.listens(&alice).await;
    let mut tablet = world.opens(&alice, open("tablet")).await.unwrap();
    let mut other = world.listens(&bob).await;
    for ear in [&mut phone, &mut tablet, &mut other] {
        ear.catches_up().await;
    }
    phone.acked(hall, 1).await;

    let mut pieces =
        subjects(&world).export_subject(ExportSubjectRequest { user: alice.id.name() }).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert_eq!(piece.file, "devices");
        lines.extend(piece.lines);
    }
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["device"], format!("{}/devices/phone", alice.id.name()));
    assert_eq!(lines[0]["acknowledged"][0]["seq"], 1);

    assert_eq!(erased(&world, &alice, true).await, 2, "counting removes nothing");
    assert_eq!(erased(&world, &alice, false).await, 2);
    for ear in [&mut phone, &mut tablet] {
        assert_eq!(ear.ends().await, (Code::NotFound, Some(Reason::NotFound)));
    }
    assert_eq!(erased(&world, &alice, false).await, 0);
    let listed = world.client().list_devices(alice.asks(ListDevicesRequest {})).await.unwrap().into_inner();
    assert!(listed.devices.is_empty());
    world.says(&alice, hall, "others hear").await;
    assert_eq!(other.event().await.seq, 2);
}

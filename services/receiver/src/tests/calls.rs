//! The calls beside the streams.

use flaghoist_proto::receiver::v1::receive_request::Request as Says;
use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::*;
use flaghoist_runtime::fault::{Reason, reason_of};
use tonic::{Code, Request};

use super::world::*;
use crate::Settings;

#[tokio::test]
async fn fault_8_reading_only_goes_forward_and_tells_the_others() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.person(), world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    world.says(&alice, hall, "one").await;
    world.says(&alice, hall, "two").await;
    let mut hers = world.listens(&alice).await;
    hers.catches_up().await;
    let read = |seq| bob.asks(MarkReadRequest { position: Some(world.at(hall, seq)) });
    for (seq, expected, told) in [(2, 2, true), (1, 2, false), (3, 3, true), (3, 3, false)] {
        let receipt = world.client().mark_read(read(seq)).await.unwrap().into_inner().receipt.unwrap();
        assert_eq!((receipt.read_seq, receipt.delivered_seq, receipt.member), (expected, expected, bob.id.name()));
        if told {
            let Said::Receipt(receipt) = hers.next().await else { panic!("no receipt") };
            assert_eq!((receipt.read_seq, receipt.member), (expected, bob.id.name()));
        }
    }
    hers.hears_nothing().await;
    for (position, code, reason) in [
        (world.at(hall, 4), Code::InvalidArgument, Reason::PositionInvalid),
        (Position { epoch: 1, ..world.at(hall, 1) }, Code::InvalidArgument, Reason::PositionInvalid),
        (Position { conversation: "x".into(), ..world.at(hall, 1) }, Code::InvalidArgument, Reason::FieldViolation),
    ] {
        let asked = world.client().mark_read(bob.asks(MarkReadRequest { position: Some(position) })).await;
        assert_eq!(refusal(asked), (code, Some(reason)));
    }
    let foreign = world.client().mark_read(carol.asks(MarkReadRequest { position: Some(world.at(hall, 1)) })).await;
    assert_eq!(refusal(foreign), (Code::NotFound, Some(Reason::NotFound)));
    let empty = world.client().mark_read(bob.asks(MarkReadRequest::default())).await;
    assert_eq!(refusal(empty), (Code::InvalidArgument, Some(Reason::FieldViolation)));
}

#[tokio::test]
async fn fault_7_unread_is_listed_page_by_page() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let mut expected = Vec::new();
    for number in 0..30 {
        let id = world.conversation(&[alice, bob]).await;
        if number % 3 == 0 {
            world.says(&alice, id, "hi").await;
            world.says(&bob, id, "my own does not count").await;
            expected.push(id.name());
        }
    }
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListUnreadRequest { page_size: 4, page_token: page_token.clone() };
        let page = world.client().list_unread(bob.asks(request)).await.unwrap().into_inner();
        assert!(page.unread.len() <= 4);
        assert!(page.unread.iter().all(|unread| (unread.unread_count, unread.last_seq, unread.read_seq) == (1, 3, 0)));
        found.extend(page.unread.into_iter().map(|unread| unread.conversation));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let foreign = alice.asks(ListUnreadRequest { page_size: 4, page_token: page_token.clone() });
    let altered = bob.asks(ListUnreadRequest { page_size: 4, page_token: format!("A{page_token}") });
    for request in [foreign, altered] {
        let refused = refusal(world.client().list_unread(request).await);
        assert_eq!(refused, (Code::InvalidArgument, Some(Reason::PageTokenInvalid)));
    }
}

#[tokio::test]
async fn typing_reaches_the_other_members_and_is_limited() {
    let world = World::with(Settings { typing_per_minute: 3, ..quick() }).await;
    let (alice, bob, carol) = (world.person(), world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut hers, mut his, mut carols) =
        (world.listens(&alice).await, world.listens(&bob).await, world.listens(&carol).await);
    for ear in [&mut hers, &mut his, &mut carols] {
        ear.catches_up().await;
    }
    hers.says(Says::Typing(TypingNotice { conversation: hall.name() })).await;
    let Said::Typing(typing) = his.next().await else { panic!("no typing") };
    assert_eq!((typing.conversation, typing.member), (hall.name(), alice.id.name()));
    hers.hears_nothing().await;
    carols.hears_nothing().await;
    let request = || SetTypingRequest { conversation: hall.name() };
    let foreign = world.client().set_typing(carol.asks(request())).await;
    assert_eq!(refusal(foreign), (Code::NotFound, Some(Reason::NotFound)));
    drop(his);
    for _ in 0..3 {
        world.client().set_typing(bob.asks(request())).await.unwrap();
    }
    assert!(matches!(hers.next().await, Said::Typing(_)));
    let status = world.client().set_typing(bob.asks(request())).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(Reason::RateLimited)));
    use tonic_types::StatusExt as _;
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs() >= 1);
}

#[tokio::test]
async fn devices_are_listed_and_removed_by_their_owner() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut phone, mut tablet) = (world.listens(&bob).await, world.opens(&bob, open("tablet")).await.unwrap());
    phone.catches_up().await;
    tablet.catches_up().await;
    phone.acked(hall, 1).await;
    drop(tablet);
    let devices = || async {
        let devices = world.client().list_devices(bob.asks(ListDevicesRequest {})).await.unwrap().into_inner().devices;
        devices.into_iter().map(|device| (device.name.rsplit('/').next().unwrap().to_owned(), device.online)).collect()
    };
    let waited = async {
        loop {
            let now: Vec<(String, bool)> = devices().await;
            if now == [("phone".to_owned(), true), ("tablet".to_owned(), false)] {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waited).await.unwrap();
    let name = format!("{}/devices/phone", bob.id.name());
    let delete = |name: &str| DeleteDeviceRequest { name: name.to_owned() };
    let foreign = world.client().delete_device(alice.asks(delete(&name))).await;
    assert_eq!(refusal(foreign), (Code::NotFound, Some(Reason::NotFound)));
    world.client().delete_device(bob.asks(delete(&name))).await.unwrap();
    assert_eq!(phone.ends().await, (Code::NotFound, Some(Reason::NotFound)));
    let again = world.client().delete_device(bob.asks(delete("users/me/devices/phone"))).await;
    assert_eq!(refusal(again), (Code::NotFound, Some(Reason::NotFound)));
    let acked = world.acknowledges(&bob, vec![world.at(hall, 1)]).await;
    assert_eq!(refusal(acked), (Code::NotFound, Some(Reason::NotFound)));
    assert_eq!(world.listens(&bob).await.catches_up().await, [1], "its positions are gone");
}

#[tokio::test]
async fn nobody_gets_anything_without_a_token() {
    let world = World::new().await;
    let refused = refusal(world.client().list_devices(Request::new(ListDevicesRequest {})).await);
    assert_eq!(refused, (Code::Unauthenticated, Some(Reason::TokenMissing)));
    let open = SubscribeRequest { open: Some(open("phone")) };
    assert_eq!(world.client().subscribe(Request::new(open)).await.map(drop).unwrap_err().code(), Code::Unauthenticated);
}

//! Names go out and come back the same; anything else is refused.

use proptest::prelude::*;

use super::*;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

proptest! {
    #[test]
    fn every_name_reads_back_as_what_was_written(a in uuid(), b in uuid(), seq in 1..=i64::MAX as u64, device in "[a-z0-9._-]{1,64}") {
        let (user, conversation, session) = (UserId(a), ConversationId(b), SessionId(b));
        let device = DeviceId::from_id(&device).unwrap();
        prop_assert_eq!(UserId::parse(&user.name()), Ok(user));
        prop_assert_eq!(ConversationId::parse(&conversation.name()), Ok(conversation));
        prop_assert_eq!(parse_message(&message_name(conversation, seq)), Ok((conversation, seq)));
        prop_assert_eq!(parse_session(&session_name(user, session)), Ok((user, session)));
        prop_assert_eq!(parse_device(&device_name(user, &device), UserId(b)), Ok((user, device.clone())));
        prop_assert_eq!(parse_device(&format!("users/me/devices/{device}"), user), Ok((user, device)));
    }

    #[test]
    fn no_text_makes_parsing_panic_and_what_is_read_is_written_the_same(text in ".{0,200}") {
        if let Ok(user) = UserId::parse(&text) { prop_assert_eq!(user.name(), text.clone()); }
        if let Ok((conversation, seq)) = parse_message(&text) { prop_assert_eq!(message_name(conversation, seq), text.clone()); }
        if let Ok((user, session)) = parse_session(&text) { prop_assert_eq!(session_name(user, session), text); }
    }
}

#[test]
fn other_spellings_of_a_name_are_refused() {
    let id = "0190b5c8-7e1f-7c3a-9d2e-1a2b3c4d5e6f";
    for name in [
        String::new(),
        id.to_owned(),
        format!("user/{id}"),
        format!("users/{}", id.to_uppercase()),
        format!("users/{}", id.replace('-', "")),
        format!("users/{{{id}}}"),
        format!("users/urn:uuid:{id}"),
        format!("users/{id}/"),
        format!(" users/{id}"),
        format!("users/{id}\n"),
    ] {
        assert_eq!(UserId::parse(&name), Err(UserId::EXPECTED), "{name:?}");
    }
    for seq in ["", "0", "01", "+1", "-1", "1.0", "9223372036854775808", "1 ", "１"] {
        assert!(parse_message(&format!("conversations/{id}/messages/{seq}")).is_err(), "{seq:?}");
    }
    for device in ["", "A", "ä", "a b", "a/b", &"x".repeat(65)] {
        assert!(parse_device(&format!("users/{id}/devices/{device}"), UserId(Uuid::nil())).is_err(), "{device:?}");
    }
    assert_eq!(UserId::EXPECTED.to_string(), "is not a name like users/{user}");
}

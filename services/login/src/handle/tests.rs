use proptest::prelude::*;

use super::*;

#[test]
fn all_spellings_of_a_handle_are_one() {
    for typed in ["john", "John", "JOHN", "ｊｏｈｎ", "ＪＯＨＮ", "𝕁𝕠𝕙𝕟", "Ⓙⓞⓗⓝ"] {
        assert_eq!(Handle::read(typed).unwrap().as_str(), "john", "{typed}");
    }
    // The Kelvin sign folds to k, the long s to s.
    assert_eq!(Handle::read("\u{212a}i\u{17f}s").unwrap().as_str(), "kiss");
    assert_eq!(Handle::read("Straße").unwrap().as_str(), "strasse");
}

#[test]
fn a_mention_may_begin_with_an_at_sign() {
    assert_eq!(Handle::read_mention("@Bob").unwrap().as_str(), "bob");
    assert_eq!(Handle::read_mention("\u{ff20}bob").unwrap().as_str(), "bob");
    assert_eq!(Handle::read_mention("bob").unwrap().as_str(), "bob");
    assert_eq!(Handle::read_mention("@@bob"), Err(BadHandle));
}

#[test]
fn what_is_no_handle_is_refused() {
    let long = "a".repeat(33);
    let very_long = "ﷺ".repeat(10_000);
    for typed in [
        "",
        "a",
        "@bob",
        "bo b",
        "bob\0",
        "jоhn", /* Cyrillic o */
        "bob\u{200b}",
        "é",
        "日本語",
        &long,
        &very_long,
    ] {
        assert_eq!(Handle::read(typed), Err(BadHandle), "{typed:?}");
    }
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(typed in "\\PC{0,40}") {
        if let Ok(handle) = Handle::read(&typed) {
            let again = Handle::read(handle.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&handle));
            prop_assert!((2..=32).contains(&handle.as_str().len()));
            prop_assert!(handle.as_str().bytes().all(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789._-".contains(&byte)));
        }
    }

    #[test]
    fn case_and_width_never_matter(handle in "[a-z0-9._-]{2,32}") {
        let wide: String = handle.chars().map(|c| char::from_u32(c as u32 - 0x20 + 0xff00).unwrap()).collect();
        for typed in [handle.to_uppercase(), wide.to_uppercase(), wide] {
            let read = Handle::read(&typed).unwrap();
            prop_assert_eq!(read.as_str(), handle.as_str());
        }
    }
}

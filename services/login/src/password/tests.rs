use proptest::prelude::*;

use super::*;

fn new(typed: &str) -> Result<(), BadPassword> {
    Password::read(typed.into()).and_then(|password| password.check_new(2, &["alice", "Alice Liddell"]))
}

#[test]
fn any_text_is_a_password() {
    let longest = "ab cd3".repeat(170) + "xyz!";
    assert_eq!(longest.len(), 1024);
    for typed in [
        "correct horse battery paper clip",
        "nul\0in the middle of it",
        "🦀🐙🦑🐚🐡🐠🐟🐬",
        "   spaces  around   ",
        "пчела летит над рекой",
        &"a long sentence that goes on and on, well past sixty-four characters of text".repeat(2),
        &longest,
    ] {
        assert_eq!(new(typed), Ok(()), "{typed:?}");
    }
}

#[test]
fn lengths_are_counted_in_characters_below_and_bytes_above() {
    assert_eq!(new("k7#Qz9!"), Err(BadPassword::Short));
    // Seven characters however they are composed.
    assert_eq!(new("e\u{301}x7#Qz9"), Err(BadPassword::Short));
    assert_eq!(new("🦀🐙🦑🐚🐡🐠🐟"), Err(BadPassword::Short));
    assert!(matches!(Password::read("x".repeat(1025)), Err(BadPassword::Long)));
    assert!(Password::read("é".repeat(512)).is_ok());
}

#[test]
fn a_password_is_one_however_its_accents_are_composed() {
    let composed = Password::read("r\u{e9}sum\u{e9} f\u{fc}r Zo\u{eb}".into()).unwrap();
    let decomposed = Password::read("re\u{301}sume\u{301} fu\u{308}r Zoe\u{308}".into()).unwrap();
    assert_eq!(composed.bytes(), decomposed.bytes());
    // Compatibility forms stay what they are: only spelling is made one.
    let wide = Password::read("ｐａｓｓ".into()).unwrap();
    assert_eq!(wide.bytes(), "ｐａｓｓ".as_bytes());
}

#[test]
fn guessable_passwords_are_refused_with_advice() {
    for typed in [
        "password",
        "PASSWORD123",
        "P@ssw0rd",
        "1qaz2wsx",
        "ｐａｓｓｗｏｒｄ",
        "пароль123",
        "correcthorsebatterystaple",
    ] {
        assert!(matches!(new(typed), Err(BadPassword::Weak(_))), "{typed}");
    }
    for typed in ["aaaaaaaaaaaa", "abcdefghijk", "alice1234", "AliceLiddell", "20240101"] {
        let Err(BadPassword::Weak(advice)) = new(typed) else { panic!("{typed} was taken") };
        assert!(advice.len() > 30 && !advice.contains(typed), "{advice}");
    }
}

#[test]
fn the_list_of_common_passwords_is_sorted_and_in_its_form() {
    let lines: Vec<&str> = COMMON.lines().collect();
    assert!(lines.len() > 4000);
    assert!(lines.is_sorted_by(|a, b| a < b));
    assert!(lines.iter().all(|line| common_form(line) == *line && line.chars().count() >= LENGTH_MIN_CHARACTERS));
}

#[test]
fn a_password_is_never_shown() {
    let password = Password::read("correct horse battery".into()).unwrap();
    assert_eq!(format!("{password:?}"), "Password(…)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_the_check_panic(typed in any::<String>()) {
        let _ = new(&typed);
    }

    #[test]
    fn reading_twice_changes_nothing(typed in any::<String>()) {
        if let Ok(password) = Password::read(typed) {
            let again = String::from_utf8(password.bytes().to_vec()).unwrap();
            if let Ok(again) = Password::read(again) {
                prop_assert_eq!(again.bytes(), password.bytes());
            }
        }
    }
}

#[test]
fn a_long_password_is_as_strong_as_its_stronger_end() {
    let dull = "ab".repeat(100);
    assert_eq!(new(&format!("k7#Qz9!vB2x@Lw4${dull}")), Ok(()));
    assert_eq!(new(&format!("{dull}k7#Qz9!vB2x@Lw4$")), Ok(()));
    assert!(matches!(new(&dull), Err(BadPassword::Weak(_))));
}

//! Tests of the profile file: who may read it, and that it is changed as a whole and by one at a time.

use super::*;

fn profile(token: &str) -> Profile {
    Profile {
        server: "http://127.0.0.1:9000".into(),
        user: "users/1".into(),
        handle: "alice".into(),
        device: new_device(),
        session: Some(Session {
            name: "users/1/sessions/2".into(),
            access_token: token.into(),
            obtained_at: now(),
            expires_at: now() + 300,
            refresh_token: format!("refresh-{token}"),
        }),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_profile_is_readable_by_its_owner_only() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("deep/flaghoist");
    let file = ProfileFile::within(folder.clone(), "work").unwrap();
    assert!(file.read().unwrap().is_none());
    let lock = file.lock().await.unwrap();
    file.write(&profile("one"), &lock).unwrap();
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&file.path()), 0o600);
    assert_eq!(file.read().unwrap().unwrap().session.unwrap().access_token, "one");
}

#[tokio::test]
async fn a_profile_is_replaced_as_a_whole_and_leaves_no_drafts() {
    let place = tempfile::tempdir().unwrap();
    let file = ProfileFile::within(place.path().to_owned(), "default").unwrap();
    let long = "x".repeat(200_000);
    let lock = file.lock().await.unwrap();
    file.write(&profile(&long), &lock).unwrap();
    let reader = {
        let file = file.clone();
        std::thread::spawn(move || {
            for _ in 0..200 {
                let read = file.read().unwrap().unwrap();
                assert!(matches!(read.session.unwrap().access_token.len(), 5 | 200_000));
            }
        })
    };
    for round in 0..50 {
        file.write(&profile(if round % 2 == 0 { "short" } else { &long }), &lock).unwrap();
    }
    reader.join().unwrap();
    let mut names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["default.json", "default.lock"]);
}

#[tokio::test]
async fn one_at_a_time_holds_the_lock() {
    let place = tempfile::tempdir().unwrap();
    let file = ProfileFile::within(place.path().to_owned(), "default").unwrap();
    let first = file.lock().await.unwrap();
    let second = tokio::spawn({
        let file = file.clone();
        async move { file.lock().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "ä", &"x".repeat(65)] {
        let refused = ProfileFile::within(PathBuf::from("/tmp"), name).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage, "{name}");
    }
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let mut session = profile("one").session.unwrap();
    assert!((269..=270).contains(&session.fresh_for().as_secs()));
    session.expires_at = session.obtained_at + 6;
    assert!((3..=4).contains(&session.fresh_for().as_secs()));
    session.expires_at = session.obtained_at - 10;
    assert_eq!(session.fresh_for(), Duration::ZERO);
}

#[test]
fn tokens_are_not_printed() {
    let shown = format!("{:?}", profile("secret-token"));
    assert!(!shown.contains("secret-token"), "{shown}");
}

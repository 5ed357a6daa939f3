//! What login asks about a person as a whole: what there is, all of it, and the end of it.

use std::collections::BTreeMap;

use flaghoist_proto::auth::v1::{EraseSubjectRequest, ExportSubjectRequest};

use serde_json::Value;

use super::*;

impl World {
    /// What is given out about a person, by file.
    pub(super) async fn exported(&self, user: UserId) -> BTreeMap<String, Vec<Value>> {
        let request = ExportSubjectRequest { user: user.name() };
        let mut pieces = self.subjects().export_subject(request).await.unwrap().into_inner();
        let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            let lines = piece.lines.iter().map(|line| serde_json::from_str(line).unwrap());
            files.entry(piece.file).or_default().extend(lines);
        }
        files
    }
}

#[tokio::test]
async fn what_is_erased_is_counted_and_given_out_before() {
    let world = World::new().await;
    let (user, other) = (somebody(), somebody());
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(world.sign_in(user).await.0.name);
    }
    let (foreign, _) = world.sign_in(other).await;
    let erase = |count_only| EraseSubjectRequest { user: user.name(), count_only };
    let counted = world.subjects().erase_subject(erase(true)).await.unwrap().into_inner();
    assert_eq!((counted.session_count, counted.consent_count, counted.erased_count), (3, 0, 0));

    let files = world.exported(user).await;
    names.reverse();
    let sessions: Vec<_> = files["sessions"].iter().map(|session| session["session"].as_str().unwrap()).collect();
    assert_eq!(sessions, names);
    assert_eq!(files["sessions"][0]["last_address"], "192.0.2.7");
    assert_eq!(files["login_events"].len(), 3, "{files:?}");
    assert!(!format!("{files:?}").contains(&foreign.name), "nothing of others");

    let erased = world.subjects().erase_subject(erase(false)).await.unwrap().into_inner();
    assert_eq!(erased.session_count, 3);
    assert!(erased.erased_count > 0);
    let again = world.subjects().erase_subject(erase(false)).await.unwrap().into_inner();
    assert_eq!((again.session_count, again.erased_count), (0, 0));
}

//! What is kept of somebody who signs in by a browser: given out, and erased.

use flaghoist_proto::auth::v1::EraseSubjectRequest;

use super::*;

#[tokio::test]
async fn all_that_is_kept_of_a_person_is_given_out_and_erased() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    world.app("other", false, web()).await;
    let (user, other) = (somebody(), somebody());
    world.code("wiki", other).await;
    let mut browser = Browser::default();
    let code = browser.signs_in(&world, "wiki", user).await.parameter("code").unwrap();
    let tokens = world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap();
    // One code is unused, one client waits for an answer, and one device for its tokens.
    browser.authorize(&world, &request("wiki")).await.parameter("code").unwrap();
    let waiting = Browser::default().authorize(&world, &request("other")).await;
    world.accepts(&waiting.parameter("login_challenge").unwrap(), user).await.unwrap();
    let codes = world.begins("flaghoist-cli", "chat.read").await;
    let to_question = browser.types(&world, &codes.user_code).await;
    let question = browser.get(&world, to_question.location()).await;
    browser.answers(&world, &question, "allow").await;

    let files = world.exported(user).await;
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["browser_sessions", "login_events", "profile", "sessions", "sign_ins"]);
    assert_eq!((&files["profile"][0]["display_name"], &files["profile"][0]["handle"]), (&"Zoë".into(), &"zoe".into()));
    assert_eq!((files["browser_sessions"].len(), &files["browser_sessions"][0]["amr"][0]), (1, &"pwd".into()));
    let mut kinds: Vec<_> = files["sign_ins"]
        .iter()
        .map(|line| format!("{} {}", line["kind"].as_str().unwrap(), line["client_id"].as_str().unwrap()))
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["code wiki", "code wiki", "device flaghoist-cli", "request other"]);
    // Nothing with which somebody could act in their name.
    let all = format!("{files:?}");
    for secret in [&code, &tokens.refresh_token, &codes.device_code, browser.cookies.values().next().unwrap()] {
        assert!(!all.contains(secret.as_str()));
    }
    let erase = EraseSubjectRequest { user: user.name(), count_only: false };
    world.subjects().erase_subject(erase).await.unwrap();
    let left: Vec<_> = world.exported(user).await.into_keys().collect();
    assert_eq!(left, ["login_events"], "the audit log stays until its time is over");
    assert_eq!(world.exported(other).await["sign_ins"].len(), 1);
}

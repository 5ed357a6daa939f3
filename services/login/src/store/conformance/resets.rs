//! What every store must do with links by which a password is set anew.

use flaghoist_runtime::seal::Sealed;

use super::contacts::message;
use super::factors::first;
use super::*;
use crate::login_token::LoginToken;
use crate::recovery_code::RecoveryCode;
use crate::store::factors::Proven;
use crate::store::outbox::Also;
use crate::store::resets::Finished;

pub(crate) async fn a_link_is_used_once_and_ends_the_others(world: World) {
    let pods = world.pods().await;
    let user = register(&*pods[0], "alice").await;
    let proven = Proven { user, version: 1 };
    let (link, other, late) = (LoginToken::generate(), LoginToken::generate(), LoginToken::generate());
    for (link, expires_at) in [(&link, NOW + 10), (&other, NOW + 10), (&late, NOW)] {
        let letter = message(user, NOW + 10);
        pods[0].begin_reset(link.digest(), proven, expires_at, &letter, NOW).await.unwrap();
    }
    assert_eq!(pods[1].reset(link.digest(), NOW).await.unwrap(), Some(proven));
    assert_eq!(pods[1].reset(late.digest(), NOW).await.unwrap(), None);
    let also = Also::default();
    let finish = |pod: &Arc<dyn Store>, link: &LoginToken, hash: String| {
        let (pod, digest, also) = (Arc::clone(pod), link.digest(), also.clone());
        async move { pod.finish_reset(digest, &hash, None, &also, NOW).await.unwrap() }
    };
    assert_eq!(finish(&pods[0], &late, "late".into()).await, Finished::Over);
    let used = pods.iter().cycle().take(50).enumerate();
    let used = used.map(|(number, pod)| finish(pod, &link, format!("hash {number}")));
    let used: Vec<_> = futures_util::future::join_all(used).await;
    assert_eq!(used.iter().filter(|used| **used == Finished::Done).count(), 1);
    let winner = used.iter().position(|used| *used == Finished::Done).unwrap();
    let credentials = pods[1].credentials_of(user).await.unwrap().unwrap();
    assert_eq!((credentials.password_hash, credentials.version), (format!("hash {winner}"), 2));
    let notices = pods[0].notices(user).await.unwrap();
    assert!(matches!(&notices[..], [(_, Notice::EndSessions { except })] if except.is_empty()), "{notices:?}");
    // The other link was made for the password from before.
    assert_eq!(pods[0].reset(other.digest(), NOW).await.unwrap(), None);
    assert_eq!(finish(&pods[0], &other, "other".into()).await, Finished::Over);
    let again = LoginToken::generate();
    pods[0].begin_reset(again.digest(), proven, NOW + 10, &message(user, NOW + 10), NOW).await.unwrap();
    assert_eq!(pods[0].reset(again.digest(), NOW).await.unwrap(), None, "it was asked for before the change");
    let proven = Proven { version: 2, ..proven };
    pods[0].begin_reset(again.digest(), proven, NOW + 10, &message(user, NOW + 10), NOW).await.unwrap();
    assert!(pods[0].change_password(user, 2, "changed", "", NOW).await.unwrap());
    assert_eq!(pods[0].reset(again.digest(), NOW).await.unwrap(), None);
    assert_eq!(finish(&pods[1], &again, "again".into()).await, Finished::Over);
}

pub(crate) async fn a_link_takes_the_recovery_code_along_or_nothing(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let (_, codes) = RecoveryCode::generate(user);
    let secret = Sealed { bytes: b"s".to_vec(), with: "key".into() };
    store.begin_totp(user, &secret, NOW + 10).await.unwrap();
    store.confirm_totp(user, &secret, 5, first(&codes), NOW).await.unwrap();
    let link = LoginToken::generate().digest();
    store.begin_reset(link, Proven { user, version: 1 }, NOW + 10, &message(user, NOW + 10), NOW).await.unwrap();
    let unknown = RecoveryCode::generate(user).1[0];
    let also = Also::default();
    assert_eq!(store.finish_reset(link, "hash", Some(unknown), &also, NOW).await.unwrap(), Finished::CodeUnknown);
    assert!(store.reset(link, NOW).await.unwrap().is_some(), "the link is as it was");
    assert_eq!(store.finish_reset(link, "hash", Some(codes[0]), &also, NOW).await.unwrap(), Finished::Done);
    assert_eq!(store.factors(user).await.unwrap().recovery_codes, 9);
    assert_eq!(store.take_recovery_code(user, codes[0]).await.unwrap(), None);
}

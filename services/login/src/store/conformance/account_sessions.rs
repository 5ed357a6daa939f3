//! What every store must do with sessions of the account pages.

use flaghoist_runtime::seal::Sealed;

use super::*;
use crate::login_token::LoginToken;
use crate::store::account_sessions::{AccountSession, LIFETIME_MAX, Limits};

const LIMITS: Limits = Limits { idle: Duration::from_secs(10), absolute: Duration::from_secs(25) };

pub(crate) async fn a_session_of_the_account_pages_ends_and_is_over(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let tokens = |text: &str| Sealed { bytes: text.as_bytes().to_vec(), with: "key".into() };
    let open = async |at| {
        let digest = LoginToken::generate().digest();
        let session = AccountSession { digest, user, tokens: tokens("first") };
        store.open_account_session(&session, at).await.unwrap();
        session
    };
    let session = open(NOW).await;
    let found = async |at| store.account_session(session.digest, LIMITS, at).await.unwrap();
    assert_eq!(found(NOW + 9_999).await, Some(session.clone()));
    store.renew_account_session(session.digest, &tokens("second")).await.unwrap();
    let renewed = AccountSession { tokens: tokens("second"), ..session.clone() };
    assert_eq!(found(NOW + 19_998).await, Some(renewed.clone()), "the use before counts");
    assert_eq!(found(NOW + 25_000).await, None, "but not for ever");
    assert_eq!(open(NOW).await.user, user);
    let idle = open(NOW).await;
    assert_eq!(store.account_session(idle.digest, LIMITS, NOW + 10_000).await.unwrap(), None);
    // Of many who end it one gets it, and what has ended is not renewed.
    let ended = (0..5).map(|_| store.end_account_session(session.digest));
    let ended = futures_util::future::try_join_all(ended).await.unwrap();
    assert_eq!(ended.into_iter().flatten().collect::<Vec<_>>(), [renewed]);
    store.renew_account_session(session.digest, &tokens("third")).await.unwrap();
    assert_eq!(found(NOW + 1).await, None);
    // What no setting lets live is forgotten, and an account takes its sessions along.
    let long = Limits { idle: LIFETIME_MAX * 2, absolute: LIFETIME_MAX * 2 };
    let old = millis(flaghoist_runtime::time::from_millis(NOW) + LIFETIME_MAX);
    store.forget(old, 10).await.unwrap();
    assert_eq!(store.account_session(idle.digest, long, old).await.unwrap(), None);
    let mine = open(old).await;
    store.begin_deletion(user, old).await.unwrap();
    store.finish_deletion(user, &[]).await.unwrap();
    assert_eq!(store.account_session(mine.digest, long, old).await.unwrap(), None);
}

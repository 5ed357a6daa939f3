//! Two pods of login on one database: whatever is decided, they decide it together.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_backends::{Postgres, Stop};
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::names::UserId;
use tonic::Status;

use super::world::*;
use crate::{GrantError, grant_admin};

const NEW: &str = "other flowers in the sun";

/// Makes calls at once, turn by turn on each pod, and answers how they went.
async fn at_once<T, F>(pods: &[World; 2], count: usize, call: impl Fn(usize, Person) -> F) -> Vec<Result<T, Status>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    let calls = pods.iter().cycle().take(count).enumerate();
    let calls: Vec<_> = calls.map(|(number, pod)| tokio::spawn(call(number, pod.at("192.0.2.66")))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

fn refused<T>(answers: &[Result<T, Status>], reason: Reason) -> usize {
    answers.iter().filter(|answer| answer.as_ref().is_err_and(|error| reason_of(error) == Some(reason))).count()
}

fn begun(pods: &[World; 2]) -> u64 {
    pods.iter().map(|pod| pod.accounts.pool().begun()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_a_hundred_guesses_over_two_pods_are_not_a_hundred_guesses() {
    let Some(pods) = World::pods(|_| ()).await else { return };
    pods[0].person("alice").await;
    let before = begun(&pods);
    let guesses = at_once(&pods, 100, |number, attacker| async move {
        attacker.login("alice", &format!("guess number {number}")).await.map(|_| ())
    })
    .await;
    assert_eq!((refused(&guesses, Reason::CredentialsInvalid), refused(&guesses, Reason::RateLimited)), (5, 95));
    assert_eq!(begun(&pods), before + 5);
    // What one pod knows of alice the other knows: from where she has signed in before she still gets in there.
    pods[1].at("192.0.2.1").login("alice", PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_an_address_has_its_calls_once_and_not_on_every_pod() {
    let Some(pods) = World::pods(|settings| {
        (settings.address_burst, settings.registration_burst, settings.update_burst) = (10, 4, 3);
    })
    .await
    else {
        return;
    };
    let tries = at_once(&pods, 40, |number, someone| async move {
        someone.login(&format!("user{number}"), PASSWORD).await.map(|_| ())
    })
    .await;
    assert_eq!((refused(&tries, Reason::CredentialsInvalid), refused(&tries, Reason::RateLimited)), (10, 30));
    let tries =
        at_once(&pods, 20, |number, someone| async move { someone.register(&format!("user{number}"), PASSWORD).await })
            .await;
    assert_eq!((tries.iter().flatten().count(), refused(&tries, Reason::RateLimited)), (4, 16));
    let alice = pods[0].at("192.0.2.1");
    alice.register("alice", PASSWORD).await.unwrap();
    let alice = alice.signed_in("alice", PASSWORD).await;
    let names = at_once(&pods, 10, |number, someone| {
        let alice = alice.through(&someone);
        async move { alice.rename(&format!("Alice {number}")).await }
    })
    .await;
    assert_eq!((names.iter().flatten().count(), refused(&names, Reason::RateLimited)), (3, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_is_one_persons_on_whichever_pod_they_register() {
    let Some(pods) = World::pods(|_| ()).await else { return };
    for handle in ["alice", "bob", "carol"] {
        let made = at_once(&pods, 12, move |_, someone| async move { someone.register(handle, PASSWORD).await }).await;
        assert_eq!((made.iter().flatten().count(), refused(&made, Reason::AlreadyExists)), (1, 11));
        let [account] = &made.iter().flatten().collect::<Vec<_>>()[..] else { panic!("one") };
        let seen = pods[1].at("192.0.2.1").signed_in(handle, PASSWORD).await.get("").await.unwrap();
        assert_eq!(seen, **account);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_outlives_the_password_that_opened_it_on_another_pod() {
    let Some(pods) = World::pods(|settings| settings.account_free = 10_000).await else { return };
    let alice = pods[0].person("alice").await;
    let (mut old, mut new) = (PASSWORD.to_owned(), format!("{NEW} 0"));
    for round in 1..=8 {
        let sign_ins = at_once(&pods, 8, |_, someone| {
            let (alice, old) = (alice.through(&someone), old.clone());
            async move { alice.login("alice", &old).await }
        });
        let there = alice.on(&pods[round % 2]);
        let (_answers, changed) = tokio::join!(sign_ins, there.change_password(&old, &new));
        changed.unwrap();
        assert_eq!(pods[0].issuer.sessions(&alice.name()), [alice.session()], "round {round}");
        old = std::mem::replace(&mut new, format!("{NEW} {round}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_outlives_the_account_that_was_deleted_on_another_pod() {
    let Some(pods) = World::pods(|settings| settings.account_free = 10_000).await else { return };
    for round in 0..5 {
        // A handle is free again a little later.
        let handle = format!("alice{round}");
        let alice = pods[0].person(&handle).await;
        let sign_ins = at_once(&pods, 8, |_, someone| {
            let (alice, handle) = (alice.through(&someone), handle.clone());
            async move { alice.login(&handle, PASSWORD).await }
        });
        let there = alice.on(&pods[round % 2]);
        let (_answers, deleted) = tokio::join!(sign_ins, there.delete_account(PASSWORD));
        deleted.unwrap();
        assert!(pods[0].issuer.erased(&alice.name()));
        assert!(pods[0].issuer.sessions(&alice.name()).is_empty(), "round {round}");
        assert_eq!(reason(alice.on(&pods[1]).get("").await), Reason::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_was_frozen_while_it_opened_a_session_gives_nobody_its_tokens() {
    let Some(pods) = World::pods(|_| ()).await else { return };
    let alice = pods[0].person("alice").await;
    let gate = pods[0].issuer.open_no_sessions().await;
    let late = tokio::spawn({
        let alice = alice.clone();
        async move { alice.login("alice", PASSWORD).await }
    });
    let in_lane = async || pods[0].sql("SELECT count(*) FROM login.lanes").await.trim() == "1";
    eventually("the sign-in in its lane", in_lane).await;
    // As if the pod had been away for as long as it may hold a lane.
    pods[0].sql("UPDATE login.lanes SET held_until = now() - interval '1 second'").await;
    alice.on(&pods[1]).change_password(PASSWORD, NEW).await.unwrap();
    drop(gate);
    assert_eq!(reason(late.await.unwrap()), Reason::CredentialsInvalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_issuer_is_to_be_told_is_told_once_by_whichever_pod() {
    let Some(pods) = World::pods(|_| ()).await else { return };
    let mut people = Vec::new();
    for number in 0..40 {
        let account = pods[number % 2].at("192.0.2.1").register(&format!("user{number}"), PASSWORD).await.unwrap();
        people.push((UserId::parse(&account.name).unwrap(), account.name));
    }
    // Nobody has told it when the pods that changed something are gone.
    for (user, _) in &people {
        pods[0].store().set_disabled(*user, true, "", 1).await.unwrap();
    }
    let tellers = pods.each_ref().map(|pod| pod.accounts.teller());
    let rounds = tellers.iter().cycle().take(6).map(|teller| teller.tell_all());
    futures_util::future::try_join_all(rounds).await.unwrap();
    eventually("the last notice", async || pods[1].store().users_with_notices(1).await.unwrap().is_empty()).await;
    for (_, name) in &people {
        assert_eq!((pods[0].issuer.state(name), pods[0].issuer.told(name)), (Some((false, false)), 1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_left_untold_another_one_tells() {
    let Some([first, second]) = World::pods(|_| ()).await else { return };
    let alice = first.person("alice").await;
    first.issuer.set_down(true);
    assert_eq!(reason(alice.delete_account(PASSWORD).await), Reason::Unavailable);
    // It dies in the person's lane.
    let lane = first.accounts.lanes().enter(UserId::parse(&alice.name()).unwrap()).await.unwrap();
    std::mem::forget(lane);
    drop(first);
    second.issuer.set_down(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.issuer.erased(&alice.name()), "the lane is not over yet");
    second.sql("UPDATE login.lanes SET held_until = now()").await;
    eventually("the erasure", async || second.issuer.erased(&alice.name())).await;
    eventually("the handle", async || second.at("192.0.2.2").register("alice", PASSWORD).await.is_ok()).await;
}

#[tokio::test]
async fn the_first_admin_is_made_in_the_database() {
    let Some([first, second]) = World::pods(|_| ()).await else { return };
    let alice = first.person("alice").await;
    assert!(!grant_admin(&first.address(), &first.place(), "@ALICE").await.unwrap().already);
    assert!(grant_admin(&first.address(), &first.place(), "alice").await.unwrap().already);
    let unknown = grant_admin(&first.address(), &first.place(), "bob").await;
    assert!(matches!(unknown, Err(GrantError::Unknown(_))));
    let alice = alice.on(&second).signed_in("alice", PASSWORD).await;
    assert!(alice.get("").await.unwrap().admin);
    assert_eq!(second.issuer.state(&alice.name()), Some((true, true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashed_is_used_again_when_it_is_back() {
    let Some(postgres) = Postgres::start().await else { return };
    let world = Arc::new(World::on_database(postgres.database().await, |_| ()).await);
    let alice = world.person("alice").await;
    postgres.stop(Stop::Immediate).await;
    assert_eq!(reason(alice.get("").await), Reason::Unavailable);
    assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::Unavailable);
    postgres.start_again().await;
    eventually("an answer", async || alice.get("").await.is_ok()).await;
    // Connections that died with the server are found out one by one.
    eventually("a sign-in", async || alice.login("alice", PASSWORD).await.is_ok()).await;
    assert_eq!(world.issuer.state(&alice.name()), None, "nothing was left untold");
}

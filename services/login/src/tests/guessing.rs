//! Whoever guesses passwords, and whoever waits for the hash pool.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault::{Reason, reason_of};
use tonic::{Code, Status};

use super::world::*;

const NEW: &str = "other flowers in the sun";

/// How many were answered with each reason; refusals for their rate say when to try again.
fn counted<T: std::fmt::Debug>(answers: Vec<Result<T, Status>>) -> (usize, usize) {
    let (mut wrong, mut limited) = (0, 0);
    for answer in answers {
        let refused = answer.unwrap_err();
        match reason_of(&refused) {
            Some(Reason::CredentialsInvalid) => wrong += 1,
            Some(Reason::RateLimited) => {
                assert_eq!(refused.code(), Code::ResourceExhausted);
                assert!(retry_delay(&refused) > Duration::ZERO);
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (wrong, limited)
}

#[tokio::test]
async fn case_75_every_refusal_is_the_same() {
    let world = World::new().await;
    let root = world.admin("root").await;
    world.person("alice").await;
    let carol = world.person("carol").await;
    root.set_disabled(&carol.name(), true).await.unwrap();
    let someone = world.at("192.0.2.50");
    let mut refusals = Vec::new();
    for (handle, password) in [
        ("nobody", PASSWORD),
        ("not a handle!", PASSWORD),
        ("alice", "not the password"),
        ("carol", PASSWORD),
        ("carol", "not the password"),
    ] {
        let begun = world.accounts.pool().begun();
        let refused = someone.login(handle, password).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(world.accounts.pool().begun(), begun + 1, "{handle}: each costs one hash");
        refusals.push((refused.message().to_owned(), refused.details().to_owned()));
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    // Guessing at a handle that nobody has is limited like any other.
    let guesses = (0..20).map(|_| someone.login("nobody", PASSWORD));
    assert_eq!(counted(futures_util::future::join_all(guesses).await), (4, 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_a_hundred_guesses_at_once_are_not_a_hundred_guesses() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let attacker = world.at("192.0.2.66");
    let begun = world.accounts.pool().begun();
    let guesses: Vec<_> = (0..100)
        .map(|number| {
            let attacker = attacker.clone();
            tokio::spawn(async move { attacker.login("alice", &format!("guess number {number}")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for guess in guesses {
        answers.push(guess.await.unwrap());
    }
    assert_eq!(counted(answers), (5, 95));
    assert_eq!(world.accounts.pool().begun(), begun + 5);
    // A restart does not forget, and the same limit holds for whoever stole a token.
    let world = world.restart(|_| ()).await;
    assert_eq!(reason(world.at("192.0.2.66").login("alice", PASSWORD).await), Reason::RateLimited);
    let thief = alice.moved_to("198.51.100.7");
    let guesses = (0..50).map(|number| thief.change_password(if number == 0 { "first" } else { "guess" }, NEW));
    let (wrong, limited) = counted(futures_util::future::join_all(guesses).await);
    assert!(wrong <= 5 && limited >= 45, "{wrong} {limited}");
    assert_eq!(reason(thief.delete_account("guess").await), Reason::RateLimited);
}

#[tokio::test]
async fn a_right_password_is_no_guess_whatever_comes_after_it() {
    let world = World::new().await;
    world.person("alice").await;
    let elsewhere = world.at("192.0.2.77");
    // The issuer is away.
    world.issuer.set_down(true);
    for _ in 0..12 {
        assert_eq!(elsewhere.login("alice", PASSWORD).await.unwrap_err().code(), Code::Unavailable);
    }
    world.issuer.set_down(false);
    // The caller goes away.
    for _ in 0..12 {
        let (asked, gate) = (world.issuer.asked(), world.issuer.open_no_sessions().await);
        let login = tokio::spawn({
            let elsewhere = elsewhere.clone();
            async move { elsewhere.login("alice", PASSWORD).await }
        });
        eventually("the issuer is asked", async || world.issuer.asked() > asked).await;
        login.abort();
        assert!(login.await.unwrap_err().is_cancelled());
        drop(gate);
    }
    // A second factor is yet to come.
    let bob = world.person("bob").await;
    let _app = bob.with_app().await;
    for _ in 0..12 {
        assert_eq!(reason(elsewhere.login("bob", PASSWORD).await), Reason::SecondFactorRequired);
    }
    elsewhere.login("alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn case_80_one_address_guesses_at_few_accounts() {
    let world = World::with(|settings| settings.address_burst = 10).await;
    let attacker = world.at("2001:db8::1");
    let neighbour = world.at("2001:db8::2");
    let mut answers = Vec::new();
    for number in 0..10 {
        answers.push(attacker.login(&format!("user{number}"), PASSWORD).await);
        answers.push(neighbour.login(&format!("user{number}"), PASSWORD).await);
    }
    assert_eq!(counted(answers), (10, 10));
    assert_eq!(reason(world.at("2001:db8:0:1::1").login("user1", PASSWORD).await), Reason::CredentialsInvalid);
}

#[tokio::test]
async fn case_80_registrations_of_one_address_are_limited() {
    let world = World::with(|settings| settings.registration_burst = 3).await;
    let someone = world.at("192.0.2.66");
    for number in 0..3 {
        someone.register(&format!("user{number}"), PASSWORD).await.unwrap();
    }
    let begun = world.accounts.pool().begun();
    let refused = someone.register("user4", PASSWORD).await.unwrap_err();
    assert!(retry_delay(&refused) > Duration::from_secs(1));
    assert_eq!(reason::<()>(Err(refused)), Reason::RateLimited);
    assert_eq!(world.accounts.pool().begun(), begun);
    world.at("192.0.2.67").register("user4", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn case_81_a_hammered_account_stays_open_to_its_owner() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    for number in 0..60 {
        let address = format!("198.51.100.{number}");
        let _refused = world.at(&address).login("alice", "guess").await.unwrap_err();
    }
    assert_eq!(reason(world.at("203.0.113.1").login("alice", "guess").await), Reason::RateLimited);
    // From where she has signed in before she still gets in, again and again.
    for _ in 0..10 {
        alice.login("alice", PASSWORD).await.unwrap();
    }
    alice.change_password(PASSWORD, NEW).await.unwrap();
    // And so she does after a restart, when memory has forgotten everything.
    let world = world.restart(|_| ()).await;
    world.at("192.0.2.1").login("alice", NEW).await.unwrap();
}

/// Occupies the only thread of the pool until the sender is dropped.
pub(super) async fn occupy(world: &World) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let place = world.accounts.pool().place().unwrap();
    let task = tokio::spawn(async move {
        let work = move |_: &mut crate::hashing::Hasher| {
            begun.send(()).unwrap();
            let _released = blocked.recv();
        };
        place.run(work).await.unwrap();
    });
    has_begun.await.unwrap();
    (release, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_96_a_full_hash_pool_refuses_at_once_and_disturbs_nobody() {
    let world = World::with(|settings| (settings.hash_threads, settings.hash_queue) = (1, 3)).await;
    let world = Arc::new(world);
    let alice = world.person("alice").await;
    let (release, task) = occupy(&world).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.login("alice", PASSWORD).await })
        })
        .collect();
    eventually("a full queue", async || world.accounts.pool().place().is_err()).await;
    // All of these are answered while the only thread is occupied.
    for answer in [
        alice.login("alice", PASSWORD).await.map(|_| ()),
        alice.register("bob", PASSWORD).await.map(|_| ()),
        alice.change_password(PASSWORD, NEW).await,
        alice.delete_account(PASSWORD).await,
    ] {
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(retry_delay(&refused) > Duration::ZERO);
        assert_eq!(reason::<()>(Err(refused)), Reason::Overloaded);
    }
    assert_eq!(alice.get("").await.unwrap().handle, "alice");
    // Those who give up make room at once.
    for call in waiting {
        call.abort();
        assert!(call.await.is_err());
    }
    eventually("room", async || world.accounts.pool().place().is_ok()).await;
    let next = tokio::spawn({
        let alice = alice.clone();
        async move { alice.login("alice", PASSWORD).await }
    });
    drop(release);
    task.await.unwrap();
    next.await.unwrap().unwrap();
}

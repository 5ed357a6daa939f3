//! Security keys and passkeys, with two kinds of keys in software.

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

#[tokio::test]
async fn either_kind_of_key_is_a_second_factor() {
    for mut key in [Key::counting(), Key::storing()] {
        let world = World::new().await;
        let alice = world.person("alice").await;
        let (listed, codes) = alice.with_key(&mut key, false).await;
        assert_eq!((listed.display_name.as_str(), listed.passkey, codes.len()), ("The blue one", false, 10));
        assert_eq!(alice.factors().await.security_keys, [listed]);
        assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::SecondFactorRequired);
        for _ in 0..2 {
            let login = alice.half_signed_in("alice").await;
            let welcome = alice.touches(&mut key, &login).await.unwrap();
            assert_eq!(welcome.account.unwrap().handle, "alice");
            assert_eq!(world.issuer.last_request().amr, ["pwd", "pop", "mfa"]);
            assert_eq!(reason(alice.ask_key(&login).await), Reason::LoginOver);
        }
        assert!(alice.factors().await.security_keys[0].use_time.is_some());
    }
}

#[tokio::test]
async fn a_passkey_signs_in_without_a_password_and_says_whose_it_is() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    let (listed, _) = alice.with_key(&mut key, true).await;
    assert!(listed.passkey);
    let someone = world.at("203.0.113.1");
    for handle in ["", "Alice"] {
        let login = someone.start(handle).await;
        let welcome = someone.touches(&mut key, &login).await.unwrap();
        assert_eq!(welcome.account.unwrap().name, alice.name());
        assert_eq!(world.issuer.last_request().amr, ["pop", "user", "mfa"]);
    }
    // Who says for whom the login is gets no other account.
    world.person("bob").await;
    let login = someone.start("bob").await;
    assert_eq!(reason(someone.touches(&mut key, &login).await), Reason::CredentialsInvalid);
    // It is a second factor as well.
    let login = alice.half_signed_in("alice").await;
    alice.touches(&mut key, &login).await.unwrap();
    // A key that was not registered as a passkey does not do alone, even if it knows whose it is.
    let mut second = Key::storing();
    alice.with_key(&mut second, false).await;
    let login = someone.start("").await;
    assert_eq!(reason(someone.touches(&mut second, &login).await), Reason::CredentialsInvalid);
}

#[tokio::test]
async fn case_87_an_answer_to_another_challenge_of_another_origin_or_with_a_bad_signature_is_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::counting();
    alice.with_key(&mut key, false).await;
    let login = alice.half_signed_in("alice").await;
    let refused = |answer: Result<login::SignedIn, tonic::Status>| {
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    };
    let earlier = alice.ask_key(&login).await.unwrap();
    let options = alice.ask_key(&login).await.unwrap();
    // The challenge of before, which the next has taken the place of.
    refused(alice.answer_key(&login, &key.get(&earlier, ORIGIN).await).await);
    // Right or wrong, a challenge is used up by the first answer.
    let late = key.get(&options, ORIGIN).await;
    assert_eq!(reason(alice.answer_key(&login, &late).await), Reason::LoginStep);
    for part in ["signature", "authenticatorData"] {
        let options = alice.ask_key(&login).await.unwrap();
        refused(alice.answer_key(&login, &spoiled(&key.get(&options, ORIGIN).await, part)).await);
    }
    let options = alice.ask_key(&login).await.unwrap();
    let elsewhere = key.get(&options, "https://evil.chat.example.com").await;
    refused(alice.answer_key(&login, &elsewhere).await);
    // An answer that was taken is not taken again, in this login or another.
    let options = alice.ask_key(&login).await.unwrap();
    let answer = key.get(&options, ORIGIN).await;
    alice.answer_key(&login, &answer).await.unwrap();
    assert_eq!(reason(alice.answer_key(&login, &answer).await), Reason::LoginOver);
    let login = alice.half_signed_in("alice").await;
    alice.ask_key(&login).await.unwrap();
    refused(alice.answer_key(&login, &answer).await);
}

#[tokio::test]
async fn case_87_a_count_that_goes_back_is_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::counting();
    alice.with_key(&mut key, false).await;
    let (first, second) = (alice.half_signed_in("alice").await, alice.half_signed_in("alice").await);
    let (early, late) = (alice.ask_key(&first).await.unwrap(), alice.ask_key(&second).await.unwrap());
    // The library knows the count of when the ceremony began; the store knows that of now.
    let (early, late) = (key.get(&early, ORIGIN).await, key.get(&late, ORIGIN).await);
    alice.answer_key(&second, &late).await.unwrap();
    assert_eq!(reason(alice.answer_key(&first, &early).await), Reason::CredentialsInvalid);
    let login = alice.half_signed_in("alice").await;
    alice.touches(&mut key, &login).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_87_of_many_who_bring_one_answer_at_once_one_gets_in_on_every_pod() {
    let mut worlds = vec![vec![World::new().await]];
    worlds.extend(World::pods(|_| ()).await.map(Vec::from));
    for pods in worlds {
        let alice = pods[0].person("alice").await;
        let mut key = Key::storing();
        alice.with_key(&mut key, true).await;
        let login = alice.half_signed_in("alice").await;
        let answer = key.get(&alice.ask_key(&login).await.unwrap(), ORIGIN).await;
        let everywhere = pods.iter().cycle().take(6).map(|pod| alice.on(pod)).collect::<Vec<_>>();
        let brought = everywhere.iter().map(|alice| alice.answer_key(&login, &answer));
        let brought = futures_util::future::join_all(brought).await;
        assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1, "{brought:?}");
    }
}

#[tokio::test]
async fn case_90_a_key_that_is_known_to_any_account_or_is_none_is_not_registered() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let mut key = Key::counting();
    let options = alice.start_registration(false).await.unwrap();
    let answer = key.create(&options, ORIGIN).await;
    let malformed = |refused: tonic::Status| assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    // Another's challenge, a broken attestation, what is no answer at all, and more than any key has to say.
    mallory.start_registration(false).await.unwrap();
    malformed(mallory.finish_registration(&answer).await.unwrap_err());
    assert_eq!(reason(mallory.finish_registration(&answer).await), Reason::NotFound, "a challenge is used up");
    for bad in ["{}", "[]", "\0", "{\"id\":1}"] {
        mallory.start_registration(true).await.unwrap();
        malformed(mallory.finish_registration(bad).await.unwrap_err());
    }
    let mut huge: serde_json::Value = serde_json::from_str(&answer).unwrap();
    huge["response"]["attestationObject"] = "o2".repeat(9000).into();
    malformed(mallory.finish_registration(&huge.to_string()).await.unwrap_err());
    huge["response"]["attestationObject"] = "o2".repeat(4000).into();
    mallory.start_registration(false).await.unwrap();
    malformed(mallory.finish_registration(&huge.to_string()).await.unwrap_err());
    assert_eq!(alice.factors().await.security_keys, []);
    alice.finish_registration(&answer).await.unwrap();
    // The same credential under a challenge of another account: the list in the challenge is for browsers only.
    let theirs = mallory.start_registration(false).await.unwrap();
    let challenge = |options: &str| {
        let options: serde_json::Value = serde_json::from_str(options).unwrap();
        options["publicKey"]["challenge"].as_str().unwrap().to_owned()
    };
    let mut forged: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let client_data = format!(
        "{{\"type\":\"webauthn.create\",\"challenge\":\"{}\",\"origin\":\"{ORIGIN}\",\"crossOrigin\":false}}",
        challenge(&theirs)
    );
    use base64::Engine as _;
    forged["response"]["clientDataJSON"] = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(client_data).into();
    forged["response"]["attestationObject"] =
        without_attestation(forged["response"]["attestationObject"].as_str().unwrap()).into();
    let refused = mallory.finish_registration(&forged.to_string()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    assert_eq!(mallory.factors().await.security_keys, []);
}

/// The same attestation object with the format `none`, which signs nothing: whoever knows a credential can make one.
fn without_attestation(object: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let bytes = URL_SAFE_NO_PAD.decode(object).unwrap();
    // A map of three; the authenticator data begins with a head of a byte string (0x58 and one length, or 0x59 and two).
    let at = bytes.windows(8).position(|part| part == b"authData").unwrap() + 8;
    let length = match bytes[at] {
        0x58 => 2 + usize::from(bytes[at + 1]),
        0x59 => 3 + usize::from(u16::from_be_bytes([bytes[at + 1], bytes[at + 2]])),
        other => panic!("{other:x}"),
    };
    let mut none = vec![0xa3, 0x63];
    none.extend(b"fmt");
    none.push(0x64);
    none.extend(b"none");
    none.push(0x67);
    none.extend(b"attStmt");
    none.extend([0xa0, 0x68]);
    none.extend(b"authData");
    none.extend(&bytes[at..at + length]);
    URL_SAFE_NO_PAD.encode(none)
}

#[tokio::test]
async fn case_94_and_95_a_key_is_removed_by_its_owner_and_the_last_only_on_purpose() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let (mut key, mut other) = (Key::counting(), Key::storing());
    let (first, _) = alice.with_key(&mut key, false).await;
    assert_eq!(reason(mallory.delete_key(&first.name, true).await), Reason::NotFound);
    let renamed = first.name.replace(&alice.name(), &mallory.name());
    assert_eq!(reason(mallory.delete_key(&renamed, true).await), Reason::NotFound);
    assert_eq!(reason(alice.delete_key(&first.name, false).await), Reason::LastFactor);
    let (second, codes) = alice.with_key(&mut other, false).await;
    assert!(codes.is_empty(), "those of the first key are good");
    // What a key has answered is nothing once it is removed.
    let login = alice.half_signed_in("alice").await;
    let answer = key.get(&alice.ask_key(&login).await.unwrap(), ORIGIN).await;
    alice.delete_key(&first.name, false).await.unwrap();
    assert_eq!(reason(alice.answer_key(&login, &answer).await), Reason::CredentialsInvalid);
    alice.touches(&mut other, &login).await.unwrap();
    // With an app beside it the last key goes without more ado, and the app is the last then.
    alice.with_app().await;
    alice.delete_key(&second.name, false).await.unwrap();
    assert_eq!(reason(alice.delete_totp(false).await), Reason::LastFactor);
    let stale = alice.signed_in_ago(std::time::Duration::from_secs(3600));
    assert_eq!(reason(stale.start_registration(false).await), Reason::LoginNotFresh);
    assert_eq!(reason(stale.delete_key(&second.name, true).await), Reason::LoginNotFresh);
    assert_eq!(reason(alice.ask_key(&alice.half_signed_in("alice").await).await), Reason::FactorMissing);
}

#[tokio::test]
async fn case_85_a_key_is_asked_for_at_its_step() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    alice.with_key(&mut key, true).await;
    let login = alice.start("alice").await;
    let alone = alice.ask_key(&login).await.unwrap();
    // The password comes in between: the answer is one to the step before.
    alice.password(&login, PASSWORD).await.unwrap();
    assert_eq!(reason(alice.answer_key(&login, &key.get(&alone, ORIGIN).await).await), Reason::LoginStep);
    assert_eq!(reason(alice.answer_key(&login, "{}").await), Reason::LoginStep, "nothing was asked");
    alice.touches(&mut key, &login).await.unwrap();
}

#[tokio::test]
async fn case_81_a_key_gets_in_while_its_account_is_hammered() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    let (_, codes) = alice.with_key(&mut key, true).await;
    for number in 0..40 {
        let attacker = world.at(&format!("198.51.100.{number}"));
        let _refused = attacker.login("alice", "guess").await.unwrap_err();
    }
    let elsewhere = world.at("203.0.113.1");
    assert_eq!(reason(elsewhere.login("alice", PASSWORD).await), Reason::SecondFactorRequired);
    let login = elsewhere.start("").await;
    elsewhere.touches(&mut key, &login).await.unwrap();
    assert_eq!(codes.len(), 10);
}

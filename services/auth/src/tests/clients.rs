//! Admins and OAuth clients.

use flaghoist_runtime::token::TokenError;

use super::*;

fn registration(id: &str) -> CreateClientRequest {
    CreateClientRequest {
        client_id: id.into(),
        display_name: "A bot".into(),
        confidential: true,
        scopes: vec!["chat.read".into()],
        registration: None,
    }
}

#[tokio::test]
async fn clients_are_registered_listed_and_removed_by_admins() {
    let world = World::new().await;
    let (_, person) = world.sign_in(somebody()).await;
    let answer = world.clients(&person.access_token).create_client(registration("bot")).await;
    refused(answer, Code::PermissionDenied, Reason::ScopeMissing);
    let mut clients = world.clients(&world.admin().await);
    let created = clients.create_client(registration("bot")).await.unwrap().into_inner();
    assert_eq!(created.client_secret.len(), 43);
    refused(clients.create_client(registration("bot")).await, Code::AlreadyExists, Reason::AlreadyExists);
    let unnamed = clients.create_client(registration("")).await.unwrap().into_inner().client.unwrap();
    assert!(unnamed.name.starts_with("clients/client-"));
    let name = GetClientRequest { name: "clients/bot".into() };
    let got = clients.get_client(name.clone()).await.unwrap().into_inner().client;
    assert_eq!(got, created.client);
    let first = clients.list_clients(ListClientsRequest { page_size: 2, page_token: String::new() }).await;
    let first = first.unwrap().into_inner();
    let rest = ListClientsRequest { page_size: 2, page_token: first.next_page_token };
    let rest = clients.list_clients(rest).await.unwrap().into_inner();
    let ids: Vec<_> = first.clients.into_iter().chain(rest.clients).map(|client| client.name).collect();
    assert_eq!(ids, ["clients/bot", &unnamed.name, "clients/flaghoist-account", "clients/flaghoist-cli"]);
    assert!(rest.next_page_token.is_empty());
    clients.delete_client(DeleteClientRequest { name: "clients/bot".into() }).await.unwrap();
    refused(clients.get_client(name).await, Code::NotFound, Reason::NotFound);
    let again = clients.delete_client(DeleteClientRequest { name: "clients/bot".into() }).await;
    refused(again, Code::NotFound, Reason::NotFound);
    clients.create_client(registration("bot")).await.unwrap();
}

#[tokio::test]
async fn ids_of_clients_that_come_with_flaghoist_are_nobody_elses() {
    let world = World::new().await;
    let mut clients = world.clients(&world.admin().await);
    for id in ["flaghoist-cli", "flaghoist-account", "flaghoist-anything"] {
        refused(clients.create_client(registration(id)).await, Code::InvalidArgument, Reason::FieldViolation);
    }
}

#[tokio::test]
async fn an_application_that_was_called_like_the_account_pages_before_there_were_any_is_not_taken_over() {
    let world = World::new().await;
    let store = world.issuer.store.clone();
    let gone = async || {
        assert!(store.retire_client("flaghoist-account", &Origin::system(world.clock.now())).await.unwrap());
    };
    gone().await;
    while store.sweep_retired_clients(100, world.clock.now()).await.unwrap() {}
    // What 0.1.0 let an admin do.
    let secret = crate::client::ClientSecret::random();
    let theirs = crate::client::Client {
        id: "flaghoist-account".into(),
        display_name: "Accounts".into(),
        secret: Some(secret.digest()),
        ..crate::client::Client::built_in(world.clock.now())
    };
    store.add_client(&theirs, 100, &Origin::system(world.clock.now())).await.unwrap();
    let start = async || open(Settings::default(), &world.place, &world.context, world.clock.clone()).await;
    let refused = start().await.map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains("`flaghoist-account`") && refused.contains("client delete flaghoist-account"),
        "{refused}"
    );
    assert_eq!(store.client("flaghoist-account").await.unwrap(), Some(theirs));
    // Once an admin has removed it, the version starts, also before its id is free again.
    gone().await;
    start().await.unwrap();
    assert!(store.client("flaghoist-account").await.unwrap().unwrap().is_account_pages());
    start().await.unwrap();
}

#[tokio::test]
async fn case_44_an_id_like_a_persons_and_an_unknown_scope_are_refused() {
    let world = World::new().await;
    let mut clients = world.clients(&world.admin().await);
    let like_a_person = registration(&Uuid::now_v7().to_string());
    refused(clients.create_client(like_a_person).await, Code::InvalidArgument, Reason::FieldViolation);
    let unknown = CreateClientRequest { scopes: vec!["chat.fly".into()], ..registration("bot") };
    refused(clients.create_client(unknown).await, Code::InvalidArgument, Reason::ScopeInvalid);
}

#[tokio::test]
async fn a_removed_client_loses_its_sessions_and_tokens_also_after_a_restart() {
    let mut world = World::new().await;
    let secret = world.confidential("bot", &["chat.read"]).await;
    let bot = || credentials("bot", &secret);
    let (_, session) = world.try_sign_in(somebody(), "bot", &["chat.read"]).await.unwrap();
    let own = world.client_token(bot(), "").await.unwrap();
    let mut clients = world.clients(&world.admin().await);
    clients.delete_client(DeleteClientRequest { name: "clients/bot".into() }).await.unwrap();
    for _ in 0..2 {
        let refresh = world.refresh_as(bot(), &session.refresh_token, "").await;
        refused(refresh, Code::Unauthenticated, Reason::ClientInvalid);
        refused(world.client_token(bot(), "").await, Code::Unauthenticated, Reason::ClientInvalid);
        assert_eq!(world.context.verifier.verify(&session.access_token), Err(TokenError::Revoked));
        assert_eq!(world.context.verifier.verify(&own.access_token), Err(TokenError::Revoked));
        world = world.restarted().await;
    }
}

#[tokio::test]
async fn the_built_in_client_is_always_there() {
    let world = World::new().await;
    let mut clients = world.clients(&world.admin().await);
    let answer = clients.delete_client(DeleteClientRequest { name: "clients/flaghoist-cli".into() }).await;
    assert_eq!(answer.unwrap_err().code(), Code::FailedPrecondition);
    let client = clients.get_client(GetClientRequest { name: "clients/flaghoist-cli".into() }).await.unwrap();
    assert!(!client.into_inner().client.unwrap().confidential);
}

#[tokio::test]
async fn there_is_a_bound_on_clients() {
    let world = World::with(Settings { clients_max: 3, ..Settings::default() }).await;
    let mut clients = world.clients(&world.admin().await);
    clients.create_client(registration("one")).await.unwrap();
    let full = clients.create_client(registration("two")).await;
    refused(full, Code::ResourceExhausted, Reason::LimitReached);
}

#[tokio::test]
async fn a_client_is_changed_by_admins_and_loses_what_is_taken_away() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read", "chat.send"]).await;
    let bot = || credentials("bot", &secret);
    let (_, session) = world.try_sign_in(somebody(), "bot", &["chat.read", "chat.send"]).await.unwrap();
    let update = |name: &str| UpdateClientRequest { name: name.into(), ..UpdateClientRequest::default() };
    let (_, person) = world.sign_in(somebody()).await;
    let answer = world.clients(&person.access_token).update_client(update("clients/bot")).await;
    refused(answer, Code::PermissionDenied, Reason::ScopeMissing);
    let mut clients = world.clients(&world.admin().await);
    let renamed = UpdateClientRequest { display_name: Some("Another".into()), ..update("clients/bot") };
    let client = clients.update_client(renamed.clone()).await.unwrap().into_inner().client.unwrap();
    assert_eq!((client.display_name.as_str(), client.scopes.len()), ("Another", 2));
    clients.update_client(renamed).await.unwrap();
    assert_eq!(world.audited(AuditAction::ClientUpdated).await.len(), 1, "what changes nothing is not told of");

    let narrowed = ClientScopes { scopes: vec!["chat.read".into()] };
    let narrowed = UpdateClientRequest { scopes: Some(narrowed), ..update("clients/bot") };
    let client = clients.update_client(narrowed).await.unwrap().into_inner().client.unwrap();
    assert_eq!((client.display_name.as_str(), client.scopes), ("Another", vec!["chat.read".to_owned()]));
    assert_eq!(world.refresh_as(bot(), &session.refresh_token, "").await.unwrap().scope, "chat.read");
    refused(world.client_token(bot(), "chat.send").await, Code::InvalidArgument, Reason::ScopeInvalid);
    let told = world.audited(AuditAction::ClientUpdated).await;
    assert_eq!((told[0].detail.as_str(), told[0].subject.as_str()), ("scopes", "clients/bot"));

    let unknown = ClientScopes { scopes: vec!["chat.fly".into()] };
    let unknown = UpdateClientRequest { scopes: Some(unknown), ..update("clients/bot") };
    refused(clients.update_client(unknown).await, Code::InvalidArgument, Reason::ScopeInvalid);
    refused(clients.update_client(update("clients/none")).await, Code::NotFound, Reason::NotFound);
    let built_in = clients.update_client(update("clients/flaghoist-cli")).await;
    assert_eq!(built_in.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_secret_is_replaced_and_both_are_good_for_a_while() {
    let mut world = World::new().await;
    let old = world.confidential("bot", &["chat.read"]).await;
    world.public_client("web").await;
    let rotate = |name: &str, grace: Option<i64>| RotateClientSecretRequest {
        name: name.into(),
        grace: grace.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    };
    let admin = world.admin().await;
    let mut clients = world.clients(&admin);
    let rotated = clients.rotate_client_secret(rotate("clients/bot", Some(3600))).await.unwrap().into_inner();
    let (new, client) = (rotated.client_secret, rotated.client.unwrap());
    let until = client.previous_secret_expire_time.unwrap().seconds - world.clock.now().seconds();
    assert!(new.len() == 43 && new != old && (3590..=3600).contains(&until));
    world.client_token(credentials("bot", &old), "").await.unwrap();
    world.client_token(credentials("bot", &new), "").await.unwrap();
    world = world.restarted().await;
    world.client_token(credentials("bot", &old), "").await.unwrap();
    world.wait(Duration::from_secs(3600));
    refused(world.client_token(credentials("bot", &old), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    world.client_token(credentials("bot", &new), "").await.unwrap();
    let mut clients = world.clients(&admin);
    let name = GetClientRequest { name: "clients/bot".into() };
    let client = clients.get_client(name).await.unwrap().into_inner().client.unwrap();
    assert_eq!(client.previous_secret_expire_time, None);

    // One that has leaked ends at once.
    let at_once = clients.rotate_client_secret(rotate("clients/bot", Some(0))).await.unwrap().into_inner();
    refused(world.client_token(credentials("bot", &new), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    world.client_token(credentials("bot", &at_once.client_secret), "").await.unwrap();
    let public = clients.rotate_client_secret(rotate("clients/web", None)).await;
    refused(public, Code::FailedPrecondition, Reason::ClientUnauthorized);
    for grace in [-1, 31 * 24 * 3600] {
        let answer = clients.rotate_client_secret(rotate("clients/bot", Some(grace))).await;
        refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    }
    let told = world.audited_by(&admin, AuditAction::ClientSecretRotated).await;
    assert_eq!((told.len(), told[0].subject.as_str()), (2, "clients/bot"));
}

//! Tokens that are signed well and say something wrong, which no signature betrays: the keys are the test's own. Each service by itself
//! refuses every one of them; of a sidecar it is told which it refuses and which it leaves to the service.

use flaghoist_tests::forge::own::{self, OwnIssuer};
use flaghoist_tests::{Alone, Calls, Service};
use tonic::transport::Endpoint;

use crate::prelude::*;
use crate::sidecar::Sidecar;

/// The issuer's name in these tests.
const ISSUER: &str = "https://chat.example.com";

/// A method for people of each service whose tokens' keys come from another, and what it answers someone of whom it knows nothing.
const READS: [(Service, &str, Code); 3] = [
    (Service::Login, "/flaghoist.login.v1.AccountService/GetAccount", Code::NotFound),
    (Service::Send, "/flaghoist.send.v1.ConversationService/ListConversations", Code::Ok),
    (Service::Receiver, "/flaghoist.receiver.v1.ReceiverService/ListDevices", Code::Ok),
];

async fn alone(service: Service, issuer: &OwnIssuer) -> Alone {
    Alone::start(service, issuer.url(), issuer.serves()).await.unwrap_or_else(|log| panic!("{log}"))
}

fn code(answer: &Result<(), Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |()| Code::Ok)
}

#[tokio::test]
async fn cases_67_and_68_each_service_refuses_tokens_that_are_signed_well_and_say_something_wrong() {
    let issuer = OwnIssuer::new(ISSUER);
    for (service, method, answered) in READS {
        let alone = alone(service, &issuer).await;
        let channel = Endpoint::from_shared(format!("http://{}", alone.grpc())).expect("an address").connect_lazy();
        let asks = async |token: &str| {
            Calls::new(channel.clone(), Some(token.to_owned())).raw(method, Vec::new()).await.map(drop)
        };
        let good = ("nothing", issuer.good());
        for (what, token) in [good].into_iter().chain(issuer.unusual()) {
            let answer = asks(&token).await;
            assert_eq!(code(&answer), answered, "{service:?}, a token with {what} to be said: {answer:?}");
        }
        for own::Wrong { what, token, .. } in issuer.wrong() {
            let status = asks(&token).await.expect_err(what);
            let reason = if what.starts_with("expired") || what == "an exp of zero" || what == "exp before 1970" {
                Reason::TokenExpired
            } else {
                Reason::TokenInvalid
            };
            let said = (status.code(), flaghoist_tests::reason(&status));
            assert_eq!(said, (Code::Unauthenticated, Some(reason)), "{service:?}, {what}: {status:?}");
        }
        // They were refused for what they are, not for how many came.
        assert_eq!(code(&asks(&issuer.good()).await), answered);
    }
}

#[tokio::test]
async fn cases_67_and_68_what_a_sidecar_does_not_look_at_the_service_behind_it_refuses() {
    let issuer = OwnIssuer::new(ISSUER);
    let (service, method, answered) = READS[1];
    let alone = alone(service, &issuer).await;
    let jwks = issuer.jwks().to_string();
    let Some(sidecar) = Sidecar::with_keys(issuer.url(), &jwks, alone.grpc()).await else { return };
    let good = ("nothing", issuer.good());
    for (what, token) in [good].into_iter().chain(issuer.unusual()) {
        let outcome = sidecar.asks(method, &token).await;
        assert_eq!((code(&outcome.answer), outcome.passed), (answered, true), "{what}: {:?}", outcome.answer);
    }
    let mut seen = Vec::new();
    let mut expected = Vec::new();
    for own::Wrong { what, token, sidecar: wanted } in issuer.wrong() {
        let outcome = sidecar.asks(method, &token).await;
        let done = match (code(&outcome.answer), outcome.passed) {
            (Code::Unauthenticated, true) => own::Sidecar::LetsThrough,
            (Code::Unauthenticated, false) => own::Sidecar::Refuses,
            (Code::PermissionDenied, false) => own::Sidecar::Forbids,
            other => panic!("{what}: {other:?}"),
        };
        seen.push((what, done));
        expected.push((what, wanted));
    }
    assert_eq!(seen, expected);
}

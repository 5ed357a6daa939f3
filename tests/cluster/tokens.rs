//! Bad tokens are refused twice over: by the sidecar, so that the service never sees them, and by the service, when the sidecar is passed
//! by. What no sidecar sees (a token that was revoked) the service refuses alone.

use std::time::Duration;

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{
    ClientCredentials, ClientCredentialsGrant, CreateClientRequest, IssueTokenRequest, RevokeSessionRequest,
};
use flaghoist_tests::forge::bad_tokens;
use flaghoist_tests::{eventually, http1};
use tonic::Code;
use tonic::transport::Channel;

use crate::Outcome;
use crate::ask::{Answer, ask, channel};
use crate::forward::Forward;
use crate::installation::SERVICES;
use crate::lab::{Lab, People};
use crate::pods::{self, StandIn};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A method for people of each service that reads what is the caller's own, in the order of [`SERVICES`].
pub(crate) const READS: [&str; 4] = [
    "/flaghoist.auth.v1.SessionService/ListSessions",
    "/flaghoist.login.v1.AccountService/GetAccount",
    "/flaghoist.receiver.v1.ReceiverService/ListDevices",
    "/flaghoist.send.v1.ConversationService/ListConversations",
];

pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let people = lab.people().await?;
    let nobody = lab.nobody().await?;
    let good = people.alice.token();
    // Past the sidecar: to the loopback of each service's pod.
    let (mut ways, mut past, mut within) = (Vec::new(), Vec::new(), Vec::new());
    for service in SERVICES {
        let pods = installation.pods(service).await?;
        let pod = pods.first().ok_or_else(|| format!("{service} has no pod"))?;
        let way = Forward::new(&installation.namespace, pod, 9000);
        past.push(channel(way.address().await?));
        ways.push(way);
        within.push(nobody.to(service, 9000).await?);
    }
    let pods = installation.pods("auth").await?;
    let keys = Forward::new(&installation.namespace, &pods[0], 8081);
    let bad = bad_tokens(&good, &http1::get(keys.address().await?, "/oauth2/jwks").await.json());

    let mut refused = 0;
    for (place, service) in SERVICES.iter().enumerate() {
        for (way, name) in [(&within[place], "by the sidecar"), (&past[place], "past the sidecar")] {
            let answer = with(way, READS[place], &good).await;
            if answer.code != Code::Ok {
                return Err(format!("{service} {name} refuses a good token: {}", answer.said()));
            }
        }
        for (what, token) in &bad {
            let answer = with(&past[place], READS[place], token).await;
            if answer.code != Code::Unauthenticated {
                return Err(format!("{service} itself answers {} to a token with {what}", answer.said()));
            }
            refused += 1;
        }
        let answer = ask(&past[place], READS[place], &[], Vec::new(), LIMIT).await;
        if answer.code != Code::Unauthenticated {
            return Err(format!("{service} itself answers {} to no token", answer.said()));
        }
    }
    let revoked = revoked(&people, &within, &past).await?;
    let program = program(&people, &within, &past).await?;

    // A stand-in takes everything that reaches it: what it has not seen the sidecar refused.
    let stand_in = StandIn::start(&installation, &lab.images.probe, "send", "stand-in-send").await?;
    StandIn::takes_over(&installation, "send", true).await?;
    pods::ready(&installation, &[&stand_in.name]).await?;
    let (way, path) = (&within[3], READS[3]);
    pods::settles("the stand-in is asked", async || {
        let answer = with(way, path, &good).await;
        if answer.header("stand-in-pod").is_empty() { Err(answer.said()) } else { Ok(()) }
    })
    .await?;
    let before = stand_in.total().await?;
    for (what, token) in &bad {
        let answer = with(way, path, token).await;
        if !answer.turned_away() {
            return Err(format!("the sidecar answers {} to a token with {what}", answer.said()));
        }
    }
    // Envoy also takes a token from the query, unless it is told not to.
    let in_query = ask(way, &format!("{path}?access_token={good}"), &[], Vec::new(), LIMIT).await;
    if in_query.code == Code::Ok {
        return Err("a token in the query is taken".into());
    }
    let seen = stand_in.total().await? - before;
    if seen > 0 {
        return Err(format!("{seen} of {} bad tokens reached the program", bad.len()));
    }
    StandIn::takes_over(&installation, "send", false).await?;
    pods::remove(&installation, &[&stand_in.name]).await?;
    Ok(format!(
        "{} bad tokens: none passed a sidecar, {refused} refused by the four services without one; {revoked}; {program}",
        bad.len()
    ))
}

async fn with(way: &Channel, path: &str, token: &str) -> Answer {
    ask(way, path, &[("authorization", &format!("Bearer {token}"))], Vec::new(), LIMIT).await
}

/// The token of a session that was ended: good for every sidecar.
async fn revoked(people: &People, within: &[Channel], past: &[Channel]) -> Outcome {
    let session = people.alice.another_session().await;
    let request = RevokeSessionRequest { name: session.session.name.clone() };
    session.calls().sessions().revoke_session(request).await.map_err(|status| format!("no end: {status:?}"))?;
    for (place, path) in READS.iter().enumerate() {
        for way in [&within[place], &past[place]] {
            eventually("a revoked token is refused", async || {
                let answer = with(way, path, &session.token()).await;
                (answer.code == Code::Unauthenticated && !answer.by_sidecar()).then_some(())
            })
            .await;
        }
    }
    Ok("a revoked one refused by all four".into())
}

/// A program's own token, which is no person's.
async fn program(people: &People, within: &[Channel], past: &[Channel]) -> Outcome {
    let request = CreateClientRequest {
        display_name: "a bot".into(),
        confidential: true,
        scopes: vec!["chat.read".into(), "chat.send".into()],
        ..CreateClientRequest::default()
    };
    let made = people.admin.calls().clients().create_client(request).await;
    let made = made.map_err(|status| format!("no client: {status:?}"))?.into_inner();
    let name = made.client.unwrap_or_default().name;
    let client_id = name.strip_prefix("clients/").unwrap_or_default().to_owned();
    let client = ClientCredentials { client_id, client_secret: made.client_secret, ..ClientCredentials::default() };
    let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
    let request = IssueTokenRequest { client: Some(client), grant, scope: String::new() };
    let issued = people.alice.world().anonymous().tokens().issue_token(request).await;
    let issued = issued.map_err(|status| format!("no token: {status:?}"))?.into_inner();
    let token = issued.tokens.unwrap_or_default().access_token;
    for (place, path) in READS.iter().enumerate() {
        let answers = [with(&within[place], path, &token).await, with(&past[place], path, &token).await];
        if !answers[0].by_sidecar() || !answers[1].turned_away() {
            let [within, past] = answers.map(|answer| answer.said());
            return Err(format!("a program is answered {within} by the sidecar, {past} past it"));
        }
    }
    Ok("a program's one too".into())
}

//! Headers in which a caller claims to be somebody, from within the mesh and from outside: no policy believes them, and the program sees
//! who it really was.

use std::time::Duration;

use flaghoist_proto::{Access, METHODS};
use flaghoist_tests::mesh::owner;
use tonic::Code;

use crate::Outcome;
use crate::ask::{ask, channel};
use crate::installation::RELEASE;
use crate::lab::Lab;
use crate::pods::{self, StandIn};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// An address that nobody here has.
const INVENTED: &str = "203.0.113.7";

pub(crate) async fn check(lab: &mut Lab) -> Outcome {
    let installation = lab.defaults().await?;
    let people = lab.people().await?;
    let nobody = lab.nobody().await?;
    let account =
        |service: &str| format!("spiffe://cluster.local/ns/{}/sa/{RELEASE}-{service}", installation.namespace);

    let mut refused = 0;
    for method in METHODS {
        let Access::Service(named) = method.access else { continue };
        let way = nobody.to(owner(method), 9001).await?;
        for caller in named {
            let (it, host) = (account(caller), account(owner(method)));
            let certificate = format!("By={host};Hash=00;Subject=\"\";URI={it}");
            let headers = [
                ("x-forwarded-client-cert", certificate.as_str()),
                ("x-envoy-internal", "true"),
                ("x-envoy-peer-metadata-id", "sidecar~10.0.0.1~chat-send-0~cluster.local"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-real-ip", "127.0.0.1"),
                ("x-envoy-original-path", "/grpc.health.v1.Health/Check"),
                ("x-envoy-original-dst-host", "127.0.0.1:9001"),
                ("x-istio-attributes", it.as_str()),
                ("source-principal", it.as_str()),
            ];
            let answer = ask(&way, method.path, &headers, Vec::new(), LIMIT).await;
            if answer.code != Code::PermissionDenied || !answer.by_sidecar() {
                return Err(format!("a claim to be {caller} at {} is answered {}", method.path, answer.said()));
            }
            refused += 1;
        }
    }

    // What the program would see of such claims. The token is real; whom the mesh names is another matter.
    let stand_in = StandIn::start(&installation, &lab.images.probe, "send", "stand-in-send").await?;
    StandIn::takes_over(&installation, "send", true).await?;
    pods::ready(&installation, &[&stand_in.name]).await?;
    let path = "/flaghoist.send.v1.ConversationService/ListConversations";
    let bearer = format!("Bearer {}", people.alice.token());
    let forged = format!("By=spiffe://x;Hash=00;URI={}", account("receiver"));
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-client-cert", forged.as_str()),
        ("x-forwarded-for", INVENTED),
        ("x-envoy-external-address", INVENTED),
        ("x-envoy-internal", "true"),
    ];
    let (within, outside) = (nobody.to("send", 9000).await?, channel(lab.gateway().await?));
    for way in [&within, &outside] {
        pods::settles("the stand-in is asked", async || {
            let answer = ask(way, path, &headers, Vec::new(), LIMIT).await;
            if answer.header("stand-in-pod").is_empty() { Err(answer.said()) } else { Ok(()) }
        })
        .await?;
    }
    let saw = |answer: &crate::ask::Answer, name: &str| -> Vec<String> {
        let all = answer.header("stand-in-saw").split(" | ");
        let of_it = all.filter_map(|header| header.strip_prefix(&format!("{name}=")));
        of_it.flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
    };
    let default = format!("spiffe://cluster.local/ns/{}/sa/default", installation.namespace);
    let answer = ask(&within, path, &headers, Vec::new(), LIMIT).await;
    let certificates = saw(&answer, "x-forwarded-client-cert");
    if certificates.iter().any(|certificate| certificate.contains(&account("receiver"))) {
        return Err(format!("a forged certificate header reaches the program: {certificates:?}"));
    }
    if !certificates.iter().any(|certificate| certificate.contains(&default)) {
        return Err(format!("the program is not told who called: {}", answer.header("stand-in-saw")));
    }
    // Services trust one hop: the rightmost address is what the gateway saw.
    let answer = ask(&outside, path, &headers, Vec::new(), LIMIT).await;
    let addresses = saw(&answer, "x-forwarded-for");
    if addresses.last().is_none_or(|address| address == INVENTED) {
        return Err(format!("from outside a client chooses its own address: {addresses:?}"));
    }
    let certificates = saw(&answer, "x-forwarded-client-cert");
    if certificates.iter().any(|certificate| certificate.contains(&account("receiver"))) {
        return Err(format!("a forged certificate header passes the gateway: {certificates:?}"));
    }
    StandIn::takes_over(&installation, "send", false).await?;
    pods::remove(&installation, &[&stand_in.name]).await?;
    Ok(format!(
        "{refused} forged claims refused; the program sees the real account and the address {}",
        addresses.join(", ")
    ))
}

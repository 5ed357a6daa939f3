//! What the sidecars do with a call that fails or takes long, by the class of its method. Stand-ins take the place of all four services,
//! fail as each call tells them to, and count the tries.

use std::collections::HashMap;
use std::time::Duration;

use flaghoist_proto::send::v1::{
    CreateMessageRequest, CreateMessageResponse, ListMessagesRequest, ListMessagesResponse,
};
use flaghoist_proto::{Access, METHODS, Method};
use flaghoist_tests::mesh::{class, owner};
use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;

use crate::Outcome;
use crate::ask::{Answer, ask, channel};
use crate::installation::{Installation, RELEASE, SERVICES};
use crate::lab::{Lab, People};
use crate::pods::{self, StandIn};

/// What the chart says by default: tries after the first, of a call that is retried.
const ATTEMPTS: u64 = 3;

/// And how long a call may take as a whole, in all classes but streams, and one try of a call that is retried.
const TIMEOUT: Duration = Duration::from_secs(15);
const PER_TRY: Duration = Duration::from_secs(3);

/// How long an answer may take: longer than any timeout.
const LIMIT: Duration = Duration::from_secs(40);

/// How much longer than it should a call may take on a busy machine.
const BUSY: Duration = Duration::from_secs(3);

/// The stand-ins, and ways to them.
struct Stage {
    installation: Installation,
    people: People,
    /// Between the two: it is begun while everybody is there who must be asked.
    conversation: String,
    stand_ins: HashMap<&'static str, StandIn>,
    /// From a pod with the account of each service, to each port of each service.
    within: HashMap<(&'static str, &'static str, u16), Channel>,
    gateway: Channel,
}

impl Stage {
    async fn set(lab: &mut Lab) -> Result<Self, String> {
        let installation = lab.defaults().await?;
        let people = lab.people().await?;
        lab.answered(&people.alice).await?;
        let conversation = people.alice.direct(&people.admin).await;
        let accounts: Vec<String> = SERVICES.iter().map(|service| format!("{RELEASE}-{service}")).collect();
        let relays = lab.relays(&accounts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut stand_ins = HashMap::new();
        for service in SERVICES {
            StandIn::takes_over(&installation, service, true).await?;
            let name = format!("stand-in-{service}");
            stand_ins.insert(service, StandIn::start(&installation, &lab.images.probe, service, &name).await?);
        }
        let names: Vec<&str> = stand_ins.values().map(|stand_in| stand_in.name.as_str()).collect();
        pods::ready(&installation, &names).await?;
        let mut within = HashMap::new();
        for caller in SERVICES {
            for service in SERVICES {
                for port in [9000, 9001] {
                    let way = relays[&format!("{RELEASE}-{caller}")].to(service, port).await?;
                    within.insert((caller, service, port), way);
                }
            }
        }
        let gateway = channel(lab.gateway().await?);
        let stage = Self { installation, people, conversation, stand_ins, within, gateway };
        for method in METHODS.iter().filter(|method| !method.streaming) {
            pods::settles(&format!("the stand-in gets {}", method.path), async || {
                let answer = stage.call(method, false, &[]).await;
                if answer.header("stand-in-pod").is_empty() { Err(answer.said()) } else { Ok(()) }
            })
            .await?;
        }
        Ok(stage)
    }

    async fn strike(self) -> Result<(), String> {
        let names: Vec<&str> = self.stand_ins.values().map(|stand_in| stand_in.name.as_str()).collect();
        for service in SERVICES {
            StandIn::takes_over(&self.installation, service, false).await?;
        }
        pods::remove(&self.installation, &names).await
    }

    /// A call by somebody who may make it: from within, or through the gateway.
    async fn call(&self, method: &Method, outside: bool, headers: &[(&str, &str)]) -> Answer {
        let mut all = headers.to_vec();
        let token = match method.access {
            Access::User => Some(self.people.alice.token()),
            Access::Admin => Some(self.people.admin.token()),
            _ => None,
        };
        let bearer = token.map(|token| format!("Bearer {token}"));
        all.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let (caller, port) = match method.access {
            Access::Service(callers) => (callers[0], 9001),
            _ => ("login", 9000),
        };
        let within = &self.within.iter().find(|((by, to, at), _)| *by == caller && *to == owner(method) && *at == port);
        let way = if outside { &self.gateway } else { within.expect("all ways were made").1 };
        ask(way, method.path, &all, Vec::new(), LIMIT).await
    }
}

/// Retries happen exactly where the class says.
pub(crate) async fn retries(lab: &mut Lab) -> Outcome {
    let stage = Stage::set(lab).await?;
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for method in METHODS {
        let public = !matches!(method.access, Access::Service(_));
        for outside in [Some(false), public.then_some(true)].into_iter().flatten() {
            for code in [Code::Unavailable, Code::ResourceExhausted, Code::Internal, Code::DeadlineExceeded] {
                let retried = matches!(class(method), "read" | "repeatable") && code == Code::Unavailable;
                let wanted = if retried { ATTEMPTS + 1 } else { 1 };
                let (call, number) = (flaghoist_tests::unique(), (code as i32).to_string());
                let headers = [("stand-in-call", call.as_str()), ("stand-in-code", number.as_str())];
                let answer = stage.call(method, outside, &headers).await;
                let tries = stage.stand_ins[owner(method)].tries(&call).await?;
                if tries != wanted || answer.code != code {
                    let from = if outside { "the gateway" } else { "within" };
                    let path = method.path;
                    return Err(format!(
                        "{path} from {from}: {code:?} was tried {tries} times, not {wanted}; {}",
                        answer.said()
                    ));
                }
                // One in between that succeeds, or the pod is ejected.
                stage.call(method, outside, &[]).await;
            }
            *counts.entry(class(method)).or_default() += 1;
        }
        if class(method) == "read" {
            let call = flaghoist_tests::unique();
            let headers = [("stand-in-call", call.as_str()), ("stand-in-code", "14"), ("stand-in-first", "1")];
            let answer = stage.call(method, false, &headers).await;
            if answer.code != Code::Ok || answer.header("stand-in-try") != "2" {
                return Err(format!("{} fails although its second try did not: {}", method.path, answer.said()));
            }
        }
    }
    let doubled = never_doubled(&stage).await?;
    stage.strike().await?;
    let mut counts: Vec<String> = counts.into_iter().map(|(class, count)| format!("{count} {class}")).collect();
    counts.sort();
    Ok(format!("{} ways of {} methods: as their class says; {doubled}", counts.join(", "), METHODS.len()))
}

/// The answer to a send is lost after it was stored: the sidecar tries again, and there is one message.
async fn never_doubled(stage: &Stage) -> Outcome {
    let way = &stage.within[&("login", "send", 9000)];
    let bearer = format!("Bearer {}", stage.people.alice.token());
    let forward = format!("{}:9000", pods::real("send"));
    let headers = [("authorization", bearer.as_str()), ("stand-in-forward", forward.as_str())];
    let list = ListMessagesRequest { parent: stage.conversation.clone(), page_size: 200, ..Default::default() };
    let list = async || {
        let path = "/flaghoist.send.v1.MessageService/ListMessages";
        let answer = ask(way, path, &headers, list.encode_to_vec(), LIMIT).await;
        let said = answer.said();
        let listed = ListMessagesResponse::decode(answer.body.as_slice()).map_err(|error| error.to_string())?;
        if answer.code == Code::Ok { Ok(listed.messages.len()) } else { Err(said) }
    };
    pods::settles("the service is reached through the stand-in", async || list().await.map(drop)).await?;
    let (rounds, mut tries) = (20, 0);
    for round in 0..rounds {
        let request = CreateMessageRequest {
            parent: stage.conversation.clone(),
            request_id: flaghoist_tests::request_id(),
            text: format!("once, {round}"),
            ..CreateMessageRequest::default()
        };
        let call = flaghoist_tests::unique();
        let mut headers = headers.to_vec();
        headers.extend([("stand-in-call", call.as_str()), ("stand-in-code", "14"), ("stand-in-first", "1")]);
        let path = "/flaghoist.send.v1.MessageService/CreateMessage";
        let answer = ask(way, path, &headers, request.encode_to_vec(), LIMIT).await;
        let sent = CreateMessageResponse::decode(answer.body.as_slice()).map_err(|error| error.to_string())?;
        if answer.code != Code::Ok || !sent.deduplicated {
            return Err(format!("a send whose answer was lost is answered {}, {sent:?}", answer.said()));
        }
        tries += stage.stand_ins["send"].tries(&call).await?;
    }
    let listed = list().await?;
    if tries != 2 * rounds || listed as u64 != rounds {
        return Err(format!("{rounds} sends whose answers were lost: {tries} tries, {listed} messages"));
    }
    Ok(format!("{rounds} sends whose first answer was lost: {tries} tries, {listed} messages"))
}

/// A slow call is cut off in time; a stream is not.
pub(crate) async fn timeouts(lab: &mut Lab) -> Outcome {
    let stage = Stage::set(lab).await?;
    // Every stream, and one other method of each class at each port: these are alike by the check of retries, and each takes its time.
    let mut chosen: HashMap<(&str, &str, bool, &str), &Method> = HashMap::new();
    for method in METHODS {
        let internal = matches!(method.access, Access::Service(_));
        let alone = if method.streaming { method.path } else { "" };
        chosen.entry((owner(method), class(method), internal, alone)).or_insert(method);
    }
    let later = Duration::from_secs(20);
    let calls = chosen.iter().map(|(&(_, class, internal, _), &method)| {
        let stage = &stage;
        async move {
            let (call, after) = (flaghoist_tests::unique(), later.as_millis().to_string());
            let mut headers = vec![("stand-in-call", call.as_str()), ("stand-in-after-ms", after.as_str())];
            if class == "stream" {
                headers.push(("stand-in-stream", "yes"));
            }
            let answer = stage.call(method, false, &headers).await;
            let tries = stage.stand_ins[owner(method)].tries(&call).await?;
            let cut = vec![Code::Unavailable, Code::DeadlineExceeded];
            // The sidecar of the pod that is called knows the time of a try too. If it is the first to say that it is over, it says
            // DEADLINE_EXCEEDED, which is not retried: so there may be fewer tries, never more.
            let (code, least, most, wanted) = match class {
                "stream" => (vec![Code::Ok], later, later, 1..=1),
                "once" => (cut, TIMEOUT, TIMEOUT, 1..=1),
                _ => (cut, PER_TRY, TIMEOUT, 1..=ATTEMPTS + 1),
            };
            let in_time = answer.took + Duration::from_millis(100) >= least && answer.took <= most + BUSY;
            if !code.contains(&answer.code) || !in_time || !wanted.contains(&tries) {
                let path = method.path;
                return Err(format!("{path}, {class}: {} after {:.1?} and {tries} tries", answer.said(), answer.took));
            }
            Ok((class, internal, answer.took))
        }
    });
    let mut seen = Vec::new();
    for outcome in futures_util::future::join_all(calls).await {
        let (class, internal, took) = outcome?;
        seen.push(format!("{class}{} {:.1} s", if internal { " (internal)" } else { "" }, took.as_secs_f64()));
    }
    stage.strike().await?;
    seen.sort();
    seen.dedup();
    Ok(format!("{} calls that are answered after {later:?} ended after: {}", chosen.len(), seen.join(", ")))
}

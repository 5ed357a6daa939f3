//! `flaghoist admin audit`: reads the audit log of auth, once or as it grows.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use flaghoist_proto::auth::v1::audit_service_client::AuditServiceClient;
use flaghoist_proto::auth::v1::{AuditAction, AuditEvent, AuditOutcome, ListAuditEventsRequest};
use flaghoist_runtime::settings::parse_duration;
use flaghoist_runtime::time::timestamp;
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::client::{Client, Names, Signed, harmless, person, time, time_value};
use crate::exit::Failure;

/// How often it is looked for new events.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How far back it is looked again: an event may be committed some seconds after its time, and clocks of pods differ.
const OVERLAP: Duration = Duration::from_secs(30);

/// What is done with the log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print events, the newest last
    List(Arguments),
}

/// The arguments of `admin audit list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist admin audit list --since 1h
  flaghoist admin audit list --subject @alice --action session-opened
  flaghoist admin audit list --actor users/0199f0a1-7b5c-7000-8000-5f0c2a9d1e11 --since 2026-11-01T00:00:00Z
  flaghoist admin audit list --follow --json | jq -r 'select(.outcome == \"refused\")'")]
pub(crate) struct Arguments {
    /// Only what is newer: a time like 15m, 2h or 7d, or a date like 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what is older
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Only what this one did: @PERSON, users/…, clients/…, services/login, system, operator
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only what concerns this one: @PERSON, users/…, clients/…, keys/…
    #[arg(long, value_name = "WHAT")]
    subject: Option<String>,
    /// Only this action, such as session-opened, client-created, key-revoked
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<AuditAction>,
    /// How many events at most, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

/// A time that is so long ago, or a date.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_duration(text) {
        return Ok(timestamp(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)));
    }
    text.parse().map_err(|_| "write a time like 15m, 2h or 7d, or a date like 2026-11-01T00:00:00Z".to_owned())
}

fn action(text: &str) -> Result<AuditAction, String> {
    let name = format!("AUDIT_ACTION_{}", text.to_ascii_uppercase().replace('-', "_"));
    AuditAction::from_str_name(&name).filter(|action| *action != AuditAction::Unspecified).ok_or_else(|| {
        let known = (1..).map_while(|number| AuditAction::try_from(number).ok()).map(words).collect::<Vec<_>>();
        format!("known are {}", known.join(", "))
    })
}

/// An action as it is written on the command line.
fn words(action: AuditAction) -> String {
    action.as_str_name().trim_start_matches("AUDIT_ACTION_").to_ascii_lowercase().replace('_', "-")
}

/// Does what `command` says.
pub(super) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    let Command::List(arguments) = command;
    let signed = client.signed()?;
    let request = ListAuditEventsRequest {
        page_size: 200,
        page_token: String::new(),
        start_time: arguments.since,
        end_time: arguments.until,
        actor: who(&signed, arguments.actor).await?,
        subject: who(&signed, arguments.subject).await?,
        action: arguments.action.unwrap_or_default().into(),
    };
    let mut names = Names::new(&signed);
    let events = newest(&signed, request.clone(), arguments.limit as usize).await?;
    for event in &events {
        print(client, &mut names, event).await?;
    }
    if !arguments.follow {
        return Ok(());
    }
    tokio::select! {
        ended = follow(client, &signed, &mut names, request, events) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Whom a person names: `@alice` by her handle, the rest as it is.
async fn who(signed: &Signed, who: Option<String>) -> Result<String, Failure> {
    match who {
        None => Ok(String::new()),
        Some(who) => match who.strip_prefix('@') {
            Some(handle) => person(signed, handle).await,
            None => Ok(who),
        },
    }
}

/// The newest `limit` events that fit, oldest first.
async fn newest(signed: &Signed, request: ListAuditEventsRequest, limit: usize) -> Result<Vec<AuditEvent>, Failure> {
    let (mut request, mut events) = (request, Vec::new());
    loop {
        let answer = signed.call(|service| {
            let request = request.clone();
            async move { AuditServiceClient::new(service).list_audit_events(request).await }
        });
        let answer = answer.await?;
        events.extend(answer.audit_events);
        request.page_token = answer.next_page_token;
        if events.len() >= limit || request.page_token.is_empty() {
            break;
        }
    }
    events.truncate(limit);
    events.reverse();
    Ok(events)
}

/// Prints what comes after `printed`, for ever.
async fn follow(
    client: &Client,
    signed: &Signed,
    names: &mut Names<'_>,
    request: ListAuditEventsRequest,
    printed: Vec<AuditEvent>,
) -> Result<(), Failure> {
    let began = timestamp(SystemTime::now());
    // Older ones than the first that was printed were beyond the limit.
    let order = |event: &AuditEvent| event.event_time.map(|time| (time.seconds, time.nanos));
    let oldest = printed.first().and_then(order);
    let mut last = printed.last().and_then(|event| event.event_time).unwrap_or(began);
    let mut known: HashSet<String> = printed.into_iter().map(|event| event.name).collect();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let overlap = i64::try_from(OVERLAP.as_secs()).unwrap_or(0);
        let from = Timestamp { seconds: last.seconds - overlap, nanos: 0 };
        // What was asked for by time stays so.
        let start_time = Some(request.start_time.filter(|since| since.seconds > from.seconds).unwrap_or(from));
        let events = newest(signed, ListAuditEventsRequest { start_time, ..request.clone() }, usize::MAX).await?;
        let new = |event: &&AuditEvent| !known.contains(&event.name) && order(event) >= oldest;
        for event in events.iter().filter(new) {
            print(client, names, event).await?;
        }
        if let Some(newest) = events.last().and_then(|event| event.event_time) {
            last = newest;
        }
        known = events.into_iter().map(|event| event.name).collect();
    }
}

async fn print(client: &Client, names: &mut Names<'_>, event: &AuditEvent) -> Result<(), Failure> {
    let actor = shown(names, &event.actor).await;
    let subject = shown(names, &event.subject).await;
    client.output.show(&object(event), || line(event, &actor, &subject))
}

/// A person by their handle, the rest as it is.
async fn shown(names: &mut Names<'_>, name: &str) -> String {
    if name.starts_with("users/") { names.person(name).await } else { harmless(name) }
}

fn outcome(event: &AuditEvent) -> &'static str {
    match event.outcome() {
        AuditOutcome::Refused => "refused",
        AuditOutcome::Done | AuditOutcome::Unspecified => "done",
    }
}

fn object(event: &AuditEvent) -> Value {
    json!({
        "event": event.name.trim_start_matches("auditEvents/"),
        "time": time_value(event.event_time.as_ref()),
        "action": words(event.action()),
        "outcome": outcome(event),
        "actor": event.actor,
        "subject": event.subject,
        "session": event.session,
        "client_id": event.client_id,
        "address": event.address,
        "count": event.count,
        "detail": event.detail,
    })
}

fn line(event: &AuditEvent, actor: &str, subject: &str) -> String {
    let mut line = format!("{}  {}", time(event.event_time.as_ref()), words(event.action()));
    if event.outcome() == AuditOutcome::Refused {
        line.push_str(" (refused)");
    }
    if event.count > 1 {
        line.push_str(&format!(" {} times", event.count));
    }
    let (client_id, address, detail) = (harmless(&event.client_id), harmless(&event.address), harmless(&event.detail));
    for (before, what) in [("", subject), ("by ", actor), ("with ", &client_id), ("from ", &address)] {
        if !what.is_empty() {
            line.push_str(&format!("  {before}{what}"));
        }
    }
    if !detail.is_empty() {
        line.push_str(&format!("  [{detail}]"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_actions_are_written_as_people_write_them() {
        assert_eq!(moment("2026-11-01T00:00:00Z").unwrap().seconds, 1_793_491_200);
        let hour_ago = timestamp(SystemTime::now()).seconds - moment("1h").unwrap().seconds;
        assert!((3599..=3601).contains(&hour_ago));
        assert!(moment("yesterday").unwrap_err().contains("2h"));
        assert_eq!(action("key-revoked"), Ok(AuditAction::KeyRevoked));
        assert_eq!(action("SESSION_OPENED"), Ok(AuditAction::SessionOpened));
        let known = action("unspecified").unwrap_err();
        assert!(
            known.starts_with("known are session-opened, ") && known.ends_with("registration-token-created"),
            "{known}"
        );
    }

    #[test]
    fn a_line_says_what_who_and_where_and_commands_no_terminal() {
        let event = AuditEvent {
            event_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            action: AuditAction::ClientAuthenticationFailed.into(),
            outcome: AuditOutcome::Refused.into(),
            address: "192.0.2.1\u{1b}[2J".into(),
            count: 12,
            ..AuditEvent::default()
        };
        let expected = "2023-11-14 22:13:20Z  client-authentication-failed (refused) 12 times  clients/bot  \
                        from 192.0.2.1\\u{1b}[2J";
        assert_eq!(line(&event, "", "clients/bot"), expected);
    }
}

//! `ListLoginEvents`.

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::Caller;
use flaghoist_runtime::page::page_size;
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Response, Status};

use super::{Rpc, check};
use crate::accounts::Owner;
use crate::error::DOMAIN;
use crate::history::{Event, EventKind};

/// How many events a page has if nothing is said, and at most.
const PAGE_SIZE: (u32, u32) = (50, 200);

pub(super) async fn list(
    rpc: &Rpc,
    request: Request<login::ListLoginEventsRequest>,
) -> Result<Response<login::ListLoginEventsResponse>, Status> {
    let (me, caller) = Caller::user_of(&request)?;
    Owner::at_home(&caller)?;
    let request = request.into_inner();
    check(&request)?;
    let scope = format!("ListLoginEvents {me}");
    let before = match request.page_token.as_str() {
        "" => None,
        token => Some(rpc.pages.open::<i64>(&scope, token).map_err(|fault| fault.into_status(DOMAIN))?),
    };
    let size = page_size(request.page_size, PAGE_SIZE.0, PAGE_SIZE.1);
    let mut events = rpc.accounts.events(me, before, size + 1).await?;
    let more = events.len() > size as usize;
    events.truncate(size as usize);
    let next_page_token = match events.last() {
        Some(last) if more => rpc.pages.seal(&scope, &last.id),
        _ => String::new(),
    };
    let login_events = events.into_iter().map(message).collect();
    Ok(Response::new(login::ListLoginEventsResponse { login_events, next_page_token }))
}

fn message(event: Event) -> login::LoginEvent {
    login::LoginEvent {
        kind: kind(event.kind).into(),
        create_time: Some(timestamp(event.at)),
        address: event.address,
        user_agent: event.agent,
        amr: event.amr,
        client_id: event.client_id,
    }
}

fn kind(kind: EventKind) -> login::LoginEventKind {
    match kind {
        EventKind::SignedIn => login::LoginEventKind::SignedIn,
        EventKind::FactorRefused => login::LoginEventKind::FactorRefused,
        EventKind::PasswordChanged => login::LoginEventKind::PasswordChanged,
        EventKind::PasswordReset => login::LoginEventKind::PasswordReset,
        EventKind::FactorAdded => login::LoginEventKind::FactorAdded,
        EventKind::FactorRemoved => login::LoginEventKind::FactorRemoved,
        EventKind::RecoveryCodesMade => login::LoginEventKind::RecoveryCodesMade,
        EventKind::ContactChanged => login::LoginEventKind::ContactChanged,
        EventKind::ContactRemoved => login::LoginEventKind::ContactRemoved,
    }
}

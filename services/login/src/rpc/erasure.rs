//! The deletions of accounts, as admins see them, and exports.

use std::pin::Pin;

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::page::page_size;
use flaghoist_runtime::time::{from_millis, timestamp};
use futures_util::{Stream, StreamExt as _};
use prost_types::Timestamp;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use super::Rpc;
use crate::error::{DOMAIN, Error};
use crate::export::Pieces;
use crate::store::erasures::{Erasure, Step};

/// The scope of page tokens.
const PAGES: &str = "ListErasures";

/// An archive on its way.
pub(super) type Archive = Pin<Box<dyn Stream<Item = Result<login::ExportAccountResponse, Status>> + Send>>;

pub(super) fn archive(pieces: Pieces) -> Archive {
    let pieces = ReceiverStream::new(pieces);
    Box::pin(pieces.map(|piece| Ok(login::ExportAccountResponse { chunk: piece? })))
}

pub(super) async fn list(
    rpc: &Rpc,
    request: login::ListErasuresRequest,
) -> Result<login::ListErasuresResponse, Status> {
    let before = match request.page_token.as_str() {
        "" => Uuid::max(),
        token => Uuid::from_bytes(rpc.pages.open::<[u8; 16]>(PAGES, token).map_err(|fault| fault.into_status(DOMAIN))?),
    };
    let size = page_size(request.page_size, 50, 200);
    let mut erasures = rpc.accounts.erasures(before, size + 1).await?;
    let more = erasures.len() > size as usize;
    erasures.truncate(size as usize);
    let next_page_token = match erasures.last() {
        Some(last) if more => rpc.pages.seal(PAGES, last.id.as_bytes()),
        _ => String::new(),
    };
    Ok(login::ListErasuresResponse { erasures: erasures.into_iter().map(shown).collect(), next_page_token })
}

pub(super) async fn get(rpc: &Rpc, request: &login::GetErasureRequest) -> Result<login::GetErasureResponse, Status> {
    let id = request.name.strip_prefix("erasures/").and_then(flaghoist_runtime::names::strict_uuid);
    let id = id.ok_or_else(|| Error::Name { field: "name".into() })?;
    Ok(login::GetErasureResponse { erasure: Some(shown(rpc.accounts.erasure(id).await?)) })
}

fn shown(erasure: Erasure) -> login::Erasure {
    let time = |at: i64| -> Timestamp { timestamp(from_millis(at)) };
    let counts = erasure.counts.iter().map(|(what, count)| {
        let (service, kind) = what.split_once('.').unwrap_or(("", what));
        login::ErasureCount { service: service.to_owned(), kind: kind.to_owned(), count: *count }
    });
    login::Erasure {
        name: format!("erasures/{}", erasure.id),
        create_time: Some(time(erasure.created_at)),
        finish_time: erasure.finished_at.map(time),
        counts: counts.collect(),
        next_service: erasure.step.service().to_owned(),
        next_time: (erasure.step != Step::Done).then(|| time(erasure.next_at)),
        failure_count: i32::try_from(erasure.failures).unwrap_or(i32::MAX),
    }
}

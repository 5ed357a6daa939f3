//! `ListUnread`.

use std::sync::Arc;

use flaghoist_proto::receiver::v1::{ListUnreadRequest, ListUnreadResponse, Unread};
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::page::page_size;
use tonic::{Request, Response, Status};

use crate::error::{DOMAIN, Error};
use crate::service::Receiver;

pub(super) async fn list_unread(
    receiver: &Arc<Receiver>,
    request: Request<ListUnreadRequest>,
) -> Result<Response<ListUnreadResponse>, Status> {
    let (me, _) = Caller::user_of(&request)?;
    let request = request.into_inner();
    check(&request, DOMAIN)?;
    let scope = format!("ListUnread/{me}");
    let page = match request.page_token.as_str() {
        "" => String::new(),
        token => receiver.page_key.open(&scope, token).map_err(|_| Error::PageToken)?,
    };
    let page = receiver.list_unread(me, page_size(request.page_size, 50, 200), page).await?;
    let unread = page.unread.iter().map(|head| Unread {
        conversation: head.conversation.name(),
        unread_count: head.unread_count,
        read_seq: head.own.read_seq,
        last_seq: head.last_seq,
    });
    let next_page_token = match page.next_page.as_str() {
        "" => String::new(),
        next => receiver.page_key.seal(&scope, &next),
    };
    Ok(Response::new(ListUnreadResponse { unread: unread.collect(), next_page_token }))
}

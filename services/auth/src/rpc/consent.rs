//! `ConsentService`: people see what they have allowed which clients, and take it back.

use std::sync::Arc;

use flaghoist_proto::auth::v1::consent_service_server::ConsentService;
use flaghoist_proto::auth::v1::{
    self as pb, ListConsentsRequest, ListConsentsResponse, RevokeConsentRequest, RevokeConsentResponse,
};
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::{Fault, check};
use flaghoist_runtime::page::{PageKey, page_size};
use tonic::{Request, Response, Status};

use super::{PAGE_SIZE, time, to_the_end};
use crate::client;
use crate::error::DOMAIN;
use crate::issuer::Issuer;

/// The consents of the person who calls.
#[derive(Debug)]
pub(crate) struct Consents {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) pages: Arc<PageKey>,
}

#[tonic::async_trait]
impl ConsentService for Consents {
    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let (user, _caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        let scope = format!("ListConsents {user}");
        let after = match request.page_token.as_str() {
            "" => String::new(),
            token => self.pages.open::<String>(&scope, token).map_err(|fault| fault.into_status(DOMAIN))?,
        };
        let size = page_size(request.page_size, PAGE_SIZE.0, PAGE_SIZE.1);
        let mut consents = self.issuer.consents(user, &after, size + 1).await?;
        let more = consents.len() > size as usize;
        consents.truncate(size as usize);
        let next_page_token = match consents.last() {
            Some((last, _)) if more => self.pages.seal(&scope, &last.client_id),
            _ => String::new(),
        };
        let message = |(consent, client_display_name): (crate::store::sign_in::Consent, String)| pb::Consent {
            name: format!("{}/consents/{}", user.name(), consent.client_id),
            client_display_name,
            scopes: consent.scopes.names().map(str::to_owned).collect(),
            update_time: Some(time(consent.updated_at)),
        };
        let consents = consents.into_iter().map(message).collect();
        Ok(Response::new(ListConsentsResponse { consents, next_page_token }))
    }

    async fn revoke_consent(
        &self,
        request: Request<RevokeConsentRequest>,
    ) -> Result<Response<RevokeConsentResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let (user, _caller) = Caller::user_of(&request)?;
        let name = request.into_inner().name;
        let own = name.strip_prefix(&format!("{}/consents/", user.name()));
        // Another person's is as good as none.
        let Some(client_id) = own.filter(|id| client::check_id(id).is_ok()).map(str::to_owned) else {
            let named = name.strip_prefix("users/").is_some_and(|rest| rest.contains("/consents/"));
            let fault = match named {
                true => Fault::not_found("consent", &name),
                false => Fault::invalid("name", "is not a name like users/{user}/consents/{client_id}"),
            };
            return Err(fault.into_status(DOMAIN));
        };
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.revoke_consent(user, &client_id).await }).await?;
        Ok(Response::new(RevokeConsentResponse {}))
    }
}

//! `ClientService`: admins register and remove OAuth clients.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_proto::auth::v1::client_service_server::ClientService;
use flaghoist_proto::auth::v1::{
    self as pb, CreateClientRequest, CreateClientResponse, CreateRegistrationTokenRequest,
    CreateRegistrationTokenResponse, DeleteClientRequest, DeleteClientResponse, GetClientRequest, GetClientResponse,
    ListClientsRequest, ListClientsResponse, RotateClientSecretRequest, RotateClientSecretResponse,
    UpdateClientRequest, UpdateClientResponse,
};
use flaghoist_runtime::fault::{Fault, check};
use flaghoist_runtime::page::{PageKey, page_size};
use tonic::{Request, Response, Status};

use super::{PAGE_SIZE, origin_of, time, to_the_end};
use crate::algorithm::Algorithm;
use crate::client::{AuthMethod, Client, ClientChange, ClientSecret, GrantType, Registration};
use crate::error::{DOMAIN, Error};
use crate::issuer::{Issuer, client_name};
use crate::moment::Moment;
use crate::scope::Scopes;

/// The registered clients.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) pages: Arc<PageKey>,
    pub(crate) trusted_hops: u8,
}

/// How long the secret of before is good if nothing is said, and at most.
const GRACE: (Duration, Duration) = (Duration::from_secs(24 * 3600), Duration::from_secs(30 * 24 * 3600));

/// How long a registration token is good if nothing is said, and at most.
const REGISTRATION_TOKEN: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(30 * 24 * 3600));

/// How many clients may register with one token.
const REGISTRATIONS_MAX: u32 = 1000;

/// The scopes of these names, which must be known.
fn scopes_named(names: &[String]) -> Result<Scopes, Error> {
    let named: Option<Vec<_>> = names.iter().map(|name| Scopes::named(name)).collect();
    Ok(named.ok_or(Error::ScopeInvalid)?.into_iter().fold(Scopes::NONE, |all, one| all | one))
}

fn client_message(client: &Client, now: Moment) -> pb::Client {
    pb::Client {
        name: client_name(&client.id),
        display_name: client.display_name.clone(),
        confidential: client.confidential(),
        scopes: client.scopes.names().map(str::to_owned).collect(),
        create_time: Some(time(client.created_at)),
        registration: Some(registration_message(&client.registration)),
        previous_secret_expire_time: client
            .previous_secret
            .filter(|(_, until)| now < *until)
            .map(|(_, until)| time(until)),
    }
}

fn registration_message(registration: &Registration) -> pb::Registration {
    pb::Registration {
        redirect_uris: registration.redirect_uris.clone(),
        native: registration.native,
        grant_types: registration.grant_types.iter().map(|grant| grant.name().to_owned()).collect(),
        token_endpoint_auth_method: registration.auth_method.name().to_owned(),
        first_party: registration.first_party,
        id_token_signed_response_alg: registration.id_token_algorithm.name().to_owned(),
        post_logout_redirect_uris: registration.post_logout_redirect_uris.clone(),
        pkce_optional: registration.pkce_optional,
        jwks: registration.jwks(),
        exchange_clients: registration.exchange_clients.clone(),
        exchange_audiences: registration.exchange_audiences.clone(),
        audiences: registration.audiences.clone(),
        backchannel_logout_uri: registration.backchannel_logout_uri.clone(),
        dpop_bound_access_tokens: registration.dpop_bound,
    }
}

fn read_registration(registration: pb::Registration) -> Result<Registration, Error> {
    let unknown = |field| Error::Invalid { field, problem: "is not one of those that are known" };
    let grants = registration.grant_types.iter().map(|name| GrantType::named(name)).collect::<Option<_>>();
    let method = AuthMethod::named(&registration.token_endpoint_auth_method);
    let algorithm = match registration.id_token_signed_response_alg.as_str() {
        "" => Some(Algorithm::default()),
        name => Algorithm::named(name),
    };
    Ok(Registration {
        redirect_uris: registration.redirect_uris,
        post_logout_redirect_uris: registration.post_logout_redirect_uris,
        native: registration.native,
        grant_types: grants.ok_or_else(|| unknown("registration.grant_types"))?,
        auth_method: method.ok_or_else(|| unknown("registration.token_endpoint_auth_method"))?,
        first_party: registration.first_party,
        id_token_algorithm: algorithm.ok_or_else(|| unknown("registration.id_token_signed_response_alg"))?,
        pkce_optional: registration.pkce_optional,
        keys: Registration::read_keys(&registration.jwks)?,
        exchange_clients: registration.exchange_clients,
        exchange_audiences: registration.exchange_audiences,
        audiences: registration.audiences,
        backchannel_logout_uri: registration.backchannel_logout_uri,
        logout_uri_self_named: false,
        dpop_bound: registration.dpop_bound_access_tokens,
    })
}

/// The id in the resource name of a client.
fn id_in(name: &str) -> Result<&str, Status> {
    name.strip_prefix("clients/")
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| Fault::invalid("name", "is not a name like clients/{client_id}").into_status(DOMAIN))
}

impl Clients {
    fn message(&self, client: &Client) -> pb::Client {
        client_message(client, self.issuer.clock.now())
    }
}

#[tonic::async_trait]
impl ClientService for Clients {
    async fn create_client(
        &self,
        request: Request<CreateClientRequest>,
    ) -> Result<Response<CreateClientResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let request = request.into_inner();
        let scopes = scopes_named(&request.scopes)?;
        let registration = read_registration(request.registration.unwrap_or_default())?;
        let issuer = self.issuer.clone();
        let (client, secret) = to_the_end(async move {
            let (id, name) = (&request.client_id, &request.display_name);
            issuer.create_client(id, name, request.confidential, scopes, registration, &by).await
        })
        .await?;
        let client_secret = secret.map(ClientSecret::into_text).unwrap_or_default();
        Ok(Response::new(CreateClientResponse { client: Some(self.message(&client)), client_secret }))
    }

    async fn get_client(&self, request: Request<GetClientRequest>) -> Result<Response<GetClientResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let name = request.into_inner().name;
        let client = self.issuer.client(id_in(&name)?).await?;
        let client = client.ok_or(Error::ClientNotFound(name))?;
        Ok(Response::new(GetClientResponse { client: Some(self.message(&client)) }))
    }

    async fn update_client(
        &self,
        request: Request<UpdateClientRequest>,
    ) -> Result<Response<UpdateClientResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let request = request.into_inner();
        let id = id_in(&request.name)?.to_owned();
        let scopes = request.scopes.map(|scopes| scopes_named(&scopes.scopes)).transpose()?;
        let registration = request.registration.map(read_registration).transpose()?;
        let change = ClientChange { display_name: request.display_name, scopes, registration };
        let issuer = self.issuer.clone();
        let client = to_the_end(async move { issuer.update_client(&id, &change, &by).await }).await?;
        Ok(Response::new(UpdateClientResponse { client: Some(self.message(&client)) }))
    }

    async fn rotate_client_secret(
        &self,
        request: Request<RotateClientSecretRequest>,
    ) -> Result<Response<RotateClientSecretResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let request = request.into_inner();
        let id = id_in(&request.name)?.to_owned();
        let grace = match request.grace {
            None => GRACE.0,
            Some(grace) => Duration::try_from(grace)
                .ok()
                .filter(|grace| *grace <= GRACE.1)
                .ok_or(Error::Invalid { field: "grace", problem: "is not between nothing and 30 days" })?,
        };
        let issuer = self.issuer.clone();
        let (client, secret) = to_the_end(async move { issuer.rotate_client_secret(&id, grace, &by).await }).await?;
        let client = Some(self.message(&client));
        Ok(Response::new(RotateClientSecretResponse { client, client_secret: secret.into_text() }))
    }

    async fn create_registration_token(
        &self,
        request: Request<CreateRegistrationTokenRequest>,
    ) -> Result<Response<CreateRegistrationTokenResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let request = request.into_inner();
        let scopes = scopes_named(&request.scopes)?;
        let uses = u32::try_from(request.uses.max(1)).unwrap_or(1);
        if uses > REGISTRATIONS_MAX {
            return Err(Error::Invalid { field: "uses", problem: "is more than 1000" }.into());
        }
        let lifetime = match request.lifetime {
            None => REGISTRATION_TOKEN.0,
            Some(lifetime) => Duration::try_from(lifetime)
                .ok()
                .filter(|lifetime| !lifetime.is_zero() && *lifetime <= REGISTRATION_TOKEN.1)
                .ok_or(Error::Invalid { field: "lifetime", problem: "is not between nothing and 30 days" })?,
        };
        let (issuer, expires_at) = (self.issuer.clone(), by.at.plus(lifetime));
        let token =
            to_the_end(async move { issuer.create_registration_token(scopes, uses, lifetime, &by).await }).await?;
        let registration_token = token.text().to_owned();
        Ok(Response::new(CreateRegistrationTokenResponse { registration_token, expire_time: Some(time(expires_at)) }))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        const SCOPE: &str = "ListClients";
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(self.pages.open::<String>(SCOPE, token).map_err(|fault| fault.into_status(DOMAIN))?),
        };
        let size = page_size(request.page_size, PAGE_SIZE.0, PAGE_SIZE.1) as usize;
        let mut clients = self.issuer.client_page(after.as_deref(), size + 1).await?;
        let more = clients.len() > size;
        clients.truncate(size);
        let next_page_token = match clients.last() {
            Some(last) if more => self.pages.seal(SCOPE, &&*last.id),
            _ => String::new(),
        };
        let clients = clients.iter().map(|client| self.message(client)).collect();
        Ok(Response::new(ListClientsResponse { clients, next_page_token }))
    }

    async fn delete_client(
        &self,
        request: Request<DeleteClientRequest>,
    ) -> Result<Response<DeleteClientResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let name = request.into_inner().name;
        let id = id_in(&name)?.to_owned();
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.delete_client(&id, &by).await }).await?;
        Ok(Response::new(DeleteClientResponse {}))
    }
}

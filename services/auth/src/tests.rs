//! The issuer as its callers meet it: over generated clients in the same process, with the access rules around it.

use std::time::Duration;

use flaghoist_proto::auth::v1::audit_service_client::AuditServiceClient;
use flaghoist_proto::auth::v1::client_service_client::ClientServiceClient;
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::key_service_client::KeyServiceClient;
use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::subject_service_client::SubjectServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::verification_service_client::VerificationServiceClient;
use flaghoist_proto::auth::v1::*;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::local::{Peer, Slot};
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::{AccessLayer, Drain, DrainTrigger, Readiness, Verifier};
use tempfile::TempDir;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _};
use uuid::Uuid;

use super::*;

mod assertions;
mod audit;
mod clients;
mod disk;
mod exchange;
mod flow;
mod keys;
mod over_http;
mod pods;
mod registering;
mod sessions;
mod store_gone;
mod subject;
mod tokens;
mod watch;
mod well_signed;

pub(crate) const ISSUER: &str = "http://localhost:8080";

/// An issuer on a folder of its own, or a pod of one.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) parts: Parts,
    pub(crate) clock: Clock,
    pub(crate) trigger: DrainTrigger,
    context: Context,
    /// Kept for as long as the issuer is.
    folder: Option<TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::on(tempfile::tempdir().unwrap(), settings, Clock::default()).await
    }

    async fn on(folder: TempDir, settings: Settings, clock: Clock) -> Self {
        Self::at(Place::new(folder.path()), Some(folder), settings, clock).await
    }

    async fn at(place: Place, folder: Option<TempDir>, settings: Settings, clock: Clock) -> Self {
        let (trigger, drain) = Drain::new();
        let context = Context {
            verifier: Verifier::new(ISSUER),
            drain: drain.clone(),
            readiness: Arc::new(Readiness::new()),
            issuer: ISSUER.into(),
            trusted_hops: 0,
        };
        let issuer = open(settings, &place, &context, clock.clone()).await.unwrap();
        issuer.keyring.advance().await.unwrap();
        upkeep::start(&issuer, &drain);
        let parts = parts(&issuer, &Arc::new(PageKey::new(b"pages")), &context);
        Self { place, issuer, parts, clock, trigger, context, folder }
    }

    /// The same store, opened anew.
    async fn restarted(self) -> Self {
        self.trigger.end();
        let Self { place, folder, clock, issuer, .. } = self;
        Self::at(place, folder, issuer.settings.clone(), clock).await
    }

    /// The public services behind the access rules, called with a token.
    fn public(&self, token: &str) -> Peer {
        let layered = AccessLayer::public(self.context.verifier.clone()).layer(self.parts.public.clone());
        let authorization = format!("Bearer {token}");
        BoxCloneSyncService::new(
            layered
                .map_request(move |mut request: ::http::Request<Body>| {
                    request.headers_mut().insert("authorization", authorization.parse().unwrap());
                    request
                })
                .map_err(|never| match never {}),
        )
    }

    fn internal(&self) -> Peer {
        let slot = Slot::new("auth");
        slot.fill(self.parts.internal.clone());
        slot.peer()
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Peer> {
        TokenServiceClient::new(self.public("none"))
    }

    fn sessions(&self, token: &str) -> SessionServiceClient<Peer> {
        SessionServiceClient::new(self.public(token))
    }

    fn clients(&self, token: &str) -> ClientServiceClient<Peer> {
        ClientServiceClient::new(self.public(token))
    }

    fn keys(&self, token: &str) -> KeyServiceClient<Peer> {
        KeyServiceClient::new(self.public(token))
    }

    /// The newest audit events of this action; all if none is named.
    async fn audited(&self, action: AuditAction) -> Vec<AuditEvent> {
        self.audited_by(&self.admin().await, action).await
    }

    /// The same for an admin with this token, who may have it from before [`Self::wait`]: verifiers have the real clock.
    async fn audited_by(&self, admin: &str, action: AuditAction) -> Vec<AuditEvent> {
        let request = ListAuditEventsRequest { page_size: 200, action: action.into(), ..Default::default() };
        let mut log = AuditServiceClient::new(self.public(admin));
        log.list_audit_events(request).await.unwrap().into_inner().audit_events
    }

    pub(crate) fn subjects(&self) -> SubjectServiceClient<Peer> {
        SubjectServiceClient::new(self.internal())
    }

    fn verification(&self) -> VerificationServiceClient<Peer> {
        VerificationServiceClient::new(self.internal())
    }

    /// A sign-in of `user` with the command line's client.
    pub(crate) async fn sign_in(&self, user: UserId) -> (Session, TokenSet) {
        self.try_sign_in(user, "flaghoist-cli", &["chat.send", "chat.read"]).await.unwrap()
    }

    async fn try_sign_in(&self, user: UserId, client_id: &str, scopes: &[&str]) -> Result<(Session, TokenSet), Status> {
        let request = CreateSessionRequest {
            user: user.name(),
            client_id: client_id.into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            amr: vec!["pwd".into()],
            auth_time: None,
            label: "laptop".into(),
            address: "192.0.2.7".into(),
        };
        let answer = self.subjects().create_session(request).await?.into_inner();
        Ok((answer.session.unwrap(), answer.tokens.unwrap()))
    }

    /// The access token of an admin.
    async fn admin(&self) -> String {
        self.try_sign_in(somebody(), "flaghoist-cli", &["admin"]).await.unwrap().1.access_token
    }

    /// Registers a confidential client and answers its secret.
    pub(crate) async fn confidential(&self, id: &str, scopes: &[&str]) -> String {
        let request = CreateClientRequest {
            client_id: id.into(),
            display_name: id.into(),
            confidential: true,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            registration: None,
        };
        self.clients(&self.admin().await).create_client(request).await.unwrap().into_inner().client_secret
    }

    /// Registers a service that people and programs call with tokens for `audiences`; answers its secret.
    pub(crate) async fn resource_server(&self, id: &str, audiences: &[&str]) -> String {
        let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        let request = CreateClientRequest {
            client_id: id.into(),
            display_name: id.into(),
            confidential: true,
            scopes: vec!["chat.read".into()],
            registration: Some(Registration { audiences, ..Registration::default() }),
        };
        self.clients(&self.admin().await).create_client(request).await.unwrap().into_inner().client_secret
    }

    async fn public_client(&self, id: &str) {
        let request = CreateClientRequest {
            client_id: id.into(),
            display_name: id.into(),
            confidential: false,
            scopes: vec!["chat.read".into()],
            registration: None,
        };
        self.clients(&self.admin().await).create_client(request).await.unwrap();
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<TokenSet, Status> {
        self.refresh_as(credentials("flaghoist-cli", ""), refresh_token, "").await
    }

    async fn refresh_as(
        &self,
        client: ClientCredentials,
        refresh_token: &str,
        scope: &str,
    ) -> Result<TokenSet, Status> {
        let grant = Grant::RefreshToken(RefreshTokenGrant { refresh_token: refresh_token.into() });
        let request = IssueTokenRequest { client: Some(client), grant: Some(grant), scope: scope.into() };
        Ok(self.tokens().issue_token(request).await?.into_inner().tokens.unwrap())
    }

    async fn client_token(&self, client: ClientCredentials, scope: &str) -> Result<TokenSet, Status> {
        let grant = Grant::ClientCredentials(ClientCredentialsGrant {});
        let request = IssueTokenRequest { client: Some(client), grant: Some(grant), scope: scope.into() };
        Ok(self.tokens().issue_token(request).await?.into_inner().tokens.unwrap())
    }

    async fn revoke(&self, client: ClientCredentials, token: &str) -> Result<(), Status> {
        let request = RevokeTokenRequest { client: Some(client), token: token.into() };
        self.tokens().revoke_token(request).await.map(|_| ())
    }

    async fn introspect(&self, client: ClientCredentials, token: &str) -> Result<IntrospectTokenResponse, Status> {
        let request = IntrospectTokenRequest { client: Some(client), token: token.into() };
        Ok(self.tokens().introspect_token(request).await?.into_inner())
    }

    fn wait(&self, time: Duration) {
        self.clock.advance_ms(time.as_millis().try_into().unwrap());
    }
}

pub(crate) fn somebody() -> UserId {
    UserId(Uuid::now_v7())
}

fn credentials(id: &str, secret: &str) -> ClientCredentials {
    ClientCredentials { client_id: id.into(), client_secret: secret.into(), ..ClientCredentials::default() }
}

fn cli() -> ClientCredentials {
    credentials("flaghoist-cli", "")
}

/// Waits until it is so.
async fn eventually(what: &str, within: Duration, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {within:?}"));
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: Reason) {
    let status = answer.expect_err("it is refused");
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{}", status.message());
}

/// An issuer on the same store that has not read its keys yet.
pub(crate) async fn keyless(world: &World) -> Arc<Issuer> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&world.place.data.join("auth.db")).await.unwrap());
    let (verifier, clock, settings) = (Verifier::new(ISSUER), Clock::default(), Settings::default());
    let nonces = crate::nonce::Nonces::new(&[0; 32]);
    let sealer = Sealer::new(&[0; 32]).unwrap();
    let keyring = Keyring::new(store.clone(), sealer, settings.key_times(), clock.clone(), verifier.clone());
    let feed = Arc::new(Feed::new(store.clone(), verifier.clone(), 0));
    let (clients, refresh_keys) =
        (Clients::new(store.clone(), clock.clone(), ISSUER.into()), RefreshKeys::new(&[0; 32], &[0; 32]));
    let url = ISSUER.into();
    Arc::new(Issuer::new(Makings {
        url,
        settings,
        store,
        clients,
        keyring,
        feed,
        clock,
        refresh_keys,
        nonces,
        verifier,
    }))
}

//! A world with login in it, an issuer in memory, and people who call from somewhere.

mod contacts;
mod factors;
mod keys;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::administration_service_client::AdministrationServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::directory_service_client::DirectoryServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::local::Slot;
use flaghoist_runtime::names::{SessionId, UserId, parse_session};
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::seal::Sealer;
use flaghoist_runtime::server::ClientAddress;
use flaghoist_runtime::{Caller, Drain, DrainTrigger, Peer, Place, StoreAddress, Verifier};
use tempfile::TempDir;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

pub(super) use self::contacts::{EMAIL, PHONE};
pub(super) use self::factors::App;
pub(super) use self::keys::{Key, ORIGIN, spoiled};
use super::issuer::FakeIssuer;
use super::others::FakeOthers;
use crate::accounts::{Accounts, Makings};
use crate::hashing::Cost;
use crate::http::{FormKey, Pages, router};
use crate::issuer::Issuer;
use crate::notify::{FOLDER, Notifier};
use crate::relying_party::RelyingParty;
use crate::rpc::Rpc;
use crate::security_key::Keys;
use crate::settings::Settings;
use crate::store::Store;
use crate::store::account_sessions::Limits;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

pub(super) const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
pub(super) const PASSWORD: &str = "tulips in the rain";

/// What is there whatever becomes of the pods.
#[derive(Clone)]
struct Ground {
    folder: Arc<TempDir>,
    address: StoreAddress,
    /// The database, if it is one of the shared cluster.
    url: String,
    issuer: FakeIssuer,
    others: FakeOthers,
    /// Whether no message leaves it.
    silent: bool,
}

/// One pod of login and what is around it.
pub(super) struct World {
    ground: Ground,
    pub(super) issuer: FakeIssuer,
    pub(super) others: FakeOthers,
    pub(super) accounts: Arc<Accounts>,
    settings: Settings,
    store: Arc<dyn Store>,
    public: Peer,
    internal: Peer,
    pub(super) pages: axum::Router,
    pub(super) verifier: Arc<Verifier>,
    _drain: DrainTrigger,
}

impl World {
    /// Login with cheap hashes and room for all calls of a test.
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(StoreAddress::Folder, String::new(), change).await
    }

    /// Two pods on one database; nothing on a machine without PostgreSQL.
    pub(super) async fn pods(change: impl FnOnce(&mut Settings)) -> Option<[Self; 2]> {
        let url = flaghoist_backends::Postgres::shared().await?.database().await;
        let first = Self::on_database(url, change).await;
        let second = first.beside().await;
        Some([first, second])
    }

    pub(super) async fn on_database(url: String, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(StoreAddress::Postgres(Box::new(url.parse().unwrap())), url, change).await
    }

    async fn on(address: StoreAddress, url: String, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            hash_cost: CHEAP,
            hash_threads: 2,
            hash_queue: 1000,
            registration_burst: 1000,
            erasure_settle: Duration::from_millis(50),
            address_burst: 1000,
            ..Settings::default()
        };
        change(&mut settings);
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::begin(
            Ground {
                folder,
                address,
                url,
                issuer: FakeIssuer::default(),
                others: FakeOthers::default(),
                silent: false,
            },
            settings,
        )
        .await
    }

    /// Another pod on the same database, with the same issuer.
    pub(super) async fn beside(&self) -> Self {
        Self::begin(self.ground.clone(), self.settings.clone()).await
    }

    /// The same store and issuer after a restart.
    pub(super) async fn restart(self, change: impl FnOnce(&mut Settings)) -> Self {
        let (ground, mut settings) = (self.ground.clone(), self.settings.clone());
        drop(self);
        change(&mut settings);
        Self::begin(ground, settings).await
    }

    /// The same after a restart, from when on no message leaves it.
    pub(super) async fn silent(self) -> Self {
        let (ground, settings) = (Ground { silent: true, ..self.ground.clone() }, self.settings.clone());
        drop(self);
        Self::begin(ground, settings).await
    }

    async fn begin(ground: Ground, settings: Settings) -> Self {
        let store: Arc<dyn Store> = match &ground.address {
            StoreAddress::Folder => {
                Arc::new(SqliteStore::open(&ground.folder.path().join(crate::STORE_FILE)).await.unwrap())
            }
            StoreAddress::Postgres(address) => Arc::new(PostgresStore::open(address, 8).await.unwrap()),
        };
        let issuer = Issuer::new(ground.issuer.peer());
        let makings = Makings {
            attempts_key: *b"a secret of thirty-two bytes ...",
            sealer: Sealer::new(&[7; 32]).unwrap(),
            host: "chat.example.com".into(),
            issuer_address: ORIGIN.into(),
            notifier: if ground.silent { Notifier::Log } else { Notifier::Folder(ground.folder.path().join(FOLDER)) },
            keys: Keys::of("https://chat.example.com"),
            others: ground.others.peers(&ground.issuer),
        };
        let accounts = Accounts::start(settings.clone(), Arc::clone(&store), issuer, makings).unwrap();
        let accounts = Arc::new(accounts);
        let (drain, drained) = Drain::new();
        tokio::spawn(accounts.teller().keep_telling(drained.clone()));
        tokio::spawn(accounts.eraser().keep_erasing(drained.clone()));
        tokio::spawn(accounts.post().keep_sending(drained));
        let form_key = Arc::new(FormKey::new(b"forms"));
        let verifier = Verifier::new(ORIGIN);
        let pages = router(Pages {
            accounts: Arc::clone(&accounts),
            form_key,
            trusted_hops: 0,
            issuer: RelyingParty::new(ground.issuer.peer(), ORIGIN),
            verifier: Arc::clone(&verifier),
            limits: Limits { idle: settings.account_idle, absolute: settings.account_absolute },
        });
        let rpc = Rpc::new(Arc::clone(&accounts), PageKey::new(b"pages"));
        let (public, internal) = (Slot::new("login"), Slot::new("login"));
        public.fill(rpc.public());
        internal.fill(rpc.internal());
        let (public, internal) = (public.peer(), internal.peer());
        let issuer = ground.issuer.clone();
        let others = ground.others.clone();
        Self { ground, issuer, others, accounts, settings, store, public, internal, pages, verifier, _drain: drain }
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.ground.folder.path())
    }

    pub(super) fn address(&self) -> StoreAddress {
        self.ground.address.clone()
    }

    /// Does something in the shared database behind login's back.
    pub(super) async fn sql(&self, text: &str) -> String {
        flaghoist_backends::Postgres::shared().await.unwrap().sql(&self.ground.url, text).await
    }

    /// The store as this pod has it.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Someone at an address who has not signed in.
    pub(super) fn at(&self, address: &str) -> Person {
        Person { public: self.public.clone(), address: address.parse().unwrap(), caller: None }
    }

    /// Someone with an account who has signed in from 192.0.2.1.
    pub(super) async fn person(&self, handle: &str) -> Person {
        let someone = self.at("192.0.2.1");
        someone.register(handle, PASSWORD).await.unwrap();
        someone.signed_in(handle, PASSWORD).await
    }

    /// Someone whose account was made an admin's on the machine.
    pub(super) async fn admin(&self, handle: &str) -> Person {
        let someone = self.at("192.0.2.1");
        someone.register(handle, PASSWORD).await.unwrap();
        crate::grant_admin(&self.ground.address, &self.place(), handle).await.unwrap();
        someone.signed_in(handle, PASSWORD).await
    }

    pub(super) async fn users(&self, names: &[&str]) -> Result<Vec<login::User>, Status> {
        let names = names.iter().map(ToString::to_string).collect();
        let mut client = DirectoryServiceClient::new(self.internal.clone());
        Ok(client.batch_get_users(login::BatchGetUsersRequest { names }).await?.into_inner().users)
    }
}

/// Someone who calls, with the token of their session once they have signed in.
#[derive(Clone)]
pub(super) struct Person {
    public: Peer,
    address: IpAddr,
    caller: Option<Arc<Caller>>,
}

impl Person {
    /// The same person elsewhere.
    pub(super) fn moved_to(&self, address: &str) -> Self {
        Self { address: address.parse().unwrap(), ..self.clone() }
    }

    /// The same person, whose calls go to another pod.
    pub(super) fn on(&self, pod: &World) -> Self {
        Self { public: pod.public.clone(), ..self.clone() }
    }

    /// The same person, whose calls go where those of `other` go.
    pub(super) fn through(&self, other: &Self) -> Self {
        Self { public: other.public.clone(), ..self.clone() }
    }

    /// The resource name of the account.
    pub(super) fn name(&self) -> String {
        self.caller.as_ref().unwrap().user.unwrap().name()
    }

    pub(super) fn session(&self) -> String {
        self.caller.as_ref().unwrap().session.unwrap().to_string()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(ClientAddress(self.address));
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(Arc::clone(caller));
        }
        request
    }

    pub(super) async fn register_with(&self, request: login::CreateAccountRequest) -> Result<login::Account, Status> {
        let answer = AccountServiceClient::new(self.public.clone()).create_account(self.request(request)).await?;
        Ok(answer.into_inner().account.unwrap())
    }

    pub(super) async fn register(&self, handle: &str, password: &str) -> Result<login::Account, Status> {
        let (handle, password) = (handle.into(), password.into());
        self.register_with(login::CreateAccountRequest { handle, password, ..Default::default() }).await
    }

    pub(super) async fn login_with(&self, request: login::LoginRequest) -> Result<login::LoginResponse, Status> {
        Ok(LoginServiceClient::new(self.public.clone()).login(self.request(request)).await?.into_inner())
    }

    pub(super) async fn login(&self, handle: &str, password: &str) -> Result<login::LoginResponse, Status> {
        let (handle, password) = (handle.into(), password.into());
        self.login_with(login::LoginRequest { handle, password, ..Default::default() }).await
    }

    /// Signs in and answers the person with their token.
    pub(super) async fn signed_in(&self, handle: &str, password: &str) -> Self {
        let welcome = self.login(handle, password).await.unwrap();
        let (user, session) = parse_session(&welcome.session.unwrap().name).unwrap();
        let scope = welcome.tokens.unwrap().scope;
        Self { caller: Some(Arc::new(caller(user, session, &scope))), ..self.clone() }
    }

    pub(super) async fn get(&self, name: &str) -> Result<login::Account, Status> {
        let request = self.request(login::GetAccountRequest { name: name.into() });
        Ok(AccountServiceClient::new(self.public.clone()).get_account(request).await?.into_inner().account.unwrap())
    }

    pub(super) async fn lookup(&self, handle: &str) -> Result<login::Account, Status> {
        let request = self.request(login::LookupAccountRequest { handle: handle.into() });
        Ok(AccountServiceClient::new(self.public.clone()).lookup_account(request).await?.into_inner().account.unwrap())
    }

    pub(super) async fn rename(&self, display_name: &str) -> Result<login::Account, Status> {
        let request =
            self.request(login::UpdateAccountRequest { display_name: Some(display_name.into()), ..Default::default() });
        Ok(AccountServiceClient::new(self.public.clone()).update_account(request).await?.into_inner().account.unwrap())
    }

    pub(super) async fn delete_account(&self, password: &str) -> Result<(), Status> {
        let request = self.request(login::DeleteAccountRequest { password: password.into() });
        AccountServiceClient::new(self.public.clone()).delete_account(request).await.map(|_| ())
    }

    /// An export, none of which is read yet.
    pub(super) async fn begins_export(&self) -> Result<tonic::Streaming<login::ExportAccountResponse>, Status> {
        let request = self.request(login::ExportAccountRequest {});
        Ok(AccountServiceClient::new(self.public.clone()).export_account(request).await?.into_inner())
    }

    pub(super) async fn export(&self) -> Result<Vec<u8>, Status> {
        let mut pieces = self.begins_export().await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await? {
            bytes.extend(piece.chunk);
        }
        Ok(bytes)
    }

    pub(super) async fn erasures(&self, page_token: &str) -> Result<login::ListErasuresResponse, Status> {
        let request = self.request(login::ListErasuresRequest { page_token: page_token.into(), ..Default::default() });
        Ok(AdministrationServiceClient::new(self.public.clone()).list_erasures(request).await?.into_inner())
    }

    pub(super) async fn erasure(&self, name: &str) -> Result<login::Erasure, Status> {
        let request = self.request(login::GetErasureRequest { name: name.into() });
        let answer = AdministrationServiceClient::new(self.public.clone()).get_erasure(request).await?;
        Ok(answer.into_inner().erasure.unwrap())
    }

    pub(super) async fn change_password(&self, current: &str, new: &str) -> Result<(), Status> {
        let request = login::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
        let request = self.request(request);
        CredentialServiceClient::new(self.public.clone()).change_password(request).await.map(|_| ())
    }

    pub(super) async fn set_disabled(&self, name: &str, disabled: bool) -> Result<login::Account, Status> {
        let request = self.request(login::SetAccountDisabledRequest { name: name.into(), disabled });
        let answer = AdministrationServiceClient::new(self.public.clone()).set_account_disabled(request).await?;
        Ok(answer.into_inner().account.unwrap())
    }

    pub(super) async fn set_admin(&self, name: &str, admin: bool) -> Result<login::Account, Status> {
        let request = self.request(login::SetAccountAdminRequest { name: name.into(), admin });
        let answer = AdministrationServiceClient::new(self.public.clone()).set_account_admin(request).await?;
        Ok(answer.into_inner().account.unwrap())
    }

    /// The same person, who signed in so long ago.
    pub(super) fn signed_in_ago(&self, age: Duration) -> Self {
        let caller =
            Caller { authenticated_at: Some(SystemTime::now() - age), ..(**self.caller.as_ref().unwrap()).clone() };
        Self { caller: Some(Arc::new(caller)), ..self.clone() }
    }

    /// The same person, who signed in by the password alone.
    pub(super) fn by_password_alone(&self) -> Self {
        let caller = Caller { two_factors: false, ..(**self.caller.as_ref().unwrap()).clone() };
        Self { caller: Some(Arc::new(caller)), ..self.clone() }
    }

    /// An application that the same person has signed in to a moment ago.
    pub(super) fn through_an_application(&self) -> Self {
        let caller = Caller { client_id: "wiki".into(), ..(**self.caller.as_ref().unwrap()).clone() };
        Self { caller: Some(Arc::new(caller)), ..self.clone() }
    }

    pub(super) async fn invite(&self) -> Result<login::CreateInvitationResponse, Status> {
        let request = self.request(login::CreateInvitationRequest {});
        let mut client = AdministrationServiceClient::new(self.public.clone());
        Ok(client.create_invitation(request).await?.into_inner())
    }
}

fn caller(user: UserId, session: SessionId, scope: &str) -> Caller {
    Caller {
        user: Some(user),
        subject: user.to_string(),
        client_id: "flaghoist-cli".into(),
        session: Some(session),
        scopes: scope.split(' ').map(str::to_owned).collect(),
        token_id: Uuid::now_v7(),
        key_id: "key".into(),
        authenticated_at: Some(SystemTime::now()),
        key_thumbprint: None,
        two_factors: true,
        issued_at: SystemTime::now(),
        expires_at: SystemTime::now() + Duration::from_secs(300),
    }
}

/// The reason of a refusal.
pub(super) fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> Reason {
    reason_of(&answer.expect_err("it should have been refused")).expect("every refusal has a reason")
}

/// When to try again.
pub(super) fn retry_delay(status: &Status) -> Duration {
    status.get_details_retry_info().unwrap().retry_delay.unwrap()
}

/// Waits until something holds.
pub(super) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "{what} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! An issuer in memory, behind the generated server trait, so that login is tested through the real client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::consent_service_server::ConsentServiceServer;
use flaghoist_proto::auth::v1::login_request_service_server::{LoginRequestService, LoginRequestServiceServer};
use flaghoist_proto::auth::v1::session_service_server::SessionServiceServer;
use flaghoist_proto::auth::v1::subject_service_server::{SubjectService, SubjectServiceServer};
use flaghoist_proto::auth::v1::token_service_server::TokenServiceServer;
use flaghoist_runtime::Peer;
use flaghoist_runtime::fault::{Fault, Reason};
use flaghoist_runtime::local::Slot;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

/// What the issuer knows, shared with the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeIssuer {
    kept: Arc<Mutex<Kept>>,
    /// Closed while a test holds it for writing.
    gate: Arc<RwLock<()>>,
    /// How many sessions were asked for.
    asked: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Kept {
    down: bool,
    /// Session ids and scopes by the name of the person.
    sessions: HashMap<String, Vec<(String, String)>>,
    states: HashMap<String, (bool, bool)>,
    /// How often it was told something, by the name of the person.
    told: HashMap<String, u32>,
    /// Who changed what a person may do, as it was told, by the name of the person.
    actors: HashMap<String, Vec<String>>,
    erased: Vec<String>,
    profiles: HashMap<String, auth::SetSubjectProfileRequest>,
    last_request: Option<auth::CreateSessionRequest>,
    /// Challenges that were not answered yet.
    challenges: Vec<String>,
    accepted: Vec<auth::AcceptLoginRequestRequest>,
    /// Why no tokens are issued; the grant is not good if nothing else was said.
    no_token: Option<Status>,
}

impl FakeIssuer {
    pub(crate) fn peer(&self) -> Peer {
        let slot = Slot::new("auth");
        let routes = tonic::service::Routes::new(SubjectServiceServer::new(self.clone()));
        let routes = routes.add_service(LoginRequestServiceServer::new(self.clone()));
        let routes = routes.add_service(SessionServiceServer::new(self.clone()));
        let routes = routes.add_service(ConsentServiceServer::new(self.clone()));
        slot.fill(routes.add_service(TokenServiceServer::new(self.clone())));
        slot.peer()
    }

    /// From now on calls are answered, or not.
    pub(crate) fn set_down(&self, down: bool) {
        self.kept.lock().down = down;
    }

    /// The ids of a person's sessions.
    pub(crate) fn sessions(&self, user: &str) -> Vec<String> {
        let kept = self.kept.lock();
        kept.sessions.get(user).into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    /// A person has this session, too.
    pub(crate) fn opened(&self, user: &str, session: &str) {
        self.kept.lock().sessions.entry(user.to_owned()).or_default().push((session.to_owned(), String::new()));
    }

    /// Ends all sessions of a person but those; answers how many.
    pub(super) fn keep_sessions(&self, user: &str, kept: impl Fn(&str) -> bool) -> i32 {
        let mut all = self.kept.lock();
        let sessions = all.sessions.entry(user.to_owned()).or_default();
        let before = sessions.len();
        sessions.retain(|(id, _)| kept(id));
        i32::try_from(before - sessions.len()).unwrap_or(i32::MAX)
    }

    /// Tokens are refused so from now on.
    pub(crate) fn issue_no_tokens(&self, status: Status) {
        self.kept.lock().no_token = Some(status);
    }

    pub(super) fn issues_no_token(&self) -> Status {
        let invalid = || Fault::new(Code::Unauthenticated, Reason::GrantInvalid, "no").into_status("auth.flaghoist");
        self.kept.lock().no_token.clone().unwrap_or_else(invalid)
    }

    /// Enabled and admin, as it was told last.
    pub(crate) fn state(&self, user: &str) -> Option<(bool, bool)> {
        self.kept.lock().states.get(user).copied()
    }

    /// How often it was told the state of a person.
    pub(crate) fn told(&self, user: &str) -> u32 {
        self.kept.lock().told.get(user).copied().unwrap_or_default()
    }

    /// Who changed what a person may do, as it was told, where that was somebody in particular.
    pub(crate) fn changed_by(&self, user: &str) -> Vec<String> {
        self.kept.lock().actors.get(user).cloned().unwrap_or_default()
    }

    /// What the issuer believes of a person from now on, whatever it was told.
    pub(crate) fn believe(&self, user: &str, state: (bool, bool)) {
        self.kept.lock().states.insert(user.to_owned(), state);
    }

    /// Until the guard is dropped no session is opened; whoever asks for one waits.
    pub(crate) async fn open_no_sessions(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// How many sessions were asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What applications may know of a person, as it was told last.
    pub(crate) fn profile(&self, user: &str) -> Option<auth::SetSubjectProfileRequest> {
        self.kept.lock().profiles.get(user).cloned()
    }

    pub(crate) fn erased(&self, user: &str) -> bool {
        self.kept.lock().erased.iter().any(|erased| erased == user)
    }

    pub(crate) fn last_request(&self) -> auth::CreateSessionRequest {
        self.kept.lock().last_request.clone().expect("a session was asked for")
    }

    /// A browser comes with this challenge.
    pub(crate) fn challenge(&self, challenge: &str) {
        self.kept.lock().challenges.push(challenge.to_owned());
    }

    /// Who was recognised on the page.
    pub(crate) fn accepted(&self) -> Vec<auth::AcceptLoginRequestRequest> {
        self.kept.lock().accepted.clone()
    }

    /// Answers a challenge, which is done once.
    fn answer(&self, challenge: &str) -> Result<String, Status> {
        let mut kept = self.kept()?;
        let open = kept.challenges.len();
        kept.challenges.retain(|known| known != challenge);
        if kept.challenges.len() == open {
            return Err(Fault::not_found("login request", "").into_status("auth.flaghoist"));
        }
        Ok(format!("http://localhost:8080/oauth2/continue?login_challenge={challenge}"))
    }

    fn kept(&self) -> Result<parking_lot::MutexGuard<'_, Kept>, Status> {
        let kept = self.kept.lock();
        if kept.down { Err(Fault::unavailable("down").into_status("auth.flaghoist")) } else { Ok(kept) }
    }
}

#[tonic::async_trait]
impl SubjectService for FakeIssuer {
    type ExportSubjectStream = futures_util::stream::BoxStream<'static, Result<auth::ExportSubjectResponse, Status>>;

    async fn create_session(
        &self,
        request: Request<auth::CreateSessionRequest>,
    ) -> Result<Response<auth::CreateSessionResponse>, Status> {
        let request = request.into_inner();
        self.asked.fetch_add(1, Ordering::Relaxed);
        let _open = self.gate.read().await;
        let mut kept = self.kept()?;
        if request.client_id != "flaghoist-cli" {
            let fault = Fault::new(Code::Unauthenticated, Reason::ClientInvalid, "unknown client");
            return Err(fault.into_status("auth.flaghoist"));
        }
        if kept.erased.contains(&request.user) || kept.states.get(&request.user).is_some_and(|(enabled, _)| !enabled) {
            let fault = Fault::new(Code::PermissionDenied, Reason::PermissionDenied, "disabled");
            return Err(fault.into_status("auth.flaghoist"));
        }
        let no_admin = kept.states.get(&request.user).is_some_and(|(_, admin)| !admin);
        let scopes = request.scopes.iter().filter(|scope| !(no_admin && *scope == "admin")).cloned();
        let (id, scope) = (Uuid::now_v7().to_string(), scopes.collect::<Vec<_>>().join(" "));
        kept.sessions.entry(request.user.clone()).or_default().push((id.clone(), scope.clone()));
        let session = auth::Session {
            name: format!("{}/sessions/{id}", request.user),
            client_id: request.client_id.clone(),
            ..auth::Session::default()
        };
        let tokens = auth::TokenSet {
            access_token: format!("access-token-{id}"),
            refresh_token: format!("refresh-token-{id}"),
            scope,
            ..auth::TokenSet::default()
        };
        kept.last_request = Some(request);
        Ok(Response::new(auth::CreateSessionResponse { session: Some(session), tokens: Some(tokens) }))
    }

    async fn set_subject_state(
        &self,
        request: Request<auth::SetSubjectStateRequest>,
    ) -> Result<Response<auth::SetSubjectStateResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept()?;
        *kept.told.entry(request.user.clone()).or_default() += 1;
        if !request.actor.is_empty() {
            kept.actors.entry(request.user.clone()).or_default().push(request.actor.clone());
        }
        let before = kept.states.insert(request.user.clone(), (request.enabled, request.admin));
        if !request.enabled || before.is_some_and(|(_, admin)| admin && !request.admin) {
            kept.sessions.remove(&request.user);
        }
        Ok(Response::new(auth::SetSubjectStateResponse {}))
    }

    async fn set_subject_profile(
        &self,
        request: Request<auth::SetSubjectProfileRequest>,
    ) -> Result<Response<auth::SetSubjectProfileResponse>, Status> {
        let request = request.into_inner();
        self.kept()?.profiles.insert(request.user.clone(), request);
        Ok(Response::new(auth::SetSubjectProfileResponse {}))
    }

    async fn revoke_subject_sessions(
        &self,
        request: Request<auth::RevokeSubjectSessionsRequest>,
    ) -> Result<Response<auth::RevokeSubjectSessionsResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept()?;
        let sessions = kept.sessions.entry(request.user).or_default();
        let before = sessions.len();
        sessions.retain(|(id, _)| *id == request.except_session);
        let revoked_count = i32::try_from(before - sessions.len()).unwrap_or(i32::MAX);
        Ok(Response::new(auth::RevokeSubjectSessionsResponse { revoked_count }))
    }

    async fn erase_subject(
        &self,
        request: Request<auth::EraseSubjectRequest>,
    ) -> Result<Response<auth::EraseSubjectResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept()?;
        let session_count = kept.sessions.get(&request.user).map_or(0, Vec::len) as i64;
        if !request.count_only {
            kept.sessions.remove(&request.user);
            kept.erased.push(request.user);
        }
        Ok(Response::new(auth::EraseSubjectResponse { erased_count: 1, session_count, consent_count: 0 }))
    }

    async fn export_subject(
        &self,
        request: Request<auth::ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let sessions = self.kept()?.sessions.get(&request.into_inner().user).cloned().unwrap_or_default();
        let piece = |file: &str, lines| Ok(auth::ExportSubjectResponse { file: file.into(), lines });
        let sessions = sessions.iter().map(|(id, _)| format!("{{\"session\":\"{id}\"}}")).collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter([
            piece("sessions", sessions),
            piece("login_events", vec!["{}".into()]),
        ]))))
    }
}

#[tonic::async_trait]
impl LoginRequestService for FakeIssuer {
    async fn get_login_request(
        &self,
        request: Request<auth::GetLoginRequestRequest>,
    ) -> Result<Response<auth::GetLoginRequestResponse>, Status> {
        let known = self.kept()?.challenges.contains(&request.into_inner().login_challenge);
        if !known {
            return Err(Fault::not_found("login request", "").into_status("auth.flaghoist"));
        }
        Ok(Response::new(auth::GetLoginRequestResponse {
            client_display_name: "Wiki <script>".into(),
            login_hint: "bob\"><b>".into(),
            redirect_origin: "https://wiki.example.com".into(),
            ..auth::GetLoginRequestResponse::default()
        }))
    }

    async fn accept_login_request(
        &self,
        request: Request<auth::AcceptLoginRequestRequest>,
    ) -> Result<Response<auth::AcceptLoginRequestResponse>, Status> {
        let request = request.into_inner();
        if self.kept()?.states.get(&request.user).is_some_and(|(enabled, _)| !enabled) {
            let fault = Fault::new(Code::PermissionDenied, Reason::PermissionDenied, "disabled");
            return Err(fault.into_status("auth.flaghoist"));
        }
        let redirect_to = self.answer(&request.login_challenge)?;
        self.kept()?.accepted.push(request);
        Ok(Response::new(auth::AcceptLoginRequestResponse { redirect_to }))
    }

    async fn reject_login_request(
        &self,
        request: Request<auth::RejectLoginRequestRequest>,
    ) -> Result<Response<auth::RejectLoginRequestResponse>, Status> {
        let redirect_to = self.answer(&request.into_inner().login_challenge)?;
        Ok(Response::new(auth::RejectLoginRequestResponse { redirect_to }))
    }
}

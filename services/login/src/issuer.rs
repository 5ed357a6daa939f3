//! The issuer as login sees it: it opens sessions for people whom login has recognised, and ends them.

use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::login_request_service_client::LoginRequestServiceClient;
use flaghoist_proto::auth::v1::subject_service_client::SubjectServiceClient;
use flaghoist_runtime::Peer;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::timestamp;
use tonic::{Code, Response, Status};

use crate::contact::{ContactKind, Contacts};
use crate::factor::Proof;
use crate::store::contacts::Profile;

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Calls the issuer.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    client: SubjectServiceClient<Peer>,
    requests: LoginRequestServiceClient<Peer>,
}

/// What the issuer is asked for someone who has signed in.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A session.
    Session(SignedIn),
    /// That a browser goes on.
    Acceptance(Box<Recognised>),
}

/// What the issuer answers.
pub(crate) enum Answer {
    /// A session.
    Session(Box<Opened>),
    /// Where the browser goes.
    Redirect(String),
}

/// Someone who has signed in on the page.
#[derive(Clone, Debug)]
pub(crate) struct Recognised {
    pub(crate) challenge: String,
    pub(crate) proof: Proof,
    pub(crate) at: SystemTime,
    /// What applications may know of the person.
    pub(crate) profile: Profile,
}

/// Who wants someone to sign in on the page.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) client_name: String,
    pub(crate) login_hint: String,
    /// The languages that the client asked for, best first, separated by spaces.
    pub(crate) ui_locales: String,
    /// Where the browser goes in the end, as a content security policy writes it.
    pub(crate) redirect_origin: String,
}

/// A sign-in for which a session is to be opened.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: UserId,
    pub(crate) client_id: String,
    pub(crate) admin: bool,
    pub(crate) proof: Proof,
    pub(crate) at: SystemTime,
    pub(crate) label: String,
    pub(crate) address: IpAddr,
}

/// A session and its first tokens, as the issuer gave them; they are only passed on.
pub(crate) struct Opened {
    pub(crate) session: Option<auth::Session>,
    pub(crate) tokens: Option<auth::TokenSet>,
}

/// The issuer did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    /// It did not answer; trying again is safe.
    #[error("the issuer does not answer: is auth running?")]
    Unavailable(#[source] Box<Status>),
    /// The client is not registered.
    #[error("the client is not registered")]
    ClientUnknown,
    /// The client may not have the scopes.
    #[error("the client may not have these scopes")]
    ScopeRefused,
    /// It knows that the person may not hold sessions, or never may again.
    #[error("the issuer opens no sessions for this person")]
    SubjectRefused,
    /// A bound was reached, for example on sessions of one person.
    #[error("the issuer keeps no more sessions for this person")]
    LimitReached,
    /// The challenge of a browser is unknown, expired or answered.
    #[error("the sign-in is over")]
    RequestUnknown,
    /// It answered what should not happen.
    #[error("the issuer refused")]
    Failed(#[source] Box<Status>),
}

impl From<Status> for IssuerError {
    fn from(status: Status) -> Self {
        match (reason_of(&status), status.code()) {
            (Some(Reason::ClientInvalid | Reason::ClientUnauthorized), _) => Self::ClientUnknown,
            (Some(Reason::ScopeInvalid), _) => Self::ScopeRefused,
            (Some(Reason::PermissionDenied), _) => Self::SubjectRefused,
            (Some(Reason::LimitReached), _) => Self::LimitReached,
            (Some(Reason::NotFound), _) => Self::RequestUnknown,
            (_, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled) => {
                Self::Unavailable(Box::new(status))
            }
            _ => Self::Failed(Box::new(status)),
        }
    }
}

impl Issuer {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { client: SubjectServiceClient::new(peer.clone()), requests: LoginRequestServiceClient::new(peer) }
    }

    /// Asks for something for someone who has signed in.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, IssuerError> {
        match ask {
            Ask::Session(signed_in) => Ok(Answer::Session(Box::new(self.create_session(signed_in).await?))),
            Ask::Acceptance(recognised) => Ok(Answer::Redirect(self.accept_login_request(*recognised).await?)),
        }
    }

    /// Who wants someone to sign in.
    pub(crate) async fn login_request(&self, challenge: &str) -> Result<Asked, IssuerError> {
        let request = auth::GetLoginRequestRequest { login_challenge: challenge.to_owned() };
        let mut requests = self.requests.clone();
        let answer = in_time(async move { requests.get_login_request(request).await }).await?;
        Ok(Asked {
            client_name: answer.client_display_name,
            login_hint: answer.login_hint,
            ui_locales: answer.ui_locales,
            redirect_origin: answer.redirect_origin,
        })
    }

    async fn accept_login_request(&self, recognised: Recognised) -> Result<String, IssuerError> {
        let Profile { account, contacts } = recognised.profile;
        let (email, phone_number) = (value_of(&contacts, ContactKind::Email), value_of(&contacts, ContactKind::Phone));
        let request = auth::AcceptLoginRequestRequest {
            login_challenge: recognised.challenge,
            user: account.user.name(),
            amr: recognised.proof.amr(),
            auth_time: Some(timestamp(recognised.at)),
            display_name: account.display_name.into_string(),
            handle: account.handle.to_string(),
            email_verified: !email.is_empty(),
            email,
            phone_number_verified: !phone_number.is_empty(),
            phone_number,
            address: account.postal_address,
        };
        let mut requests = self.requests.clone();
        Ok(in_time(async move { requests.accept_login_request(request).await }).await?.redirect_to)
    }

    /// Says that nobody signs in; answers where the browser goes.
    pub(crate) async fn reject_login_request(&self, challenge: &str) -> Result<String, IssuerError> {
        let request = auth::RejectLoginRequestRequest { login_challenge: challenge.to_owned() };
        let mut requests = self.requests.clone();
        Ok(in_time(async move { requests.reject_login_request(request).await }).await?.redirect_to)
    }

    /// Opens a session.
    async fn create_session(&self, signed_in: SignedIn) -> Result<Opened, IssuerError> {
        let mut scopes = vec!["chat.send".to_owned(), "chat.read".to_owned()];
        if signed_in.admin {
            scopes.push(flaghoist_runtime::token::SCOPE_ADMIN.to_owned());
        }
        let request = auth::CreateSessionRequest {
            user: signed_in.user.name(),
            client_id: signed_in.client_id,
            scopes,
            amr: signed_in.proof.amr(),
            auth_time: Some(timestamp(signed_in.at)),
            label: signed_in.label,
            address: signed_in.address.to_string(),
        };
        let mut client = self.client.clone();
        let answer = in_time(async move { client.create_session(request).await }).await?;
        Ok(Opened { session: answer.session, tokens: answer.tokens })
    }

    /// Says whether a person may hold sessions and be an admin, and who changed it; nobody in particular if `actor` is empty.
    pub(crate) async fn set_subject_state(
        &self,
        user: UserId,
        enabled: bool,
        admin: bool,
        actor: &str,
    ) -> Result<(), IssuerError> {
        let request = auth::SetSubjectStateRequest { user: user.name(), enabled, admin, actor: actor.into() };
        let mut client = self.client.clone();
        in_time(async move { client.set_subject_state(request).await }).await.map(|_| ())
    }

    /// Says what applications may know of a person.
    pub(crate) async fn set_profile(&self, profile: &Profile) -> Result<(), IssuerError> {
        let Profile { account, contacts } = profile;
        let (email, phone_number) = (value_of(contacts, ContactKind::Email), value_of(contacts, ContactKind::Phone));
        let request = auth::SetSubjectProfileRequest {
            user: account.user.name(),
            display_name: account.display_name.as_str().to_owned(),
            handle: account.handle.to_string(),
            email_verified: !email.is_empty(),
            email,
            phone_number_verified: !phone_number.is_empty(),
            phone_number,
            address: account.postal_address.clone(),
        };
        let mut client = self.client.clone();
        in_time(async move { client.set_subject_profile(request).await }).await.map(|_| ())
    }

    /// Ends the sessions of a person, all but `except` if that is not empty.
    pub(crate) async fn end_sessions(&self, user: UserId, except: String) -> Result<(), IssuerError> {
        let request = auth::RevokeSubjectSessionsRequest { user: user.name(), except_session: except };
        let mut client = self.client.clone();
        in_time(async move { client.revoke_subject_sessions(request).await }).await.map(|_| ())
    }
}

/// The verified contact of a kind; empty if there is none. Others are not told to applications.
fn value_of(contacts: &Contacts, kind: ContactKind) -> String {
    contacts.verified(kind).map(|contact| contact.value.clone()).unwrap_or_default()
}

pub(crate) async fn in_time<T>(
    call: impl Future<Output = Result<Response<T>, Status>> + Send,
) -> Result<T, IssuerError> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_elapsed) => Err(Status::deadline_exceeded("no answer in time").into()),
    }
}

//! The way to the server. Calls are repeated here while the server is away for a moment: where no mesh stands between,
//! the client is the one layer that retries, and every call that is repeated is one that may be. Calls of a person carry
//! the profile's access token, which is renewed when it is about to expire.

use std::error::Error;
use std::time::Duration;

use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::{
    ClientCredentials, IssueTokenRequest, RefreshTokenGrant, TokenSet, issue_token_request,
};
use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

use super::profile::{Profile, ProfileFile, Session};
use super::refusal;
use crate::exit::{Exit, Failure};

/// The server if nothing else is said.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:9000";
/// The command line's own OAuth client.
pub(crate) const CLIENT_ID: &str = "flaghoist-cli";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a call is made at most.
const ATTEMPTS_MAX: u32 = 5;

/// A channel that puts the access token on every call.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// The access token as it goes on a call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &str) -> Result<Self, Failure> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| refusal::not_signed_in("the profile holds a token that is none", "HANDLE"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A server, and a channel to it that connects when it is first used and again when it has to.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    server: String,
    channel: Channel,
}

impl Connection {
    /// The way to `server`, a URL.
    pub(crate) fn new(server: &str) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Usage,
                format!("--server {server:?} will not do ({why}): give a URL like {DEFAULT_SERVER}"),
            )
        };
        let server = server.trim_end_matches('/');
        let mut endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| wrong(&error))?;
        match endpoint.uri().scheme_str() {
            Some("http") => {}
            Some("https") => {
                endpoint = endpoint
                    .tls_config(ClientTlsConfig::new().with_native_roots())
                    .map_err(|error| wrong(&error.source().map_or_else(|| error.to_string(), ToString::to_string)))?;
            }
            _ => return Err(wrong(&"it must begin with http:// or https://")),
        }
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        Ok(Self { server: server.to_owned(), channel: endpoint.connect_lazy() })
    }

    /// The server's URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// One call without a token, made once.
    pub(crate) async fn once<R, C>(&self, call: impl FnOnce(Channel) -> C) -> Result<R, Failure>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        self.attempt(call).await.map_err(|status| refusal::failure(&status, &self.server))
    }

    /// The same, for who reads the status.
    pub(crate) async fn attempt<R, C>(&self, call: impl FnOnce(Channel) -> C) -> Result<R, Status>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        in_time(call(self.channel.clone())).await
    }

    /// A channel for calls that carry `token`.
    pub(crate) fn with_token(&self, token: &str) -> Result<Authorized, Failure> {
        Ok(InterceptedService::new(self.channel.clone(), Bearer::new(token)?))
    }

    /// One call without a token, repeated while the server is away.
    async fn repeated<R, C>(&self, mut call: impl FnMut(Channel) -> C) -> Result<R, Status>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        let mut pause = Pause::new(Duration::from_millis(100), Duration::from_secs(2));
        for _ in 1..ATTEMPTS_MAX {
            match in_time(call(self.channel.clone())).await {
                Err(status) if refusal::passing(&status) => pause.wait(refusal::retry_after(&status)).await,
                answer => return answer,
            }
        }
        in_time(call(self.channel.clone())).await
    }
}

async fn in_time<R>(call: impl Future<Output = Result<Response<R>, Status>>) -> Result<R, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the server did not answer in time")),
    }
}

/// A connection on which a person is signed in.
#[derive(Debug)]
pub(crate) struct Signed {
    connection: Connection,
    file: ProfileFile,
    profile: Mutex<Profile>,
    user: String,
    handle: String,
    device: String,
}

impl Signed {
    /// The connection of the person whose profile `file` is. `asked` is the server that was named, if one was.
    pub(crate) fn open(file: ProfileFile, asked: Option<&str>) -> Result<Self, Failure> {
        let Some(profile) = file.read()? else {
            return Err(refusal::not_signed_in("not signed in", "HANDLE"));
        };
        if profile.session.is_none() {
            return Err(refusal::not_signed_in("not signed in", &profile.handle));
        }
        let connection = Connection::new(asked.unwrap_or(&profile.server))?;
        if connection.server() != profile.server {
            // Tokens go to no server but the one that gave them out.
            return Err(refusal::not_signed_in(
                &format!(
                    "the profile {:?} is signed in at {}, not at {}",
                    file.name(),
                    profile.server,
                    connection.server()
                ),
                &profile.handle,
            ));
        }
        let (user, handle, device) = (profile.user.clone(), profile.handle.clone(), profile.device.clone());
        Ok(Self { connection, file, profile: Mutex::new(profile), user, handle, device })
    }

    /// The person, `users/{user}`.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The person's handle.
    pub(crate) fn handle(&self) -> &str {
        &self.handle
    }

    /// The profile's id as a device.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// The server's URL.
    pub(crate) fn server(&self) -> &str {
        self.connection.server()
    }

    /// Where the profile lies.
    pub(crate) fn file(&self) -> &ProfileFile {
        &self.file
    }

    /// The session's resource name.
    pub(crate) async fn session_name(&self) -> String {
        self.profile.lock().await.session.as_ref().map(|session| session.name.clone()).unwrap_or_default()
    }

    /// What to say about a status from this server.
    pub(crate) fn failure(&self, status: &Status) -> Failure {
        if refusal::unauthenticated(status) {
            return refusal::not_signed_in("the server does not accept this sign-in any more", &self.handle);
        }
        refusal::failure(status, self.server())
    }

    /// Makes a call that may be repeated: while the server is away, and once more with a fresh token when the token was
    /// not accepted.
    pub(crate) async fn call<R, C>(&self, mut call: impl FnMut(Authorized) -> C) -> Result<R, Failure>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        let mut token = self.token().await?;
        let mut answer = self.with(&token, &mut call).await?;
        if let Err(status) = &answer
            && refusal::unauthenticated(status)
        {
            token = self.token_instead_of(&token).await?;
            answer = self.with(&token, &mut call).await?;
        }
        answer.map_err(|status| self.failure(&status))
    }

    /// Makes a call that may not be repeated, since a second one would do something more. It is made again only with a fresh token when
    /// the token was not accepted, for then nothing was done.
    pub(crate) async fn once<R, C>(&self, call: impl Fn(Authorized) -> C) -> Result<R, Failure>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        let mut token = self.token().await?;
        let mut answer = in_time(call(self.channel(&token)?)).await;
        if let Err(status) = &answer
            && refusal::unauthenticated(status)
        {
            token = self.token_instead_of(&token).await?;
            answer = in_time(call(self.channel(&token)?)).await;
        }
        answer.map_err(|status| self.failure(&status))
    }

    async fn with<R, C>(
        &self,
        token: &str,
        call: &mut impl FnMut(Authorized) -> C,
    ) -> Result<Result<R, Status>, Failure>
    where
        C: Future<Output = Result<Response<R>, Status>>,
    {
        let bearer = Bearer::new(token)?;
        Ok(self.connection.repeated(|channel| call(InterceptedService::new(channel, bearer.clone()))).await)
    }

    /// A channel for calls that carry `token`.
    pub(crate) fn channel(&self, token: &str) -> Result<Authorized, Failure> {
        self.connection.with_token(token)
    }

    /// An access token that lasts for a while.
    pub(crate) async fn token(&self) -> Result<String, Failure> {
        let mut profile = self.profile.lock().await;
        match &profile.session {
            Some(session) if !session.fresh_for().is_zero() => Ok(session.access_token.clone()),
            session => {
                let stale = session.as_ref().map(|session| session.access_token.clone()).unwrap_or_default();
                self.renew(&mut profile, &stale).await
            }
        }
    }

    /// An access token other than `refused`.
    pub(crate) async fn token_instead_of(&self, refused: &str) -> Result<String, Failure> {
        let mut profile = self.profile.lock().await;
        match &profile.session {
            Some(session) if session.access_token != refused => Ok(session.access_token.clone()),
            _ => self.renew(&mut profile, refused).await,
        }
    }

    /// How long until the access token should be renewed.
    pub(crate) async fn fresh_for(&self) -> Duration {
        self.profile.lock().await.session.as_ref().map_or(Duration::ZERO, Session::fresh_for)
    }

    /// Exchanges the refresh token under the file's lock, unless another command did so meanwhile. Should this process
    /// die between the server's answer and the write, the old token is still good for the same answer for 10 seconds.
    async fn renew(&self, profile: &mut Profile, stale: &str) -> Result<String, Failure> {
        let lock = self.file.lock().await?;
        let signed_out = || refusal::not_signed_in("not signed in any more", &self.handle);
        let mut on_disk = self.file.read()?.ok_or_else(signed_out)?;
        if on_disk.user != self.user || on_disk.server != profile.server {
            return Err(Failure::new(
                Exit::Refused,
                format!("the profile {:?} was signed in as @{} meanwhile", self.file.name(), on_disk.handle),
            ));
        }
        let session = on_disk.session.as_ref().ok_or_else(signed_out)?;
        if session.access_token == stale || session.fresh_for().is_zero() {
            let tokens = self.exchange(&session.refresh_token).await?;
            on_disk.session = Some(Session::new(session.name.clone(), tokens));
            self.file.write(&on_disk, &lock)?;
        }
        *profile = on_disk;
        Ok(profile.session.as_ref().ok_or_else(signed_out)?.access_token.clone())
    }

    async fn exchange(&self, refresh_token: &str) -> Result<TokenSet, Failure> {
        let request = IssueTokenRequest {
            client: Some(ClientCredentials { client_id: CLIENT_ID.into(), ..ClientCredentials::default() }),
            scope: String::new(),
            grant: Some(issue_token_request::Grant::RefreshToken(RefreshTokenGrant {
                refresh_token: refresh_token.to_owned(),
            })),
        };
        let answer = self
            .connection
            .repeated(|channel| {
                let request = request.clone();
                async move { TokenServiceClient::new(channel).issue_token(request).await }
            })
            .await;
        match answer {
            Ok(answer) => answer.tokens.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without tokens")),
            Err(status) => match refusal::reason(&status) {
                Some(flaghoist_proto::errors::v1::Reason::GrantInvalid) => {
                    Err(refusal::not_signed_in("the session has ended", &self.handle))
                }
                _ => Err(self.failure(&status)),
            },
        }
    }
}

/// Waits that grow, each shortened by chance so that many clients do not come back together.
#[derive(Debug)]
pub(crate) struct Pause {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Pause {
    /// Waits that begin at `first` and double up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    /// The next wait; as long as the server asked for, if it did, and a little longer by chance.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        match asked {
            Some(asked) => asked.min(Duration::from_secs(60)) + wait.mul_f64(rand::random_range(0.0..0.5)),
            None => wait.mul_f64(rand::random_range(0.5..1.0)),
        }
    }

    /// Begins anew after something went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    async fn wait(&mut self, asked: Option<Duration>) {
        tokio::time::sleep(self.next(asked)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_a_url() {
        for server in ["localhost:9000", "ftp://here", "127.0.0.1", "http://", "http://a b"] {
            let refused = Connection::new(server).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{server}");
        }
        assert_eq!(Connection::new("http://127.0.0.1:9000/").unwrap().server(), "http://127.0.0.1:9000");
        Connection::new("https://chat.example.com").unwrap();
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let mut pause = Pause::new(Duration::from_millis(100), Duration::from_millis(400));
        for longest in [100, 200, 400, 400] {
            let wait = pause.next(None);
            assert!(wait <= Duration::from_millis(longest) && wait >= Duration::from_millis(longest / 2));
        }
        assert!(pause.next(Some(Duration::from_secs(3))) >= Duration::from_secs(3));
        pause.reset();
        assert!(pause.next(None) <= Duration::from_millis(100));
    }
}

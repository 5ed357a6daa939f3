//! The access rules of the contracts, enforced: people call on the public port, services on the internal one.
//!
//! Who may call which method is looked up in the table that is made from the protos; what it does not name is not offered.

mod credential;

use std::sync::Arc;
use std::task::{Context, Poll};

use flaghoist_proto::{Access as Rule, Method};
use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::{Request, Response};
use tonic::Code;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::MapResponseLayer;
use tower_layer::Layer;
use tower_service::Service;

use crate::fault::{Fault, Reason};
use crate::token::{Caller, DOMAIN, Presented, SCOPE_ADMIN, SCOPE_READ, SCOPE_SEND, TokenError, Verifier};

pub use credential::{Credential, CredentialError};

/// Enforces the access rules around a set of routes.
#[derive(Clone, Debug)]
pub struct AccessLayer {
    rules: Rules,
}

/// The rules of a port.
#[derive(Clone, Debug)]
enum Rules {
    /// People with tokens.
    Public(Arc<Verifier>),
    /// Services: with a credential, or vouched for by their mesh.
    Internal(Option<Credential>),
}

impl AccessLayer {
    /// The rules of the public port: people with their tokens; what services ask of one another is refused.
    pub fn public(verifier: Arc<Verifier>) -> Self {
        Self { rules: Rules::Public(verifier) }
    }

    /// The rules of the internal port: what services ask of one another, and nothing else. With a credential, the caller must show
    /// it and be one that the contract of the method names; without, its mesh vouches for it.
    pub fn internal(credential: Option<Credential>) -> Self {
        Self { rules: Rules::Internal(credential) }
    }
}

impl AccessLayer {
    /// The routes behind the rules, for a caller in the same process.
    pub fn around(self, routes: Routes) -> Routes {
        let ours = MapResponseLayer::new(|response: axum::response::Response| response.map(Body::new));
        let axums = MapResponseLayer::new(|response: Response<Body>| response.map(axum::body::Body::new));
        routes.into_axum_router().layer((axums, self, ours)).into()
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { inner, rules: self.rules.clone() }
    }
}

/// Routes behind the access rules.
#[derive(Clone, Debug)]
pub struct Access<S> {
    inner: S,
    rules: Rules,
}

/// What is to become of a call.
enum Verdict {
    /// It goes on, with what is known about the caller.
    Pass(Option<Arc<Caller>>),
    /// It is refused.
    Refuse(Fault),
    /// It is refused unless newer keys of the issuer help.
    Wait(TokenError),
}

impl<S, B> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = flaghoist_proto::method(request.uri().path());
        let verifier = match &self.rules {
            Rules::Public(verifier) => verifier,
            Rules::Internal(credential) => {
                return match judge_service(method, &request, credential.as_ref()) {
                    Ok(()) => Either::Left(self.inner.call(request)),
                    Err(fault) => Either::Right(refused(fault).boxed()),
                };
            }
        };
        match judge(method, &request, verifier, |token| verifier.verify(token)) {
            Verdict::Pass(caller) => Either::Left(self.inner.call(with(request, caller))),
            Verdict::Refuse(fault) => Either::Right(refused(fault).boxed()),
            Verdict::Wait(_) => {
                let (mut inner, verifier) = (self.inner.clone(), Arc::clone(verifier));
                Either::Right(
                    async move {
                        let token = Presented::among(request.headers()).map_or("", |presented| presented.token);
                        let verified = verifier.verify_fresh(token).await;
                        match judge(method, &request, &verifier, |_| verified.clone()) {
                            Verdict::Pass(caller) => inner.call(with(request, caller)).await,
                            Verdict::Refuse(fault) => refused(fault).await,
                            Verdict::Wait(error) => refused(error.fault()).await,
                        }
                    }
                    .boxed(),
                )
            }
        }
    }
}

async fn refused<E>(fault: Fault) -> Result<Response<Body>, E> {
    Ok(fault.into_status(DOMAIN).into_http())
}

fn with<B>(mut request: Request<B>, caller: Option<Arc<Caller>>) -> Request<B> {
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    request
}

/// Applies the rule of the method to the token of the request, which `verify` knows. A token that is bound to a key counts with its proof
/// only, also where anyone may call.
fn judge<B>(
    method: Option<&'static Method>,
    request: &Request<B>,
    verifier: &Verifier,
    verify: impl Fn(&str) -> Result<Arc<Caller>, TokenError>,
) -> Verdict {
    let Some(method) = method else {
        return unnamed(request.uri().path()).map_or_else(Verdict::Refuse, |()| Verdict::Pass(None));
    };
    if let Rule::Service(_) = method.access {
        return Verdict::Refuse(Fault::new(
            Code::PermissionDenied,
            Reason::CallerNotAllowed,
            "the method is for services, on the internal port",
        ));
    }
    let verified = Presented::among(request.headers()).and_then(|presented| {
        let caller = verify(presented.token)?;
        // What is remembered of a token says whose it is; that the caller may use it is proven at every call.
        verifier.prove(&caller, presented, request.headers(), "POST", method.path)?;
        Ok(caller)
    });
    match (method.access, verified) {
        (Rule::Anyone, verified) => Verdict::Pass(verified.ok()),
        (_, Err(error)) if error.wants_keys() => Verdict::Wait(error),
        (_, Err(error)) => Verdict::Refuse(error.fault()),
        (_, Ok(caller)) if caller.user.is_none() => {
            Verdict::Refuse(TokenError::Invalid("belongs to a client, not to a person").fault())
        }
        (Rule::Admin, Ok(caller)) if !caller.admin() => Verdict::Refuse(Fault::new(
            Code::PermissionDenied,
            Reason::ScopeMissing,
            format!("the access token lacks the scope {SCOPE_ADMIN}"),
        )),
        (Rule::User, Ok(caller)) if !caller.has_scope(scope_for(method)) => Verdict::Refuse(Fault::new(
            Code::PermissionDenied,
            Reason::ScopeMissing,
            format!("the access token lacks the scope {}", scope_for(method)),
        )),
        (_, Ok(caller)) => Verdict::Pass(Some(caller)),
    }
}

/// The scope that a method for people asks for. An application to which someone has only shown who they are (`openid`) may do nothing in
/// their name; one that may read does what a reading device does, and changes nothing else.
fn scope_for(method: &Method) -> &'static str {
    let reads = method.safe || method.streaming || method.service.starts_with("flaghoist.receiver.");
    if reads { SCOPE_READ } else { SCOPE_SEND }
}

/// Applies the rule of the method to the service that calls it.
fn judge_service<B>(
    method: Option<&'static Method>,
    request: &Request<B>,
    credential: Option<&Credential>,
) -> Result<(), Fault> {
    let Some(method) = method else { return unnamed(request.uri().path()) };
    let denied = |message| Fault::new(Code::PermissionDenied, Reason::CallerNotAllowed, message);
    let Rule::Service(callers) = method.access else {
        return Err(denied("the method is for people, on the public port".to_owned()));
    };
    let Some(credential) = credential else { return Ok(()) };
    let caller = credential.caller(request.headers())?;
    if callers.contains(&caller) { Ok(()) } else { Err(denied(format!("the method is not for {caller}"))) }
}

/// What becomes of a method that the contracts do not name: health and reflection are for everyone, nothing else is answered.
fn unnamed(path: &str) -> Result<(), Fault> {
    if path.starts_with("/grpc.health.v1.") || path.starts_with("/grpc.reflection.v1") {
        return Ok(());
    }
    Err(Fault::new(Code::Unimplemented, Reason::NotFound, "there is no such method"))
}

#[cfg(test)]
mod tests;

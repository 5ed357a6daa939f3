//! An application that signs people in with flaghoist's accounts, by the crate `openidconnect`: it registers itself, goes through the
//! code flow with PKCE, checks the ID token, asks userinfo, renews, signs out; connects a device; and gets tokens of its own.
//! Every step is checked and printed; the first one that goes wrong ends the program. Giving tokens back is left out: the crate does
//! that by TLS only.

#![allow(clippy::disallowed_methods, reason = "there is no runtime here whose threads a pause could block")]

mod people;

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use openidconnect::core::{
    CoreApplicationType, CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient,
    CoreClientAuthMethod, CoreDeviceAuthorizationResponse, CoreErrorResponseType, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreRegisterErrorResponseType, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType, CoreTokenResponse,
    CoreUserInfoClaims,
};
use openidconnect::registration::{
    AdditionalClientMetadata, ClientRegistrationRequest, EmptyAdditionalClientRegistrationResponse,
};
use openidconnect::reqwest::blocking::Client;
use openidconnect::url::Url;
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClientSecret, CsrfToken,
    DeviceAuthorizationUrl, EndSessionUrl, EndpointMaybeSet, EndpointNotSet, EndpointSet, IntrospectionUrl, IssuerUrl,
    LogoutRequest, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl,
    ProviderMetadata, RedirectUrl, RequestTokenError, Scope, StandardErrorResponse, TokenIntrospectionResponse,
    TokenResponse,
};
use people::{Browser, Page, told};
use serde::{Deserialize, Serialize};

/// Where the application gets its people back, and where they are sent when they have signed out. Nobody listens there.
const CALLBACK: &str = "https://wiki.example.com/callback";
const BYE: &str = "https://wiki.example.com/bye";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What OAuth's metadata has beyond OpenID Connect's.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Endpoints {
    introspection_endpoint: IntrospectionUrl,
    device_authorization_endpoint: DeviceAuthorizationUrl,
    end_session_endpoint: EndSessionUrl,
}
impl AdditionalProviderMetadata for Endpoints {}

type Provider = ProviderMetadata<
    Endpoints,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What an application registers beyond what OpenID Connect Registration names.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct More {
    scope: String,
    post_logout_redirect_uris: Vec<PostLogoutRedirectUrl>,
}
impl AdditionalClientMetadata for More {}

type Registration = ClientRegistrationRequest<
    More,
    EmptyAdditionalClientRegistrationResponse,
    CoreApplicationType,
    CoreClientAuthMethod,
    CoreRegisterErrorResponseType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type App = CoreClient<EndpointSet, EndpointSet, EndpointSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("not ok - rust: {failure} ({failure:?})");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let http = people::http()?;
    let provider = Provider::discover(&IssuerUrl::new(told("OAUTH_ISSUER"))?, &http)?;
    ok("found the issuer and its keys");
    for (algorithm, method) in [
        (CoreJwsSigningAlgorithm::EdDsa, CoreClientAuthMethod::Extension("none".to_owned())),
        (CoreJwsSigningAlgorithm::EcdsaP256Sha256, CoreClientAuthMethod::ClientSecretPost),
        (CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, CoreClientAuthMethod::ClientSecretBasic),
    ] {
        sign_in(&http, &provider, algorithm, method)?;
    }
    connect_a_device(&http, &provider)?;
    work_without_a_person(&http, &provider)
}

/// Prints that a step was as it should be.
fn ok(step: &str) {
    println!("ok - rust: {step}");
}

/// Says what is wrong unless what is claimed is so.
fn want(so: bool, otherwise: &str) -> Outcome<()> {
    if so { Ok(()) } else { Err(otherwise.into()) }
}

/// Says what is wrong unless a token request was answered by this error.
fn refused<T, E: Error>(
    answer: Result<T, RequestTokenError<E, StandardErrorResponse<CoreErrorResponseType>>>,
    expected: CoreErrorResponseType,
    otherwise: &str,
) -> Outcome<()> {
    match answer {
        Err(RequestTokenError::ServerResponse(answer)) if *answer.error() == expected => Ok(()),
        Err(other) => Err(format!("{otherwise}, or nearly: {other:?}").into()),
        Ok(_) => Err(otherwise.into()),
    }
}

/// Registers an application and answers it, ready to use.
fn register(
    http: &Client,
    provider: &Provider,
    scope: &str,
    tells: impl FnOnce(Registration) -> Registration,
) -> Outcome<App> {
    let more =
        More { scope: scope.to_owned(), post_logout_redirect_uris: vec![PostLogoutRedirectUrl::new(BYE.to_owned())?] };
    let token = AccessToken::new(told("OAUTH_REGISTRATION_TOKEN"));
    let request = tells(Registration::new(Vec::new(), more)).set_initial_access_token(Some(token));
    let endpoint = provider.registration_endpoint().ok_or("nobody can register")?;
    let made = request.register(endpoint, http)?;
    let secret = made.client_secret().cloned();
    let auth_type = match made.token_endpoint_auth_method() {
        Some(CoreClientAuthMethod::ClientSecretBasic) => AuthType::BasicAuth,
        _ => AuthType::RequestBody,
    };
    let more = provider.additional_metadata().clone();
    Ok(CoreClient::from_provider_metadata(provider.clone(), made.client_id().clone(), secret)
        .set_auth_type(auth_type)
        .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned())?)
        .set_device_authorization_url(more.device_authorization_endpoint)
        .set_introspection_url(more.introspection_endpoint))
}

/// Sends the browser away and back. Answers the code and what belongs to it.
fn go_and_return(app: &App, browser: &mut Browser) -> Outcome<(AuthorizationCode, PkceCodeVerifier, Nonce)> {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = CoreAuthenticationFlow::AuthorizationCode;
    let (address, state, nonce) = app
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(["profile", "offline_access"].map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    let back = browser.signs_in(&address)?;
    let answer = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    want(answer("state").as_ref() == Some(state.secret()), "the answer has another state")?;
    want(answer("iss") == Some(told("OAUTH_ISSUER")), "the answer is another issuer's")?;
    Ok((AuthorizationCode::new(answer("code").ok_or("the answer has no code")?), verifier, nonce))
}

/// Checks an ID token and that it belongs to its access token. Answers whom it is about.
fn checked(app: &App, tokens: &CoreTokenResponse, nonce: &Nonce) -> Outcome<openidconnect::SubjectIdentifier> {
    let verifier = app.id_token_verifier();
    let id_token = tokens.id_token().ok_or("there is no ID token")?;
    let claims = id_token.claims(&verifier, nonce)?;
    let (algorithm, key) = (id_token.signing_alg()?, id_token.signing_key(&verifier)?);
    let hash = AccessTokenHash::from_token(tokens.access_token(), algorithm, key)?;
    want(claims.access_token_hash() == Some(&hash), "at_hash is another's")?;
    Ok(claims.subject().clone())
}

fn sign_in(
    http: &Client,
    provider: &Provider,
    algorithm: CoreJwsSigningAlgorithm,
    method: CoreClientAuthMethod,
) -> Outcome<()> {
    let callback = RedirectUrl::new(CALLBACK.to_owned())?;
    let grants = vec![CoreGrantType::AuthorizationCode, CoreGrantType::RefreshToken];
    let (name, signs) = (method.as_ref().to_owned(), algorithm.clone());
    let app = register(http, provider, "openid profile offline_access", |request| {
        request
            .set_redirect_uris(vec![callback])
            .set_grant_types(Some(grants))
            .set_token_endpoint_auth_method(Some(method))
            .set_id_token_signed_response_alg(Some(signs))
    })?;
    let mut browser = Browser::new()?;
    let (code, verifier, nonce) = go_and_return(&app, &mut browser)?;
    let tokens = app.exchange_code(code)?.set_pkce_verifier(verifier).request(http)?;
    let subject = checked(&app, &tokens, &nonce)?;
    let id_token = tokens.id_token().ok_or("there is no ID token")?;
    want(*id_token.signing_alg()? == algorithm, "the ID token is signed by another algorithm")?;
    want(id_token.claims(&app.id_token_verifier(), &Nonce::new_random()).is_err(), "any nonce is good")?;
    let said: CoreUserInfoClaims =
        app.user_info(tokens.access_token().clone(), Some(subject.clone()))?.request(http)?;
    let handle = said.preferred_username().map(|handle| handle.as_str());
    want(handle == Some(&told("OAUTH_PERSON")), "userinfo is about somebody else")?;
    ok(&format!(
        "{name}: signed in by a code with PKCE; the ID token is good ({algorithm:?}), and userinfo says who it is"
    ));

    let old = tokens.refresh_token().ok_or("there is no refresh token")?;
    let renewed = app.exchange_refresh_token(old)?.request(http)?;
    let token = renewed.refresh_token().ok_or("there is no new refresh token")?;
    want(token.secret() != old.secret(), "the refresh token was not exchanged")?;
    ok(&format!("{name}: renewed the tokens"));

    let (code, _, _) = go_and_return(&app, &mut browser)?;
    let (_, other) = PkceCodeChallenge::new_random_sha256();
    let answer = app.exchange_code(code)?.set_pkce_verifier(other).request(http);
    refused(answer, CoreErrorResponseType::InvalidGrant, "another verifier was accepted")?;
    let (code, verifier, _) = go_and_return(&app, &mut browser)?;
    let again = PkceCodeVerifier::new(verifier.secret().clone());
    app.exchange_code(code.clone())?.set_pkce_verifier(verifier).request(http)?;
    let answer = app.exchange_code(code)?.set_pkce_verifier(again).request(http);
    refused(answer, CoreErrorResponseType::InvalidGrant, "a code was exchanged twice")?;
    ok(&format!("{name}: refused another nonce, another verifier, and a code brought twice"));

    let out = LogoutRequest::from(provider.additional_metadata().end_session_endpoint.clone())
        .set_id_token_hint(id_token)
        .set_post_logout_redirect_uri(PostLogoutRedirectUrl::new(BYE.to_owned())?)
        .http_get_url();
    let left = matches!(browser.goes(out.as_str())?, Page::Back(address) if address == Url::parse(BYE)?);
    want(left, "after signing out the browser is elsewhere")?;
    let answer = app.exchange_refresh_token(token)?.request(http);
    refused(answer, CoreErrorResponseType::InvalidGrant, "the session was renewed after its end")?;
    ok(&format!("{name}: signed out"));
    Ok(())
}

fn connect_a_device(http: &Client, provider: &Provider) -> Outcome<()> {
    let app = register(http, provider, "openid profile", |request| {
        request
            .set_grant_types(Some(vec![CoreGrantType::Extension(DEVICE_CODE.to_owned())]))
            .set_token_endpoint_auth_method(Some(CoreClientAuthMethod::Extension("none".to_owned())))
    })?;
    let request = app.exchange_device_code().add_scope(Scope::new("profile".to_owned()));
    let device: CoreDeviceAuthorizationResponse = request.request(http)?;
    let address = device.verification_uri_complete().ok_or("there is no address with the code in it")?.secret().clone();
    let (later, failed) = (device.interval() + Duration::from_secs(1), "the browser failed");
    // The person takes their time: the device has asked in vain by then.
    let person = thread::spawn(move || {
        thread::sleep(later);
        Browser::new().and_then(|mut browser| browser.connects(&address)).map_err(|failure| failure.to_string())
    });
    let tokens = app.exchange_device_access_token(&device)?.request(http, thread::sleep, None)?;
    person.join().map_err(|_| failed)??;
    checked_without_a_nonce(&app, &tokens)?;
    ok("connected a device");
    Ok(())
}

/// Checks the ID token of a device, which has sent no nonce.
fn checked_without_a_nonce(app: &App, tokens: &CoreTokenResponse) -> Outcome<()> {
    let id_token = tokens.id_token().ok_or("there is no ID token")?;
    let none =
        |nonce: Option<&Nonce>| nonce.map_or(Ok(()), |nonce| Err(format!("a nonce that nobody sent: {nonce:?}")));
    id_token.claims(&app.id_token_verifier(), none)?;
    Ok(())
}

fn work_without_a_person(http: &Client, provider: &Provider) -> Outcome<()> {
    let app = register(http, provider, "chat.read chat.send", |request| {
        request.set_grant_types(Some(vec![CoreGrantType::ClientCredentials]))
    })?;
    let read = || Scope::new("chat.read".to_owned());
    let tokens = app.exchange_client_credentials()?.add_scope(read()).request(http)?;
    let about = app.introspect(tokens.access_token()).request(http)?;
    want(about.active() && about.scopes() == Some(&vec![read()]), "introspection says something else")?;
    let wrong = app.clone().set_client_secret(ClientSecret::new("wrong".to_owned()));
    let answer = wrong.exchange_client_credentials()?.request(http);
    refused(answer, CoreErrorResponseType::InvalidClient, "another secret was accepted")?;
    ok("got tokens of its own, and asked about one; another secret is refused");
    Ok(())
}

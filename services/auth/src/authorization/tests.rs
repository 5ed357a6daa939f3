//! Authorization requests, good and bad.

use std::time::Duration;

use super::*;
use crate::client::{ClientSecret, Registration};

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const HERE: &str = "https://app.example.com/cb";

fn public() -> Client {
    let registration = Registration { redirect_uris: vec![HERE.into()], ..Registration::default() };
    Client { id: "app".into(), scopes: Scopes::ALL - Scopes::ADMIN, registration, ..Client::built_in(Moment(0)) }
}

fn good() -> Vec<(String, String)> {
    [
        ("client_id", "app"),
        ("response_type", "code"),
        ("redirect_uri", HERE),
        ("scope", "openid profile unknown admin"),
        ("state", "s t"),
        ("nonce", "n"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("display", "popup"),
        ("something", "else"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The good request with `name` as `value`, or without it.
fn changed(name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut parameters = good();
    parameters.retain(|(is, _)| is != name);
    parameters.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    parameters
}

#[track_caller]
fn denied(parameters: &Parameters, error: &str) -> Denial {
    match AuthorizationRequest::read(parameters, &public()) {
        Err(Refusal::Denied(denial)) => {
            assert_eq!(denial.error, error, "{}", denial.description);
            assert_eq!(denial.redirect_uri, HERE);
            denial
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_request_is_read_and_what_is_not_known_is_passed_over() {
    let request = AuthorizationRequest::read(&good(), &public()).unwrap();
    assert_eq!(request.scopes.to_string(), "openid profile");
    assert_eq!((request.state.as_deref(), request.nonce.as_deref()), (Some("s t"), Some("n")));
    let kept = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<AuthorizationRequest>(&kept).unwrap(), request);
    let answer = request.answer("https://chat.example.com", "c").unwrap();
    assert_eq!(answer, "https://app.example.com/cb?code=c&iss=https%3A%2F%2Fchat.example.com&state=s+t");
}

#[test]
fn case_2_no_answer_goes_to_an_address_that_is_not_registered() {
    for bad in [None, Some("https://app.example.com/cb/x"), Some("https://evil.test/cb"), Some("")] {
        let read = AuthorizationRequest::read(&changed("redirect_uri", bad), &public());
        assert!(matches!(read, Err(Refusal::Untrusted(_))), "{bad:?}");
    }
    let twice = [good(), vec![("redirect_uri".into(), "https://evil.test/".into())]].concat();
    assert!(matches!(AuthorizationRequest::read(&twice, &public()), Err(Refusal::Untrusted(_))));
}

#[test]
fn case_9_to_16_what_the_client_is_told() {
    denied(&changed("response_type", None), "invalid_request");
    for kind in ["token", "id_token", "code id_token", "code token", "id_token token"] {
        let denial = denied(&changed("response_type", Some(kind)), "unsupported_response_type");
        assert!(denial.address("i").unwrap().starts_with("https://app.example.com/cb#error="), "{kind}");
    }
    assert!(!denied(&changed("response_type", Some("none")), "unsupported_response_type").in_fragment);
    denied(&changed("response_mode", Some("form_post")), "invalid_request");
    denied(&changed("code_challenge", None), "invalid_request");
    denied(&changed("code_challenge_method", None), "invalid_request");
    denied(&changed("code_challenge_method", Some("plain")), "invalid_request");
    for bad in [&CHALLENGE[1..], &CHALLENGE.replace('-', "+"), &CHALLENGE.replace('-', "\u{e9}"), &"x".repeat(129)] {
        denied(&changed("code_challenge", Some(bad)), "invalid_request");
    }
    denied(&changed("prompt", Some("none login")), "invalid_request");
    denied(&changed("prompt", Some("dance")), "invalid_request");
    denied(&changed("max_age", Some("-1")), "invalid_request");
    denied(&changed("claims", Some("{")), "invalid_request");
    denied(&changed("scope", Some("unknown")), "invalid_scope");
    denied(&changed("scope", Some("admin")), "invalid_scope");
    denied(&changed("request", Some("e30.e30.")), "request_not_supported");
    denied(&changed("request_uri", Some("urn:ietf:params:oauth:request_uri:x")), "invalid_request_uri");
    denied(&[good(), vec![("scope".into(), "openid".into())]].concat(), "invalid_request");
    assert_eq!(denied(&changed("state", Some(&"x".repeat(5000))), "invalid_request").state, None);
}

#[test]
fn case_11_pkce_may_be_left_out_only_by_a_confidential_client_that_says_so() {
    let secret = Some(ClientSecret::random().digest());
    let without = [("code_challenge", None), ("code_challenge_method", None)];
    let mut parameters = good();
    parameters.retain(|(name, _)| !without.iter().any(|(gone, _): &(&str, Option<()>)| name == gone));
    let client = |secret, pkce_optional| {
        let registration = Registration { pkce_optional, ..public().registration };
        Client { secret, registration, ..public() }
    };
    assert!(AuthorizationRequest::read(&parameters, &client(secret, true)).is_ok());
    assert!(AuthorizationRequest::read(&parameters, &client(secret, false)).is_err());
    assert!(AuthorizationRequest::read(&parameters, &client(None, true)).is_err());
    let half = changed("code_challenge", None);
    assert!(AuthorizationRequest::read(&half, &client(secret, true)).is_err(), "a method without a challenge");
}

#[test]
fn case_15_who_has_to_be_asked_what() {
    let now = Moment(1_000_000);
    let person =
        Recognised { user: UserId(Uuid::now_v7()), amr: vec!["pwd".into()], authenticated_at: Moment(940_000) };
    let next = |name: &str, value: &str, person: Option<&Recognised>, consented| {
        let request = AuthorizationRequest::read(&changed(name, Some(value)), &public()).unwrap();
        request.next(&public(), person, consented, now)
    };
    let all = Some(Scopes::ALL);
    assert_eq!(next("prompt", "", None, None), Next::SignIn);
    assert_eq!(next("prompt", "", Some(&person), None), Next::Consent);
    assert_eq!(next("prompt", "", Some(&person), Some(Scopes::OPENID)), Next::Consent, "it asks for more");
    assert_eq!(next("prompt", "", Some(&person), all), Next::Answer);
    assert!(matches!(next("prompt", "none", None, all), Next::Deny("login_required", _)));
    assert!(matches!(next("prompt", "none", Some(&person), None), Next::Deny("consent_required", _)));
    assert_eq!(next("prompt", "none", Some(&person), all), Next::Answer);
    assert_eq!(next("prompt", "login", Some(&person), all), Next::SignIn);
    assert_eq!(next("prompt", "consent", Some(&person), all), Next::Consent);
    assert_eq!(next("max_age", "60", Some(&person), all), Next::Answer);
    assert_eq!(next("max_age", "59", Some(&person), all), Next::SignIn);
    let mut first_party = public();
    first_party.registration.first_party = true;
    let request = AuthorizationRequest::read(&good(), &first_party).unwrap();
    assert_eq!(request.next(&first_party, Some(&person), None, now), Next::Answer);
    let later = now.plus(Duration::from_secs(3600));
    assert_eq!(request.next(&first_party, Some(&person), None, later), Next::Answer);
}

#[test]
fn claims_asked_for_by_name_are_noted_and_who_it_must_be_is_kept_to() {
    let user = Uuid::now_v7();
    let claims = format!(
        r#"{{"userinfo": {{"name": {{"essential": true}}, "shoe_size": null}}, "id_token": {{"sub": {{"value": "{user}"}}}}}}"#
    );
    let request = AuthorizationRequest::read(&changed("claims", Some(&claims)), &public()).unwrap();
    assert_eq!((request.userinfo_claims.as_slice(), request.subject), (&["name".to_owned()][..], Some(user)));
    let person = |user| Recognised { user: UserId(user), amr: Vec::new(), authenticated_at: Moment(0) };
    let all = Some(Scopes::ALL);
    assert_eq!(request.next(&public(), Some(&person(user)), all, Moment(0)), Next::Answer);
    assert_eq!(request.next(&public(), Some(&person(Uuid::nil())), all, Moment(0)), Next::SignIn);
    let other = request.next_after_sign_in(&public(), &person(Uuid::nil()), all);
    assert!(matches!(other, Next::Deny("login_required", _)));
    let strict = r#"{"id_token": {"acr": {"essential": true, "values": ["urn:other"]}}}"#;
    let request = AuthorizationRequest::read(&changed("claims", Some(strict)), &public()).unwrap();
    assert!(matches!(request.next(&public(), Some(&person(user)), all, Moment(0)), Next::Deny(..)));
}

#[test]
fn a_client_that_wishes_for_two_factors_has_people_sign_in_once_more_and_takes_what_there_is() {
    let person = |amr: &str| {
        let amr = amr.split(' ').map(str::to_owned).collect();
        Recognised { user: UserId(Uuid::nil()), amr, authenticated_at: Moment(0) }
    };
    let all = Some(Scopes::ALL);
    let next = |values: &str, amr| {
        let request = AuthorizationRequest::read(&changed("acr_values", Some(values)), &public()).unwrap();
        let after = request.next_after_sign_in(&public(), &person(amr), all);
        assert_eq!(after, Next::Answer, "{values}: who has one factor signs in by one");
        request.next(&public(), Some(&person(amr)), all, Moment(0))
    };
    assert_eq!((next(ACR_TWO, "pwd"), next(ACR_TWO, "pwd otp mfa")), (Next::SignIn, Next::Answer));
    assert_eq!(next(&format!("urn:other {ACR_TWO}"), "pwd"), Next::SignIn, "what is unknown is passed over");
    for enough in [ACR, "urn:other", &format!("{ACR_TWO} {ACR}")] {
        assert_eq!(next(enough, "pwd"), Next::Answer, "{enough}");
    }
    let long = "x".repeat(1025);
    assert!(AuthorizationRequest::read(&changed("acr_values", Some(&long)), &public()).is_err());
}

#[test]
fn a_client_that_insists_on_two_factors_gets_no_one_with_one() {
    let strict = format!(r#"{{"id_token": {{"acr": {{"essential": true, "value": "{ACR_TWO}"}}}}}}"#);
    let request = AuthorizationRequest::read(&changed("claims", Some(&strict)), &public()).unwrap();
    let person = |amr: &str| {
        let amr = amr.split(' ').map(str::to_owned).collect();
        Recognised { user: UserId(Uuid::nil()), amr, authenticated_at: Moment(0) }
    };
    let all = Some(Scopes::ALL);
    let next = |amr| request.next(&public(), Some(&person(amr)), all, Moment(0));
    assert_eq!((next("pwd"), next("pwd otp mfa")), (Next::SignIn, Next::Answer));
    let after = |amr| request.next_after_sign_in(&public(), &person(amr), all);
    assert!(matches!(after("pwd"), Next::Deny("unmet_authentication_requirements", _)));
    assert_eq!(after("pwd otp mfa"), Next::Answer);
    let either = format!(r#"{{"id_token": {{"acr": {{"essential": true, "values": ["{ACR_TWO}", "{ACR}"]}}}}}}"#);
    let request = AuthorizationRequest::read(&changed("claims", Some(&either)), &public()).unwrap();
    assert_eq!(request.next(&public(), Some(&person("pwd")), all, Moment(0)), Next::Answer);
}

//! Authorization requests (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1): what a browser is sent with, read and checked, and what
//! has to happen before it is sent back. All of it is arithmetic on what is given; nothing here asks a store.

use flaghoist_runtime::names::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::client::{Client, GrantType};
use crate::moment::Moment;
use crate::profile::{CLAIMS, scopes_of};
use crate::redirect;
use crate::scope::Scopes;

/// The longest values of parameters in bytes. Those that are not named here are not looked at.
const STATE_MAX_BYTES: usize = 4096;
const SHORT_MAX_BYTES: usize = 1024;
const CLAIMS_MAX_BYTES: usize = 8192;

/// How a person is signed in here, as ID tokens say it: by one factor.
pub(crate) const ACR: &str = "urn:flaghoist:acr:1fa";
/// By two factors, or more.
pub(crate) const ACR_TWO: &str = "urn:flaghoist:acr:2fa";

/// How a person was signed in by these methods (RFC 8176): login says `mfa` where there was more than one factor.
pub(crate) fn acr_of(amr: &[String]) -> &'static str {
    if amr.iter().any(|method| method == "mfa") { ACR_TWO } else { ACR }
}

/// The parameters of a request, in order.
pub(crate) type Parameters = [(String, String)];

/// A request that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthorizationRequest {
    /// One that the client registered.
    pub(crate) redirect_uri: String,
    /// What is asked for and the client may have.
    pub(crate) scopes: Scopes,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    /// The SHA-256 of the code's verifier, as it was sent (RFC 7636, S256).
    pub(crate) code_challenge: Option<String>,
    pub(crate) prompts: Prompts,
    pub(crate) max_age_seconds: Option<u32>,
    pub(crate) login_hint: String,
    pub(crate) ui_locales: String,
    /// Who it must be, if the client said so.
    #[serde(with = "uuid_text")]
    pub(crate) subject: Option<Uuid>,
    /// Claims asked for by name.
    pub(crate) userinfo_claims: Vec<String>,
    pub(crate) id_token_claims: Vec<String>,
    /// Whether the client insists on a way of signing in that there is not.
    pub(crate) acr_unmet: bool,
    /// Whether the client insists on two factors.
    #[serde(default)]
    pub(crate) two_factors: bool,
    /// Whether the client would have two factors, and takes what there is (`acr_values`).
    #[serde(default)]
    pub(crate) prefers_two_factors: bool,
    /// The code on the device that wants to be connected, if no client but a device asks (RFC 8628).
    #[serde(default)]
    pub(crate) user_code: Option<String>,
    /// The thumbprint of the key that the client will prove when it redeems the code (`dpop_jkt`, RFC 9449 §10).
    #[serde(default)]
    pub(crate) key_thumbprint: Option<String>,
}

/// What the client wants the person to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prompts {
    /// Nothing at all.
    pub(crate) none: bool,
    /// Who they are, even if that is known.
    pub(crate) login: bool,
    /// Whether they agree, even if they have.
    pub(crate) consent: bool,
}

/// Why a request is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The redirect address is not one of the client's: nothing may be sent there.
    Untrusted(&'static str),
    /// The client is told.
    Denied(Denial),
}

/// An error for a client, and where it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    /// Whether the answer belongs into the fragment, because the client asked for tokens there.
    pub(crate) in_fragment: bool,
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
}

/// A person, and how they proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    pub(crate) user: UserId,
    pub(crate) amr: Vec<String>,
    pub(crate) authenticated_at: Moment,
}

/// What has to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The person signs in.
    SignIn,
    /// The person is asked whether they agree.
    Consent,
    /// The client gets a code.
    Answer,
    /// The client gets an error and its description.
    Deny(&'static str, &'static str),
}

impl AuthorizationRequest {
    /// Reads the parameters of a request by `client`.
    pub(crate) fn read(parameters: &Parameters, client: &Client) -> Result<Self, Refusal> {
        let redirect_uri = match all(parameters, "redirect_uri").as_slice() {
            [one] if client.registration.redirects_to(one) => (*one).to_owned(),
            [] => return Err(Refusal::Untrusted("redirect_uri is missing")),
            _ => return Err(Refusal::Untrusted("redirect_uri is not one that is registered for this client")),
        };
        let state = first(parameters, "state").filter(|state| state.len() <= STATE_MAX_BYTES).map(str::to_owned);
        let deny = |error, description| {
            let (redirect_uri, state) = (redirect_uri.clone(), state.clone());
            Refusal::Denied(Denial { redirect_uri, state, in_fragment: false, error, description })
        };
        let invalid = |description| deny("invalid_request", description);
        if repeats(parameters) {
            return Err(invalid("a parameter is there twice"));
        }
        if first(parameters, "state").is_some() && state.is_none() {
            return Err(invalid("state is longer than 4096 bytes"));
        }
        if !client.may_use(GrantType::AuthorizationCode) {
            return Err(deny("unauthorized_client", "this client may not use authorization codes"));
        }
        if first(parameters, "request").is_some() {
            return Err(deny("request_not_supported", "send the parameters themselves, or push them"));
        }
        if first(parameters, "request_uri").is_some() {
            return Err(deny("invalid_request_uri", "request_uri is unknown, used or expired"));
        }
        response_type(parameters).map_err(|(error, description, in_fragment)| match deny(error, description) {
            Refusal::Denied(denial) => Refusal::Denied(Denial { in_fragment, ..denial }),
            untrusted => untrusted,
        })?;
        let short = |name, problem| match first(parameters, name) {
            Some(value) if value.len() > SHORT_MAX_BYTES => Err(invalid(problem)),
            value => Ok(value.unwrap_or_default().to_owned()),
        };
        let nonce = short("nonce", "nonce is longer than 1024 bytes")?;
        let asked = short("scope", "scope is longer than 1024 bytes")?;
        // What is not known, or not for this client, is left out; the answer says what was granted.
        let scopes = Scopes::known_of(&asked) & client.scopes;
        if scopes.empty() {
            return Err(deny("invalid_scope", "no scope is asked for that is known and that this client may have"));
        }
        let max_age_seconds = first(parameters, "max_age").map(|age| age.parse::<u32>()).transpose();
        let mut request = Self {
            code_challenge: code_challenge(parameters, client).map_err(invalid)?,
            prompts: prompts(parameters).map_err(invalid)?,
            max_age_seconds: max_age_seconds.map_err(|_| invalid("max_age is not a number of seconds"))?,
            login_hint: short("login_hint", "login_hint is longer than 1024 bytes")?,
            ui_locales: short("ui_locales", "ui_locales is longer than 1024 bytes")?,
            nonce: Some(nonce).filter(|nonce| !nonce.is_empty()),
            redirect_uri: redirect_uri.clone(),
            scopes,
            state: state.clone(),
            subject: None,
            userinfo_claims: Vec::new(),
            id_token_claims: Vec::new(),
            acr_unmet: false,
            two_factors: false,
            // Names of other ways are passed over: they are wishes, in the order of preference (OpenID Connect Core §3.1.2.1).
            prefers_two_factors: {
                let values = short("acr_values", "acr_values is longer than 1024 bytes")?;
                let wishes = |acr: &str| values.split(' ').any(|value| value == acr);
                wishes(ACR_TWO) && !wishes(ACR)
            },
            user_code: None,
            key_thumbprint: key_thumbprint(parameters).map_err(invalid)?,
        };
        if let Some(claims) = first(parameters, "claims") {
            request.read_claims(claims, client).map_err(invalid)?;
        }
        Ok(request)
    }

    /// Takes note of the claims that are asked for by name (OpenID Connect Core §5.5); those that are unknown, or not for this client, are
    /// passed over.
    fn read_claims(&mut self, claims: &str, client: &Client) -> Result<(), &'static str> {
        const PROBLEM: &str = "claims is not a JSON object of at most 8192 bytes";
        if claims.len() > CLAIMS_MAX_BYTES {
            return Err(PROBLEM);
        }
        let claims: Value = serde_json::from_str(claims).map_err(|_| PROBLEM)?;
        let claims = claims.as_object().ok_or(PROBLEM)?;
        let named = |place: &str| -> Vec<String> {
            let asked = |name: &&str| claims.get(place).is_some_and(|place| place.get(name).is_some());
            // A claim is told to who may ask for the scope that gives it.
            let may = CLAIMS.iter().filter(|(_, scope)| client.scopes.includes(*scope)).map(|(name, _)| *name);
            may.filter(asked).map(str::to_owned).collect()
        };
        self.userinfo_claims = named("userinfo");
        self.id_token_claims = named("id_token");
        let id_token = |name: &str| claims.get("id_token").and_then(|place| place.get(name));
        if let Some(subject) = id_token("sub").and_then(|sub| sub.get("value")) {
            // Nobody has an id that is none.
            self.subject = Some(subject.as_str().and_then(flaghoist_runtime::names::strict_uuid).unwrap_or_default());
        }
        let acr = id_token("acr").filter(|acr| acr.get("essential") == Some(&Value::Bool(true)));
        let wanted = acr.and_then(|acr| {
            acr.get("values")
                .and_then(Value::as_array)
                .cloned()
                .or_else(|| acr.get("value").map(|one| vec![one.clone()]))
        });
        let wanted = wanted.as_deref();
        let wants = |acr: &str| wanted.is_some_and(|values| values.iter().any(|value| value == acr));
        self.two_factors = wants(ACR_TWO) && !wants(ACR);
        self.acr_unmet = wanted.is_some() && !wants(ACR) && !wants(ACR_TWO);
        Ok(())
    }

    /// What happens next, when the browser's person is known, or not, and has agreed to `consented`, or to nothing.
    pub(crate) fn next(
        &self,
        client: &Client,
        person: Option<&Recognised>,
        consented: Option<Scopes>,
        now: Moment,
    ) -> Next {
        let known = person.filter(|person| {
            let age = now.since(person.authenticated_at).as_secs();
            !self.prompts.login
                && self.max_age_seconds.is_none_or(|max| age <= u64::from(max))
                && self.subject.is_none_or(|subject| subject == person.user.0)
                && (acr_of(&person.amr) == ACR_TWO || !self.raises())
        });
        match known {
            Some(_) => self.next_for(client, consented),
            None if self.prompts.none => Next::Deny("login_required", "the person has to sign in"),
            None => Next::SignIn,
        }
    }

    /// Whether one factor is not enough for a person who is signed in already: they sign in once more, by both if they have two. Where
    /// nobody may be asked, a wish is no reason to refuse.
    fn raises(&self) -> bool {
        self.two_factors || (self.prefers_two_factors && !self.prompts.none)
    }

    /// What happens next when `person` has signed in for this request just now.
    pub(crate) fn next_after_sign_in(&self, client: &Client, person: &Recognised, consented: Option<Scopes>) -> Next {
        if self.subject.is_some_and(|subject| subject != person.user.0) {
            return Next::Deny("login_required", "another person has signed in than the one who was asked for");
        }
        if self.two_factors && acr_of(&person.amr) != ACR_TWO {
            return Next::Deny("unmet_authentication_requirements", "the person has no second factor");
        }
        self.next_for(client, consented)
    }

    /// What a person agrees to: the scopes, and those whose claims are asked for by name.
    pub(crate) fn shown(&self) -> Scopes {
        self.scopes | scopes_of(&self.userinfo_claims) | scopes_of(&self.id_token_claims)
    }

    fn next_for(&self, client: &Client, consented: Option<Scopes>) -> Next {
        let agreed = consented.is_some_and(|scopes| scopes.includes(self.shown())) && !self.prompts.consent;
        if self.user_code.is_some() {
            // Whoever began this may not be who is asked, so nothing that was agreed to before counts.
            Next::Consent
        } else if self.acr_unmet {
            Next::Deny("unmet_authentication_requirements", "nobody can sign in here in the way that is asked for")
        } else if client.registration.first_party || agreed {
            Next::Answer
        } else if self.prompts.none {
            Next::Deny("consent_required", "the person has to agree")
        } else {
            Next::Consent
        }
    }

    /// The error that ends this request.
    pub(crate) fn denial(&self, error: &'static str, description: &'static str) -> Denial {
        let (redirect_uri, state) = (self.redirect_uri.clone(), self.state.clone());
        Denial { redirect_uri, state, in_fragment: false, error, description }
    }

    /// Where the browser goes with a code.
    pub(crate) fn answer(&self, issuer: &str, code: &str) -> Option<String> {
        let mut parameters = vec![("code", code), ("iss", issuer)];
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        redirect::with(&self.redirect_uri, &parameters, false)
    }
}

impl Denial {
    /// Where the browser goes with it.
    pub(crate) fn address(&self, issuer: &str) -> Option<String> {
        let mut parameters = vec![("error", self.error), ("error_description", self.description), ("iss", issuer)];
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        redirect::with(&self.redirect_uri, &parameters, self.in_fragment)
    }
}

/// An id as text.
mod uuid_text {
    use super::{Deserialize, Uuid};

    pub(super) fn serialize<S: serde::Serializer>(id: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Uuid::try_parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// All values of a parameter.
fn all<'a>(parameters: &'a Parameters, name: &str) -> Vec<&'a str> {
    parameters.iter().filter(|(is, value)| is == name && !value.is_empty()).map(|(_, value)| value.as_str()).collect()
}

/// The value of a parameter; none is as good as an empty one.
pub(crate) fn first<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// Whether any parameter is there twice.
pub(crate) fn repeats(parameters: &Parameters) -> bool {
    let mut names: Vec<_> = parameters.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The thumbprint of a key: 32 bytes as base64url.
fn key_thumbprint(parameters: &Parameters) -> Result<Option<String>, &'static str> {
    let Some(thumbprint) = first(parameters, "dpop_jkt") else { return Ok(None) };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = thumbprint.len() == 43 && thumbprint.bytes().all(letter);
    good.then(|| Some(thumbprint.to_owned())).ok_or("dpop_jkt is not the SHA-256 thumbprint of a key")
}

fn response_type(parameters: &Parameters) -> Result<(), (&'static str, &'static str, bool)> {
    let Some(kind) = first(parameters, "response_type") else {
        return Err(("invalid_request", "response_type is missing", false));
    };
    if kind != "code" {
        let in_fragment = kind.split(' ').any(|word| matches!(word, "token" | "id_token"));
        return Err(("unsupported_response_type", "response_type is not code", in_fragment));
    }
    match first(parameters, "response_mode") {
        None | Some("query") => Ok(()),
        Some(_) => Err(("invalid_request", "response_mode is not query", false)),
    }
}

fn code_challenge(parameters: &Parameters, client: &Client) -> Result<Option<String>, &'static str> {
    let method = first(parameters, "code_challenge_method");
    let Some(challenge) = first(parameters, "code_challenge") else {
        if method.is_some() || !client.confidential() || !client.registration.pkce_optional {
            return Err("code_challenge is missing");
        }
        return Ok(None);
    };
    // Without a method it would be `plain` (RFC 7636 §4.3), which anyone can answer who has seen the request.
    if method != Some("S256") {
        return Err("code_challenge_method is not S256");
    }
    let letters = challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if challenge.len() != 43 || !letters {
        return Err("code_challenge is not 43 characters of base64url");
    }
    Ok(Some(challenge.to_owned()))
}

fn prompts(parameters: &Parameters) -> Result<Prompts, &'static str> {
    let mut prompts = Prompts::default();
    let words: Vec<_> =
        first(parameters, "prompt").unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
    for word in &words {
        match *word {
            "none" => prompts.none = true,
            // Who wants to be someone else signs in as them.
            "login" | "select_account" => prompts.login = true,
            "consent" => prompts.consent = true,
            _ => return Err("prompt has an unknown value"),
        }
    }
    if prompts.none && words.len() > 1 { Err("prompt is none and something else") } else { Ok(prompts) }
}

#[cfg(test)]
mod tests;

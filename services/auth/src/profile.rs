//! What login says about people, and which of it a client is told: by scope, or by the names of claims (OpenID Connect Core §5).

use serde::Serialize;

use crate::scope::Scopes;

/// What people are called and where they are reached. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) display_name: String,
    pub(crate) handle: String,
    pub(crate) email: String,
    pub(crate) email_verified: bool,
    pub(crate) phone_number: String,
    pub(crate) phone_number_verified: bool,
    /// A postal address with its line breaks.
    pub(crate) address: String,
}

/// The claims about a person, each with the scope that gives it (OpenID Connect Core §5.4).
pub(crate) const CLAIMS: [(&str, Scopes); 7] = [
    ("name", Scopes::PROFILE),
    ("preferred_username", Scopes::PROFILE),
    ("email", Scopes::EMAIL),
    ("email_verified", Scopes::EMAIL),
    ("phone_number", Scopes::PHONE),
    ("phone_number_verified", Scopes::PHONE),
    ("address", Scopes::ADDRESS),
];

/// The scopes that give a claim about a person.
pub(crate) const SCOPES: [Scopes; 4] = [Scopes::PROFILE, Scopes::EMAIL, Scopes::PHONE, Scopes::ADDRESS];

/// The scopes that give the claims with these names.
pub(crate) fn scopes_of(names: &[String]) -> Scopes {
    let named = CLAIMS.iter().filter(|(claim, _)| names.iter().any(|name| name == claim));
    named.fold(Scopes::NONE, |all, (_, scope)| all | *scope)
}

/// Those of the names that a client may ask for that has these scopes.
pub(crate) fn within(names: &[String], allowed: Scopes) -> Vec<String> {
    let may_have = |name: &&String| CLAIMS.iter().any(|(claim, scope)| claim == name && allowed.includes(*scope));
    names.iter().filter(may_have).cloned().collect()
}

/// What a client is told of a person.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ProfileClaims {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
}

/// A postal address (OpenID Connect Core §5.1.1).
#[derive(Debug, Serialize)]
struct Address {
    formatted: String,
}

impl ProfileClaims {
    /// Those that `granted` gives, and those that are `asked` for by name. What is not known is left out.
    pub(crate) fn of(profile: Option<Profile>, granted: Scopes, asked: &[String]) -> Self {
        let Some(profile) = profile else { return Self::default() };
        let tells = |claim: &str| {
            let by_scope = CLAIMS.iter().any(|(name, scope)| *name == claim && granted.includes(*scope));
            by_scope || asked.iter().any(|name| name == claim)
        };
        let told = |claim: &str, value: &str| (!value.is_empty() && tells(claim)).then(|| value.to_owned());
        let seen = |claim: &str, of: &str, value: bool| (!of.is_empty() && tells(claim)).then_some(value);
        Self {
            name: told("name", &profile.display_name),
            preferred_username: told("preferred_username", &profile.handle),
            email: told("email", &profile.email),
            email_verified: seen("email_verified", &profile.email, profile.email_verified),
            phone_number: told("phone_number", &profile.phone_number),
            phone_number_verified: seen("phone_number_verified", &profile.phone_number, profile.phone_number_verified),
            address: told("address", &profile.address).map(|formatted| Address { formatted }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_tells_its_claims_a_name_its_own_and_what_is_not_known_is_left_out() {
        let profile = Profile {
            display_name: "Anna".into(),
            email: "anna@example.com".into(),
            address: "1 Road\nTown".into(),
            phone_number_verified: true,
            ..Profile::default()
        };
        let told = |granted, asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|name| (*name).to_owned()).collect();
            serde_json::to_value(ProfileClaims::of(Some(profile.clone()), granted, &asked)).unwrap()
        };
        assert_eq!(told(Scopes::OPENID, &[]), serde_json::json!({}));
        assert_eq!(told(Scopes::EMAIL, &[]), serde_json::json!({"email": "anna@example.com", "email_verified": false}));
        assert_eq!(told(Scopes::PHONE, &["name"]), serde_json::json!({"name": "Anna"}), "there is no phone");
        let address = serde_json::json!({"address": {"formatted": "1 Road\nTown"}});
        assert_eq!(told(Scopes::ADDRESS, &[]), address);
        assert_eq!(
            scopes_of(&["email_verified".into(), "address".into(), "zoneinfo".into()]),
            Scopes::EMAIL | Scopes::ADDRESS
        );
        let names = ["email", "name", "zoneinfo"].map(str::to_owned);
        assert_eq!(within(&names, Scopes::EMAIL | Scopes::PHONE), ["email"]);
    }
}

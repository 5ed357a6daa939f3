//! Redirect addresses: which may be registered, and which of them an authorization request may name.
//!
//! An address is registered only in the one form that a browser would write it in, so that comparing it character by character is
//! enough (RFC 9700 §2.1), and no two programs can read it in two ways. The one exception are programs on a person's device, which get
//! a port from their system (RFC 8252 §7.3).

use url::{Host, Url};

/// The longest address.
pub(crate) const ADDRESS_MAX_BYTES: usize = 2048;

/// What is wrong with an address that was to be registered.
pub(crate) type Problem = &'static str;

/// Parameters that the answer adds; an address that has them already could pass for an answer.
const OF_THE_ANSWER: [&str; 5] = ["code", "state", "iss", "error", "response"];

/// Checks an address that is to be registered.
pub(crate) fn check(address: &str, native: bool) -> Result<(), Problem> {
    if address.len() > ADDRESS_MAX_BYTES || !address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has an address that is longer than 2048 bytes or has other characters than those of addresses");
    }
    let url = Url::parse(address).map_err(|_| "has an address that is not absolute")?;
    if url.fragment().is_some() {
        return Err("has an address with a fragment");
    }
    // `https:\\host`, `/../`, a default port, capitals in a host: whoever reads them in another way is led elsewhere.
    if url.as_str() != address && url.as_str().strip_suffix('/') != Some(address) {
        return Err("has an address that is not written as browsers write it");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has an address with a user in it");
    }
    if address.contains('*') {
        return Err("has an address with a wildcard, which is never expanded");
    }
    if url.query_pairs().any(|(name, _)| OF_THE_ANSWER.contains(&&*name)) {
        return Err("has an address with a parameter that the answer adds");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if on_this_device(&url) => Ok(()),
        "http" => Err("has an http address of another host than localhost, 127.0.0.1 or [::1]"),
        private if native && private.contains('.') => Ok(()),
        _ => Err("has an address that is neither https nor, for a native client, a private scheme with a dot in it"),
    }
}

/// Checks an address, one of [`check`], that the issuer is to call for somebody who is no admin: by TLS, and a host by its name, for this
/// machine and the network around it have others that listen.
pub(crate) fn check_outside(address: &str) -> Result<(), Problem> {
    let url = Url::parse(address).map_err(|_| "has an address that is not absolute")?;
    let name = match url.host() {
        Some(Host::Domain(name)) if url.scheme() == "https" => name.trim_end_matches('.'),
        _ => return Err("has an address that is not https of a host with a name"),
    };
    if name == "localhost" || name.ends_with(".localhost") {
        return Err("has an address of this machine, which only an admin may register");
    }
    Ok(())
}

/// Whether an authorization request may name `asked`, where `registered` is registered.
pub(crate) fn matches(registered: &str, asked: &str, native: bool) -> bool {
    registered == asked || (native && matches_but_for_the_port(registered, asked))
}

fn matches_but_for_the_port(registered: &str, asked: &str) -> bool {
    if check(asked, true).is_err() {
        return false;
    }
    let (Ok(mut registered), Ok(mut asked)) = (Url::parse(registered), Url::parse(asked)) else { return false };
    if asked.scheme() != "http" || !on_this_device(&asked) {
        return false;
    }
    registered.set_port(None).is_ok() && asked.set_port(None).is_ok() && registered == asked
}

fn on_this_device(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What a content security policy calls the place that `address` leads to: its origin, or its private scheme.
pub(crate) fn origin(address: &str) -> String {
    let Ok(url) = Url::parse(address) else { return String::new() };
    match url.origin() {
        url::Origin::Opaque(_) => format!("{}:", url.scheme()),
        origin => origin.ascii_serialization(),
    }
}

/// `address` with `parameters` added: to its query, or as its fragment.
pub(crate) fn with(address: &str, parameters: &[(&str, &str)], in_fragment: bool) -> Option<String> {
    let mut url = Url::parse(address).ok()?;
    if in_fragment {
        let mut written = url::form_urlencoded::Serializer::new(String::new());
        url.set_fragment(Some(&written.extend_pairs(parameters).finish()));
    } else {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_5_and_7_only_addresses_that_lead_to_one_place_are_registered() {
        for good in [
            "https://app.example.com/callback",
            "https://app.example.com",
            "https://app.example.com/?tenant=1",
            "https://app.example.com:8443/cb",
            "http://localhost:3000/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:8000/cb",
        ] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/callback",
            "app.example.com/callback",
            "https://app.example.com/cb#fragment",
            "https://app.example.com/cb#",
            "http://app.example.com/cb",
            "http://localhost.evil.test/cb",
            "http://127.0.0.1.evil.test/cb",
            "http://localhost@evil.test/cb",
            "https://user:secret@app.example.com/cb",
            "https:\\\\app.example.com/cb",
            "https://app.example.com/a/../cb",
            "https://APP.example.com/cb",
            "https://app.example.com:443/cb",
            "https://*.example.com/cb",
            "https://app.example.com/cb?code=stolen",
            "https://app.example.com/c b",
            "https://app.example.com/\u{e9}",
            "https://app.example.com/cb\n",
            "javascript:alert(1)",
            "data:text/html,x",
            "com.example.app:/cb",
        ] {
            assert!(check(bad, false).is_err(), "{bad}");
        }
        assert_eq!(check("com.example.app:/cb", true), Ok(()));
        for bad in ["javascript:alert(1)", "myapp:/cb", "file:///etc/passwd"] {
            assert!(check(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn case_2_and_8_an_address_is_compared_exactly_but_for_a_native_clients_port() {
        let web = "https://app.example.com/cb";
        assert!(matches(web, web, false) && matches(web, web, true));
        for other in ["https://app.example.com/cb/", "https://app.example.com/cb/x", "https://app.example.com/cb?x=1"] {
            assert!(!matches(web, other, false) && !matches(web, other, true), "{other}");
        }
        assert!(!matches(web, "https://app.example.com:444/cb", true));
        let device = "http://127.0.0.1/cb";
        assert!(matches(device, "http://127.0.0.1:51004/cb", true));
        assert!(!matches(device, "http://127.0.0.1:51004/cb", false));
        for other in [
            "http://127.0.0.1:51004/other",
            "http://localhost:51004/cb",
            "http://127.0.0.1:51004@evil.test/cb",
            "http://127.0.0.1:51004/cb#x",
            "http://127.0.0.2:51004/cb",
        ] {
            assert!(!matches(device, other, true), "{other}");
        }
    }

    #[test]
    fn an_answer_is_added_to_what_is_there() {
        let added = with("https://a.example/cb?t=1", &[("code", "x y"), ("state", "&=")], false);
        assert_eq!(added.unwrap(), "https://a.example/cb?t=1&code=x+y&state=%26%3D");
        assert_eq!(with("com.example.app:/cb", &[("code", "x")], false).unwrap(), "com.example.app:/cb?code=x");
        assert_eq!(with("https://a.example/cb", &[("error", "x")], true).unwrap(), "https://a.example/cb#error=x");
        assert_eq!(origin("https://a.example:8443/cb?x"), "https://a.example:8443");
        assert_eq!(origin("com.example.app:/cb"), "com.example.app:");
    }
}

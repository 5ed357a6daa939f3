//! Pages for people, as every service shows them: one plain shell, no script, and headers that let nobody frame them, load anything
//! into them, or learn from where someone comes.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};

/// What all pages look like.
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c1e21}\
    main{max-width:24rem;margin:10vh auto;padding:2rem;background:#fff;border-radius:.75rem;box-shadow:0 1px 4px #0003}\
    h1{font-size:1.25rem;margin:0 0 1rem}label{display:block;margin:.75rem 0 .25rem}\
    input{box-sizing:border-box;width:100%;padding:.5rem;font:inherit;border:1px solid #8a8d91;border-radius:.375rem}\
    button{margin:1.25rem .5rem 0 0;padding:.5rem 1rem;font:inherit;border:1px solid #1f5fbf;border-radius:.375rem;\
    background:#1f5fbf;color:#fff}button.other{background:#fff;color:#1f5fbf}.problem{color:#a4001f}\
    @media(prefers-color-scheme:dark){body{background:#18191a;color:#e4e6eb}main{background:#242526}\
    input{background:#18191a;color:inherit}.problem{color:#ff8a9b}button.other{background:#242526;color:#9dc1ff}}";

/// The policy as far as it is the same for all pages.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let style = STANDARD.encode(digest);
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )
});

/// A page with `main`, which is HTML, in it.
///
/// Where its form leads to another place in the end, `leads_to` is that origin: browsers ask the policy for every redirect that
/// follows.
pub fn page(status: StatusCode, title: &'static str, main: &str, leads_to: &str) -> Response {
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{main}\n</main>\n</body>\n</html>\n"
    );
    let source = leads_to.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'\''));
    let policy = if source { format!("{} {leads_to}", *POLICY) } else { POLICY.clone() };
    let mut response = (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
    guard(&mut response);
    let headers = response.headers_mut();
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::try_from(policy.trim_end());
    headers.insert(CONTENT_SECURITY_POLICY, policy.unwrap_or(HeaderValue::from_static("default-src 'none'")));
    response
}

/// Sends a browser on, by 303: whatever it posted here is not posted there (RFC 9700 §4.12).
pub fn see_other(address: &str) -> Response {
    let Ok(location) = HeaderValue::try_from(address) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response();
    guard(&mut response);
    response
}

/// Neither kept by anyone on the way, nor told to where the browser goes next.
fn guard(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// The value of a cookie that the browser sent; none if it sent two of that name.
pub fn cookie<'a>(headers: &'a http::HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(is, _)| *is == name)
        .map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// A cookie for this host alone, over TLS alone (or on `localhost`), which no script reads and no other site's form sends.
///
/// `name` begins with `__Host-`, so that no other host of the domain can set it. Without a `lifetime` it ends with the browser.
pub fn host_cookie(name: &str, value: &str, lifetime: Option<std::time::Duration>) -> Option<HeaderValue> {
    let age = lifetime.map(|time| format!("; Max-Age={}", time.as_secs())).unwrap_or_default();
    HeaderValue::try_from(format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_21_no_page_is_framed_scripted_kept_or_told_of() {
        let page = page(StatusCode::OK, "Sign in", "<p>x</p>", "https://app.example.com");
        let header = |name: &str| page.headers()[name].to_str().unwrap();
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self' https://app.example.com"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!((header("referrer-policy"), header("cache-control")), ("no-referrer", "no-store"));
        assert_eq!(header("x-frame-options"), "DENY");
        let injected = super::page(StatusCode::OK, "x", "", "https://a; script-src *");
        assert!(!injected.headers()["content-security-policy"].to_str().unwrap().contains("script-src"));
    }

    #[test]
    fn cookies_are_read_by_their_whole_name_and_once() {
        let mut headers = http::HeaderMap::new();
        headers.append("cookie", "x__Host-a=no; __Host-a=yes; b=c=d".parse().unwrap());
        assert_eq!((cookie(&headers, "__Host-a"), cookie(&headers, "b")), (Some("yes"), Some("c=d")));
        assert_eq!(cookie(&headers, "c"), None);
        headers.append("cookie", "__Host-a=other".parse().unwrap());
        assert_eq!(cookie(&headers, "__Host-a"), None);
        let set = host_cookie("__Host-a", "v", Some(std::time::Duration::from_secs(60))).unwrap();
        assert_eq!(set, "__Host-a=v; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60");
    }
}

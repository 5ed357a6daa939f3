//! Pages for people, as every service shows them: one shell and one look, in each [`Language`].
//!
//! Their headers let nobody frame them, run anything in them but our own file, or learn from where someone comes.

mod language;
mod texts;

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};

pub use language::Language;
pub use texts::{Texts, filled};

/// What all pages look like.
const STYLE: &str = include_str!("html/style.css");

/// Three signal flags on their line.
const MARK: &str = "<svg viewBox=\"0 0 32 32\" aria-hidden=\"true\" focusable=\"false\">\
    <path class=\"mark-pole\" d=\"M6 2v28\"/><path class=\"mark-red\" d=\"M7 3h20l-5.5 4.5L27 12H7z\"/>\
    <path class=\"mark-gold\" d=\"M7 15h9v13H7z\"/><path class=\"mark-blue\" d=\"M16 15h9v13h-9z\"/></svg>";

/// The policy as far as it is the same for all pages.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let style = STANDARD.encode(digest);
    format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'")
});

/// A page that is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The HTTP status.
    pub status: StatusCode,
    /// The language that it is written in.
    pub language: Language,
    /// What the browser calls it; text.
    pub title: &'a str,
    /// What is in it; HTML.
    pub main: &'a str,
    /// What is beside the name of the program, as HTML; a page with that is as wide as its text, one without is a card.
    pub bar: &'a str,
    /// Where its form leads in the end, an origin, as browsers ask the policy for every redirect; empty if it stays here.
    pub leads_to: &'a str,
    /// The path of the script that it loads, and that may call this host.
    pub script: Option<&'static str>,
}

impl<'a> Page<'a> {
    /// A page with `main`, which is HTML, in it, and nothing that most pages do not have.
    pub fn new(status: StatusCode, language: Language, title: &'a str, main: &'a str) -> Self {
        Self { status, language, title, main, bar: "", leads_to: "", script: None }
    }

    /// The answer that shows it.
    pub fn response(&self) -> Response {
        let Self { language, title, main, bar, .. } = self;
        let (lang, skip) = (language.tag(), language.texts().skip);
        let width = if bar.is_empty() { "narrow" } else { "wide" };
        let script = self.script.map(|path| format!("<script src=\"{path}\" defer></script>\n")).unwrap_or_default();
        let title = escaped(title);
        let body = format!(
            "<!doctype html>\n<html lang=\"{lang}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"robots\" content=\"noindex\">\n\
             <title>{title} · flaghoist</title>\n<style>{STYLE}</style>\n{script}</head>\n<body class=\"{width}\">\n\
             <a class=\"skip\" href=\"#main\">{skip}</a>\n\
             <header><div class=\"bar\"><span class=\"brand\">{MARK}flaghoist</span>{bar}</div></header>\n\
             <main id=\"main\">\n{main}\n</main>\n</body>\n</html>\n"
        );
        let mut response = (self.status, [(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
        guard(&mut response);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(lang));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = HeaderValue::try_from(self.policy());
        headers.insert(CONTENT_SECURITY_POLICY, policy.unwrap_or(HeaderValue::from_static("default-src 'none'")));
        response
    }

    fn policy(&self) -> String {
        let source = self.leads_to.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'\''));
        let leads_to = if source { self.leads_to } else { "" };
        let scripts = if self.script.is_some() { "; script-src 'self'; connect-src 'self'" } else { "" };
        format!("{}{scripts}; form-action 'self' {leads_to}", *POLICY).trim_end().to_owned()
    }
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A script of ours. Browsers may keep it for an hour.
pub fn script(text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    let mut response = (headers, text).into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
pub fn guard(response: &mut Response) {
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

    fn policy(page: &Page<'_>) -> String {
        page.response().headers()["content-security-policy"].to_str().unwrap().to_owned()
    }

    #[test]
    fn case_21_no_page_is_framed_scripted_kept_or_told_of() {
        let page = Page::new(StatusCode::OK, Language::English, "Sign in", "<p>x</p>");
        let page = Page { leads_to: "https://app.example.com", ..page };
        let response = page.response();
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        let policy_of_page = policy(&page);
        for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self' https://app.example.com"] {
            assert!(policy_of_page.contains(part), "{policy_of_page}");
        }
        assert!(!policy_of_page.contains("unsafe") && !policy_of_page.contains("script-src"), "{policy_of_page}");
        assert_eq!((header("referrer-policy"), header("cache-control")), ("no-referrer", "no-store"));
        assert_eq!((header("x-frame-options"), header("content-language")), ("DENY", "en"));
        let injected = policy(&Page { leads_to: "https://a; script-src *", ..page });
        assert!(injected.ends_with("form-action 'self'"), "{injected}");
        let scripted = policy(&Page { script: Some("/login/keys.js"), ..page });
        assert!(scripted.contains("; script-src 'self'; ") && !scripted.contains("unsafe"), "{scripted}");
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

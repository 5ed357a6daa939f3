//! The languages of the pages, and which of them a browser gets.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

use super::texts::{CHINESE, ENGLISH, Texts};

/// A language that the pages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, which whoever asks for none gets.
    #[default]
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The language of a page: the first known one of `ui_locales`, else the one that the browser prefers.
    ///
    /// `ui_locales` are tags of languages, best first, separated by spaces (OpenID Connect Core §3.1.2.1).
    pub fn of(ui_locales: &str, headers: &HeaderMap) -> Self {
        Self::chosen(ui_locales).unwrap_or_else(|| Self::preferred(headers))
    }

    /// The first known language of `ui_locales`.
    pub fn chosen(ui_locales: &str) -> Option<Self> {
        ui_locales.split(' ').find_map(Self::tagged)
    }

    /// The known language that the header `Accept-Language` gives the highest weight, of several the first (RFC 9110 §12.5.4).
    pub fn preferred(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::default());
        let lines = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        for range in lines.flat_map(|line| line.split(',')) {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(0.0);
            if let Some(language) = Self::tagged(tag.trim()).filter(|_| weight > best.0) {
                best = (weight, language);
            }
        }
        best.1
    }

    fn tagged(tag: &str) -> Option<Self> {
        match tag.split(['-', '_']).next()?.to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    /// Its tag (BCP 47), as a page and `ui_locales` name it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-Hans",
        }
    }

    /// Everything that is written on pages.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ui_locales: &str, accepted: &str) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, accepted.parse().unwrap());
        Language::of(ui_locales, &headers)
    }

    #[test]
    fn the_request_decides_then_the_browser_then_english() {
        assert_eq!(of("", "zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese);
        assert_eq!(of("", "de, en;q=0.5, zh;q=0.7"), Language::Chinese);
        assert_eq!(of("", "en, zh"), Language::English);
        assert_eq!(of("", "zh;q=0, de"), Language::English);
        assert_eq!(of("", "zh;q=nonsense"), Language::English);
        assert_eq!(of("de zh-TW en", "en"), Language::Chinese);
        assert_eq!(of("en", "zh"), Language::English);
        assert_eq!(of("fr", "zh"), Language::Chinese);
        assert_eq!(Language::of("", &HeaderMap::new()), Language::English);
        assert!(Language::ALL.iter().all(|language| Language::chosen(language.tag()) == Some(*language)));
    }
}

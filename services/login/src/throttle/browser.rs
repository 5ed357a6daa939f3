//! Browsers that people have signed in with before. Each has a secret of its own for every person, in one cookie, and its attempts are counted
//! by themselves: whoever hammers an account, even from the same network, does not hold its owner's own browser up.
//!
//! A secret is an identifier and a keyed digest of it and the person, so nobody makes one up, and one person's is nothing to another.
//! It opens nothing: with it one has attempts of one's own, which the same delays bound.

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::names::UserId;

use super::AttemptKeys;

/// How many people a browser is remembered for; the one who has not signed in for the longest time is forgotten first.
const PEOPLE_MAX: usize = 5;

/// What a browser brings and is given: the secrets of its people, the latest first.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct KnownBrowser(Vec<[u8; 32]>);

impl std::fmt::Debug for KnownBrowser {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "KnownBrowser({})", self.0.len())
    }
}

impl KnownBrowser {
    /// Reads the value of a cookie; what cannot be read is passed over.
    pub(crate) fn read(cookie: &str) -> Self {
        let secrets = cookie.split('.').take(PEOPLE_MAX).filter_map(|secret| URL_SAFE_NO_PAD.decode(secret).ok());
        Self(secrets.filter_map(|secret| secret.try_into().ok()).collect())
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self) -> String {
        self.0.iter().map(|secret| URL_SAFE_NO_PAD.encode(secret)).collect::<Vec<_>>().join(".")
    }
}

impl AttemptKeys {
    /// What the attempts of this browser at a person's account are counted by, if the person has signed in with it.
    pub(crate) fn of_browser(&self, user: UserId, browser: &KnownBrowser) -> Option<[u8; 16]> {
        browser.0.iter().find_map(|secret| self.opened(user, secret))
    }

    /// The browser, after the person has signed in with it.
    pub(crate) fn remembered(&self, user: UserId, browser: &KnownBrowser) -> KnownBrowser {
        let known = browser.0.iter().position(|secret| self.opened(user, secret).is_some());
        let secret = known.map_or_else(|| self.secret(user, rand::random()), |place| browser.0[place]);
        let others = browser.0.iter().filter(|other| **other != secret).copied();
        KnownBrowser([secret].into_iter().chain(others).take(PEOPLE_MAX).collect())
    }

    fn secret(&self, user: UserId, id: [u8; 16]) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(&id);
        secret[16..].copy_from_slice(&self.digest(b"browser secret", &[user.0.as_bytes(), &id[..]].concat()));
        secret
    }

    fn opened(&self, user: UserId, secret: &[u8; 32]) -> Option<[u8; 16]> {
        let id: [u8; 16] = secret[..16].try_into().ok()?;
        let right = constant_time::verify_slices_are_equal(&self.secret(user, id), secret).is_ok();
        right.then(|| self.digest(b"browser", &id))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_browser_is_known_for_its_people_and_for_nobody_else() {
        let (keys, others) = (AttemptKeys::new(&[1; 32]), AttemptKeys::new(&[2; 32]));
        let people: Vec<_> = (0..7).map(|number| UserId(Uuid::from_u128(number))).collect();
        let mut browser = KnownBrowser::default();
        assert_eq!(keys.of_browser(people[0], &browser), None);
        browser = keys.remembered(people[0], &browser);
        let first = keys.of_browser(people[0], &browser).unwrap();
        let read = KnownBrowser::read(&browser.cookie());
        assert_eq!((&read, keys.of_browser(people[0], &read)), (&browser, Some(first)));
        assert_eq!((keys.of_browser(people[1], &browser), others.of_browser(people[0], &browser)), (None, None));
        assert_eq!(keys.remembered(people[0], &browser), browser, "the same secret as before");
        for person in &people[1..] {
            browser = keys.remembered(*person, &browser);
        }
        assert!(browser.0.len() == 5 && keys.of_browser(people[0], &browser).is_none());
        assert!(people[2..].iter().all(|person| keys.of_browser(*person, &browser).is_some()));
        let forged = KnownBrowser(vec![[7; 32]; 3]);
        assert_eq!(keys.of_browser(people[0], &forged), None);
        for garbage in ["", "x", "....", &"A".repeat(5000)] {
            assert_eq!(KnownBrowser::read(garbage), KnownBrowser::default(), "{garbage}");
        }
    }
}

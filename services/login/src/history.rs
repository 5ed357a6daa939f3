//! What happened to an account, as its owner sees it, and where from.
//!
//! It is kept so that people can see whether someone else was there, and for nothing else: of an IPv6 address the network that one
//! subscriber is given, 200 events an account at most, for 90 days, and it goes with the account.

use std::net::{IpAddr, Ipv6Addr};
use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use serde::{Deserialize, Serialize};

use crate::throttle::browser::KnownBrowser;
use crate::throttle::network;

/// The longest text of a program about itself that is kept.
const AGENT_MAX_CHARACTERS: usize = 200;

/// Where a call comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    /// Whom it is remembered for, if it is a browser on the pages.
    pub(crate) browser: KnownBrowser,
    /// What the program called itself; may be empty.
    agent: String,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum EventKind {
    /// Someone signed in.
    SignedIn,
    /// Someone whose password was right had a second factor that was not.
    FactorRefused,
    /// The password was changed by who knew it.
    PasswordChanged,
    /// The password was set anew by a link.
    PasswordReset,
    /// A second factor was added.
    FactorAdded,
    /// A second factor was removed.
    FactorRemoved,
    /// Recovery codes were made.
    RecoveryCodesMade,
    /// A contact was verified, maybe in the place of another one.
    ContactChanged,
    /// A contact was removed.
    ContactRemoved,
}

/// Something that happened just now.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) user: UserId,
    pub(crate) kind: EventKind,
    pub(crate) origin: Origin,
    /// How the person proved who they are (RFC 8176); empty where they did not.
    pub(crate) amr: Vec<String>,
    /// The client that was signed in with; empty where nobody signed in.
    pub(crate) client_id: String,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// Rises with time.
    pub(crate) id: i64,
    pub(crate) kind: EventKind,
    pub(crate) at: SystemTime,
    pub(crate) address: String,
    pub(crate) agent: String,
    pub(crate) amr: Vec<String>,
    pub(crate) client_id: String,
}

const KINDS: [(EventKind, i16); 9] = [
    (EventKind::SignedIn, 1),
    (EventKind::FactorRefused, 2),
    (EventKind::PasswordChanged, 3),
    (EventKind::PasswordReset, 4),
    (EventKind::FactorAdded, 5),
    (EventKind::FactorRemoved, 6),
    (EventKind::RecoveryCodesMade, 7),
    (EventKind::ContactChanged, 8),
    (EventKind::ContactRemoved, 9),
];

impl EventKind {
    /// As it is kept.
    pub(crate) fn number(self) -> i16 {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, number)| *number)
    }

    /// The kind that is kept as this number; none for one that a newer version wrote.
    pub(crate) fn of_number(number: i16) -> Option<Self> {
        KINDS.iter().find(|(_, kept)| *kept == number).map(|(kind, _)| *kind)
    }
}

impl NewEvent {
    /// Something that a person has changed about their account.
    pub(crate) fn change(user: UserId, kind: EventKind, origin: Origin) -> Self {
        Self { user, kind, origin, amr: Vec::new(), client_id: String::new() }
    }
}

impl Origin {
    /// A call from there, by a program that calls itself so.
    pub(crate) fn new(address: IpAddr, agent: &str) -> Self {
        let agent = agent.chars().filter(|letter| !letter.is_control()).take(AGENT_MAX_CHARACTERS).collect();
        Self { address, browser: KnownBrowser::default(), agent }
    }

    /// The same by a browser with these secrets.
    pub(crate) fn by_browser(self, browser: KnownBrowser) -> Self {
        Self { browser, ..self }
    }

    /// What the program called itself.
    pub(crate) fn agent(&self) -> &str {
        &self.agent
    }

    /// The same without its versions: a program that was renewed is no new device.
    pub(crate) fn device(&self) -> String {
        self.agent.chars().filter(|letter| !letter.is_ascii_digit() && *letter != '.').collect()
    }

    /// The address as it is kept and shown: of IPv6 the network, which is what attempts are counted by.
    pub(crate) fn shown_address(&self) -> String {
        match self.address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(_) => format!("{}/64", Ipv6Addr::from_bits(network(self.address))),
        }
    }
}

/// An address is an origin whose program has not said what it is.
impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self::new(address, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_origin_no_more_is_kept_than_tells_devices_apart() {
        let origin = |address: &str, agent: &str| Origin::new(address.parse().unwrap(), agent);
        assert_eq!(origin("192.0.2.7", "").shown_address(), "192.0.2.7");
        assert_eq!(origin("::ffff:192.0.2.7", "").shown_address(), "192.0.2.7");
        assert_eq!(origin("2001:db8:1:2:3:4:5:6", "").shown_address(), "2001:db8:1:2::/64");
        let (one, next) = (origin("192.0.2.7", "Wolf/12.1 (Linux)"), origin("192.0.2.7", "Wolf/13.0 (Linux)"));
        assert_eq!(one.device(), next.device());
        assert_ne!(one.device(), origin("192.0.2.7", "Wolf/12.1 (Phone)").device());
        assert_eq!(origin("192.0.2.7", "a\0b\r\nc").agent(), "abc");
        assert_eq!(origin("192.0.2.7", &"\u{1f980}".repeat(1000)).agent().chars().count(), 200);
        for (kind, number) in KINDS {
            assert_eq!((kind.number(), EventKind::of_number(number)), (number, Some(kind)));
        }
        assert_eq!(EventKind::of_number(99), None);
    }
}

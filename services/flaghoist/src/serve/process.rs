//! The processes that can be run: `serve` with all services, or one service by itself; and what the contracts say that each of them
//! offers.

use std::fmt;

use flaghoist_proto::{Access, METHODS};

/// One of the four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Service {
    /// The issuer of tokens.
    Auth,
    /// Accounts and signing in.
    Login,
    /// Conversations and their log.
    Send,
    /// Live streams and devices.
    Receiver,
}

/// What runs in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// All services, with no network between them.
    All,
    /// One service; the others are elsewhere.
    One(Service),
}

impl Service {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Auth, Self::Login, Self::Send, Self::Receiver];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Login => "login",
            Self::Send => "send",
            Self::Receiver => "receiver",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl Process {
    /// Whether `service` runs in it.
    pub(crate) fn runs(self, service: Service) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == service,
        }
    }

    /// The services that run in it.
    pub(crate) fn services(self) -> impl Iterator<Item = Service> {
        Service::ALL.into_iter().filter(move |service| self.runs(*service))
    }

    /// What traces call it.
    pub(crate) fn telemetry_name(self) -> &'static str {
        match self {
            Self::All => "flaghoist",
            Self::One(Service::Auth) => "flaghoist-auth",
            Self::One(Service::Login) => "flaghoist-login",
            Self::One(Service::Send) => "flaghoist-send",
            Self::One(Service::Receiver) => "flaghoist-receiver",
        }
    }

    /// The full names of the proto services that it offers to people, or to other services.
    pub(crate) fn offers(self, to: Offered) -> Vec<&'static str> {
        let mut names = METHODS
            .iter()
            .filter(|method| matches!(method.access, Access::Service(_)) == (to == Offered::ToServices))
            .map(|method| method.service)
            .filter(|name| self.services().any(|service| name.starts_with(&format!("flaghoist.{service}."))))
            .collect::<Vec<_>>();
        names.dedup();
        names
    }
}

/// To whom methods are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// On the public port.
    ToPeople,
    /// On the internal port.
    ToServices,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proto_service_is_offered_by_one_process_to_people_or_to_services() {
        let mut offered = Vec::new();
        for service in Service::ALL {
            for to in [Offered::ToPeople, Offered::ToServices] {
                let names = Process::One(service).offers(to);
                assert!(!names.is_empty(), "{service} offers something {to:?}");
                offered.extend(names);
            }
        }
        let mut whole = Process::All.offers(Offered::ToPeople);
        whole.extend(Process::All.offers(Offered::ToServices));
        for names in [&mut offered, &mut whole] {
            names.sort_unstable();
        }
        assert_eq!(offered, whole);
        let count = offered.len();
        offered.dedup();
        assert_eq!(offered.len(), count, "a proto service is for people or for services, not for both");
    }
}

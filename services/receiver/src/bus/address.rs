//! Where the bus is, as a setting says it.

use std::str::FromStr as _;

use async_nats::ServerAddr;
use flaghoist_runtime::settings::{Reader, Setting};

/// Where the bus is.
#[derive(Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// In this process: there are no other pods.
    Local,
    /// At NATS servers of one cluster, tried in turn.
    Nats(Vec<ServerAddr>),
}

impl std::fmt::Debug for BusAddress {
    /// Without the password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => out.write_str("Local"),
            Self::Nats(servers) => write!(out, "Nats({})", places(servers)),
        }
    }
}

impl BusAddress {
    /// Reads a setting that is `local`, or addresses like `nats://USER:PASSWORD@HOST:4222`, several of them separated by commas. What
    /// is wrong with it is noted without repeating it, for it may hold a password.
    pub fn read(reader: &mut Reader<'_>, setting: &Setting) -> Self {
        let text = reader.text(setting);
        if text.trim() == "local" {
            return Self::Local;
        }
        let servers = text.split(',').map(|address| server(address.trim())).collect::<Option<Vec<_>>>();
        servers.map(Self::Nats).unwrap_or_else(|| {
            reader.mistake(setting.name, "is neither `local` nor an address like nats://USER:PASSWORD@HOST:4222");
            Self::Local
        })
    }
}

fn server(address: &str) -> Option<ServerAddr> {
    let known = ["nats://", "tls://"].iter().any(|scheme| address.starts_with(scheme));
    known.then(|| ServerAddr::from_str(address).ok()).flatten().filter(|server| !server.host().is_empty())
}

/// Servers as an operator knows them: without passwords.
pub(super) fn places(servers: &[ServerAddr]) -> String {
    let places = servers.iter().map(|server| format!("{}:{}", server.host(), server.port()));
    places.collect::<Vec<_>>().join(", ")
}

/// What a server asks of who connects, taken from the address.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    Token(String),
    UserPassword(String, String),
}

/// The credentials in the first address that has any: `user:password@`, or a token alone.
pub(super) fn credentials(servers: &[ServerAddr]) -> Credentials {
    let Some(server) = servers.iter().find(|server| server.has_user_pass()) else { return Credentials::None };
    let user = unescaped(server.username().unwrap_or_default());
    match server.password() {
        Some(password) => Credentials::UserPassword(user, unescaped(password)),
        None => Credentials::Token(user),
    }
}

/// Undoes the `%40` of an address.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut index) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(index) {
        let escaped = (*byte == b'%')
            .then(|| text.get(index + 1..index + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .flatten();
        plain.push(escaped.unwrap_or(*byte));
        index += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SETTING: Setting = Setting { name: "FLAGHOIST_RECEIVER_BUS", default: "local", doc: "" };

    fn read(text: &str) -> Result<BusAddress, String> {
        let source = BTreeMap::from([(SETTING.name, text)]);
        let mut reader = Reader::new(&source);
        let address = BusAddress::read(&mut reader, &SETTING);
        reader.finish().map(|()| address).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn an_address_is_local_or_servers_and_its_password_is_never_shown() {
        assert_eq!(read("local").unwrap(), BusAddress::Local);
        let address = read("nats://bus:s%40cret@a:4222, tls://[::1]:4333").unwrap();
        assert_eq!(format!("{address:?}"), "Nats(a:4222, ::1:4333)");
        let BusAddress::Nats(servers) = address else { panic!("local") };
        assert!(credentials(&servers) == Credentials::UserPassword("bus".into(), "s@cret".into()));
        let BusAddress::Nats(servers) = read("nats://token@a").unwrap() else { panic!("local") };
        assert!(credentials(&servers) == Credentials::Token("token".into()));
        for wrong in
            ["", "nats", "http://a:4222", "a:4222", "nats://", "nats://s3cret@", "nats://a,", "nats://u:s3cret@:x"]
        {
            let mistake = read(wrong).unwrap_err();
            assert!(!mistake.contains("s3cret") && mistake.contains(SETTING.name), "{mistake}");
        }
    }
}

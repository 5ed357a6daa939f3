//! What services show one another where no sidecar vouches for them: the caller's name and a tag of it, made with a secret that
//! they share. The secret itself never goes over the network.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::{Access as Rule, METHODS};
use http::{HeaderMap, HeaderValue};
use tonic::Code;
use zeroize::Zeroizing;

use crate::fault::{Fault, Reason};
use crate::token::{Presented, Scheme};

/// The shortest secret.
const SECRET_MIN_BYTES: usize = 16;

/// The longest file.
const FILE_MAX_BYTES: u64 = 4096;

/// The most secrets in a file.
const SECRETS_MAX: usize = 4;

/// The length of a tag.
const TAG_BYTES: usize = 32;

/// The secret that services share to know one another by.
#[derive(Clone)]
pub struct Credential(Arc<Known>);

/// Every service that the contracts name as a caller, with its tags.
struct Known(Vec<Service>);

struct Service {
    name: &'static str,
    /// One for each secret; the first is the one that is shown.
    tags: Vec<[u8; TAG_BYTES]>,
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read the credential file {}: is it there, and may this user read it?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold secrets.
    #[error("the credential file {} must hold one to {SECRETS_MAX} lines of {SECRET_MIN_BYTES} bytes or more: the first is shown to others, each is accepted", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Credential")
    }
}

impl Credential {
    /// Reads the secrets in a file, one a line. The first is shown to others; each is accepted, so that one can be replaced while
    /// everything runs.
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        let mut content = Zeroizing::new(Vec::new());
        File::open(path)
            .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut content))
            .map_err(|source| CredentialError::File { path: path.to_owned(), source })?;
        let secrets = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let secrets = secrets.collect::<Vec<_>>();
        let usable = (1..=SECRETS_MAX).contains(&secrets.len())
            && secrets.iter().all(|secret| secret.len() >= SECRET_MIN_BYTES)
            && content.len() as u64 <= FILE_MAX_BYTES;
        if usable { Ok(Self::new(&secrets)) } else { Err(CredentialError::Content { path: path.to_owned() }) }
    }

    /// The credential of these secrets, the one that is shown first.
    fn new(secrets: &[&[u8]]) -> Self {
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect::<Vec<_>>();
        let tags = |name: &str| keys.iter().map(|key| tag(key, name)).collect();
        Self(Arc::new(Known(callers().into_iter().map(|name| Service { name, tags: tags(name) }).collect())))
    }

    /// What the service `name` shows with its calls, in `authorization`; none if the contracts name no such caller.
    pub fn of(&self, name: &str) -> Option<HeaderValue> {
        let service = self.0.0.iter().find(|service| service.name == name)?;
        let text = format!("Bearer {name}.{}", URL_SAFE_NO_PAD.encode(service.tags.first()?));
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The service that shows a tag of its name.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<&'static str, Fault> {
        let shown = Presented::among(headers).ok().filter(|presented| presented.scheme == Scheme::Bearer);
        let shown = shown.ok_or_else(|| refused("this port asks for the credential that the services share"))?.token;
        let unknown = || refused("the credential is not the one that the services share here");
        let (name, shown) = shown.split_once('.').ok_or_else(unknown)?;
        let service = self.0.0.iter().find(|service| service.name == name).ok_or_else(unknown)?;
        let mut given = [0; TAG_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(shown, &mut given).map_err(|_| unknown())?;
        // Every tag is compared, so that the time does not tell which of them is right.
        let known = service.tags.iter().fold(false, |known, tag| verify_slices_are_equal(tag, &given).is_ok() | known);
        if length == TAG_BYTES && known { Ok(service.name) } else { Err(unknown()) }
    }
}

fn refused(message: &'static str) -> Fault {
    Fault::new(Code::Unauthenticated, Reason::CallerNotAllowed, message)
}

fn tag(key: &hmac::Key, name: &str) -> [u8; TAG_BYTES] {
    let made = hmac::sign(key, format!("flaghoist/v1/caller/{name}").as_bytes());
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(made.as_ref());
    tag
}

/// The services that the contracts name as callers.
fn callers() -> Vec<&'static str> {
    let mut names = METHODS
        .iter()
        .filter_map(|method| if let Rule::Service(callers) = method.access { Some(callers) } else { None })
        .flatten()
        .copied()
        .collect::<Vec<_>>();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    fn read(content: &str) -> Result<Credential, CredentialError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Credential::read(file.path())
    }

    #[test]
    fn a_service_is_known_by_the_secret_that_it_shares() {
        let (ours, theirs) = (read("a secret of ours, long").unwrap(), read("a secret of theirs, long").unwrap());
        for name in ["login", "send", "receiver"] {
            let shown = ours.of(name).unwrap();
            assert!(shown.is_sensitive() && !shown.to_str().unwrap().contains("secret"));
            assert_eq!(ours.caller(&headers(shown.clone())).unwrap(), name);
            assert_eq!(theirs.caller(&headers(shown)).unwrap_err().code(), Code::Unauthenticated);
        }
        assert!(ours.of("nobody").is_none());
        let send = ours.of("send").unwrap();
        let tag = send.to_str().unwrap().strip_prefix("Bearer send.").unwrap();
        for other in [
            format!("Bearer login.{tag}"),
            format!("Bearer send.{}", &tag[1..]),
            "Bearer send.".into(),
            "Bearer x".into(),
        ] {
            assert!(ours.caller(&headers(other.parse().unwrap())).is_err(), "{other}");
        }
        assert!(ours.caller(&HeaderMap::new()).is_err());
        assert_eq!(format!("{ours:?}"), "Credential");
    }

    #[test]
    fn a_secret_is_replaced_in_two_steps() {
        let (old, new) = (read("the old secret, long\n").unwrap(), read("the new secret, long\n").unwrap());
        let both = read("\nthe new secret, long\r\nthe old secret, long\n").unwrap();
        assert_eq!(both.of("send"), new.of("send"));
        assert_eq!(both.caller(&headers(old.of("send").unwrap())).unwrap(), "send");
        assert!(old.caller(&headers(both.of("send").unwrap())).is_err());
    }

    #[test]
    fn a_file_without_a_usable_secret_is_refused() {
        for content in
            ["", "\n\n", "short", "long enough for one\nshort", &"x".repeat(5000), &"long enough for one\n".repeat(5)]
        {
            assert!(matches!(read(content), Err(CredentialError::Content { .. })), "{content:?}");
        }
        assert!(matches!(Credential::read(Path::new("/no/such/file")), Err(CredentialError::File { .. })));
    }
}

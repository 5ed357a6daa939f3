//! What is kept of a person while they sign in, and of where they have: for whoever asks what there is of them. No secret is in it, and
//! nothing by which one could be guessed.

use crate::code::Code;
use crate::moment::Moment;
use crate::refresh_token::Digest;

/// What is kept. Rows of every kind are read alike, each by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceKind {
    /// A browser in which they are signed in.
    Browser,
    /// A request of a client for which they have signed in, and which is not answered yet.
    Request,
    /// A code that a client got, for a day.
    Code,
    /// A device that they have approved, for a day.
    Device,
}

/// One row of it. What a kind does not have is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Its place in the order; says nothing of what it is the digest of.
    pub(crate) id: Digest,
    pub(crate) client_id: String,
    pub(crate) address: String,
    /// Separated by spaces.
    pub(crate) scopes: String,
    /// Separated by spaces.
    pub(crate) amr: String,
    pub(crate) authenticated_at: Option<Moment>,
    pub(crate) created_at: Option<Moment>,
    pub(crate) last_use_at: Option<Moment>,
    pub(crate) expires_at: Option<Moment>,
}

/// The columns of [`TraceKind::rows`].
pub(super) type Columns =
    (Vec<u8>, String, String, String, String, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<String>);

impl TraceKind {
    /// A page of the rows of a person ($1) after an id ($2), as both databases understand it.
    pub(super) fn rows(self) -> &'static str {
        match self {
            Self::Browser => {
                "SELECT cookie_sha256, '', '', '', amr, authenticated_at, created_at, last_use_at, CAST(NULL AS BIGINT), CAST(NULL AS TEXT) \
                 FROM browser_sessions WHERE user_id = $1 AND cookie_sha256 > $2 ORDER BY cookie_sha256 LIMIT $3"
            }
            Self::Request => {
                "SELECT challenge_sha256, client_id, address, '', amr, authenticated_at, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
                 expires_at, CAST(NULL AS TEXT) \
                 FROM login_requests WHERE user_id = $1 AND challenge_sha256 > $2 ORDER BY challenge_sha256 LIMIT $3"
            }
            Self::Code => {
                "SELECT code_sha256, '', '', '', '', CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), expires_at, code \
                 FROM codes WHERE user_id = $1 AND code_sha256 > $2 ORDER BY code_sha256 LIMIT $3"
            }
            Self::Device => {
                "SELECT device_sha256, client_id, address, scopes, amr, authenticated_at, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
                 expires_at, CAST(NULL AS TEXT) \
                 FROM device_codes WHERE user_id = $1 AND device_sha256 > $2 ORDER BY device_sha256 LIMIT $3"
            }
        }
    }
}

impl Trace {
    /// Reads a row; none if it is not one that a version has written.
    pub(super) fn read(row: Columns) -> Option<Self> {
        let (id, client_id, address, scopes, amr, authenticated_at, created_at, last_use_at, expires_at, code) = row;
        let trace = Self {
            id: Digest::kept(&id)?,
            client_id,
            address,
            scopes,
            amr,
            authenticated_at: authenticated_at.map(Moment),
            created_at: created_at.map(Moment),
            last_use_at: last_use_at.map(Moment),
            expires_at: expires_at.map(Moment),
        };
        let Some(code) = code else { return Some(trace) };
        let Code { client_id, scopes, amr, authenticated_at_ms, .. } = serde_json::from_str(&code).ok()?;
        let (scopes, amr) = (scopes.to_string(), amr.join(" "));
        Some(Self { client_id, scopes, amr, authenticated_at: Some(Moment(authenticated_at_ms)), ..trace })
    }
}

#![doc = include_str!("README.md")]

/// Options of the contracts themselves.
pub mod options {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.options.v1");
    }
}

/// The reasons that errors carry.
pub mod errors {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.errors.v1");
    }
}

/// The issuer: tokens, sessions, clients.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.auth.v1");
    }
}

/// Accounts and signing in.
pub mod login {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.login.v1");
    }
}

/// Conversations and their log.
pub mod send {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.send.v1");
    }
}

/// Live streams, acknowledgements and devices.
pub mod receiver {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::doc_markdown,
            clippy::too_long_first_doc_paragraph,
            reason = "generated"
        )]
        tonic::include_proto!("flaghoist.receiver.v1");
    }
}

pub mod check;
pub mod codec;

/// The generated checks.
mod checks {
    #![allow(unused_parens, clippy::all, clippy::expect_used, reason = "generated")]
    #[allow(unused_imports, reason = "not every set of rules has patterns")]
    use crate::check::{Check, Pattern, Violations};
    #[allow(unused_imports, reason = "not every set of rules has patterns")]
    use regex::Regex;
    include!(concat!(env!("OUT_DIR"), "/checks.rs"));
}

/// The encoded descriptor set of all contracts, with comments and options, as reflection serves it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// Who may call a method, from `flaghoist.options.v1.access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, with or without a token.
    Anyone,
    /// A person with a valid access token.
    User,
    /// A person whose token carries the scope `admin`.
    Admin,
    /// One of these services, on the internal port.
    Service(&'static [&'static str]),
}

/// What the contracts say about a method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The HTTP/2 path, `/package.Service/Method`.
    pub path: &'static str,
    /// The full name of its proto service.
    pub service: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whether it changes nothing (`NO_SIDE_EFFECTS`).
    pub safe: bool,
    /// Whether a repeated call has no further effect (`NO_SIDE_EFFECTS` or `IDEMPOTENT`).
    pub repeatable: bool,
    /// Whether either side streams.
    pub streaming: bool,
}

/// Every method of every service.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// What the contracts say about the method at `path`, if there is such a method.
pub fn method(path: &str) -> Option<&'static Method> {
    static BY_PATH: std::sync::LazyLock<std::collections::HashMap<&'static str, &'static Method>> =
        std::sync::LazyLock::new(|| METHODS.iter().map(|method| (method.path, method)).collect());
    BY_PATH.get(path).copied()
}

//! How a command ends: the exit codes, and the failure that carries one of them with a message for the person at the
//! keyboard. The codes follow sysexits.h where it has a fitting one.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, as `--help` lists them.
pub(crate) const TABLE: &str = "\
Exit codes:
   0  done
   1  another failure
  64  wrong use: an argument or a setting
  65  the input was not accepted
  69  the server cannot be reached
  73  the folder or file cannot be used, for example because a server uses it
  75  not now: try again later
  77  not signed in, or refused";

/// Why a command did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nobody reads the output any more; that is no failure.
    Unread = 0,
    /// Anything without a code of its own.
    Failed = 1,
    /// An argument or a setting is wrong.
    Usage = 64,
    /// The input was not accepted.
    BadInput = 65,
    /// The server cannot be reached.
    Unreachable = 69,
    /// A folder or file cannot be used.
    Occupied = 73,
    /// The same may work later.
    TryLater = 75,
    /// Not signed in, or not allowed.
    Refused = 77,
}

/// The end of a command that did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened and what to try; printed to standard error.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with a code and a message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Prints the message and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("flaghoist: {}", self.message);
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

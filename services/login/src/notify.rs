//! Messages to people: by mail, as files in a folder for whoever develops, or as a line of the log that says that there was one.
//!
//! What a message carries may open an account, so it is encrypted while it waits (`store/outbox.rs`), and the log never has it.

pub(crate) mod text;

mod folder;
mod smtp;

use std::path::PathBuf;
use std::sync::Arc;

use flaghoist_runtime::names::UserId;

use crate::contact::{Contact, ContactKind};
pub(crate) use folder::FOLDER;
pub(crate) use smtp::Smtp;
pub use smtp::{SmtpSettings, Tls};
pub(crate) use text::{Content, Message};

/// How messages leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Not at all; the log says that there was one.
    Log,
    /// As files in the data folder.
    Folder,
    /// By mail.
    Smtp,
}

/// Hands messages over.
#[derive(Clone, Debug)]
pub(crate) enum Notifier {
    Log,
    Folder(PathBuf),
    Smtp(Arc<Smtp>),
}

/// A message as it is read.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) to: Contact,
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Letter(…)")
    }
}

/// A message was not handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// It may be otherwise soon.
    #[error("the message cannot be handed over now")]
    Later(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody will ever take it.
    #[error("the message is not taken")]
    Never(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why there is no notifier.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// The password for the mail relay cannot be read.
    #[error("cannot read {}, which FLAGHOIST_LOGIN_SMTP_PASSWORD_FILE names", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificates of this machine cannot be used.
    #[error(
        "cannot speak TLS with the mail relay: are there certificates of authorities on this machine, or in SSL_CERT_FILE?"
    )]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Notifier {
    /// Whether messages to this kind of contact leave the installation.
    pub(crate) fn reaches(&self, kind: ContactKind) -> bool {
        match self {
            Self::Log => false,
            Self::Folder(_) => true,
            Self::Smtp(smtp) => kind == ContactKind::Email || smtp.reaches_phones(),
        }
    }

    /// Hands a message over. `number` tells it from others.
    pub(crate) async fn send(&self, user: UserId, number: i64, message: &Message) -> Result<(), NotifyError> {
        match self {
            Self::Log => {
                tracing::info!(%user, message = message.content.label(), "a message was not sent: FLAGHOIST_LOGIN_NOTIFIER is log");
                Ok(())
            }
            Self::Folder(folder) => folder::write(folder, number, &message.letter()).await,
            Self::Smtp(smtp) => smtp.send(&message.letter()).await,
        }
    }
}

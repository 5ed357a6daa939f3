//! Everything that is kept of a person as an archive: a zip of files with one JSON object a line.
//!
//! It is made while it is taken: lines come from the services a page at a time, go through the archive's compressor, and what comes
//! out of that goes to the reader, so an export needs little memory, however large it is. Files come in a fixed order; one of which
//! there is nothing is empty.

mod running;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis, timestamp};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};
use zip::{CompressionMethod, result::ZipError};

use crate::contact::{Contact, ContactKind};
use crate::error::Error;
use crate::history::Event;
use crate::others::{Exporter, Others};
use crate::store::Store;

pub(crate) use running::Exports;

/// How large a piece of the archive is at most.
const PIECE_BYTES: usize = 64 * 1024;

/// How many pieces wait for the reader.
const PIECES_WAITING: usize = 4;

/// More events than are kept of a person.
const HISTORY_MAX: u32 = 1000;

/// How long a reader may take for a piece: one who does not read keeps others from theirs.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// The files, each with the service that gives its lines; login's own come first.
const FILES: [(&str, Option<Exporter>); 13] = [
    ("account", None),
    ("contacts", None),
    ("factors", None),
    ("history", None),
    ("sessions", Some(Exporter::Auth)),
    ("consents", Some(Exporter::Auth)),
    ("login_events", Some(Exporter::Auth)),
    ("profile", Some(Exporter::Auth)),
    ("browser_sessions", Some(Exporter::Auth)),
    ("sign_ins", Some(Exporter::Auth)),
    ("devices", Some(Exporter::Receiver)),
    ("conversations", Some(Exporter::Send)),
    ("messages", Some(Exporter::Send)),
];

/// Where the archive's pieces, or what went wrong, come from.
pub(crate) type Pieces = mpsc::Receiver<Result<Vec<u8>, Error>>;

/// Begins an export. `permit` is given back when it is over.
pub(crate) fn begin(store: Arc<dyn Store>, others: Others, user: UserId, permit: impl Send + 'static) -> Pieces {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    tokio::spawn(async move {
        let export = Export { store, others, user, sender: sender.clone() };
        if let Err(Ended::Failed(error)) = export.run().await {
            // Whoever reads no longer needs no error either.
            let _gone = sender.send(Err(error)).await;
        }
        drop(permit);
    });
    receiver
}

/// Why an export came to no end.
enum Ended {
    /// The reader is gone.
    Unread,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Export {
    store: Arc<dyn Store>,
    others: Others,
    user: UserId,
    sender: mpsc::Sender<Result<Vec<u8>, Error>>,
}

impl Export {
    async fn run(&self) -> Result<(), Ended> {
        let mut archive = Archive::new();
        let mut rest = FILES.as_slice();
        while let Some((name, from)) = rest.first() {
            match from {
                None => {
                    archive.begin(name)?;
                    for line in self.own(name).await? {
                        archive.line(&line.to_string())?;
                    }
                    self.give(&archive, 0).await?;
                    rest = &rest[1..];
                }
                Some(service) => {
                    let of_service = rest.iter().take_while(|(_, from)| *from == Some(*service)).count();
                    self.of(*service, &rest[..of_service], &mut archive).await?;
                    rest = &rest[of_service..];
                }
            }
        }
        archive.finish()?;
        self.give(&archive, 0).await
    }

    /// The files of one service, which come in their order.
    async fn of(
        &self,
        service: Exporter,
        files: &[(&str, Option<Exporter>)],
        archive: &mut Archive,
    ) -> Result<(), Ended> {
        let mut pieces = self.others.export(service, self.user).await?;
        let mut waiting = files.iter().map(|(name, _)| *name);
        let mut open = "";
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            while open != piece.file {
                // One that login does not know yet is left out, as is one that comes twice.
                let Some(next) = waiting.next() else { break };
                archive.begin(next)?;
                open = next;
            }
            if open == piece.file {
                for line in &piece.lines {
                    archive.line(line)?;
                }
            }
            self.give(archive, PIECE_BYTES).await?;
        }
        for name in waiting {
            archive.begin(name)?;
        }
        Ok(())
    }

    /// What login itself keeps; no secrets.
    async fn own(&self, file: &str) -> Result<Vec<Value>, Ended> {
        if file == "account" {
            let account = self.store.account(self.user).await?;
            let account = account.ok_or_else(|| Error::AccountUnknown(self.user.name()))?;
            return Ok(vec![json!({
                "account": account.user.name(),
                "handle": account.handle.to_string(),
                "display_name": account.display_name.into_string(),
                "create_time": timestamp(account.created_at).to_string(),
                "admin": account.admin,
                "disabled": account.disabled,
                "postal_address": account.postal_address,
                "language": account.language,
            })]);
        }
        if file == "contacts" {
            let contacts = self.store.contacts(self.user, millis(SystemTime::now())).await?;
            let kind = |contact: &Contact| if contact.kind == ContactKind::Email { "email" } else { "phone" };
            let verified = contacts.verified.iter().map(|(contact, at)| {
                let since = timestamp(from_millis(*at)).to_string();
                json!({ "contact": kind(contact), "value": contact.value, "verify_time": since })
            });
            let pending = contacts
                .pending
                .iter()
                .map(|contact| json!({ "contact": kind(contact), "value": contact.value, "verify_time": null }));
            return Ok(verified.chain(pending).collect());
        }
        if file == "history" {
            let events = self.store.events(self.user, None, HISTORY_MAX).await?;
            let line = |event: Event| {
                json!({
                    "event": event.kind,
                    "time": timestamp(event.at).to_string(),
                    "address": event.address,
                    "user_agent": event.agent,
                    "amr": event.amr,
                    "client_id": event.client_id,
                })
            };
            return Ok(events.into_iter().map(line).collect());
        }
        let mut lines = vec![json!({ "factor": "password" })];
        let factors = self.store.factors(self.user).await?;
        if let Some(totp) = factors.totp {
            lines.push(json!({
                "factor": "totp",
                "create_time": timestamp(totp.created_at).to_string(),
                "use_time": timestamp(totp.used_at).to_string(),
            }));
        }
        for key in self.store.keys(self.user).await? {
            lines.push(json!({
                "factor": if key.passkey { "passkey" } else { "security_key" },
                "display_name": key.name,
                "create_time": timestamp(key.created_at).to_string(),
                "use_time": key.used_at.map(|at| timestamp(at).to_string()),
            }));
        }
        if factors.recovery_codes > 0 {
            lines.push(json!({ "factor": "recovery_codes", "left": factors.recovery_codes }));
        }
        Ok(lines)
    }

    /// Gives the reader what is ready, once it is so much.
    async fn give(&self, archive: &Archive, least: usize) -> Result<(), Ended> {
        let ready = archive.ready(least);
        for piece in ready.chunks(PIECE_BYTES) {
            let given = tokio::time::timeout(READ_WITHIN, self.sender.send(Ok(piece.to_vec()))).await;
            given.map_err(|_late| Ended::Unread)?.map_err(|_gone| Ended::Unread)?;
        }
        Ok(())
    }
}

/// An archive that is being written.
struct Archive {
    zip: ZipWriter<StreamWriter<Ready>>,
    ready: Ready,
}

/// What of an archive waits to be taken.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<Vec<u8>>>);

impl Write for Ready {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    fn new() -> Self {
        let ready = Ready::default();
        Self { zip: ZipWriter::new_stream(ready.clone()), ready }
    }

    /// Begins a file; the one before is complete.
    fn begin(&mut self, name: &str) -> Result<(), Error> {
        // Nobody knows yet how large it becomes.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
        Ok(self.zip.start_file(format!("{name}.jsonl"), options)?)
    }

    fn line(&mut self, line: &str) -> Result<(), Error> {
        let written = self.zip.write_all(line.as_bytes()).and_then(|()| self.zip.write_all(b"\n"));
        Ok(written.map_err(ZipError::from)?)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let zip = std::mem::replace(&mut self.zip, ZipWriter::new_stream(Ready::default()));
        zip.finish()?;
        Ok(())
    }

    fn ready(&self, least: usize) -> Vec<u8> {
        let mut ready = self.ready.0.lock();
        if ready.len() < least { Vec::new() } else { std::mem::take(&mut *ready) }
    }
}

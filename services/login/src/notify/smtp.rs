//! Messages by mail, through the relay that an installation names; and to phones, where it names a gateway that makes text messages of
//! mail. This is the one place of login that leaves the mesh, so it speaks TLS itself.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Tls as Wire;
use lettre::transport::smtp::client::TlsParameters;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::{Letter, NotifierError, NotifyError};
use crate::contact::ContactKind;

/// How long the relay may take for one command.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Whether the way to the relay is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// From the first byte on (port 465).
    Required,
    /// After the relay has said that it can, and not at all without (port 587).
    StartTls,
    /// Not: the relay is on this machine, or a sidecar encrypts.
    None,
}

/// The relay.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who the messages come from.
    pub from: Option<Mailbox>,
    /// The name that the relay knows login by; empty where it asks for none.
    pub user: String,
    /// The file with the password.
    pub password_file: PathBuf,
    /// Whether the way is encrypted.
    pub tls: Tls,
    /// The domain of the gateway to phones; empty if there is none.
    pub phone_domain: String,
}

/// Hands mail to a relay.
pub(crate) struct Smtp {
    relay: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    phone_domain: String,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Nothing is asked of the relay before there is a message.
    pub(crate) fn new(settings: &SmtpSettings, from: Mailbox) -> Result<Self, NotifierError> {
        let relay = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host);
        let mut relay = relay.port(settings.port).timeout(Some(ANSWER_WITHIN));
        if settings.tls != Tls::None {
            let parameters = TlsParameters::new(settings.host.clone());
            let parameters = parameters.map_err(|error| NotifierError::Tls(Box::new(error)))?;
            let wire =
                if settings.tls == Tls::Required { Wire::Wrapper(parameters) } else { Wire::Required(parameters) };
            relay = relay.tls(wire);
        }
        if !settings.user.is_empty() {
            let path = settings.password_file.clone();
            let password = std::fs::read_to_string(&path).map_err(|source| NotifierError::Password { path, source })?;
            relay = relay.credentials(Credentials::new(settings.user.clone(), password.trim_end().to_owned()));
        }
        Ok(Self { relay: relay.build(), from, phone_domain: settings.phone_domain.clone() })
    }

    pub(super) fn reaches_phones(&self) -> bool {
        !self.phone_domain.is_empty()
    }

    pub(super) async fn send(&self, letter: &Letter) -> Result<(), NotifyError> {
        let never = |error: Box<dyn std::error::Error + Send + Sync>| NotifyError::Never(error);
        let to = match letter.to.kind {
            ContactKind::Email => letter.to.value.parse::<Address>(),
            ContactKind::Phone => Address::new(letter.to.value.trim_start_matches('+'), &self.phone_domain),
        };
        let mail = Mail::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.map_err(|error| never(Box::new(error)))?))
            .subject(&letter.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.clone())
            .map_err(|error| never(Box::new(error)))?;
        match self.relay.send(mail).await {
            Ok(_taken) => Ok(()),
            // What the relay says of the recipient for good. What it says of this client (53x) somebody will mend.
            Err(error)
                if error.is_permanent() && !error.status().is_some_and(|code| code.to_string().starts_with("53")) =>
            {
                Err(NotifyError::Never(Box::new(error)))
            }
            Err(error) => Err(NotifyError::Later(Box::new(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::contact::Contact;

    /// A relay that takes all mail but that to `full@`; answers its port and what it was handed.
    async fn relay() -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let handed = Arc::clone(&taken);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let handed = Arc::clone(&handed);
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    let mut lines = BufReader::new(read).lines();
                    let (mut mail, mut reading) = (String::new(), false);
                    write.write_all(b"220 relay\r\n").await.unwrap();
                    while let Ok(Some(line)) = lines.next_line().await {
                        if reading && line != "." {
                            mail.push_str(&line);
                            mail.push('\n');
                            continue;
                        }
                        let answer = match line.get(..4).unwrap_or(&line) {
                            "DATA" => {
                                reading = true;
                                "354 go on\r\n"
                            }
                            "RCPT" if line.contains("full@") => "550 the mailbox is full\r\n",
                            "RCPT" => {
                                mail.push_str(&line);
                                mail.push('\n');
                                "250 ok\r\n"
                            }
                            "." => {
                                reading = false;
                                handed.lock().push(std::mem::take(&mut mail));
                                "250 taken\r\n"
                            }
                            _ => "250 ok\r\n",
                        };
                        if write.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, taken)
    }

    fn smtp(port: u16, tls: Tls) -> Smtp {
        let from: Mailbox = "Chat <chat@example.com>".parse().unwrap();
        let settings = SmtpSettings {
            host: "127.0.0.1".into(),
            port,
            from: Some(from.clone()),
            user: String::new(),
            password_file: PathBuf::new(),
            tls,
            phone_domain: "sms.example.net".into(),
        };
        Smtp::new(&settings, from).unwrap()
    }

    fn letter(kind: ContactKind, value: &str) -> Letter {
        let to = Contact::read(kind, value).unwrap();
        Letter { to, subject: "A code".into(), text: "12345678\n".into() }
    }

    #[tokio::test]
    async fn mail_is_handed_to_the_relay_and_phones_are_reached_by_their_gateway() {
        let (port, taken) = relay().await;
        let smtp = smtp(port, Tls::None);
        smtp.send(&letter(ContactKind::Email, "alice@example.com")).await.unwrap();
        smtp.send(&letter(ContactKind::Phone, "+49301234567")).await.unwrap();
        let taken = taken.lock().clone();
        assert!(
            taken[0].contains("RCPT TO:<alice@example.com>") && taken[0].contains("Subject: A code"),
            "{}",
            taken[0]
        );
        assert!(taken[0].contains("\n12345678\n") && taken[0].contains("chat@example.com"), "{}", taken[0]);
        assert!(taken[1].contains("RCPT TO:<49301234567@sms.example.net>"), "{}", taken[1]);
    }

    #[tokio::test]
    async fn what_is_refused_for_good_is_given_up_and_all_else_is_tried_again() {
        let (port, taken) = relay().await;
        let full = letter(ContactKind::Email, "full@example.com");
        assert!(matches!(smtp(port, Tls::None).send(&full).await, Err(NotifyError::Never(_))));
        // A relay that cannot encrypt is handed nothing.
        let alice = letter(ContactKind::Email, "alice@example.com");
        assert!(matches!(smtp(port, Tls::StartTls).send(&alice).await, Err(NotifyError::Later(_))));
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(matches!(smtp(gone, Tls::None).send(&alice).await, Err(NotifyError::Later(_))));
        assert!(taken.lock().is_empty());
    }
}

//! `flaghoist listen`: prints what arrives and acknowledges it once it has been printed. When the stream ends it is opened
//! again, with growing waits; what was printed and not yet acknowledged comes again then and is passed over.

mod print;
mod stream;

use std::collections::HashMap;
use std::time::Duration;

use flaghoist_proto::errors::v1::Reason;
use flaghoist_proto::receiver::v1::OpenFrom;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::{Code, Status};

use self::stream::End;
use super::connection::{Pause, Signed};
use super::names::Names;
use super::output::Output;
use super::{Client, refusal};
use crate::exit::{Exit, Failure};

/// How often the first connection is tried before `listen` gives up; later ones are tried for ever.
const FIRST_ATTEMPTS_MAX: u32 = 5;

/// The arguments of `listen`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each profile is a device of its own: it gets what arrived since it last listened, in order, and acknowledges what it has
printed. Text shows messages and what happens in groups; JSON shows receipts and typing too.

Examples:
  flaghoist listen
  flaghoist listen --until-caught-up
  flaghoist listen --from now --count 1 --json | jq -r .text")]
pub(crate) struct Arguments {
    /// Where to start
    #[arg(long, value_enum, default_value_t = From::Stored)]
    from: From,
    /// End after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End once everything that was stored before has been printed
    #[arg(long)]
    until_caught_up: bool,
}

/// Where listening starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// After what this profile has acknowledged
    Stored,
    /// At the beginning of everything
    Beginning,
    /// At what is new from now on
    Now,
}

/// One `listen`, over all its streams.
#[derive(Debug)]
struct Listener<'a> {
    signed: &'a Signed,
    output: Output,
    names: Names<'a>,
    from: OpenFrom,
    /// The newest event printed of each conversation.
    printed: HashMap<String, Place>,
    /// How many more messages to print; all that come if unset.
    left: Option<u64>,
    until_caught_up: bool,
    /// The access token of the newest stream.
    token: String,
    interrupt: Signal,
    terminate: Signal,
}

/// A place in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: u64,
    seq: u64,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let listening = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("no signals: {error}")));
    let mut listener = Listener {
        signed: &signed,
        output: client.output,
        names: Names::new(&signed),
        from: match arguments.from {
            From::Stored => OpenFrom::Stored,
            From::Beginning => OpenFrom::Beginning,
            From::Now => OpenFrom::Now,
        },
        printed: HashMap::new(),
        left: arguments.count,
        until_caught_up: arguments.until_caught_up,
        token: signed.token().await?,
        interrupt: listening(SignalKind::interrupt())?,
        terminate: listening(SignalKind::terminate())?,
    };
    listener.run().await
}

impl Listener<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut pause = Pause::new(Duration::from_millis(200), Duration::from_secs(15));
        let mut opened_before = false;
        let mut refused_in_a_row = 0;
        let mut failed_in_a_row = 0;
        loop {
            let (opened, end) = self.stream().await?;
            if opened {
                opened_before = true;
                refused_in_a_row = 0;
                failed_in_a_row = 0;
                pause.reset();
            }
            let wait = match end {
                End::Finished => return Ok(()),
                End::Drained(wait) => wait,
                End::Silent => {
                    self.say("the server has been silent for too long; connecting again");
                    pause.next(None)
                }
                End::Refused(status) => {
                    if !again(&status) {
                        return Err(self.explain(&status));
                    }
                    if refusal::unauthenticated(&status) {
                        refused_in_a_row += 1;
                        if refused_in_a_row > 2 {
                            return Err(self.explain(&status));
                        }
                        self.token = self.fresh_token().await?;
                        continue;
                    }
                    failed_in_a_row += 1;
                    if !opened_before && failed_in_a_row >= FIRST_ATTEMPTS_MAX {
                        return Err(self.explain(&status));
                    }
                    let wait = pause.next(refusal::retry_after(&status));
                    if opened_before {
                        let why = self.signed.failure(&status).message;
                        self.say(&format!("{why}\n  trying again in {:.1} s", wait.as_secs_f64()));
                    }
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.terminate.recv() => return Ok(()),
            }
            self.token = self.renewed_token().await?;
        }
    }

    /// The token for the next stream. While the server is away the old one has to do.
    async fn renewed_token(&self) -> Result<String, Failure> {
        match self.signed.token().await {
            Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::TryLater) => Ok(self.token.clone()),
            answer => answer,
        }
    }

    /// A token other than the one that was refused.
    async fn fresh_token(&self) -> Result<String, Failure> {
        match self.signed.token_instead_of(&self.token).await {
            Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::TryLater) => Ok(self.token.clone()),
            answer => answer,
        }
    }

    /// A remark for the person; scripts read standard output.
    fn say(&self, remark: &str) {
        eprintln!("flaghoist: {remark}");
    }

    fn explain(&self, status: &Status) -> Failure {
        match refusal::reason(status) {
            Some(Reason::StreamReplaced) => Failure::new(
                Exit::Failed,
                format!(
                    "another `flaghoist listen` of the profile {:?} took over: give one of them another --profile",
                    self.signed.file().name()
                ),
            ),
            _ => self.signed.failure(status),
        }
    }
}

/// Whether a stream that ended so is opened again.
fn again(status: &Status) -> bool {
    if refusal::unreachable(status) || refusal::unauthenticated(status) {
        return true;
    }
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::ResourceExhausted => refusal::reason(status) != Some(Reason::LimitReached),
        Code::Aborted => refusal::reason(status) != Some(Reason::StreamReplaced),
        _ => false,
    }
}

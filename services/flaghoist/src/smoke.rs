//! `flaghoist smoke`: whether an installation works, told from the outside. Two people register, sign in, send and receive, over the
//! public ports of the four services wherever each of them is; calls that must be refused are tried too. `helm test` runs it in a pod.

mod calls;
mod person;

use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use flaghoist_runtime::settings::parse_duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use self::person::Person;
use crate::client::unreachable;
use crate::exit::{Exit, Failure};
use crate::serve::Service;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long between two tries of what is still starting.
const PAUSE: Duration = Duration::from_secs(1);

/// What does not hold yet, or never will.
#[derive(Debug)]
struct Miss {
    why: String,
    /// Whether waiting may help.
    passing: bool,
}

/// What to check, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist smoke
  flaghoist smoke --login http://chat-login:9000 --auth http://chat-auth:9000 \\
      --send http://chat-send:9000 --receiver http://chat-receiver:9000 --internal-port 9001")]
pub(crate) struct Arguments {
    /// The public port of auth
    #[arg(long, value_name = "URL", default_value = crate::client::DEFAULT_SERVER)]
    auth: Uri,
    /// The public port of login
    #[arg(long, value_name = "URL", default_value = crate::client::DEFAULT_SERVER)]
    login: Uri,
    /// The public port of send
    #[arg(long, value_name = "URL", default_value = crate::client::DEFAULT_SERVER)]
    send: Uri,
    /// The public port of receiver
    #[arg(long, value_name = "URL", default_value = crate::client::DEFAULT_SERVER)]
    receiver: Uri,
    /// Where the services call one another, on the same hosts: it must refuse this caller
    #[arg(long, value_name = "PORT")]
    internal_port: Option<u16>,
    /// Check only that nothing answers to plain text: for a place in a mesh that has no sidecar
    #[arg(long, conflicts_with = "no_people")]
    plain_text: bool,
    /// Register nobody, where not everyone may: check only what must be refused
    #[arg(long)]
    no_people: bool,
    /// How long to wait for what is still starting, a sidecar that does not know the keys yet among it
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = patience)]
    patience: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time like 120s".into())
}

/// Does what `arguments` say, and prints what is as it should be.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.plain_text {
        return arguments.plain_text_is_refused().await;
    }
    arguments.strangers_are_refused().await?;
    arguments.internal_calls_are_refused().await?;
    if arguments.no_people {
        println!("left out: two people and their message, since nobody may register here unasked");
        return Ok(());
    }
    arguments.people_talk().await
}

impl Arguments {
    fn address(&self, service: Service) -> &Uri {
        match service {
            Service::Auth => &self.auth,
            Service::Login => &self.login,
            Service::Send => &self.send,
            Service::Receiver => &self.receiver,
        }
    }

    /// A new connection to the public port of a service, made when it is first used.
    fn channel(&self, service: Service) -> Channel {
        channel(self.address(service))
    }

    /// The internal port of a service, if it is to be looked at.
    fn internal(&self, service: Service) -> Result<Option<Uri>, Failure> {
        let Some(port) = self.internal_port else { return Ok(None) };
        let address = self.address(service);
        let parts = || {
            let authority: Authority = format!("{}:{port}", address.host()?).parse().ok()?;
            let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority);
            uri.path_and_query(PathAndQuery::from_static("/")).build().ok()
        };
        let uri =
            parts().ok_or_else(|| Failure::new(Exit::Usage, format!("--{service} {address}: a URL has a host")))?;
        Ok(Some(uri))
    }

    /// Repeats a check until it holds, can never hold, or the patience is over.
    async fn eventually<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Result<T, Miss>) -> Result<T, Failure> {
        let deadline = Instant::now() + self.patience;
        loop {
            match check().await {
                Ok(held) => {
                    println!("ok: {what}");
                    return Ok(held);
                }
                Err(miss) if miss.passing && Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
                Err(miss) => return Err(Failure::new(Exit::Failed, format!("not so: {what}: {}", miss.why))),
            }
        }
    }

    /// Without a token nothing that is for people is answered.
    async fn strangers_are_refused(&self) -> Result<(), Failure> {
        for service in Service::ALL {
            let what = format!("{service} refuses a call without a token");
            self.eventually(&what, async || {
                refused(in_time(calls::of_a_person(service, self.channel(service), None)).await)
            })
            .await?;
        }
        Ok(())
    }

    /// The internal port refuses who is none of the services; a firewall may be first.
    async fn internal_calls_are_refused(&self) -> Result<(), Failure> {
        for service in Service::ALL {
            let Some(address) = self.internal(service)? else { continue };
            let what = format!("{service} refuses a call that is for other services");
            self.eventually(&what, async || match in_time(calls::of_a_service(service, channel(&address))).await {
                Err(status) if silent(&status) => Ok(()),
                answer => refused(answer),
            })
            .await?;
        }
        Ok(())
    }

    /// No port answers to plain text.
    async fn plain_text_is_refused(&self) -> Result<(), Failure> {
        for service in Service::ALL {
            for address in [Some(self.address(service).clone()), self.internal(service)?].into_iter().flatten() {
                let what = format!("{service} does not answer to plain text at {address}");
                // Each time on a new connection: an old one may be of before the policy.
                self.eventually(&what, async || {
                    match in_time(calls::of_a_person(service, channel(&address), None)).await {
                        Err(status) if silent(&status) => Ok(()),
                        Err(status) => Err(Miss::yet(format!("it answered {}", said(&status)))),
                        Ok(()) => Err(Miss::yet("it answered")),
                    }
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Two people register, and a message goes from one to the other. Afterwards their accounts are deleted.
    async fn people_talk(&self) -> Result<(), Failure> {
        let mut people = Vec::new();
        for nth in ["a person registers and signs in", "so does a second one"] {
            let person = self
                .eventually(nth, async || Person::registers(self.channel(Service::Login)).await.map_err(Miss::from))
                .await?;
            people.push(person);
        }
        let [alice, bob] = people.as_slice() else { return Ok(()) };
        let talked = self.talk(alice, bob).await;
        for person in [alice, bob] {
            if let Err(status) = person.leaves(self.channel(Service::Login)).await {
                eprintln!("the account @{} stays: {}", person.handle(), said(&status));
            }
        }
        talked
    }

    async fn talk(&self, alice: &Person, bob: &Person) -> Result<(), Failure> {
        for service in Service::ALL {
            let what = format!("{service} takes the token");
            self.eventually(&what, async || {
                let call = calls::of_a_person(service, self.channel(service), Some(alice.token()));
                in_time(call).await.map_err(Miss::from)
            })
            .await?;
        }
        let mut stream = self
            .eventually("a device opens its stream", async || {
                bob.listens(self.channel(Service::Receiver)).await.map_err(Miss::from)
            })
            .await?;
        let text = format!("a smoke test, {}", uuid::Uuid::now_v7());
        // The same in every try, so that none has a second effect.
        let requests = [uuid::Uuid::now_v7().to_string(), uuid::Uuid::now_v7().to_string()];
        self.eventually("a message is sent", async || {
            alice.sends(self.channel(Service::Send), bob, &requests, &text).await.map_err(Miss::from)
        })
        .await?;
        timeout(self.patience, stream.hears(&text))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing came")))
            .map_err(|status| Failure::new(Exit::Failed, format!("the message did not arrive: {}", said(&status))))?;
        println!("ok: it arrives and is acknowledged");
        Ok(())
    }
}

impl Miss {
    /// What may still come.
    fn yet(why: impl Into<String>) -> Self {
        Self { why: why.into(), passing: true }
    }
}

impl From<Status> for Miss {
    fn from(status: Status) -> Self {
        // What is wrong with the call itself stays wrong.
        let lasting = matches!(
            status.code(),
            Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::AlreadyExists
                | Code::OutOfRange
                | Code::Unimplemented
        );
        Self { why: said(&status), passing: !lasting }
    }
}

fn channel(address: &Uri) -> Channel {
    Endpoint::from(address.clone()).connect_timeout(CALL_TIMEOUT).connect_lazy()
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    // Dropped packets are how a firewall refuses.
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(Status::from_error("no answer in time".into())))
}

/// Whether nobody answered.
fn silent(status: &Status) -> bool {
    unreachable(status)
}

/// Whether the caller was turned away, by the service or by its sidecar.
fn refused(answer: Result<(), Status>) -> Result<(), Miss> {
    match answer {
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => Ok(()),
        Err(status) => Err(status.into()),
        // A policy takes a moment to arrive everywhere.
        Ok(()) => Err(Miss::yet("it was answered")),
    }
}

fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_being_turned_away_counts_as_refused() {
        refused(Err(Status::unauthenticated("no token"))).unwrap();
        refused(Err(Status::permission_denied("RBAC: access denied"))).unwrap();
        for answer in [Ok(()), Err(Status::unavailable("starting")), Err(Status::invalid_argument("no"))] {
            refused(answer).unwrap_err();
        }
    }
}

//! Asks login whether people exist.

use std::collections::HashSet;
use std::time::Duration;

use flaghoist_proto::login::v1::BatchGetUsersRequest;
use flaghoist_proto::login::v1::directory_service_client::DirectoryServiceClient;
use flaghoist_runtime::Peer;
use flaghoist_runtime::names::UserId;

use crate::error::Error;

/// How long login may take.
const WAIT: Duration = Duration::from_secs(5);

/// Who exists.
#[derive(Debug)]
pub(crate) struct Directory(DirectoryServiceClient<Peer>);

impl Directory {
    /// Asks `login`.
    pub(crate) fn new(login: Peer) -> Self {
        Self(DirectoryServiceClient::new(login))
    }

    /// Why the people, 1000 at most, cannot be added somewhere; none if all of them exist.
    pub(crate) async fn refuses(&self, people: &[UserId]) -> Option<Error> {
        if people.is_empty() {
            return None;
        }
        let names = people.iter().map(UserId::name).collect();
        let mut login = self.0.clone();
        let answer = tokio::time::timeout(WAIT, login.batch_get_users(BatchGetUsersRequest { names })).await;
        let users = match answer {
            Ok(Ok(answer)) => answer.into_inner().users,
            Ok(Err(status)) => {
                tracing::warn!(code = ?status.code(), message = status.message(), "login does not say who exists");
                return Some(Error::Unavailable("login does not answer"));
            }
            Err(_) => return Some(Error::Unavailable("login does not answer")),
        };
        let there: HashSet<UserId> = users.iter().filter_map(|user| UserId::parse(&user.name).ok()).collect();
        people.iter().find(|person| !there.contains(person)).map(|person| Error::NoPerson(*person))
    }
}

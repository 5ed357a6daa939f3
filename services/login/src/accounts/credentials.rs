//! What a person does with their password in hand: changing it, and deleting the account.

use std::net::IpAddr;

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::{SessionId, UserId};

use super::{Accounts, now};
use crate::error::Error;
use crate::history::{EventKind, NewEvent, Origin};
use crate::password::{BadPassword, Password};
use crate::store::Changed;

impl Accounts {
    /// Replaces the password and ends all sessions but `kept`.
    pub(crate) async fn change_password(
        &self,
        user: UserId,
        kept: Option<SessionId>,
        current: Result<Password, BadPassword>,
        new: Result<Password, BadPassword>,
        origin: impl Into<Origin> + Send,
    ) -> Result<(), Error> {
        let origin = origin.into();
        let current = current.map_err(|source| Error::Password { field: "current_password", source })?;
        let new = new.map_err(|source| Error::Password { field: "new_password", source })?;
        let account = self.get(user).await?;
        let (proven, place) = self.prove(&account.handle, current, &origin).await?;
        if proven.account.user != user || proven.deleting {
            return Err(Error::CredentialsInvalid);
        }
        let about = [account.handle.to_string(), account.display_name.into_string()];
        let hash = self.hash_new(&place, new, "new_password", about).await?;
        drop(place);
        let kept = kept.map(|session| session.to_string()).unwrap_or_default();
        if !self.store.change_password(user, proven.version, &hash, &kept, now()).await? {
            return Err(Error::CredentialsInvalid);
        }
        self.note_change(NewEvent::change(user, EventKind::PasswordChanged, origin)).await;
        // The password is changed, so the answer is yes; what the issuer could not be told now is told again.
        if let Err(error) = self.teller.tell(user).await {
            tracing::warn!(%user, error = %chain(&error), "sessions end later, the issuer could not be told");
        }
        Ok(())
    }

    /// Begins to remove the account and everything of the person in all services. It is hidden from the first moment on, and signed
    /// out everywhere when this is answered; called again, the deletion is carried on with.
    pub(crate) async fn delete(
        &self,
        user: UserId,
        password: Result<Password, BadPassword>,
        address: IpAddr,
    ) -> Result<(), Error> {
        let password = password.map_err(|source| Error::Password { field: "password", source })?;
        let unknown = || Error::AccountUnknown(user.name());
        let found = self.store.credentials_of(user).await?.ok_or_else(unknown)?;
        let (proven, place) = self.prove(&found.account.handle, password, &address.into()).await?;
        drop(place);
        if proven.account.user != user {
            return Err(Error::CredentialsInvalid);
        }
        match self.store.begin_deletion(user, now()).await? {
            Changed::Done(_) => self.teller.tell(user).await,
            Changed::LastAdmin => Err(Error::LastAdmin),
            Changed::Unknown => Err(unknown()),
        }
    }
}

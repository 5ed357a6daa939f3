//! What admins do: disabling, making admins, inviting.

use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};

use super::{Accounts, now};
use crate::account::Account;
use crate::error::Error;
use crate::invitation::Invitation;
use crate::store::Changed;

/// How many invitations may wait to be used.
const INVITATIONS_MAX: u32 = 10_000;

impl Accounts {
    /// Disables an account, which ends its sessions, or enables it again. `by` is the admin.
    pub(crate) async fn set_disabled(&self, user: UserId, disabled: bool, by: UserId) -> Result<Account, Error> {
        let changed = self.store.set_disabled(user, disabled, &by.name(), now()).await?;
        self.changed(user, changed).await
    }

    /// Makes a person an admin from their next sign-in on, or ends that, which ends their sessions. `by` is the admin.
    pub(crate) async fn set_admin(&self, user: UserId, admin: bool, by: UserId) -> Result<Account, Error> {
        let changed = self.store.set_admin(user, admin, &by.name(), now()).await?;
        self.changed(user, changed).await
    }

    /// Tells the issuer of a change before it is answered, also of one that an earlier call could not tell.
    async fn changed(&self, user: UserId, changed: Changed) -> Result<Account, Error> {
        match changed {
            Changed::Done(account) => self.teller.tell(user).await.map(|()| account),
            Changed::Unknown => Err(Error::AccountUnknown(user.name())),
            Changed::LastAdmin => Err(Error::LastAdmin),
        }
    }

    /// Makes an invitation; answers it with the time of its expiry.
    pub(crate) async fn invite(&self) -> Result<(Invitation, SystemTime), Error> {
        let invitation = Invitation::generate();
        let now = now();
        let lifetime = i64::try_from(self.settings.invitation_lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires_at = from_millis(now.saturating_add(lifetime));
        let digest = invitation.digest();
        if self.store.create_invitation(digest, now, millis(expires_at), INVITATIONS_MAX).await? {
            Ok((invitation, expires_at))
        } else {
            Err(Error::InvitationsLimit)
        }
    }
}

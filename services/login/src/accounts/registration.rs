//! Registering, by anyone or by invitation.

use std::net::IpAddr;
use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};
use uuid::Uuid;

use super::Accounts;
use crate::account::{Account, DisplayName, NewAccount};
use crate::error::Error;
use crate::handle::Handle;
use crate::hashing::Place;
use crate::invitation::Invitation;
use crate::password::{BadPassword, Password};
use crate::settings::Registration;
use crate::store::Created;
use crate::throttle::quota::Limit;

/// Someone who wants an account.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) handle: String,
    /// Empty for the handle.
    pub(crate) display_name: String,
    pub(crate) password: Result<Password, BadPassword>,
    pub(crate) invitation: Option<Invitation>,
    pub(crate) address: IpAddr,
}

impl Accounts {
    /// Makes an account. What can be refused without hashing is refused before it.
    pub(crate) async fn register(&self, wanted: Register) -> Result<Account, Error> {
        if self.settings.registration == Registration::Closed {
            return Err(Error::RegistrationClosed);
        }
        let handle = Handle::read(&wanted.handle)?;
        let display_name = match wanted.display_name.trim() {
            "" => DisplayName::of_handle(&handle),
            typed => DisplayName::read(typed)?,
        };
        let password = wanted.password.map_err(|source| Error::Password { field: "password", source })?;
        let place = self.pool.place()?;
        self.take_from(Limit::Registrations, wanted.address).await?;
        // Milliseconds are what is kept, so that the answer and every later one agree.
        let created_at = from_millis(millis(SystemTime::now()));
        let invitation = match self.settings.registration {
            Registration::Invitation => {
                let digest = wanted.invitation.ok_or(Error::InvitationInvalid)?.digest();
                if !self.store.invitation_usable(digest, millis(created_at)).await? {
                    return Err(Error::InvitationInvalid);
                }
                Some(digest)
            }
            Registration::Open | Registration::Closed => None,
        };
        if self.store.credentials(&handle).await?.is_some() {
            return Err(Error::HandleTaken(handle.to_string()));
        }
        let password_hash =
            self.hash_new(&place, password, "password", [handle.to_string(), display_name.as_str().to_owned()]).await?;
        let new = NewAccount { user: UserId(Uuid::now_v7()), handle, display_name, password_hash, created_at };
        match self.store.create_account(&new, invitation).await? {
            Created::HandleTaken => Err(Error::HandleTaken(new.handle.to_string())),
            Created::InvitationInvalid => Err(Error::InvitationInvalid),
            Created::Done => Ok(Account {
                user: new.user,
                handle: new.handle,
                display_name: new.display_name,
                admin: false,
                disabled: false,
                created_at,
                postal_address: String::new(),
                language: String::new(),
            }),
        }
    }

    /// Checks that a password may become someone's, who is known by `about`, and hashes it.
    pub(super) async fn hash_new(
        &self,
        place: &Place,
        password: Password,
        field: &'static str,
        about: [String; 2],
    ) -> Result<String, Error> {
        let score_min = self.settings.password_score;
        place
            .run(move |hasher| {
                let about = about.each_ref().map(String::as_str);
                password.check_new(score_min, &about).map_err(|source| Error::Password { field, source })?;
                Ok(hasher.hash(&password)?)
            })
            .await?
    }
}

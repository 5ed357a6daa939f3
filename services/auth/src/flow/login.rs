//! What login asks about a request, and what it answers.

use flaghoist_runtime::names::UserId;

use super::{Issuer, Stage};
use crate::authorization::Recognised;
use crate::client::Client;
use crate::error::Error;
use crate::moment::Moment;
use crate::profile::Profile;
use crate::redirect;
use crate::refresh_token::Digest;
use crate::store::sign_in::Acceptance;

/// What login's page may show.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) client: std::sync::Arc<Client>,
    pub(crate) login_hint: String,
    pub(crate) ui_locales: String,
    pub(crate) redirect_origin: String,
    pub(crate) expires_at: Moment,
}

impl Issuer {
    /// Who wants someone to sign in.
    pub(crate) async fn login_request(&self, challenge: &str) -> Result<Asked, Error> {
        let found = self.store.login_request(Digest::of(challenge.as_bytes()), self.clock.now()).await?;
        let found = found.filter(|found| found.stage == Stage::Login).ok_or(Error::LoginRequestNotFound)?;
        let client = self.clients.get(&found.client_id).await?.ok_or(Error::LoginRequestNotFound)?;
        Ok(Asked {
            client,
            redirect_origin: redirect::origin(&found.request.redirect_uri),
            login_hint: found.request.login_hint,
            ui_locales: found.request.ui_locales,
            expires_at: found.expires_at,
        })
    }

    /// Notes who has signed in, and answers where the browser goes.
    pub(crate) async fn accept_login_request(
        &self,
        challenge: &str,
        person: Recognised,
        profile: &Profile,
    ) -> Result<String, Error> {
        let now = self.clock.now();
        // Seconds, as tokens tell it: `max_age` is counted from what the client sees.
        let authenticated_at = Moment(person.authenticated_at.min(now).seconds() * 1000);
        let person = Recognised { authenticated_at, ..person };
        match self.store.accept_login_request(Digest::of(challenge.as_bytes()), &person, profile, now).await? {
            Acceptance::Done => {
                tracing::info!(target: "audit", event = "login_request_accepted", user = %person.user);
                Ok(self.address(super::RESUME_PATH, challenge))
            }
            Acceptance::Unknown => Err(Error::LoginRequestNotFound),
            Acceptance::SubjectDisabled => Err(Error::SubjectDisabled),
        }
    }

    /// Takes over what login says about a person now. Of somebody of whom nothing is kept, nothing will be.
    pub(crate) async fn set_profile(&self, user: UserId, profile: &Profile) -> Result<(), Error> {
        let kept = self.store.set_profile(user, profile).await?;
        tracing::info!(target: "audit", event = "subject_profile_set", user = %user, kept);
        Ok(())
    }

    /// Notes that nobody signs in, and answers where the browser goes.
    pub(crate) async fn reject_login_request(&self, challenge: &str) -> Result<String, Error> {
        if self.store.reject_login_request(Digest::of(challenge.as_bytes()), self.clock.now()).await? {
            Ok(self.address(super::RESUME_PATH, challenge))
        } else {
            Err(Error::LoginRequestNotFound)
        }
    }
}

//! Browsers that are signed in to the account pages: each has a secret in a cookie, of which the store keeps a digest, and the tokens
//! that the issuer gave for it, which are sealed.

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::SealError;

use super::{Accounts, now};
use crate::error::Error;
use crate::login_token::LoginToken;
use crate::relying_party::Tokens;
use crate::store::account_sessions::{AccountSession, Limits};

impl Accounts {
    /// Keeps the tokens of a person who has signed in to the account pages. Answers the secret for the cookie, a new one each time.
    pub(crate) async fn open_account_session(&self, user: UserId, tokens: &Tokens) -> Result<LoginToken, Error> {
        let secret = LoginToken::generate();
        let session = AccountSession { digest: secret.digest(), user, tokens: self.seal_tokens(user, tokens)? };
        self.store.open_account_session(&session, now()).await?;
        Ok(secret)
    }

    /// Whose session a browser has, and its tokens.
    pub(crate) async fn account_session(
        &self,
        secret: &LoginToken,
        limits: Limits,
    ) -> Result<Option<(UserId, Tokens)>, Error> {
        let found = self.store.account_session(secret.digest(), limits, now()).await?;
        found.map(|session| Ok((session.user, self.open_tokens(&session)?))).transpose()
    }

    /// Keeps newer tokens of a session.
    pub(crate) async fn renew_account_session(
        &self,
        secret: &LoginToken,
        user: UserId,
        tokens: &Tokens,
    ) -> Result<(), Error> {
        Ok(self.store.renew_account_session(secret.digest(), &self.seal_tokens(user, tokens)?).await?)
    }

    /// Ends a session; answers its tokens, with which the issuer's is to be ended.
    pub(crate) async fn end_account_session(&self, secret: &LoginToken) -> Result<Option<Tokens>, Error> {
        let ended = self.store.end_account_session(secret.digest()).await?;
        ended.map(|session| self.open_tokens(&session)).transpose()
    }

    fn seal_tokens(&self, user: UserId, tokens: &Tokens) -> Result<flaghoist_runtime::seal::Sealed, Error> {
        Ok(self.sealer.seal(&seal_name(user), &tokens.written())?)
    }

    fn open_tokens(&self, session: &AccountSession) -> Result<Tokens, Error> {
        let name = seal_name(session.user);
        let plain = self.sealer.open(&name, &session.tokens)?;
        Ok(Tokens::read(&plain).ok_or(SealError::Broken { name })?)
    }
}

/// Nobody else's row can hold them.
fn seal_name(user: UserId) -> String {
    format!("the tokens of the account pages of {}", user.name())
}

//! What belongs to a person, as a whole: taken along, or gone everywhere.

use std::sync::Arc;

use uuid::Uuid;

use super::Accounts;
use super::factors::Owner;
use crate::erasure::Eraser;
use crate::error::Error;
use crate::export::{self, Pieces};
use crate::store::erasures::Erasure;
use crate::throttle::quota::Limit;

impl Accounts {
    /// Who works on erasures.
    pub(crate) fn eraser(&self) -> Eraser {
        self.teller.eraser.clone()
    }

    /// Everything of a person as an archive.
    pub(crate) async fn export(&self, owner: Owner) -> Result<Pieces, Error> {
        self.may_change(&owner).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, owner.user)).await?;
        let permit = self.exports.begin(owner.user)?;
        Ok(export::begin(Arc::clone(&self.store), self.teller.eraser.others.clone(), owner.user, permit))
    }

    /// The deletion of an account, under way or finished.
    pub(crate) async fn erasure(&self, id: Uuid) -> Result<Erasure, Error> {
        self.store.erasure(id).await?.ok_or(Error::ErasureUnknown(id))
    }

    /// The newest `limit` of them before one.
    pub(crate) async fn erasures(&self, before: Uuid, limit: u32) -> Result<Vec<Erasure>, Error> {
        Ok(self.store.erasures(before, limit).await?)
    }
}

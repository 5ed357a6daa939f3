//! Making the first admin, where the store is at hand: whoever may write to its file, or knows the way into its database, may do
//! that.

use std::path::PathBuf;

use flaghoist_runtime::seal::{SealError, Sealer, SealerError};
use flaghoist_runtime::time::millis;
use flaghoist_runtime::{Place, StoreAddress, postgres, sqlite};

use crate::STORE_FILE;
use crate::handle::{BadHandle, Handle};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Changed, OPERATOR, Store, StoreError};
use crate::totp::TotpSecret;

/// What granting came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The handle in its normal form.
    pub handle: String,
    /// Whether the person was an admin before.
    pub already: bool,
}

/// Why nobody was made an admin.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// There is no store in that place.
    #[error("there are no accounts in {0}: is this the data folder of the server?")]
    NoStore(String),
    /// What was given is no handle.
    #[error("the handle {0}")]
    Handle(#[from] BadHandle),
    /// Nobody has the handle.
    #[error("nobody has the handle {0}: let them register first")]
    Unknown(String),
    /// The account is disabled.
    #[error("the account {0} is disabled: enable it first")]
    Disabled(String),
    /// The file cannot be opened.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the person with `handle` an admin, also while the server runs.
///
/// It takes effect at their next sign-in, at which the server tells the issuer. The store is the one of the setting, `place` the
/// data folder.
pub async fn grant_admin(address: &StoreAddress, place: &Place, handle: &str) -> Result<Granted, GrantError> {
    match address {
        StoreAddress::Folder => {
            let path = place.data.join(STORE_FILE);
            if !path.is_file() {
                return Err(GrantError::NoStore(place.data.display().to_string()));
            }
            let handle = Handle::read_mention(handle)?;
            let store = SqliteStore::open(&path).await?;
            let granted = grant(&store, &handle).await;
            store.close().await;
            granted
        }
        StoreAddress::Postgres(address) => {
            let handle = Handle::read_mention(handle)?;
            let store = PostgresStore::open(address, 1).await?;
            let granted = grant(&store, &handle).await;
            store.close().await;
            granted
        }
    }
}

/// What sealing anew came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resealed {
    /// How many secrets of authenticator apps were sealed with an older key.
    pub resealed: u64,
    /// How many there are.
    pub secrets: u64,
}

/// Why secrets were not sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] GrantError),
    /// There is nothing to seal with.
    #[error(transparent)]
    Sealer(#[from] SealerError),
    /// A secret cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// How many secrets are read at once.
const AT_ONCE: u32 = 500;

/// Seals the secrets of all authenticator apps with the newest of these files, also while the server runs.
///
/// Afterwards no older file is needed for them. Messages on their way and enrolments are sealed, too, and are over after a day.
pub async fn reseal_factors(
    address: &StoreAddress,
    place: &Place,
    seal_files: &[PathBuf],
) -> Result<Resealed, ResealError> {
    let sealer = Sealer::of(place, seal_files, crate::SEALING)?;
    match address {
        StoreAddress::Folder => {
            let path = place.data.join(STORE_FILE);
            if !path.is_file() {
                return Err(GrantError::NoStore(place.data.display().to_string()).into());
            }
            let store = SqliteStore::open(&path).await.map_err(GrantError::from)?;
            let resealed = reseal(&store, &sealer).await;
            store.close().await;
            resealed
        }
        StoreAddress::Postgres(address) => {
            let store = PostgresStore::open(address, 1).await.map_err(GrantError::from)?;
            let resealed = reseal(&store, &sealer).await;
            store.close().await;
            resealed
        }
    }
}

async fn reseal(store: &impl Store, sealer: &Sealer) -> Result<Resealed, ResealError> {
    let (mut done, mut after) = (Resealed { resealed: 0, secrets: 0 }, None);
    loop {
        let some = store.totp_secrets(after, AT_ONCE).await.map_err(GrantError::from)?;
        let Some((last, _)) = some.last() else { return Ok(done) };
        after = Some(*last);
        for (user, sealed) in &some {
            done.secrets += 1;
            let secret = TotpSecret::open(sealer, *user, sealed)?;
            if let Some(anew) = secret.reseal(sealer, *user, sealed)? {
                // One that is another by now was sealed by whoever runs.
                done.resealed += u64::from(store.reseal_totp(*user, sealed, &anew).await.map_err(GrantError::from)?);
            }
        }
    }
}

async fn grant(store: &impl Store, handle: &Handle) -> Result<Granted, GrantError> {
    let unknown = || GrantError::Unknown(handle.to_string());
    let account = store.account_by_handle(handle).await?.ok_or_else(unknown)?;
    if account.disabled {
        return Err(GrantError::Disabled(handle.to_string()));
    }
    match store.set_admin(account.user, true, OPERATOR, millis(std::time::SystemTime::now())).await? {
        Changed::Done(_) => Ok(Granted { handle: handle.to_string(), already: account.admin }),
        Changed::Unknown | Changed::LastAdmin => Err(unknown()),
    }
}

//! Making the first admin, where the store is at hand: whoever may write to its file, or knows the way into its database, may do
//! that.

use flaghoist_runtime::time::millis;
use flaghoist_runtime::{Place, StoreAddress, postgres, sqlite};

use crate::STORE_FILE;
use crate::handle::{BadHandle, Handle};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Changed, Store, StoreError};

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

async fn grant(store: &impl Store, handle: &Handle) -> Result<Granted, GrantError> {
    let unknown = || GrantError::Unknown(handle.to_string());
    let account = store.account_by_handle(handle).await?.ok_or_else(unknown)?;
    if account.disabled {
        return Err(GrantError::Disabled(handle.to_string()));
    }
    match store.set_admin(account.user, true, millis(std::time::SystemTime::now())).await? {
        Changed::Done(_) => Ok(Granted { handle: handle.to_string(), already: account.admin }),
        Changed::Unknown | Changed::LastAdmin => Err(unknown()),
    }
}

//! `flaghoist admin backup`: a copy of the stores in a data folder, from which a server can go on.
//!
//! The stores are copied one after the other, so they are of slightly different moments. What one knows of another decides the order:
//! a service is copied before those it asks. Then no conversation has a member whom `login` has never heard of, and whatever `login`
//! has told the issuer, the issuer has heard. What the later copy knows beyond the earlier one is harmless: an account without a
//! conversation, or a state that `login` tells the issuer anew at the next sign-in. Positions of devices count in no restored log,
//! whatever their moment, for its epoch is another one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use flaghoist_runtime::{StoreAddress, fault, sqlite};

use crate::exit::{Exit, Failure};
use crate::serve::{Service, require, store_of};

/// Each before those that it asks.
const ORDER: [Service; 4] = [Service::Receiver, Service::Send, Service::Login, Service::Auth];

/// What secrets in the stores are encrypted with.
const SECRET: &str = "secret.key";

/// Makes `folder`, with a copy of what is in `data`. A folder of that name is a whole backup: it gets its name at the end.
pub(super) async fn make(folder: &Path, data: &Path) -> Result<(), Failure> {
    require(data)?;
    if folder.exists() {
        return Err(taken(folder));
    }
    let stores = stores_in(data)?;
    let draft = draft_of(folder)?;
    // What an earlier attempt has left, if it was killed.
    let _none = fs::remove_dir_all(&draft);
    let made = fill(&draft, data, &stores).await.and_then(|()| give_name(&draft, folder));
    if made.is_err() {
        let _gone = fs::remove_dir_all(&draft);
    }
    made?;
    let names = stores.iter().map(|service| service.name()).collect::<Vec<_>>().join(", ");
    println!(
        "{} holds the stores of {names}, and the key that opens them: guard it as the data folder",
        folder.display()
    );
    Ok(())
}

/// The services whose stores are files in `data`. Those in PostgreSQL are told of, and left to its own tools.
fn stores_in(data: &Path) -> Result<Vec<Service>, Failure> {
    let mut stores = Vec::new();
    for service in ORDER {
        if matches!(store_of(service)?, StoreAddress::Postgres(_)) {
            eprintln!("flaghoist: {service} is in PostgreSQL, copy it with pg_dump or pg_basebackup");
        } else if data.join(file_of(service)).is_file() {
            stores.push(service);
        }
    }
    if stores.is_empty() {
        return Err(Failure::new(
            Exit::BadInput,
            format!("there is no store in {}: name the server's data folder with --data", data.display()),
        ));
    }
    Ok(stores)
}

async fn fill(draft: &Path, data: &Path, stores: &[Service]) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(draft).map_err(|error| unwritable(draft, &error))?;
    for &service in stores {
        let name = file_of(service);
        sqlite::copy(&data.join(&name), &draft.join(&name))
            .await
            .map_err(|error| Failure::new(Exit::Failed, fault::chain(&error)))?;
    }
    // Where the pods are given a key file it is the operator's to keep.
    let secret = data.join(SECRET);
    if secret.is_file() {
        let copied = fs::copy(&secret, draft.join(SECRET)).and_then(|_| File::open(draft.join(SECRET))?.sync_all());
        copied.map_err(|error| unwritable(draft, &error))?;
    }
    Ok(())
}

fn give_name(draft: &Path, folder: &Path) -> Result<(), Failure> {
    let synced = |path: &Path| File::open(path)?.sync_all();
    let parent = draft.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = synced(draft).and_then(|()| fs::rename(draft, folder)).and_then(|()| synced(parent));
    named.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => taken(folder),
        _ => unwritable(folder, &error),
    })
}

fn file_of(service: Service) -> String {
    format!("{service}.db")
}

/// Where the copy is until it is whole: beside `folder`, so that it only has to be renamed.
fn draft_of(folder: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = folder.file_name() else {
        return Err(Failure::new(Exit::Usage, format!("{} is no name for a new folder", folder.display())));
    };
    let mut draft = name.to_owned();
    draft.push(".partial");
    Ok(folder.with_file_name(draft))
}

fn taken(folder: &Path) -> Failure {
    Failure::new(Exit::Occupied, format!("{} is there already: name a folder that is not", folder.display()))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Occupied, format!("cannot write {}: {error}; name a folder elsewhere", path.display()))
}

//! `flaghoist admin migrate-store`: from one machine to many. The data folder of a stopped server goes into PostgreSQL, a service
//! after the other; each of them moves its own tables (`migrate_store` of its crate), and this holds the folder meanwhile, says how
//! far it is, and what to do next.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flaghoist_runtime::transfer::{Moved, Progress};
use flaghoist_runtime::{Place, StoreAddress, fault, postgres};

use crate::exit::{Exit, Failure};
use crate::serve::{DataLock, Process, Service, data_folder, require, seal_files, secret_file, store_in, store_of};

pub(super) const HELP: &str = "\
Examples:
  flaghoist admin migrate-store --from sqlite:///var/lib/flaghoist --to postgres://flaghoist:PASSWORD@db/flaghoist
  flaghoist admin migrate-store --from sqlite://data --service send --to postgres://send:PASSWORD@db/send
  FLAGHOIST_AUTH_STORE=postgres://… FLAGHOIST_LOGIN_STORE=… FLAGHOIST_SEND_STORE=… FLAGHOIST_RECEIVER_STORE=… \\
    flaghoist admin migrate-store --from sqlite:///var/lib/flaghoist

Stop the server, and pods on the database if there are any. The same command carries on what was interrupted. It ends well only
when both sides hold the same, by the number of rows and a digest over them. The folder stays as a backup.";

/// How often it is said how far a table is.
const SAY_INTERVAL: Duration = Duration::from_secs(2);

/// The arguments of `admin migrate-store`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server's data folder, or the file of one service in it [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
    #[arg(long, value_name = "sqlite://PATH")]
    from: Option<String>,
    /// The database, in which each service gets a schema of its name; without it the one that `FLAGHOIST_<SERVICE>_STORE` names, which
    /// keeps passwords out of the list of processes
    #[arg(long, value_name = "postgres://USER:PASSWORD@HOST/DATABASE")]
    to: Option<String>,
    /// Move this service only
    #[arg(long)]
    service: Option<Service>,
    /// The server's key file [default: `$FLAGHOIST_SERVE_SECRET_FILE`, else secret.key in the folder]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Moves what the arguments name.
pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (data, of_file) = folder(arguments.from.as_deref())?;
    require(&data)?;
    let services = match (of_file, arguments.service) {
        (Some(file), Some(asked)) if file != asked => {
            return Err(Failure::new(Exit::Usage, format!("the file is that of {file}, and --service says {asked}")));
        }
        (Some(one), _) | (None, Some(one)) => vec![one],
        (None, None) => Service::ALL.to_vec(),
    };
    let secret_file = secret_file(arguments.secret_file);
    let key_file = secret_file.clone().unwrap_or_else(|| data.join("secret.key"));
    let place = Place { data, secret_file };
    let mut moves = Vec::new();
    for service in services {
        require_files(&place, service, &key_file)?;
        moves.push((service, target(arguments.to.clone(), service)?));
    }
    // Until all of it is over, so that nothing is written on one side that the other lacks.
    let _lock = DataLock::take(&place.data, Process::All)?;

    let mut told = Told::default();
    for (service, store) in &moves {
        let StoreAddress::Postgres(to) = store else { continue };
        eprintln!("{service} to {}", postgres::place(to));
        let moved = move_one(*service, &place, to, &mut |progress| told.hears(progress)).await?;
        if moved.before {
            eprintln!("  was moved before, and SQLite is still as it was then");
        }
        told.moved.push((*service, moved));
    }
    told.prints_tables();
    print_next(&moves, &place.data, &key_file);
    Ok(())
}

/// The folder that `--from` names, and the service if it names a file.
fn folder(from: Option<&str>) -> Result<(PathBuf, Option<Service>), Failure> {
    let Some(from) = from else { return Ok((data_folder(None), None)) };
    let wrong = |what: &str| Failure::new(Exit::Usage, format!("--from {from}: {what}"));
    let path = from.strip_prefix("sqlite://").ok_or_else(|| wrong("is not like sqlite:///var/lib/flaghoist"))?;
    if path.is_empty() {
        return Err(wrong("names no folder"));
    }
    let path = PathBuf::from(path);
    if !path.is_file() {
        return Ok((path, None));
    }
    let named = Service::ALL.into_iter().find(|service| path.ends_with(file_of(*service)));
    let service = named.ok_or_else(|| wrong("is not the file of a service, such as send.db: name the data folder"))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder.to_owned(), Some(service)))
}

fn file_of(service: Service) -> String {
    format!("{service}.db")
}

/// Says what is missing before anything is begun: opening a store would make it, and asking for the key too.
fn require_files(place: &Place, service: Service, key_file: &Path) -> Result<(), Failure> {
    let store = place.data.join(file_of(service));
    if !store.is_file() {
        return Err(Failure::new(
            Exit::BadInput,
            format!(
                "there is no {}: is this the data folder of the server? --service moves one service alone",
                store.display()
            ),
        ));
    }
    if !key_file.is_file() {
        return Err(Failure::new(
            Exit::BadInput,
            format!(
                "there is no key file {}: name the server's with --secret-file; what it sealed is of no use without it",
                key_file.display()
            ),
        ));
    }
    Ok(())
}

/// Where a service goes.
fn target(to: Option<String>, service: Service) -> Result<StoreAddress, Failure> {
    let store = match to {
        Some(to) => store_in("--to", to)?,
        None => store_of(service)?,
    };
    if matches!(store, StoreAddress::Postgres(_)) {
        return Ok(store);
    }
    let name = service.name().to_uppercase();
    Err(Failure::new(
        Exit::Usage,
        format!(
            "where is {service} to go? Say --to postgres://USER:PASSWORD@HOST/DATABASE, or set FLAGHOIST_{name}_STORE"
        ),
    ))
}

async fn move_one(
    service: Service,
    place: &Place,
    to: &postgres::PgConnectOptions,
    hear: &mut (dyn FnMut(Progress) + Send),
) -> Result<Moved, Failure> {
    match service {
        Service::Auth => flaghoist_auth::migrate_store(place, &seal_files("FLAGHOIST_AUTH_SEAL_FILES"), to, hear)
            .await
            .map_err(failure),
        Service::Login => flaghoist_login::migrate_store(place, to, hear).await.map_err(failure),
        Service::Send => flaghoist_send::migrate_store(place, to, hear).await.map_err(failure),
        Service::Receiver => flaghoist_receiver::migrate_store(place, to, hear).await.map_err(failure),
    }
}

fn failure(error: impl std::error::Error + 'static) -> Failure {
    Failure::new(Exit::Failed, fault::chain(&error))
}

/// What was said and moved so far.
#[derive(Debug, Default)]
struct Told {
    moved: Vec<(Service, Moved)>,
    said_at: Option<Instant>,
}

impl Told {
    fn hears(&mut self, Progress { service, table, step, rows_done, rows }: Progress) {
        let quiet = self.said_at.is_some_and(|said_at| said_at.elapsed() < SAY_INTERVAL);
        if rows_done < rows && quiet {
            return;
        }
        self.said_at = Some(Instant::now());
        eprintln!("  {service}.{table}: {rows_done} of {rows} rows {step}");
    }

    fn prints_tables(&self) {
        println!("Moved, counted and compared:\n");
        println!("{:<24} {:>12}  digest", "table", "rows");
        for (service, moved) in &self.moved {
            for (table, tally) in &moved.tables {
                println!("{:<24} {:>12}  {}…", format!("{service}.{table}"), tally.rows, tally.short());
            }
        }
    }
}

fn print_next(moves: &[(Service, StoreAddress)], data: &Path, key_file: &Path) {
    println!(
        "\nWhat is next:\n\
         - Give every pod the key file {}; what it sealed, signed and digested is of no use without it:\n    \
         FLAGHOIST_<SERVICE>_SECRET_FILE=…",
        key_file.display()
    );
    println!("- Start the pods on their stores, with the user and password:");
    for (service, store) in moves {
        if let StoreAddress::Postgres(to) = store {
            println!("    FLAGHOIST_{}_STORE=postgres://{}", service.name().to_uppercase(), postgres::place(to));
        }
    }
    println!(
        "- Let them have the issuer of before, or every token is refused: FLAGHOIST_<SERVICE>_ISSUER is what\n  \
         FLAGHOIST_SERVE_ISSUER was. More than one pod of receiver needs FLAGHOIST_RECEIVER_BUS=nats://….\n\
         - Start no server on {} any more: what it takes would stay there. Keep it as a backup.",
        data.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_may_be_a_folder_or_the_file_of_one_service() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("sqlite://{}", place.path().join(name).display());
        for name in ["send.db", "other.db"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        assert_eq!(folder(Some(&at(""))).unwrap(), (place.path().join(""), None));
        assert_eq!(folder(Some(&at("send.db"))).unwrap(), (place.path().to_owned(), Some(Service::Send)));
        for (from, says) in
            [(at("other.db"), "data folder"), ("data".into(), "sqlite:///"), ("sqlite://".into(), "no folder")]
        {
            let refused = folder(Some(&from)).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.message.contains(says), "{}", refused.message);
        }
    }

    #[test]
    fn a_target_is_a_postgresql_database_and_its_password_is_not_repeated() {
        let refused = target(Some("sqlite".into()), Service::Send).unwrap_err();
        assert!(refused.message.contains("--to postgres://"), "{}", refused.message);
        let refused = target(Some("mysql://send:hunter2@db/send".into()), Service::Send).unwrap_err();
        assert!(refused.message.contains("--to") && !refused.message.contains("hunter2"), "{}", refused.message);
    }
}

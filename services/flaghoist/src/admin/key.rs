//! `flaghoist admin key`: the keys that sign tokens. They rotate by themselves; these commands are for looking at them, for a rotation
//! out of turn, for an emergency, and for replacing the key with which private keys are sealed in the store.

use std::path::PathBuf;

use flaghoist_proto::auth::v1::key_service_client::KeyServiceClient;
use flaghoist_proto::auth::v1::{KeyState, ListKeysRequest, RevokeKeyRequest, RotateKeysRequest, SigningKey};
use flaghoist_runtime::{Place, fault};
use serde_json::{Value, json};

use super::require_folder;
use crate::client::{Client, Options, Output, harmless, time, time_value};
use crate::exit::{Exit, Failure};
use crate::serve::{Service, data_folder, seal_files, secret_file, store_of};

/// What is done with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the published keys: the one that signs, those that wait, those that retire
    #[command(after_help = "Example:\n  flaghoist admin key list --json | jq -r 'select(.reserve) | .key'")]
    List,
    /// Let another key take over as soon as every sidecar can know it
    #[command(after_help = "\
Example:
  flaghoist admin key rotate

Keys rotate by themselves (FLAGHOIST_AUTH_KEY_PERIOD); this is for not waiting that long. The next key is published for
FLAGHOIST_AUTH_KEY_LEAD before it signs, and tokens of the one before stay good. If a private key may be known to others,
revoke it instead.")]
    Rotate,
    /// Take a key away at once, with every token that it has signed
    #[command(after_help = "\
Examples:
  flaghoist admin key revoke kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k
  flaghoist admin key revoke keys/kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k --force

For a private key that others may know. The reserve signs from the same moment on; people stay signed in, and their
programs refresh by themselves.")]
    Revoke {
        /// The key: `keys/KID` or KID
        // One of 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        key: String,
        /// Although no reserve is known long enough: sidecars refuse new tokens until they have fetched the keys again
        #[arg(long)]
        force: bool,
    },
    /// Seal what is secret in a store with the newest sealing key; servers may be running
    #[command(after_help = "\
Examples:
  FLAGHOIST_AUTH_SEAL_FILES=/keys/2027.key flaghoist admin key reseal --data /var/lib/flaghoist
  FLAGHOIST_AUTH_STORE=postgres://auth@db/flaghoist FLAGHOIST_AUTH_SEAL_FILES=/keys/2027.key,/keys/2026.key \\
    flaghoist admin key reseal --secret-file /keys/secret.key
  FLAGHOIST_LOGIN_SEAL_FILES=/keys/2027.key,/keys/2026.key flaghoist admin key reseal --service login

Auth seals private keys, login the secrets of authenticator apps. To replace a sealing key: make a file of 32 random bytes, append it to
FLAGHOIST_AUTH_SEAL_FILES (or FLAGHOIST_LOGIN_SEAL_FILES) of every pod, put it first when all have it, call this, then leave the
older files out. The key file of the service opens what was never sealed anew.")]
    Reseal {
        /// Whose store
        #[arg(long, value_enum, default_value = "auth")]
        service: Sealing,
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// The server's key file [default: `$FLAGHOIST_SERVE_SECRET_FILE`, else secret.key in the folder]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
}

/// Who seals something.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Sealing {
    /// The private keys that sign tokens
    Auth,
    /// The secrets of authenticator apps
    Login,
}

/// Does what `command` says.
pub(super) async fn run(options: Options, command: Command) -> Result<(), Failure> {
    let client = Client::new(options)?;
    match command {
        Command::List => list(&client).await,
        Command::Rotate => rotate(&client).await,
        Command::Revoke { key, force } => revoke(&client, &key, force).await,
        Command::Reseal { service, data, secret_file } => {
            reseal(client.output, service, data_folder(data), secret_file).await
        }
    }
}

async fn list(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let answer =
        signed.call(|service| async move { KeyServiceClient::new(service).list_keys(ListKeysRequest {}).await });
    for key in answer.await?.keys {
        client.output.show(&object(&key), || line(&key))?;
    }
    Ok(())
}

async fn rotate(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let answer =
        signed.call(|service| async move { KeyServiceClient::new(service).rotate_keys(RotateKeysRequest {}).await });
    let answer = answer.await?;
    let next = answer.next.as_ref();
    let object = json!({
        "next": next.map(kid),
        "take_over_time": time_value(answer.take_over_time.as_ref()),
    });
    client.output.show(&object, || {
        let next = next.map_or("another key", kid);
        let when = time(answer.take_over_time.as_ref());
        format!("{} signs from {when} on, when every sidecar knows what follows it", harmless(next))
    })
}

async fn revoke(client: &Client, key: &str, force: bool) -> Result<(), Failure> {
    let id = key.strip_prefix("keys/").unwrap_or(key);
    let signed = client.signed()?;
    let answer = signed.call(|service| {
        let request = RevokeKeyRequest { name: format!("keys/{id}"), force };
        async move { KeyServiceClient::new(service).revoke_key(request).await }
    });
    let active = answer.await?.active;
    let active = active.as_ref().map_or("", kid);
    client.output.show(&json!({"revoked": id, "active": active}), || {
        format!(
            "revoked {}: {} signs now. What the revoked key has signed is refused within 5 seconds; programs refresh by themselves",
            harmless(id),
            harmless(active)
        )
    })
}

async fn reseal(output: Output, of: Sealing, data: PathBuf, secret: Option<PathBuf>) -> Result<(), Failure> {
    let (service, setting) = match of {
        Sealing::Auth => (Service::Auth, "FLAGHOIST_AUTH_SEAL_FILES"),
        Sealing::Login => (Service::Login, "FLAGHOIST_LOGIN_SEAL_FILES"),
    };
    let (store, files) = (store_of(service)?, seal_files(setting));
    require_folder(&store, &data)?;
    let place = Place { data, secret_file: secret_file(secret) };
    // Asking for the key would make one.
    let key_file = place.secret_file.clone().unwrap_or_else(|| place.data.join("secret.key"));
    if !key_file.is_file() {
        let what = format!("there is no key file {}: name the server's with --secret-file", key_file.display());
        return Err(Failure::new(Exit::BadInput, what));
    }
    let with =
        if files.is_empty() { format!("the key file, for {setting} names none") } else { "the newest file".to_owned() };
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::new(Exit::Failed, fault::chain(error));
    match of {
        Sealing::Auth => {
            let done = flaghoist_auth::reseal_keys(&store, &place, &files).await.map_err(|error| failed(&error))?;
            let object = json!({"sealed_with": done.sealed_with, "resealed": done.resealed, "keys": done.keys});
            output.show(&object, || {
                let (resealed, keys) = (done.resealed, done.keys);
                format!("{resealed} of {keys} keys sealed anew: all are sealed with {} ({with})", done.sealed_with)
            })
        }
        Sealing::Login => {
            let done = flaghoist_login::reseal_factors(&store, &place, &files).await.map_err(|error| failed(&error))?;
            let object = json!({"resealed": done.resealed, "secrets": done.secrets});
            output.show(&object, || {
                let (resealed, secrets) = (done.resealed, done.secrets);
                format!("{resealed} of {secrets} secrets of apps sealed anew: all are sealed with {with}")
            })
        }
    }
}

fn kid(key: &SigningKey) -> &str {
    key.name.trim_start_matches("keys/")
}

fn state(key: &SigningKey) -> &'static str {
    match key.state() {
        KeyState::Active => "active",
        KeyState::Pending => "pending",
        KeyState::Retiring => "retiring",
        KeyState::Unspecified => "unknown",
    }
}

fn object(key: &SigningKey) -> Value {
    json!({
        "key": kid(key),
        "state": state(key),
        "reserve": key.reserve,
        "algorithm": key.algorithm,
        "publish_time": time_value(key.publish_time.as_ref()),
        "activate_time": time_value(key.activate_time.as_ref()),
        "retire_time": time_value(key.retire_time.as_ref()),
        "remove_time": time_value(key.remove_time.as_ref()),
        "sealed_with": key.sealed_with,
    })
}

fn line(key: &SigningKey) -> String {
    let at = |what: &Option<prost_types::Timestamp>| time(what.as_ref());
    let when = match key.state() {
        KeyState::Active => format!("signs since {}, until {}", at(&key.activate_time), at(&key.retire_time)),
        KeyState::Retiring => {
            format!("signed until {}, published until {}", at(&key.retire_time), at(&key.remove_time))
        }
        KeyState::Pending | KeyState::Unspecified => {
            let reserve = if key.reserve { ", the reserve" } else { "" };
            format!("published since {}, may sign from {}{reserve}", at(&key.publish_time), at(&key.activate_time))
        }
    };
    let (kid, algorithm) = (harmless(kid(key)), harmless(&key.algorithm));
    format!("{kid}  {:8}  {algorithm}  {when}; sealed with {}", state(key), harmless(&key.sealed_with))
}

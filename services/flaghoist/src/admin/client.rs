//! `flaghoist admin client`: the OAuth clients of an installation. Every command is one call to `auth.v1.ClientService`.

use std::time::Duration;

use flaghoist_proto::auth::v1::client_service_client::ClientServiceClient;
use flaghoist_proto::auth::v1::{
    self as pb, ClientScopes, CreateClientRequest, CreateRegistrationTokenRequest, DeleteClientRequest,
    GetClientRequest, ListClientsRequest, RotateClientSecretRequest, UpdateClientRequest,
};
use flaghoist_runtime::settings::{duration_text, parse_duration};
use serde_json::{Value, json};

use crate::client::{Client, harmless, time, time_value};
use crate::exit::{Exit, Failure};

mod registration;

/// Every scope that a client may have.
const SCOPE_HELP: &str = "A scope that it may ask for: chat.read, chat.send, admin, openid, profile, email, phone, address, \
                          offline_access; may be given several times";

/// What is done with clients.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the clients
    #[command(after_help = "\
Examples:
  flaghoist admin client list
  flaghoist admin client list --json | jq -r 'select(.confidential) | .client_id'")]
    List,
    /// Register a client; a secret is printed once
    #[command(after_help = "\
Examples:
  flaghoist admin client create reports --name 'Nightly reports' --scope chat.read
  flaghoist admin client create --name 'A browser app' --public --scope openid --scope chat.read --scope chat.send \
    --redirect-uri https://app.example/callback
  flaghoist admin client create nightly --name 'Nightly job' --scope chat.send --jwks nightly.jwks.json
  flaghoist admin client create --name 'A television' --public --scope chat.read --grant device_code --grant refresh_token")]
    Create {
        /// Its id: lower-case letters, digits, `.`, `_`, `-`; one is made if none is given
        #[arg(default_value = "")]
        id: String,
        /// What people are shown
        #[arg(long, value_name = "TEXT")]
        name: String,
        #[arg(long = "scope", value_name = "SCOPE", help = SCOPE_HELP)]
        scopes: Vec<String>,
        /// It cannot keep a secret, as an app in a browser or on a phone
        #[arg(long)]
        public: bool,
        #[command(flatten)]
        registration: registration::Flags,
    },
    /// Show one client
    #[command(after_help = "Example:\n  flaghoist admin client show reports")]
    Show {
        /// The client's id
        id: String,
    },
    /// Change a client; what is not said stays as it is
    #[command(after_help = "\
Examples:
  flaghoist admin client update reports --name 'Hourly reports'
  flaghoist admin client update reports --scope chat.read --scope chat.send
  flaghoist admin client update reports --no-scopes
  flaghoist admin client update reports --dpop-bound-access-tokens
  flaghoist admin client update reports --first-party=false --backchannel-logout-uri ''")]
    Update {
        /// The client's id
        id: String,
        /// What people are shown from now on
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// A scope that it may ask for from now on, in place of all it had; may be given several times
        #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
        scopes: Vec<String>,
        /// It may ask for no scope any more
        #[arg(long)]
        no_scopes: bool,
        #[command(flatten)]
        registration: registration::Flags,
    },
    /// Remove a client, with its sessions and tokens
    #[command(after_help = "Example:\n  flaghoist admin client delete reports")]
    Delete {
        /// The client's id
        id: String,
    },
    /// Make a token with which programs register themselves as clients (RFC 7591); printed once
    #[command(after_help = "\
Examples:
  flaghoist admin client registration-token --scope openid --scope profile
  flaghoist admin client registration-token --scope openid --uses 20 --lifetime 7d")]
    RegistrationToken {
        /// A scope that they may ask for; may be given several times
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How many may register with it; 1000 at most
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        uses: i32,
        /// How long it is good, such as 1h or 7d; 30d at most
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = grace)]
        lifetime: Duration,
    },
    /// Give a client a new secret, printed once; the present one stays good for a while
    #[command(after_help = "\
Examples:
  flaghoist admin client rotate-secret reports
  flaghoist admin client rotate-secret reports --grace 1h
  flaghoist admin client rotate-secret reports --grace 0s      the present one has leaked")]
    RotateSecret {
        /// The client's id
        id: String,
        /// How long the present secret stays good, such as 0s, 1h or 7d; 30d at most
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
        grace: Duration,
    },
}

fn grace(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time like 0s, 1h or 7d".to_owned())
}

/// The resource name of a client that was given by it or by its id.
fn name(id: &str) -> String {
    format!("clients/{}", id.strip_prefix("clients/").unwrap_or(id))
}

fn missing() -> Failure {
    Failure::new(Exit::Failed, "the server answered without the client")
}

/// Does what `command` says.
pub(super) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => list(client).await,
        Command::Create { id, name, scopes, public, registration } => {
            if public && registration.with_keys() {
                return Err(Failure::new(Exit::Usage, "--public and --jwks: a public client keeps no key either"));
            }
            let registration = registration.on(pb::Registration::default())?;
            let request = CreateClientRequest {
                client_id: id,
                display_name: name,
                confidential: !public,
                scopes,
                registration: Some(registration),
            };
            create(client, request).await
        }
        Command::RegistrationToken { scopes, uses, lifetime } => {
            registration_token(client, scopes, uses, lifetime).await
        }
        Command::Show { id } => show(client, &id).await,
        Command::Update { id, name, scopes, no_scopes, registration } => {
            let scopes = (no_scopes || !scopes.is_empty()).then_some(ClientScopes { scopes });
            update(client, &id, name, scopes, registration).await
        }
        Command::Delete { id } => delete(client, &id).await,
        Command::RotateSecret { id, grace } => rotate_secret(client, &id, grace).await,
    }
}

async fn list(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let mut page_token = String::new();
    loop {
        let answer = signed
            .call(|service| {
                let request = ListClientsRequest { page_size: 200, page_token: page_token.clone() };
                async move { ClientServiceClient::new(service).list_clients(request).await }
            })
            .await?;
        for found in answer.clients {
            client.output.show(&object(&found, None), || line(&found))?;
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn create(client: &Client, request: CreateClientRequest) -> Result<(), Failure> {
    let signed = client.signed()?;
    let answer = signed.once(|service| {
        let request = request.clone();
        async move { ClientServiceClient::new(service).create_client(request).await }
    });
    let answer = answer.await?;
    let made = answer.client.ok_or_else(missing)?;
    let secret = Some(answer.client_secret.as_str()).filter(|secret| !secret.is_empty());
    client.output.show(&object(&made, secret), || {
        let line = format!("registered {}", line(&made));
        secret.map_or(line.clone(), |secret| format!("{line}\nsecret: {secret}   (keep it: it cannot be read again)"))
    })
}

async fn registration_token(
    client: &Client,
    scopes: Vec<String>,
    uses: i32,
    lifetime: Duration,
) -> Result<(), Failure> {
    let lifetime = lifetime.try_into().map_err(|_| Failure::new(Exit::Usage, "--lifetime is too long"))?;
    let request = CreateRegistrationTokenRequest { scopes, uses, lifetime: Some(lifetime) };
    let signed = client.signed()?;
    let made = signed
        .once(|service| {
            let request = request.clone();
            async move { ClientServiceClient::new(service).create_registration_token(request).await }
        })
        .await?;
    let object = json!({
        "registration_token": made.registration_token,
        "expire_time": time_value(made.expire_time.as_ref()),
    });
    client.output.show(&object, || {
        let until = time(made.expire_time.as_ref());
        format!("registration token, until {until}: {}", harmless(&made.registration_token))
    })
}

async fn show(client: &Client, id: &str) -> Result<(), Failure> {
    let found = found(client, id).await?;
    client.output.show(&object(&found, None), || line(&found))
}

async fn found(client: &Client, id: &str) -> Result<pb::Client, Failure> {
    let signed = client.signed()?;
    let answer = signed.call(|service| {
        let request = GetClientRequest { name: name(id) };
        async move { ClientServiceClient::new(service).get_client(request).await }
    });
    answer.await?.client.ok_or_else(missing)
}

async fn update(
    client: &Client,
    id: &str,
    display_name: Option<String>,
    scopes: Option<ClientScopes>,
    registration: registration::Flags,
) -> Result<(), Failure> {
    if display_name.is_none() && scopes.is_none() && !registration.given() {
        let text = "say what is to change: --name, --scope, --no-scopes, or something of its registration (--help)";
        return Err(Failure::new(Exit::Usage, text));
    }
    // It is replaced as a whole, so what is not said is what is there.
    let registration = match registration.given() {
        true => Some(registration.on(found(client, id).await?.registration.unwrap_or_default())?),
        false => None,
    };
    let request = UpdateClientRequest { name: name(id), display_name, scopes, registration };
    let signed = client.signed()?;
    let answer = signed.call(|service| {
        let request = request.clone();
        async move { ClientServiceClient::new(service).update_client(request).await }
    });
    let changed = answer.await?.client.ok_or_else(missing)?;
    client.output.show(&object(&changed, None), || format!("changed {}", line(&changed)))
}

async fn delete(client: &Client, id: &str) -> Result<(), Failure> {
    let name = name(id);
    let signed = client.signed()?;
    let answer = signed.call(|service| {
        let request = DeleteClientRequest { name: name.clone() };
        async move { ClientServiceClient::new(service).delete_client(request).await }
    });
    answer.await?;
    let id = name.trim_start_matches("clients/");
    client.output.show(&json!({"client_id": id, "deleted": true}), || {
        format!("removed {}, its sessions and its tokens", harmless(id))
    })
}

async fn rotate_secret(client: &Client, id: &str, grace: Duration) -> Result<(), Failure> {
    let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(grace.subsec_nanos()).unwrap_or(0);
    let request = RotateClientSecretRequest { name: name(id), grace: Some(prost_types::Duration { seconds, nanos }) };
    // Made twice, the secret that programs have now would be good no longer.
    let signed = client.signed()?;
    let answer = signed.once(|service| {
        let request = request.clone();
        async move { ClientServiceClient::new(service).rotate_client_secret(request).await }
    });
    let answer = answer.await?;
    let changed = answer.client.ok_or_else(missing)?;
    client.output.show(&object(&changed, Some(&answer.client_secret)), || {
        let before = match grace {
            Duration::ZERO => "the one before is not good any more".to_owned(),
            grace => format!("the one before is good for {} more", duration_text(grace)),
        };
        format!("secret: {}   (keep it: it cannot be read again; {before})", answer.client_secret)
    })
}

fn id_of(client: &pb::Client) -> &str {
    client.name.trim_start_matches("clients/")
}

/// A client for scripts, with its secret where that is known.
fn object(client: &pb::Client, secret: Option<&str>) -> Value {
    let mut object = json!({
        "client_id": id_of(client),
        "display_name": client.display_name,
        "confidential": client.confidential,
        "scopes": client.scopes,
        "create_time": time_value(client.create_time.as_ref()),
        "previous_secret_expire_time": time_value(client.previous_secret_expire_time.as_ref()),
        "registration": client.registration.as_ref().map(registration::object),
    });
    if let Some(secret) = secret {
        object["client_secret"] = secret.into();
    }
    object
}

fn line(client: &pb::Client) -> String {
    let kind = if client.confidential { "confidential" } else { "public" };
    let scopes = if client.scopes.is_empty() { "no scopes".to_owned() } else { client.scopes.join(" ") };
    let two = client.previous_secret_expire_time.as_ref();
    let two = two.map(|until| format!(", the secret before is good until {}", time(Some(until)))).unwrap_or_default();
    let (id, name) = (harmless(id_of(client)), harmless(&client.display_name));
    format!("{id}  {name:?}, {kind}, {scopes}, since {}{two}", time(client.create_time.as_ref()))
}

//! `flaghoist login`: opens a session and keeps its tokens in the profile.

use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::{ClientCredentials, RevokeTokenRequest, TokenSet};
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::submit_password_response::Next;
use flaghoist_proto::login::v1::{Account, StartLoginRequest, SubmitPasswordRequest};
use serde_json::json;

use super::Client;
use super::connection::{CLIENT_ID, Connection};
use super::output::harmless;
use super::password::PasswordFrom;
use super::profile::{Profile, Session, new_device};
use crate::exit::{Exit, Failure};

mod browser;
mod second_factor;

pub(super) use second_factor::CodeFrom;

/// The arguments of `login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist login alice
  flaghoist login bob --profile bob
  flaghoist login --browser
  flaghoist login carol --password-file ~/.carol --code-file -
  flaghoist login alice --password-file ~/.alice --server https://chat.example.com")]
pub(crate) struct Arguments {
    /// The handle, with or without `@`
    #[arg(required_unless_present = "browser", default_value = "", hide_default_value = true)]
    handle: String,
    /// Sign in in a browser, here or elsewhere: prints an address and a code, and waits
    #[arg(long, conflicts_with_all = ["handle", "label", "password_file", "code_file"])]
    browser: bool,
    /// What this sign-in is called in the list of sessions
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    password: PasswordFrom,
    #[command(flatten)]
    code: CodeFrom,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed_in = if arguments.browser {
        browser::sign_in(client).await?
    } else {
        let handle = plain(&arguments.handle);
        client.connection()?;
        if arguments.password.standard_input() && arguments.code.standard_input() {
            let both = "--password-file and --code-file cannot both be standard input";
            return Err(Failure::new(Exit::Usage, format!("{both}: put one of them into a file")));
        }
        let password = arguments.password.read(&format!("Password for {handle}: "))?;
        let label = arguments.label.unwrap_or_else(|| default_label(client));
        sign_in(client, handle, password, label, &arguments.code).await?
    };
    client.output.show(
        &json!({
            "user": signed_in.account.name,
            "handle": signed_in.account.handle,
            "display_name": signed_in.account.display_name,
            "session": signed_in.session,
            "server": signed_in.server,
            "profile": client.file.name(),
        }),
        || format!("signed in as @{} at {}", harmless(&signed_in.account.handle), signed_in.server),
    )
}

/// What a sign-in gave.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) account: Account,
    /// The session's resource name.
    pub(super) session: String,
    pub(super) server: String,
}

/// The handle without the `@` in front.
pub(super) fn plain(handle: &str) -> &str {
    handle.strip_prefix('@').unwrap_or(handle)
}

pub(super) fn default_label(client: &Client) -> String {
    match client.file.name() {
        "default" => "command line".into(),
        name => format!("command line, {name}").chars().take(64).collect(),
    }
}

/// Signs in and replaces what the profile held.
pub(super) async fn sign_in(
    client: &Client,
    handle: &str,
    password: String,
    label: String,
    code: &CodeFrom,
) -> Result<SignedIn, Failure> {
    let without = || Failure::new(Exit::Failed, "the server answered without tokens");
    let connection = client.connection()?;
    let request = StartLoginRequest { handle: handle.to_owned(), client_id: CLIENT_ID.into(), label };
    let begun =
        connection.once(|channel| async move { LoginServiceClient::new(channel).start_login(request).await }).await?;
    let request = SubmitPasswordRequest { login: begun.login.clone(), password };
    let answer = connection
        .once(|channel| async move { LoginServiceClient::new(channel).submit_password(request).await })
        .await?;
    let signed_in = match answer.next.ok_or_else(without)? {
        Next::SignedIn(signed_in) => signed_in,
        Next::SecondFactors(wanted) => second_factor::submit(&connection, begun.login, &wanted, code).await?,
    };
    let (Some(account), Some(session), Some(tokens)) = (signed_in.account, signed_in.session, signed_in.tokens) else {
        return Err(without());
    };
    keep(client, &connection, account, session.name, tokens).await
}

/// Puts a sign-in in the place of what the profile held.
async fn keep(
    client: &Client,
    connection: &Connection,
    account: Account,
    session: String,
    tokens: TokenSet,
) -> Result<SignedIn, Failure> {
    let lock = client.file.lock().await?;
    // A profile that cannot be read is replaced: signing in is the way out of it.
    let before = client.file.read().ok().flatten();
    let device = before
        .as_ref()
        .filter(|before| before.server == connection.server() && before.user == account.name)
        .map_or_else(new_device, |before| before.device.clone());
    let profile = Profile {
        server: connection.server().to_owned(),
        user: account.name.clone(),
        handle: account.handle.clone(),
        device,
        session: Some(Session::new(session.clone(), tokens)),
    };
    client.file.write(&profile, &lock)?;
    drop(lock);
    if let Some(before) = before {
        end(connection, before).await;
    }
    Ok(SignedIn { account, session, server: connection.server().to_owned() })
}

/// Ends the session that the profile held until now, as nobody has its tokens any more. If that fails it runs out by
/// itself.
async fn end(connection: &Connection, before: Profile) {
    let Some(session) = before.session.filter(|_| before.server == connection.server()) else { return };
    let request = RevokeTokenRequest {
        client: Some(ClientCredentials { client_id: CLIENT_ID.into(), ..ClientCredentials::default() }),
        token: session.refresh_token,
    };
    let _ =
        connection.once(|channel| async move { TokenServiceClient::new(channel).revoke_token(request).await }).await;
}

//! What the issuer gives and says: refresh grants with an ID token, clients' own tokens, introspection. By gRPC, which is the issuer's
//! other form of the same endpoints, so that the generator costs little; what everybody may read, over HTTP (`documents.rs`).
//!
//! With `--sessions` and `--used-tokens` everything is measured twice: in an empty store, and in one that holds so much. The rows are
//! written by SQL while the server is stopped; a tenth of the used ids is over already and is thrown away during the second run.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{
    ClientCredentials, ClientCredentialsGrant, CreateClientRequest, IntrospectTokenRequest, IntrospectTokenResponse,
    IssueTokenRequest, IssueTokenResponse, RefreshTokenGrant,
};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::task::LocalSet;

use super::report::{Latencies, Report, Usage};
use super::wire::{Connection, Method, decode, frame};
use super::{Target, own_world};
use crate::cluster::Service;
use crate::person::cli_asks;
use crate::world::World;

mod documents;

/// How many rows are written in one statement.
const ROWS_AT_ONCE: u64 = 100_000;

/// What is asked of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Refresh grants without an ID token
    Refresh,
    /// Refresh grants with an ID token, signed with RS256
    IdToken,
    /// Tokens of a confidential client's own
    ClientCredentials,
    /// Whether an access token is good
    Introspection,
    /// The JWK set and the metadata, over HTTP
    Jwks,
}

/// What is asked, and of how full a store.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is asked
    #[arg(value_enum)]
    kind: Kind,
    /// For how long, after a second of warming up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many callers, each with one call under way
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// How many connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How many sessions more there are at a second measurement
    #[arg(long, default_value_t = 0)]
    sessions: u64,
    /// How many used ids there are at a second measurement
    #[arg(long, default_value_t = 0)]
    used_tokens: u64,
}

/// One caller's next call.
#[derive(Clone, Debug)]
enum Caller {
    Refresh { token: String, id_token: bool },
    ClientCredentials(Bytes),
    Introspection(Bytes),
}

impl Caller {
    fn path(&self) -> &'static str {
        match self {
            Self::Refresh { .. } | Self::ClientCredentials(_) => "/flaghoist.auth.v1.TokenService/IssueToken",
            Self::Introspection(_) => "/flaghoist.auth.v1.TokenService/IntrospectToken",
        }
    }

    fn request(&self) -> Bytes {
        match self {
            Self::Refresh { token, id_token } => {
                let mut asked = cli_asks(Grant::RefreshToken(RefreshTokenGrant { refresh_token: token.clone() }));
                if let Some(client) = asked.client.as_mut().filter(|_| *id_token) {
                    client.client_id = "flaghoist-account".into();
                }
                frame(&asked)
            }
            Self::ClientCredentials(frame) | Self::Introspection(frame) => frame.clone(),
        }
    }

    /// Takes an answer, which has to be a good one.
    fn answered(&mut self, answer: Bytes) -> Result<(), String> {
        if let Self::Introspection(_) = self {
            let said: IntrospectTokenResponse = decode(answer)?;
            return if said.active { Ok(()) } else { Err("the token is not active".into()) };
        }
        let tokens = decode::<IssueTokenResponse>(answer)?.tokens.ok_or("no tokens")?;
        if let Self::Refresh { token, id_token } = self {
            if *id_token == tokens.id_token.is_empty() {
                return Err(format!("an ID token is asked for: {id_token}, and the answer has another opinion"));
            }
            *token = tokens.refresh_token;
        }
        Ok(())
    }
}

pub(super) async fn run(options: Options) -> Result<Report, String> {
    if options.kind == Kind::Jwks {
        return documents::run(&options).await;
    }
    let world = own_world().embedded().try_start().await?;
    let mut callers = callers(&world, &options).await?;
    let id_tokens = options.kind == Kind::IdToken;
    if id_tokens {
        stopped(&world, async |store| {
            // The account pages are the built-in client that is given ID tokens.
            let theirs = "UPDATE sessions SET client_id = 'flaghoist-account', scopes = 'chat.read chat.send openid'";
            sqlx::query(theirs).execute(store).await?;
            Ok(())
        })
        .await?;
    }
    let mut report = Report::new(match options.kind {
        Kind::Refresh => "refresh grants",
        Kind::IdToken => "refresh grants with an RS256 ID token",
        Kind::ClientCredentials => "client credentials",
        Kind::Introspection | Kind::Jwks => "introspection",
    });
    let empty = measure(&world, &mut callers, &options, &mut report, "answers").await?;
    if options.sessions + options.used_tokens > 0 {
        let began = Instant::now();
        stopped(&world, async |store| fill(store, options.sessions, options.used_tokens).await).await?;
        report.figure("filled the store in", began.elapsed().as_secs_f64(), "s");
        let full = measure(&world, &mut callers, &options, &mut report, "answers, store full").await?;
        report.figure("change", 100.0 * (full / empty - 1.0), "%");
    }
    Ok(report)
}

async fn callers(world: &World, options: &Options) -> Result<Vec<Caller>, String> {
    if matches!(options.kind, Kind::Refresh | Kind::IdToken) {
        let address = world.grpc().ok_or("the server is gone")?;
        let people = Target { world: world.clone(), address, own: true }.people(options.callers).await;
        let id_token = options.kind == Kind::IdToken;
        let caller = |token: &String| Caller::Refresh { token: token.clone(), id_token };
        return Ok(people.iter().map(|person| caller(&person.tokens.refresh_token)).collect());
    }
    let admin = world.admin("admin").await;
    let request = CreateClientRequest {
        client_id: "bench".into(),
        display_name: "bench".into(),
        confidential: true,
        scopes: vec!["chat.read".into()],
        registration: None,
    };
    let made = admin.calls().clients().create_client(request).await.map_err(|status| format!("{status:?}"))?;
    let client_secret = made.into_inner().client_secret;
    let client = ClientCredentials { client_id: "bench".into(), client_secret, ..ClientCredentials::default() };
    let caller = match options.kind {
        Kind::Introspection => {
            Caller::Introspection(frame(&IntrospectTokenRequest { client: Some(client), token: admin.token() }))
        }
        _ => {
            let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
            Caller::ClientCredentials(frame(&IssueTokenRequest { client: Some(client), grant, scope: String::new() }))
        }
    };
    Ok(vec![caller; options.callers])
}

/// Answers a second, with all callers at once.
async fn measure(
    world: &World,
    callers: &mut Vec<Caller>,
    options: &Options,
    report: &mut Report,
    what: &str,
) -> Result<f64, String> {
    let address = world.grpc().ok_or("the server is gone")?;
    let target = Target { world: world.clone(), address, own: true };
    let answers = Rc::new(RefCell::new(Latencies::new()));
    let failed: Rc<RefCell<Option<String>>> = Rc::default();
    let (stop, after) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
    let tasks = LocalSet::new();
    let mut connections = Vec::new();
    for number in 0..options.connections.max(1) {
        connections.push(Connection::open(target.place(Service::Auth, number)).await?);
    }
    for (number, mut caller) in std::mem::take(callers).into_iter().enumerate() {
        let (mut connection, method) =
            (connections[number % connections.len()].clone(), Method::new(caller.path(), ""));
        let (answers, failed, stop) = (Rc::clone(&answers), Rc::clone(&failed), Rc::clone(&stop));
        let after = Rc::clone(&after);
        tasks.spawn_local(async move {
            while !stop.get() {
                let began = Instant::now();
                let answer = connection.call(&method, caller.request()).await;
                if let Err(error) = answer.and_then(|answer| caller.answered(answer)) {
                    failed.borrow_mut().get_or_insert(error);
                    return;
                }
                answers.borrow_mut().add(began.elapsed());
            }
            after.borrow_mut().push(caller);
        });
    }
    let rate = tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *answers.borrow_mut() = Latencies::new();
            let (usage, began) = (Usage::begin(&target), Instant::now());
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            let rate = answers.borrow().count() as f64 / began.elapsed().as_secs_f64();
            report.figure(what, rate, "/s");
            report.usage(&usage, &target);
            stop.set(true);
            rate
        })
        .await;
    let _ = tokio::time::timeout(Duration::from_secs(5), tasks).await;
    if let Some(error) = failed.take() {
        return Err(format!("a call failed: {error}"));
    }
    report.latencies(&format!("{what}: one"), &answers.borrow());
    *callers = after.take();
    Ok(rate)
}

/// Changes the store while nobody serves from it.
async fn stopped(
    world: &World,
    change: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), sqlx::Error>,
) -> Result<(), String> {
    world.stop().await;
    let changed = async {
        let path: &Path = &world.data().join("auth.db");
        let mut store = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?;
        change(&mut store).await?;
        store.close().await
    };
    changed.await.map_err(|error| format!("changing the store: {error}"))?;
    world.start_again().await;
    Ok(())
}

async fn fill(store: &mut SqliteConnection, sessions: u64, used_tokens: u64) -> Result<(), sqlx::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let numbers = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)";
    for (count, rows) in [
        (
            sessions,
            "INSERT INTO sessions (session_id, user_id, client_id, scopes, amr, label, authenticated_at, created_at, last_use_at, \
                    last_address, current_sha256, previous_sha256, rotated_at, claims, key_thumbprint) \
             SELECT randomblob(16), randomblob(16), 'flaghoist-cli', 'chat.read chat.send', 'pwd', 'bench', ?2, ?2, ?2, \
                    '192.0.2.1', randomblob(32), randomblob(32), ?2, '', '' FROM number",
        ),
        (
            used_tokens,
            "INSERT INTO used_ids (id_sha256, expires_at) \
             SELECT randomblob(32), CASE WHEN n % 10 = 0 THEN ?2 - 120000 ELSE ?2 + 3600000 + n END FROM number",
        ),
    ] {
        let mut left = count;
        while left > 0 {
            let some = left.min(ROWS_AT_ONCE);
            let insert = sqlx::AssertSqlSafe(format!("{numbers} {rows}"));
            sqlx::query(insert).bind(i64::try_from(some).unwrap_or(i64::MAX)).bind(now).execute(&mut *store).await?;
            left -= some;
        }
    }
    Ok(())
}

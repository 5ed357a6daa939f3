//! Signing in at the cost that password hashes have by default: how much of the machine's argon2id rate password logins reach, and
//! what those who need no hash wait for while the hash threads are busy.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{IssueTokenResponse, RefreshTokenGrant};
use flaghoist_proto::login::v1::{
    FinishSecurityKeyRequest, FinishSecurityKeyResponse, LoginRequest, LoginResponse, StartLoginRequest,
    StartLoginResponse, StartSecurityKeyRequest, StartSecurityKeyResponse,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::LocalSet;
use tokio::time::{Instant as Tick, sleep_until};

use super::own_world;
use super::report::{Latencies, Report};
use super::soft_key::SoftKey;
use super::wire::{Connection, Method, decode, frame};
use crate::person::{PASSWORD, Person, cli_asks};
use crate::world::{World, WorldBuilder};

/// The cost of a hash, which is that of an installation where nothing was said of it.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// How long each look at the raw rate takes.
const RAW_FOR: Duration = Duration::from_secs(2);

/// How often both are measured in turn, so that a machine that gets slower meanwhile does it to both.
const ROUNDS: u32 = 5;

/// How long the load goes on before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// How many password logins go.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// For how long
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many callers, each with one login under way
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Threads that hash, in the server and in the raw measurement; all cores if 0
    #[arg(long, default_value_t = 0)]
    hash_threads: usize,
}

/// What is asked while password logins keep the hash threads busy.
#[derive(Clone, Debug, clap::Args)]
pub struct Beside {
    /// For how long
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many callers sign in by password, each with one login under way
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// How many logins by a security key begin in a second
    #[arg(long, default_value_t = 10)]
    keys: u64,
    /// How many refresh grants are asked for in a second
    #[arg(long, default_value_t = 50)]
    refreshes: u64,
}

/// A world whose passwords cost what they cost by default.
pub(super) fn costly_world() -> WorldBuilder {
    let world = own_world().embedded();
    world.setting("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", MEMORY_KIB).setting("FLAGHOIST_LOGIN_HASH_PASSES", PASSES)
}

/// Registers people, a few at a time: each costs two hashes.
pub(super) async fn people(world: &World, count: usize) -> Vec<Person> {
    stream::iter(0..count).map(|_| world.person("bench")).buffered(8).collect().await
}

/// Where the server takes calls.
pub(super) fn address(world: &World) -> Result<SocketAddr, String> {
    world.grpc().ok_or_else(|| "the server is gone".to_owned())
}

/// The method by which people sign in with handle and password.
pub(super) fn login_method() -> Method {
    Method::new("/flaghoist.login.v1.LoginService/Login", "")
}

/// A request to sign in.
pub(super) fn login(handle: &str, password: &str) -> LoginRequest {
    LoginRequest { handle: handle.into(), password: password.into(), ..LoginRequest::default() }
}

/// People who sign in by password, one login after the other, until told to stop.
struct Load {
    done: Rc<Cell<u64>>,
    stopped: Rc<Cell<bool>>,
    failed: Rc<RefCell<Option<String>>>,
    took: Rc<RefCell<Latencies>>,
}

impl Load {
    async fn begin(tasks: &LocalSet, address: SocketAddr, people: &[Person]) -> Result<Self, String> {
        let took = Rc::new(RefCell::new(Latencies::new()));
        let load = Self { done: Rc::default(), stopped: Rc::default(), failed: Rc::default(), took };
        for chunk in people.chunks(people.len().div_ceil(4).max(1)) {
            let connection = Connection::open(address).await?;
            for person in chunk {
                let mut connection = connection.clone();
                let (done, stopped) = (Rc::clone(&load.done), Rc::clone(&load.stopped));
                let (failed, took) = (Rc::clone(&load.failed), Rc::clone(&load.took));
                let (method, request) = (login_method(), frame(&login(&person.handle, PASSWORD)));
                tasks.spawn_local(async move {
                    while !stopped.get() {
                        let began = Instant::now();
                        let answer = connection.call(&method, request.clone()).await;
                        match answer.and_then(decode::<LoginResponse>) {
                            Ok(LoginResponse { tokens: Some(_), .. }) => {
                                done.set(done.get() + 1);
                                took.borrow_mut().add(began.elapsed());
                            }
                            other => {
                                failed.borrow_mut().get_or_insert(format!("a login failed: {other:?}"));
                                return;
                            }
                        }
                    }
                });
            }
        }
        Ok(load)
    }

    /// How many logins were done since `before`, for each second since then.
    fn rate(&self, before: u64, began: Instant) -> f64 {
        (self.done.get() - before) as f64 / began.elapsed().as_secs_f64()
    }
}

pub(super) async fn run(options: Options) -> Result<Report, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if options.hash_threads == 0 { cores } else { options.hash_threads };
    let world = costly_world().setting("FLAGHOIST_LOGIN_HASH_THREADS", threads).try_start().await?;
    let people = people(&world, options.callers).await;
    let mut took = Latencies::new();
    let (mut rates, mut raw) = (Vec::new(), vec![raw_rate(threads)?]);
    for _ in 0..ROUNDS {
        let tasks = LocalSet::new();
        let load = Load::begin(&tasks, address(&world)?, &people).await?;
        let rate = tasks
            .run_until(async {
                tokio::time::sleep(WARM_UP).await;
                *load.took.borrow_mut() = Latencies::new();
                let (done, began) = (load.done.get(), Instant::now());
                tokio::time::sleep(Duration::from_secs(options.seconds) / ROUNDS).await;
                let rate = load.rate(done, began);
                took.add_all(&load.took.borrow());
                load.stopped.set(true);
                rate
            })
            .await;
        let _ = tokio::time::timeout(Duration::from_secs(30), tasks).await;
        if let Some(error) = load.failed.take() {
            return Err(error);
        }
        rates.push(rate);
        raw.push(raw_rate(threads)?);
    }
    let beside = raw.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let parts: Vec<_> = rates.iter().zip(beside).map(|(rate, raw)| 100.0 * rate / raw).collect();
    let mut report = Report::new("password logins");
    report.figure("threads that hash", threads as f64, "");
    report.figure("raw argon2id, the middle of its looks", median(raw), "/s");
    report.figure("password logins, the middle of the rounds", median(rates), "/s");
    report.figure("of the raw rate beside it, at least", parts.iter().copied().fold(f64::INFINITY, f64::min), "%");
    report.figure("of the raw rate beside it, in the middle", median(parts), "%");
    report.latencies("a login", &took);
    Ok(report)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How many hashes of the same cost so many threads make in a second, with nothing around them.
fn raw_rate(threads: usize) -> Result<f64, String> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|error| error.to_string())?;
    let (stop, hashes, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut memory = vec![Block::default(); params.block_count()];
                let mut output = [0; 32];
                while !stop.load(Ordering::Relaxed) {
                    let salt: [u8; 16] = rand::random();
                    let made =
                        argon2.hash_password_into_with_memory(PASSWORD.as_bytes(), &salt, &mut output, &mut memory[..]);
                    failed.fetch_or(made.is_err(), Ordering::Relaxed);
                    hashes.fetch_add(1, Ordering::Relaxed);
                    if began.elapsed() >= RAW_FOR {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() {
        return Err("argon2 refuses to hash".into());
    }
    Ok(hashes.into_inner() as f64 / began.elapsed().as_secs_f64())
}

pub(super) async fn beside(options: Beside) -> Result<Report, String> {
    let world = costly_world().try_start().await?;
    let address = address(&world)?;
    let signing_in = people(&world, options.callers).await;
    // More than can be under way at once, so that nobody has two.
    let with_keys = people(&world, 32).await;
    let keys = stream::iter(&with_keys).map(SoftKey::registered).buffered(4).try_collect::<Vec<_>>().await?;
    let refreshing = people(&world, 64).await;
    let tasks = LocalSet::new();
    let load = Load::begin(&tasks, address, &signing_in).await?;
    let by_key = ByKey { connection: Connection::open(address).await?, keys: keys.into(), took: Rc::default() };
    let tokens = refreshing.iter().map(|person| person.tokens.refresh_token.clone());
    let refreshes = Refreshes {
        connection: Connection::open(address).await?,
        method: Method::new("/flaghoist.auth.v1.TokenService/IssueToken", ""),
        tokens: tokens.map(RefCell::new).collect(),
        took: RefCell::new(Latencies::new()).into(),
    };
    let until = Duration::from_secs(options.seconds);
    let (rate, waiting) = tasks
        .run_until(async {
            tokio::time::sleep(WARM_UP).await;
            let (done, began) = (load.done.get(), Instant::now());
            let keys = open_loop(options.keys, until, &load.failed, |number, meant| by_key.clone().one(number, meant));
            let asked =
                open_loop(options.refreshes, until, &load.failed, |number, meant| refreshes.clone().one(number, meant));
            let looks = depths(&world, until);
            let ((), (), waiting) = tokio::join!(keys, asked, looks);
            let rate = load.rate(done, began);
            // What is under way ends first.
            tokio::time::sleep(Duration::from_secs(1)).await;
            load.stopped.set(true);
            (rate, waiting)
        })
        .await;
    let _ = tokio::time::timeout(Duration::from_secs(30), tasks).await;
    if let Some(error) = load.failed.take() {
        return Err(error);
    }
    let mut report = Report::new("beside password logins that keep the hash threads busy");
    report.figure("password logins", rate, "/s");
    report.figure("waiting for a hash, at least", waiting, "calls");
    report.latencies("a password login", &load.took.borrow());
    let took = by_key.took.borrow();
    report.latencies("a login by a security key, its three calls", &took.whole);
    report.latencies("the last of them", &took.last);
    report.latencies("a refresh grant", &refreshes.took.borrow());
    Ok(report)
}

/// Begins a call at each of its times, whatever became of those before.
async fn open_loop<F>(
    per_second: u64,
    until: Duration,
    failed: &Rc<RefCell<Option<String>>>,
    call: impl Fn(usize, Instant) -> F,
) where
    F: Future<Output = Result<(), String>> + 'static,
{
    let (began, period) = (Tick::now(), Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX));
    for number in 0.. {
        let meant = began + period * number;
        if meant - began >= until {
            return;
        }
        sleep_until(meant).await;
        let (call, failed) = (call(number as usize, meant.into_std()), Rc::clone(failed));
        tokio::task::spawn_local(async move {
            if let Err(error) = call.await {
                failed.borrow_mut().get_or_insert(error);
            }
        });
    }
}

/// The fewest calls that waited for a hash, of looks twice a second: while it is above 0, no thread was idle.
async fn depths(world: &World, until: Duration) -> f64 {
    let began = Instant::now();
    let mut fewest = f64::INFINITY;
    while began.elapsed() < until {
        let figures = world.figures().await;
        let depth = figures.lines().find_map(|line| line.strip_prefix("flaghoist_hash_pool_depth"));
        let depth = depth.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0);
        fewest = fewest.min(depth);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    fewest
}

/// Logins by security keys.
#[derive(Clone)]
struct ByKey {
    connection: Connection,
    keys: Rc<[SoftKey]>,
    took: Rc<RefCell<KeyTimes>>,
}

/// What the server took, without what the key took.
struct KeyTimes {
    whole: Latencies,
    last: Latencies,
}

impl Default for KeyTimes {
    fn default() -> Self {
        Self { whole: Latencies::new(), last: Latencies::new() }
    }
}

impl ByKey {
    async fn one(mut self, number: usize, meant: Instant) -> Result<(), String> {
        let method = |name: &str| Method::new(&format!("/flaghoist.login.v1.LoginService/{name}"), "");
        let started = self.connection.call(&method("StartLogin"), frame(&StartLoginRequest::default())).await?;
        let login = decode::<StartLoginResponse>(started)?.login;
        let start = frame(&StartSecurityKeyRequest { login: login.clone() });
        let asked = self.connection.call(&method("StartSecurityKey"), start).await?;
        let options = decode::<StartSecurityKeyResponse>(asked)?.options;
        let touched = Instant::now();
        let credential = self.keys[number % self.keys.len()].get(&options).await?;
        let touch = touched.elapsed();
        let finish = frame(&FinishSecurityKeyRequest { login, credential });
        let sent = Instant::now();
        let answer = self.connection.call(&method("FinishSecurityKey"), finish).await?;
        let answer = decode::<FinishSecurityKeyResponse>(answer)?;
        let mut took = self.took.borrow_mut();
        took.last.add(sent.elapsed());
        took.whole.add(meant.elapsed().saturating_sub(touch));
        answer.signed_in.and_then(|signed_in| signed_in.tokens).map(drop).ok_or_else(|| "no tokens".into())
    }
}

/// Refresh grants, of each session one after the other.
#[derive(Clone)]
struct Refreshes {
    connection: Connection,
    method: Method,
    tokens: Rc<[RefCell<String>]>,
    took: Rc<RefCell<Latencies>>,
}

impl Refreshes {
    async fn one(mut self, number: usize, meant: Instant) -> Result<(), String> {
        let token = &self.tokens[number % self.tokens.len()];
        let refresh_token = token.borrow().clone();
        let grant = Grant::RefreshToken(RefreshTokenGrant { refresh_token });
        let answer = self.connection.call(&self.method, frame(&cli_asks(grant))).await?;
        let tokens = decode::<IssueTokenResponse>(answer)?.tokens.ok_or("no tokens")?;
        self.took.borrow_mut().add(meant.elapsed());
        *token.borrow_mut() = tokens.refresh_token;
        Ok(())
    }
}

//! Several pods on one PostgreSQL database.

use std::collections::{BTreeMap, BTreeSet};

use flaghoist_backends::{Postgres, Stop};
use flaghoist_proto::auth::v1::watch_revocations_response::Target;
use flaghoist_runtime::settings::Reader;
use flaghoist_runtime::token::{RevocationTarget, TokenError};
use tokio::time::Instant;

use super::*;

/// How late a pod may notice what another has done.
const NOTICED: Duration = Duration::from_secs(2);

/// What the pods of an installation share: a database and a key file.
struct Site {
    postgres: Postgres,
    url: String,
    folder: TempDir,
}

impl Site {
    /// A site on the cluster that all tests share; none where this machine has no PostgreSQL.
    async fn new() -> Option<Self> {
        Some(Self::on(Postgres::shared().await?.clone()).await)
    }

    /// A site on a cluster that the test may stop.
    async fn alone() -> Option<Self> {
        Some(Self::on(Postgres::start().await?).await)
    }

    async fn on(postgres: Postgres) -> Self {
        let url = postgres.database().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("given.key"), [7; 32]).unwrap();
        Self { postgres, url, folder }
    }

    fn settings(&self) -> Settings {
        let given =
            BTreeMap::from([("FLAGHOIST_AUTH_STORE", self.url.as_str()), ("FLAGHOIST_AUTH_STORE_CONNECTIONS", "6")]);
        let mut reader = Reader::new(&given);
        let settings = Settings::read(&mut reader);
        reader.finish().unwrap();
        settings
    }

    fn place(&self) -> Place {
        let secret_file = Some(self.folder.path().join("given.key"));
        Place { secret_file, ..Place::new(self.folder.path()) }
    }

    async fn pod(&self) -> World {
        self.pod_with(self.settings()).await
    }

    async fn pod_with(&self, settings: Settings) -> World {
        World::at(self.place(), None, settings, Clock::default()).await
    }

    async fn pods(&self) -> [World; 2] {
        let (one, other) = tokio::join!(self.pod(), self.pod());
        [one, other]
    }
}

fn kids(world: &World) -> BTreeSet<String> {
    let Some(published) = world.issuer.keyring.published() else { return BTreeSet::new() };
    let set: serde_json::Value = serde_json::from_str(&published.jwks).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signer(world: &World) -> String {
    world.issuer.keyring.published().unwrap().signer.kid().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_key_is_one_however_many_pods_start_at_once() {
    let Some(site) = Site::new().await else { return };
    let pods = futures_util::future::join_all((0..4).map(|_| site.pod())).await;
    let (_, tokens) = pods[0].sign_in(somebody()).await;
    for pod in &pods {
        assert_eq!((signer(pod), kids(pod)), (signer(&pods[0]), kids(&pods[0])));
        pod.context.verifier.verify(&tokens.access_token).unwrap();
    }
    assert_eq!(kids(&pods[0]).len(), 6);
    pods[3].refresh(&tokens.refresh_token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_signs_with_a_key_that_not_every_pod_has_published_long_enough() {
    let Some(site) = Site::new().await else { return };
    let (second, lead) = (Duration::from_secs(1), Duration::from_secs(2));
    let settings =
        Settings { key_period: lead, key_lead: lead, key_keep: second, access_lifetime: second, ..site.settings() };
    let (one, other) = tokio::join!(site.pod_with(settings.clone()), site.pod_with(settings));
    let pods = [one, other];
    let (began, first) = (Instant::now(), signer(&pods[0]));
    let mut seen = [BTreeMap::new(), BTreeMap::new()];
    let mut signers = BTreeSet::new();
    while signers.len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "keys do not rotate");
        // The signers first: what signs now is published now.
        for kid in pods.each_ref().map(signer) {
            for (pod, seen) in pods.iter().zip(&mut seen) {
                let now = Instant::now();
                for kid in kids(pod) {
                    seen.entry(kid).or_insert(now);
                }
                let published_at = seen.get(&kid).expect("every pod publishes what any pod signs with");
                // What this loop takes is not the pod's.
                let published_for = published_at.elapsed() + Duration::from_millis(300);
                assert!(kid == first || published_for >= lead, "{kid}: {published_for:?}");
            }
            signers.insert(kid);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn another_key_file_is_refused_by_a_second_pod() {
    let Some(site) = Site::new().await else { return };
    let pod = site.pod().await;
    std::fs::write(site.folder.path().join("given.key"), [9; 32]).unwrap();
    let error = open(site.settings(), &site.place(), &pod.context, Clock::default()).await.unwrap_err();
    let text = flaghoist_runtime::fault::chain(&error);
    assert!(text.contains("is it the one that belongs to this store?"), "{text}");
    assert!(!text.contains(site.postgres.password()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_36_fifty_parallel_refreshes_on_two_pods_give_one_successor() {
    let Some(site) = Site::new().await else { return };
    let pods = site.pods().await;
    let (_, first) = pods[0].sign_in(somebody()).await;
    let calls = (0..50).map(|index| pods[index % 2].refresh(&first.refresh_token));
    let answers = futures_util::future::join_all(calls).await;
    let successors: BTreeSet<_> = answers.into_iter().map(|answer| answer.unwrap().refresh_token).collect();
    assert_eq!(successors.len(), 1);
    pods[0].refresh(successors.first().unwrap()).await.unwrap();
}

#[tokio::test]
async fn case_37_reuse_is_noticed_by_another_pod() {
    let Some(site) = Site::new().await else { return };
    let pods = site.pods().await;
    let (_, first) = pods[0].sign_in(somebody()).await;
    let second = pods[0].refresh(&first.refresh_token).await.unwrap();
    // A lost answer can be had again, also from the other pod.
    assert_eq!(pods[1].refresh(&first.refresh_token).await.unwrap().refresh_token, second.refresh_token);
    let third = pods[1].refresh(&second.refresh_token).await.unwrap();
    pods.iter().for_each(|pod| pod.wait(Duration::from_secs(11)));
    refused(pods[0].refresh(&second.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    refused(pods[1].refresh(&third.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    for pod in &pods {
        eventually("the session's access tokens are refused", NOTICED, async || {
            pod.context.verifier.verify(&third.access_token) == Err(TokenError::Revoked)
        })
        .await;
    }
}

/// The next revocation; signs of life are passed over.
async fn next(watch: &mut tonic::Streaming<WatchRevocationsResponse>) -> Result<Target, Status> {
    loop {
        match watch.message().await?.map(|message| message.target) {
            Some(Some(target)) => return Ok(target),
            Some(None) => {}
            None => return Err(Status::unavailable("the watch ended")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_10_what_one_pod_revokes_every_pods_watchers_hear_in_time_in_one_order() {
    let Some(site) = Site::new().await else { return };
    let pods = site.pods().await;
    let mut watches = Vec::new();
    for pod in &pods {
        let watch = pod.verification().watch_revocations(WatchRevocationsRequest::default()).await.unwrap();
        watches.push(watch.into_inner());
    }
    let (session, tokens) = pods[0].sign_in(somebody()).await;
    pods[0].revoke(cli(), &tokens.refresh_token).await.unwrap();
    let heard = tokio::time::timeout(NOTICED, next(&mut watches[1])).await.expect("in time").unwrap();
    assert!(matches!(&heard, Target::Session(id) if session.name.ends_with(id)));
    assert_eq!(next(&mut watches[0]).await.unwrap(), heard);

    // Both pods revoke, one beside the other.
    let revoking = futures_util::future::join_all((0..200).map(async |index: usize| {
        let (issuer, token) = (&pods[index % 2].issuer, Uuid::now_v7());
        issuer.store.revoke(&RevocationTarget::Token(token), None, issuer.clock.now()).await.unwrap();
        token.to_string()
    }));
    let made: BTreeSet<_> = revoking.await.into_iter().collect();
    let mut orders = Vec::new();
    for watch in &mut watches {
        let hearing = async {
            let mut order = Vec::new();
            while order.len() < made.len() {
                match next(watch).await.unwrap() {
                    Target::Token(token) => order.push(token),
                    other => panic!("{other:?}"),
                }
            }
            order
        };
        orders.push(tokio::time::timeout(NOTICED, hearing).await.expect("all in time"));
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders.swap_remove(0).into_iter().collect::<BTreeSet<_>>(), made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_pod_revoked_no_pod_calls_active_any_more() {
    let Some(site) = Site::new().await else { return };
    let [one, other] = site.pods().await;
    let secret = one.resource_server("bot", &["flaghoist"]).await;
    let bot = || credentials("bot", &secret);
    for _ in 0..10 {
        let (_, session) = one.sign_in(somebody()).await;
        let (_, single) = one.sign_in(somebody()).await;
        let own = one.client_token(bot(), "").await.unwrap();
        for token in [&session.access_token, &single.access_token, &own.access_token] {
            assert!(other.introspect(bot(), token).await.unwrap().active);
        }
        // A session, one token of a session that goes on, and one that has no session.
        one.revoke(cli(), &session.refresh_token).await.unwrap();
        one.revoke(cli(), &single.access_token).await.unwrap();
        one.revoke(bot(), &own.access_token).await.unwrap();
        let asked = [&session.access_token, &single.access_token, &own.access_token];
        let answers = futures_util::future::join_all(asked.map(|token| other.introspect(bot(), token))).await;
        for answer in answers {
            assert_eq!(answer.unwrap(), IntrospectTokenResponse::default());
        }
        assert!(other.introspect(bot(), &single.refresh_token).await.is_ok());
    }
}

#[tokio::test]
async fn a_client_is_known_and_unknown_to_every_pod_at_once() {
    let Some(site) = Site::new().await else { return };
    let [one, other] = site.pods().await;
    let secret = one.resource_server("bot", &["flaghoist"]).await;
    let bot = || credentials("bot", &secret);
    let (_, session) = other.try_sign_in(somebody(), "bot", &["chat.read"]).await.unwrap();
    let own = other.client_token(bot(), "").await.unwrap();
    let admin = one.admin().await;
    assert_eq!(
        other.clients(&admin).list_clients(ListClientsRequest::default()).await.unwrap().into_inner().clients.len(),
        3
    );
    let name = || "clients/bot".to_owned();
    one.clients(&admin).delete_client(DeleteClientRequest { name: name() }).await.unwrap();
    refused(other.client_token(bot(), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    let got = other.clients(&admin).get_client(GetClientRequest { name: name() }).await;
    refused(got, Code::NotFound, Reason::NotFound);
    assert!(other.refresh_as(bot(), &session.refresh_token, "").await.is_err());
    for token in [&session.access_token, &own.access_token] {
        eventually("the client's tokens are refused", NOTICED, async || {
            other.context.verifier.verify(token) == Err(TokenError::Revoked)
        })
        .await;
    }
    // Registered again, the old secret is nobody's.
    let renewed = other.confidential("bot", &["chat.read"]).await;
    refused(one.client_token(bot(), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    one.client_token(credentials("bot", &renewed), "").await.unwrap();
    let unheard_of = DeleteClientRequest { name: "clients/n\0ul".into() };
    refused(one.clients(&admin).delete_client(unheard_of).await, Code::NotFound, Reason::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_a_bounded_number_of_sessions_on_all_pods_together() {
    let Some(site) = Site::new().await else { return };
    let settings = Settings { sessions_max: 3, ..site.settings() };
    let (one, other) = tokio::join!(site.pod_with(settings.clone()), site.pod_with(settings));
    let (pods, user) = ([one, other], somebody());
    let opened = futures_util::future::join_all((0..20).map(|index| pods[index % 2].sign_in(user))).await;
    let (mut good, mut page) = (0, None);
    for (_, tokens) in &opened {
        good += usize::from(pods[0].refresh(&tokens.refresh_token).await.is_ok());
    }
    assert_eq!(good, 3);
    for (_, tokens) in opened {
        let listed = pods[1].sessions(&tokens.access_token).list_sessions(ListSessionsRequest::default()).await;
        page = page.or(listed.ok());
    }
    assert_eq!(page.unwrap().into_inner().sessions.len(), 3);
}

#[tokio::test]
async fn a_text_that_postgres_does_not_take_is_kept_without_what_it_minds() {
    let Some(site) = Site::new().await else { return };
    let pod = site.pod().await;
    let request = CreateSessionRequest {
        user: somebody().name(),
        client_id: "flaghoist-cli".into(),
        scopes: vec!["chat.read".into()],
        amr: vec!["pwd".into()],
        auth_time: None,
        label: "lap\0top\u{1b}[31m ünï 🦀".into(),
        address: "192.0.2.7\0".into(),
    };
    let session = pod.subjects().create_session(request).await.unwrap().into_inner().session.unwrap();
    assert_eq!((session.label.as_str(), session.last_address.as_str()), ("laptop[31m ünï 🦀", "192.0.2.7"));
}

#[tokio::test]
async fn connections_that_broke_unused_are_nobodys_trouble() {
    let Some(site) = Site::new().await else { return };
    let pod = site.pod().await;
    let mut tokens = pod.sign_in(somebody()).await.1;
    for _ in 0..3 {
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        site.postgres.sql(&site.url, others).await;
        tokens = pod.refresh(&tokens.refresh_token).await.unwrap();
        pod.sign_in(somebody()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_its_database_says_so_and_goes_on_when_it_is_back() {
    let Some(site) = Site::alone().await else { return };
    let pod = site.pod().await;
    let readiness = &pod.context.readiness;
    eventually("ready", Duration::from_secs(10), async || readiness.is_ready()).await;
    let user = somebody();
    let (_, mut answered) = pod.sign_in(user).await;
    let secret = pod.resource_server("bot", &["flaghoist"]).await;
    let mut watch =
        pod.verification().watch_revocations(WatchRevocationsRequest::default()).await.unwrap().into_inner();
    site.postgres.stop(Stop::Immediate).await;
    let stopped_at = Instant::now();
    let status = pod.refresh(&answered.refresh_token).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(Reason::Unavailable)));
    assert_eq!(pod.try_sign_in(user, "flaghoist-cli", &[]).await.unwrap_err().code(), Code::Unavailable);
    // A watcher is sent away in time to hear from another pod within 5 seconds.
    assert_eq!(next(&mut watch).await.unwrap_err().code(), Code::Unavailable);
    let again = pod.verification().watch_revocations(WatchRevocationsRequest::default()).await;
    assert_eq!(again.map(|_| ()).unwrap_err().code(), Code::Unavailable);
    let inspected = pod.introspect(credentials("bot", &secret), &answered.access_token).await;
    assert_eq!(inspected.unwrap_err().code(), Code::Unavailable, "nobody knows what was revoked meanwhile");
    eventually("not ready", Duration::from_secs(15), async || readiness.waiting_for() == ["auth: PostgreSQL"]).await;
    assert!(pod.issuer.keyring.published().is_some(), "the keys are good for longer ({:?})", stopped_at.elapsed());

    site.postgres.start_again().await;
    eventually("ready again", Duration::from_secs(30), async || readiness.is_ready()).await;
    eventually("refreshes are answered again", Duration::from_secs(15), async || {
        match pod.refresh(&answered.refresh_token).await {
            Ok(tokens) => {
                answered = tokens;
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
    eventually("the feed has caught up", Duration::from_secs(10), async || !pod.issuer.feed.behind()).await;
    let watch = pod.verification().watch_revocations(WatchRevocationsRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    pod.revoke(cli(), &answered.refresh_token).await.unwrap();
    tokio::time::timeout(NOTICED, next(&mut watch)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_work_on_the_same_sessions_never_block_each_other() {
    let Some(site) = Site::new().await else { return };
    let (pods, user) = (site.pods().await, somebody());
    let mut tokens = Vec::new();
    for _ in 0..30 {
        tokens.push(pods[0].sign_in(user).await.1.refresh_token);
    }
    let refreshing = futures_util::future::join_all((0..300).map(async |index: usize| {
        let pod = &pods[index % 2];
        match index % 30 {
            0 => drop(pod.sign_in(user).await),
            _ => drop(pod.refresh(&tokens[index * 7 % 30]).await.map_err(|status| {
                assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            })),
        }
    }));
    let ending = async {
        for pod in pods.iter().cycle().take(6) {
            pod.issuer.end_sessions_of(user, None, &crate::audit::Origin::system(pod.clock.now())).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(refreshing, ending);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(site.postgres.sql(&site.url, deadlocks).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_32_and_33_a_code_is_redeemed_once_on_all_pods_together() {
    use super::flow::{Browser, VERIFIER, first_party};

    let Some(site) = Site::new().await else { return };
    let pods = [site.pod().await, site.pod().await];
    pods[0].app("wiki", false, first_party()).await;
    // The browser is sent from pod to pod.
    let (mut browser, user) = (Browser::default(), somebody());
    let to_login = browser.authorize(&pods[0], &super::flow::request("wiki")).await;
    let back = pods[1].accepts(&to_login.parameter("login_challenge").unwrap(), user).await.unwrap();
    let code = browser.get(&pods[1], &back).await.parameter("code").unwrap();
    let redeem = |number: usize| pods[number % 2].redeem(credentials("wiki", ""), &code, VERIFIER);
    let all = futures_util::future::join_all((0..50).map(redeem)).await;
    let good: Vec<_> = all.iter().filter_map(|redeemed| redeemed.as_ref().ok()).collect();
    assert_eq!(good.len(), 1);
    for pod in &pods {
        let refresh = pod.refresh_as(credentials("wiki", ""), &good[0].refresh_token, "").await;
        refused(refresh, Code::Unauthenticated, Reason::GrantInvalid);
        eventually("the access token is dead too", NOTICED, async || {
            pod.context.verifier.verify(&good[0].access_token).is_err()
        })
        .await;
    }
    // Who is signed in on one pod is so on the other.
    let again = browser.authorize(&pods[0], &super::flow::request("wiki")).await;
    assert!(again.parameter("code").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_on_one_pod_signs_nowhere_and_its_tokens_are_refused_everywhere() {
    let Some(site) = Site::new().await else { return };
    let second = Duration::from_secs(1);
    // Looked at every 7.5 seconds: what happens sooner is by the feed.
    let settings = Settings { key_lead: 30 * second, key_keep: 300 * second, ..site.settings() };
    let (one, other) = tokio::join!(site.pod_with(settings.clone()), site.pod_with(settings));
    let pods = [one, other];
    for pod in &pods {
        pod.wait(pod.issuer.keyring.times().ready_after());
        pod.issuer.keyring.advance().await.unwrap();
    }
    let (first, published) = (signer(&pods[0]), kids(&pods[1]));
    let (_, tokens) = pods[1].sign_in(somebody()).await;
    let admin = pods[0].admin().await;
    let name = format!("keys/{first}");
    pods[0].keys(&admin).revoke_key(RevokeKeyRequest { name, force: false }).await.unwrap();
    for pod in &pods {
        eventually("the token is refused", NOTICED, async || {
            pod.context.verifier.verify(&tokens.access_token).is_err()
        })
        .await;
        eventually("another key signs", NOTICED, async || signer(pod) != first && !kids(pod).contains(&first)).await;
        assert!(published.contains(&signer(pod)), "one that every pod had published before");
    }
    assert_eq!(signer(&pods[0]), signer(&pods[1]));
    let new = pods[1].refresh(&tokens.refresh_token).await.unwrap();
    for pod in &pods {
        pod.context.verifier.verify(&new.access_token).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_on_one_pod_is_in_the_audit_log_of_every_pod() {
    let Some(site) = Site::new().await else { return };
    let [one, other] = site.pods().await;
    let secret = one.resource_server("bot", &["flaghoist"]).await;
    let user = somebody();
    one.sign_in(user).await;
    let opened = other.audited(AuditAction::SessionOpened).await;
    assert!(opened.iter().any(|event| event.subject == user.name()));
    // A secret that is replaced on one pod proves the client on the other at once, and the old one for its grace.
    other.client_token(credentials("bot", &secret), "").await.unwrap();
    let mut clients = one.clients(&one.admin().await);
    let request = RotateClientSecretRequest { name: "clients/bot".into(), grace: None };
    let rotated = clients.rotate_client_secret(request).await.unwrap().into_inner();
    for secret in [&secret, &rotated.client_secret] {
        other.client_token(credentials("bot", secret), "").await.unwrap();
    }
    assert_eq!(other.audited(AuditAction::ClientSecretRotated).await.len(), 1);
}

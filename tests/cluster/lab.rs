//! What the checks share: the images, the installation that is there now, the pods beside it, the people.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flaghoist_tests::{Person, World};
use tokio::net::TcpStream;

use crate::ask::{ask, channel};
use crate::forward::Forward;
use crate::images::Images;
use crate::installation::{Installation, RELEASE, remove_all};
use crate::pods::{self, Place, Relay};
use crate::programs::get;
use crate::restarts::Stores;
use crate::tokens::READS;

/// How old tokens may get; they live 300 s.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(120);

/// How long it may take until the sidecars know the keys of an installation.
const KEYS_MAX: Duration = Duration::from_secs(180);

/// What the checks share.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) images: Images,
    installation: Option<(Kind, Installation)>,
    relays: HashMap<String, Relay>,
    gateway: Forward,
    people: Option<(People, Instant)>,
    /// What an installation on PostgreSQL and NATS stands on.
    pub(crate) stores: Option<Stores>,
}

/// The kinds of installation. One is there at a time, for they would share the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No value is set.
    Defaults,
    /// On PostgreSQL and NATS, two pods of each service.
    Shared,
    /// To be measured.
    WithSidecars,
    /// The same without Istio.
    WithoutSidecars,
}

/// Two people, of whom one is an admin.
#[derive(Clone, Debug)]
pub(crate) struct People {
    pub(crate) alice: Person,
    pub(crate) admin: Person,
}

impl Lab {
    /// Looks whether there is a cluster with Istio, clears what an earlier run left, and gets the images there.
    pub(crate) async fn open() -> Result<Self, String> {
        let gateways = get(&["services", "--all-namespaces", "-l", "istio=ingressgateway"]).await?;
        let gateway = &gateways["items"][0]["metadata"];
        let (Some(name), Some(namespace)) = (gateway["name"].as_str(), gateway["namespace"].as_str()) else {
            return Err(
                "this cluster has no Istio ingress gateway (a Service with the label istio=ingressgateway)".into()
            );
        };
        let gateway = Forward::new(namespace, &format!("service/{name}"), 80);
        remove_all().await?;
        let images = Images::make().await?;
        println!("images  {} and {}", images.flaghoist, images.probe);
        Ok(Self { images, installation: None, relays: HashMap::new(), gateway, people: None, stores: None })
    }

    /// Puts another installation in the place of the one that is there.
    pub(crate) async fn installs(&mut self, kind: Kind, values: &[&str]) -> Result<Installation, String> {
        self.clear().await?;
        let name = match kind {
            Kind::Defaults => "defaults",
            Kind::Shared => "shared",
            Kind::WithSidecars => "with-sidecars",
            Kind::WithoutSidecars => "without-sidecars",
        };
        let installation = Installation::install(name, &self.images, values).await?;
        self.installation = Some((kind, installation.clone()));
        Ok(installation)
    }

    /// The installation of this kind, if it is the one that is there.
    pub(crate) fn installed(&self, kind: Kind) -> Option<Installation> {
        self.installation.as_ref().filter(|(there, _)| *there == kind).map(|(_, installation)| installation.clone())
    }

    /// The installation without a value set, made if it is not there.
    pub(crate) async fn defaults(&mut self) -> Result<Installation, String> {
        match self.installed(Kind::Defaults) {
            Some(installation) => Ok(installation),
            None => self.installs(Kind::Defaults, &[]).await,
        }
    }

    /// A pod in the mesh for each of these accounts of the installation's namespace.
    pub(crate) async fn relays(&mut self, accounts: &[&str]) -> Result<HashMap<String, Relay>, String> {
        let (_, installation) = self.installation.clone().ok_or("nothing is installed")?;
        let mut names = Vec::new();
        for &account in accounts.iter().filter(|account| !self.relays.contains_key(**account)).collect::<Vec<_>>() {
            let name = format!("as-{account}");
            let place = Place { name: &name, account, sidecar: true };
            let relay = Relay::start(&installation, &self.images.probe, place).await?;
            self.relays.insert(account.to_owned(), relay);
            names.push(name);
        }
        if !names.is_empty() {
            pods::ready(&installation, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
        Ok(self.relays.clone())
    }

    /// A pod in the mesh that is nobody in particular: the account `default`.
    pub(crate) async fn nobody(&mut self) -> Result<Relay, String> {
        Ok(self.relays(&["default"]).await?["default"].clone())
    }

    /// Where the gateway is: its own address if that is reached from here, else by the API server.
    pub(crate) async fn gateway(&self) -> Result<SocketAddr, String> {
        let gateways = get(&["services", "--all-namespaces", "-l", "istio=ingressgateway"]).await?;
        let service = &gateways["items"][0];
        let published = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        for address in [published, service["spec"]["clusterIP"].as_str()].into_iter().flatten() {
            let Ok(ip) = address.parse() else { continue };
            let address = SocketAddr::new(ip, 80);
            let connected = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
            if matches!(connected, Ok(Ok(_))) {
                return Ok(address);
            }
        }
        self.gateway.address().await
    }

    /// The installation as clients outside see it.
    pub(crate) async fn world(&self) -> Result<World, String> {
        Ok(World::elsewhere(self.gateway().await?))
    }

    /// Two people of the installation, with tokens that are good for a while.
    pub(crate) async fn people(&mut self) -> Result<People, String> {
        if let Some((people, at)) = self.people.as_mut() {
            if at.elapsed() > TOKEN_AGE_MAX {
                for person in [&mut people.alice, &mut people.admin] {
                    person.refreshes().await.map_err(|error| format!("no new tokens: {error:?}"))?;
                }
                *at = Instant::now();
            }
            return Ok(people.clone());
        }
        let (kind, installation) = self.installation.clone().ok_or("nothing is installed")?;
        let world = self.world().await?;
        self.reached().await?;
        // A sidecar that does not know the keys yet refuses every token.
        let alice = world.person("alice").await;
        self.answered(&alice).await?;
        let boss = world.person("boss").await;
        let (workload, data): (_, &[&str]) = match kind {
            Kind::Shared => ("deployment", &[]),
            _ => ("statefulset", &["--data", "/data"]),
        };
        let of = format!("{workload}/{RELEASE}-login");
        let words = ["exec", &of, "-c", "login", "--", "/flaghoist", "admin", "grant", &boss.handle];
        installation.kubectl(&[&words, data].concat()).await?;
        let people = People { alice, admin: boss.another_session().await };
        self.people = Some((people.clone(), Instant::now()));
        Ok(people)
    }

    /// Waits until the gateway reaches all services: it hears of new pods a moment after they are ready.
    async fn reached(&self) -> Result<(), String> {
        let outside = channel(self.gateway().await?);
        for path in READS {
            pods::settles_within(KEYS_MAX, &format!("{path} is reached through the gateway"), async || {
                let answer = ask(&outside, path, &[], Vec::new(), Duration::from_secs(5)).await;
                if answer.code == tonic::Code::Unavailable { Err(answer.said()) } else { Ok(()) }
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until all services answer to a person's token: each has a sidecar of its own, which must know the keys, and where a stand-in
    /// was, the gateway must know that it has gone.
    pub(crate) async fn answered(&self, person: &Person) -> Result<(), String> {
        self.answered_within(person, KEYS_MAX).await
    }

    /// The same within another time, for each service.
    pub(crate) async fn answered_within(&self, person: &Person, limit: Duration) -> Result<(), String> {
        let (outside, bearer) = (channel(self.gateway().await?), format!("Bearer {}", person.token()));
        for path in READS {
            pods::settles_within(limit, &format!("a person's token is taken by {path}"), async || {
                let headers = [("authorization", bearer.as_str())];
                let answer = ask(&outside, path, &headers, Vec::new(), Duration::from_secs(5)).await;
                if answer.code == tonic::Code::Ok { Ok(()) } else { Err(answer.said()) }
            })
            .await?;
        }
        Ok(())
    }

    /// Removes the installation that is there, and what stands beside it.
    pub(crate) async fn clear(&mut self) -> Result<(), String> {
        self.relays.clear();
        self.people = None;
        if let Some((_, installation)) = self.installation.take() {
            installation.remove().await?;
        }
        self.stores = None;
        Ok(())
    }

    /// Removes everything that was made.
    pub(crate) async fn close(mut self) -> Result<(), String> {
        self.clear().await?;
        remove_all().await
    }
}

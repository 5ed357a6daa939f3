//! The faults: what each does to the cluster, and what may be seen of it from outside.

use std::time::Duration;

use flaghoist_backends::Stop;
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::cluster::{Cluster, Pod, Service};
use crate::world::World;

/// How long a pod is frozen, as the issue has it: longer than any timeout between the services.
const FROZEN: Duration = Duration::from_secs(10);

/// How long a pod is ready before the next one is stopped: what Envoy thought of it while it was away is forgotten then, as a
/// deployment's `minReadySeconds` sees to it in Kubernetes.
pub(crate) const SETTLED: Duration = Duration::from_millis(2_500);

/// A fault that a cluster meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// A pod dies (SIGKILL) and is started again a while later.
    PodKilled,
    /// Both pods of a service die at once.
    ServiceKilled,
    /// A pod gets no processor for 10 seconds (SIGSTOP), and goes on as if nothing had been.
    PodFrozen,
    /// PostgreSQL is restarted: all connections end, what is under way is rolled back.
    PostgresRestarted,
    /// PostgreSQL crashes and recovers.
    PostgresCrashed,
    /// NATS is killed and started again a while later.
    NatsRestarted,
    /// NATS gets no processor for a while: connections stay, nothing arrives.
    NatsFrozen,
    /// The network to NATS is cut: what was sent arrives when it is mended.
    NatsCut,
    /// The network to NATS is cut, and connections break when it is mended.
    NatsLost,
    /// Every pod is stopped in order and started again, one after the other.
    RollingRestart,
}

/// What may be seen of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Calls fail and streams break off.
    Fails,
    /// Deliveries are late, and nothing else.
    Delays,
    /// Streams are told to go, and nothing else.
    Nothing,
}

impl Fault {
    pub(super) const ALL: &[Self] = &[
        Self::PodKilled,
        Self::ServiceKilled,
        Self::PodFrozen,
        Self::PostgresRestarted,
        Self::PostgresCrashed,
        Self::NatsRestarted,
        Self::NatsFrozen,
        Self::NatsCut,
        Self::NatsLost,
        Self::RollingRestart,
    ];

    pub(super) fn effect(self) -> Effect {
        match self {
            Self::PodKilled | Self::ServiceKilled | Self::PodFrozen => Effect::Fails,
            Self::PostgresRestarted | Self::PostgresCrashed => Effect::Fails,
            Self::NatsRestarted | Self::NatsFrozen | Self::NatsCut | Self::NatsLost => Effect::Delays,
            Self::RollingRestart => Effect::Nothing,
        }
    }

    /// Makes it, waits until it is over and everybody is ready again, and says what was done.
    pub(super) async fn make(self, world: &World, random: &mut StdRng) -> Result<String, String> {
        let cluster = world.cluster().expect("the fault test has a cluster");
        let a_while = random.random_range(Duration::from_millis(100)..Duration::from_secs(3));
        let longer = random.random_range(Duration::from_secs(3)..Duration::from_secs(12));
        let chosen = random.random_range(0..cluster.pods().len());
        let said = match self {
            Self::PodKilled => {
                kill(world, vec![chosen]).await;
                wait(a_while).await;
                format!("{}, back after {a_while:.1?}", cluster.pods()[chosen])
            }
            Self::ServiceKilled => {
                let service = cluster.pods()[chosen].service();
                kill(world, of(cluster, service)).await;
                wait(a_while).await;
                format!("{}, back after {a_while:.1?}", service.name())
            }
            Self::PodFrozen => {
                let pod = &cluster.pods()[chosen];
                pod.freeze();
                wait(FROZEN).await;
                pod.thaw();
                pod.to_string()
            }
            Self::PostgresRestarted => {
                cluster.postgres().stop(Stop::Fast).await;
                wait(a_while).await;
                cluster.postgres().start_again().await;
                format!("back after {a_while:.1?}")
            }
            Self::PostgresCrashed => {
                cluster.postgres().crash().await;
                wait(a_while).await;
                cluster.postgres().start_again().await;
                format!("back after {a_while:.1?}")
            }
            Self::NatsRestarted => {
                cluster.nats().stop().await;
                wait(longer).await;
                cluster.nats().start_again().await;
                format!("back after {longer:.1?}")
            }
            Self::NatsFrozen => {
                cluster.nats().freeze();
                wait(longer).await;
                cluster.nats().thaw();
                format!("for {longer:.1?}")
            }
            Self::NatsCut | Self::NatsLost => {
                cluster.nats_link().cut();
                wait(longer).await;
                if self == Self::NatsLost {
                    cluster.nats_link().reset();
                }
                cluster.nats_link().mend();
                format!("for {longer:.1?}")
            }
            Self::RollingRestart => {
                for place in 0..cluster.pods().len() {
                    stop_in_order(world, place).await?;
                    start_missing(world).await?;
                    wait(SETTLED).await;
                }
                "every pod".to_owned()
            }
        };
        start_missing(world).await?;
        Ok(said)
    }
}

/// A span of a fault, not a wait for something.
async fn wait(span: Duration) {
    tokio::time::sleep(span).await;
}

/// The places of a service's pods.
fn of(cluster: &Cluster, service: Service) -> Vec<usize> {
    (0..cluster.pods().len()).filter(|&place| cluster.pods()[place].service() == service).collect()
}

fn pods(world: &World) -> &[Pod] {
    world.cluster().expect("the fault test has a cluster").pods()
}

async fn kill(world: &World, places: Vec<usize>) {
    world.blocking(move |world| places.into_iter().for_each(|place| pods(&world)[place].kill())).await;
}

/// Starts the pods that are not there, and waits until everybody is ready and Envoy knows it.
async fn start_missing(world: &World) -> Result<(), String> {
    world.blocking(|world| world.cluster().expect("the fault test has a cluster").start_missing()).await
}

/// Promise 13: told to stop, a pod is gone within its grace period.
async fn stop_in_order(world: &World, place: usize) -> Result<(), String> {
    world.blocking(move |world| pods(&world)[place].stop_in_order()).await
}

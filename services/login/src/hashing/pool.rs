//! The threads on which passwords are hashed, and the bounded queue before them.
//!
//! Hashing is meant to be slow and takes a whole core and much memory, so it happens on a few threads of its own, at low
//! priority, and never on those that serve calls. A caller takes a [`Place`] first, which is refused at once when all are
//! taken, and then gives it work. Place and work belong to the caller's future: dropped, both are free again at that
//! moment, and only work that a thread has begun is finished for nobody.
//!
//! While much work waits, answers are given out a few at a time: what their callers do next they do together, in one commit and one turn
//! of the scheduler, which takes less from the threads that hash.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Cost, HashError, Hasher};

/// How far below normal the threads run, so that calls which need no hashing stay fast on the same cores.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// More than this there is not.
#[cfg(target_os = "linux")]
const NICENESS_MAX: i32 = 19;

/// How long after its work began an answer waits for others, and for the hash that is being made then, at most. A hash that takes
/// longer than that waits for none. It does not wait either once there are half as many answers as there is work in the queue.
const TOGETHER_WITHIN: Duration = Duration::from_millis(100);

/// Hashes, and leaves how the caller is told.
type Work = Box<dyn FnOnce(&mut Hasher) -> Answer + Send>;

/// Tells a caller what came of their work.
type Answer = Box<dyn FnOnce() + Send>;

/// The threads and their queue. They end when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Pool {
    places: Arc<Semaphore>,
    /// Ends the threads; nothing else holds one.
    owner: Arc<Owner>,
}

struct Owner(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    depth: metrics::Gauge,
    /// How much work was begun.
    begun: AtomicU64,
    together_within: Duration,
    /// Where callers wait.
    runtime: Handle,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Work)>,
    next_id: u64,
    /// Answers that wait for others, and when the work of the first of them began.
    answers: Vec<Answer>,
    first_began: Option<Instant>,
    stopped: bool,
}

/// All places are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("all places before the password hashing are taken")]
pub(crate) struct Full;

/// The work was not finished: the pool has ended or the work panicked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the password hashing has stopped")]
pub(crate) struct Stopped;

impl Pool {
    /// Starts `threads` threads, before which `queue_max` calls of this runtime may wait.
    pub(crate) fn start(cost: Cost, threads: usize, queue_max: usize) -> Result<Self, StartError> {
        Self::start_patient(cost, threads, queue_max, TOGETHER_WITHIN)
    }

    /// The same with another [`TOGETHER_WITHIN`].
    fn start_patient(
        cost: Cost,
        threads: usize,
        queue_max: usize,
        together_within: Duration,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            depth: metrics::gauge!("flaghoist_hash_pool_depth"),
            begun: AtomicU64::new(0),
            together_within,
            runtime: Handle::current(),
        });
        let owner = Arc::new(Owner(Arc::clone(&shared)));
        for number in 0..threads {
            let mut hasher = Hasher::new(cost)?;
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || {
                    lower_priority();
                    shared.work(&mut hasher);
                })
                .map_err(StartError::Thread)?;
        }
        Ok(Self { places: Arc::new(Semaphore::new(queue_max + threads)), owner })
    }

    /// Takes a place, or says at once that there is none.
    pub(crate) fn place(&self) -> Result<Place, Full> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        Ok(Place { shared: Arc::clone(&self.owner.0), _permit: permit })
    }

    /// How much work the threads have begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.owner.0.begun.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pool")
            .field("free", &self.places.available_permits())
            .field("begun", &self.begun())
            .finish_non_exhaustive()
    }
}

/// The pool could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The cost in the settings is outside of what argon2 knows.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The system gave no thread.
    #[error("starting a thread for password hashing")]
    Thread(#[source] std::io::Error),
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.stopped = true;
        queue.waiting.clear();
        drop(queue);
        self.0.arrived.notify_all();
    }
}

/// A right to one thread's work after another, given back when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits for a thread to do `work`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hasher) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let waiting = self.shared.enqueue(Box::new(move |hasher| {
            let result = work(hasher);
            Box::new(move || {
                // Nobody listens any more when the call was dropped after a thread had begun.
                let _unheard = answer.send(result);
            })
        }));
        let result = answered.await.map_err(|_| Stopped);
        drop(waiting);
        result
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Place").finish_non_exhaustive()
    }
}

/// Work in the queue, taken out again when dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        if let Ok(index) = queue.waiting.binary_search_by_key(&self.id, |(id, _)| *id) {
            let work = queue.waiting.remove(index);
            self.shared.show(&queue);
            drop(queue);
            drop(work);
        }
    }
}

impl Shared {
    fn enqueue(&self, work: Work) -> Waiting<'_> {
        let mut queue = self.queue.lock();
        let id = queue.next_id;
        queue.next_id += 1;
        if !queue.stopped {
            queue.waiting.push_back((id, work));
            self.show(&queue);
        }
        drop(queue);
        self.arrived.notify_one();
        Waiting { shared: self, id }
    }

    /// What each thread does until the pool ends.
    fn work(&self, hasher: &mut Hasher) {
        loop {
            let mut queue = self.queue.lock();
            let work = loop {
                if let Some((_, work)) = queue.waiting.pop_front() {
                    self.show(&queue);
                    break work;
                }
                // Whoever was in the queue may have gone away, and left answers that waited for theirs.
                let answers = queue.take_answers();
                self.show(&queue);
                // With time at hand, nothing of the last password stays in memory.
                parking_lot::MutexGuard::unlocked(&mut queue, || {
                    self.give(answers);
                    hasher.wipe();
                });
                if queue.stopped {
                    return;
                }
                if queue.waiting.is_empty() && !queue.stopped {
                    self.arrived.wait(&mut queue);
                }
            };
            drop(queue);
            self.begun.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| work(hasher)))
                .inspect_err(|_| tracing::error!("password hashing panicked"))
                .ok();
            self.give(self.due_with(answer, began));
        }
    }

    /// Gives out answers from within the runtime: told from here, the first caller would run before the next one is told.
    fn give(&self, answers: Vec<Answer>) {
        if !answers.is_empty() {
            self.runtime.spawn(async { answers.into_iter().for_each(|answer| answer()) });
        }
    }

    /// Adds an answer to those that wait, and takes them all out if it is time.
    fn due_with(&self, answer: Option<Answer>, began: Instant) -> Vec<Answer> {
        let mut queue = self.queue.lock();
        queue.answers.extend(answer);
        let first_began = *queue.first_began.get_or_insert(began);
        let more_come = queue.waiting.len() > 2 * queue.answers.len();
        let held = more_come && first_began.elapsed() < self.together_within;
        let due = if held { Vec::new() } else { queue.take_answers() };
        self.show(&queue);
        due
    }

    /// Says how many callers wait, be it for a hash or for answers after theirs.
    fn show(&self, queue: &Queue) {
        self.depth.set((queue.waiting.len() + queue.answers.len()) as f64);
    }
}

impl Queue {
    fn take_answers(&mut self) -> Vec<Answer> {
        self.first_began = None;
        std::mem::take(&mut self.answers)
    }
}

#[cfg(target_os = "linux")]
fn lower_priority() {
    // On Linux "this process" is this thread. From where the process began, so that a whole process with a low priority hashes with a
    // lower one.
    let lowered = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, own.saturating_add(NICENESS).min(NICENESS_MAX)));
    if let Err(error) = lowered {
        tracing::warn!(%error, "cannot lower the priority of password hashing; other calls may get slower meanwhile");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests;

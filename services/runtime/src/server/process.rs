//! What the process asks of the system before it serves: as many open files as it may have, and memory in small pages, because ten
//! thousand idle connections touch a little of many.

use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

/// The most connections a process can count.
pub(super) const CONNECTIONS_MAX: usize = 10_000_000;

/// The connections that the file limit leaves room for, shared by all listeners of the process.
pub(super) static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let limit = usize::try_from(raise_file_limit()).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX);
    // Stores, listeners and key files must always be able to open.
    let reserve = (limit / 16).clamp(96, 1024).min(limit / 2);
    Arc::new(Semaphore::new(limit - reserve))
});

/// Prepares the process for many connections; the earlier the better, more than once does no harm. Listeners do it too.
pub fn prepare_process() {
    LazyLock::force(&ROOM);
    use_small_pages();
}

/// Raises the soft limit of open files to the hard one, and answers what it is then.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}

/// Switches huge pages off for this process: the allocator asks for them, and then a buffer of which 100 bytes are used is resident
/// as a whole (tried with 5,000 idle streams: 38 KiB each with huge pages, 22 KiB without).
#[cfg(target_os = "linux")]
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

/// Other systems do not do it unasked.
#[cfg(not(target_os = "linux"))]
fn use_small_pages() {}

//! Checks whether sled can work in this process.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::threads;

/// The number of threads that sled keeps for all databases of a process, once it was used.
const POOL_THREADS: usize = 7;

/// The number of threads of an index: the one that closes it.
pub(crate) const INDEX_THREADS: usize = 1;

/// The number of threads of an open log: those of its index, the one that flushes the index, the writer, and the one
/// that accepts readers.
pub(crate) const LOG_THREADS: usize = INDEX_THREADS + 3;

/// The process in which sled started its threads; 0 before the first database.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// Checks that sled can work in this process, with `needed` threads besides its pool: it waits forever for threads that
/// could not be started, and for those that a fork does not have.
pub(crate) fn check(needed: usize) -> io::Result<()> {
    let this = std::process::id();
    match STARTED_IN.load(Ordering::SeqCst) {
        0 => threads::check(POOL_THREADS + needed)?,
        process if process == this => return threads::check(needed),
        parent => {
            return Err(io::Error::other(format!(
                "this process is a fork of process {parent}, which had opened a log before the fork; the threads of the log do \
                                 not exist in a fork. Fork before the first log is opened, or start a new process (with multiprocessing: \
                                 the start method 'spawn' or 'forkserver')"
            )));
        }
    }
    STARTED_IN.store(this, Ordering::SeqCst);
    Ok(())
}

//! Whether sled can work in this process.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::threads;

/// The threads that sled keeps for all databases of a process, from the first on.
const POOL: usize = 7;

/// Those of an index: the one that lets go of it.
pub(crate) const OF_AN_INDEX: usize = 1;

/// The threads that one open log has: those of its index, the one that brings it up to date, the log's writer, and the one that takes
/// readers.
pub(crate) const OF_A_LOG: usize = OF_AN_INDEX + 3;

/// The process in which sled has its threads; 0 before the first database.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// That sled can work in this process, with so many threads beside those of its pool: it waits for ever for threads that it
/// could not start, and for those that a fork does not have.
pub(crate) fn check(needed: usize) -> io::Result<()> {
    let this = std::process::id();
    match STARTED_IN.load(Ordering::SeqCst) {
        0 => threads::check(POOL + needed)?,
        process if process == this => return threads::check(needed),
        parent => {
            return Err(io::Error::other(format!(
                "this process is a fork of process {parent}, which had opened a log before, and the threads that work on one \
                 are missing in a fork. Fork before the first log is opened, or start the process anew (with multiprocessing: \
                 the start method 'spawn' or 'forkserver')"
            )));
        }
    }
    STARTED_IN.store(this, Ordering::SeqCst);
    Ok(())
}

//! Reading beside changes of what was written before: erasing, pruning, importing.
//!
//! What is read while it is written over looks like damage. So damage counts only where nothing was changed while it was found, and is
//! looked for again otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::Core;
use crate::log::ReadError;

/// How often a reader tries again beside changes that follow each other.
const TRIES: usize = 1_000;

/// How long it waits for a change to become durable, between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts the changes of what was written before: odd while one is not durable yet.
#[derive(Default)]
pub(super) struct Rewrites(AtomicU64);

impl Rewrites {
    /// Notes that a change begins to be visible.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that all that was changed is durable.
    pub(super) fn end(&self) {
        let count = self.0.load(Ordering::Acquire);
        self.0.store(count.next_multiple_of(2), Ordering::Release);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

fn is_under_way(count: u64) -> bool {
    count % 2 == 1
}

impl Core {
    /// Changes what was written before, while readers read it again that was damaged meanwhile.
    pub(super) fn rewriting<T>(&self, change: impl FnOnce() -> T) -> T {
        self.rewrites.begin();
        let changed = change();
        self.rewrites.end();
        changed
    }

    /// Reads, and reads again what looked like damage while something was changed.
    pub(crate) fn settled<T>(&self, read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut tries = 0;
        loop {
            let before = self.rewrites.count();
            let answer = read();
            let is_damage = answer.as_ref().is_err_and(ReadError::is_damage);
            tries += 1;
            if !is_damage || tries == TRIES || !self.was_rewritten_since(before) {
                return answer;
            }
            thread::sleep(PAUSE);
        }
    }

    /// How often something was changed, to compare with later.
    pub(crate) fn rewritten(&self) -> u64 {
        self.rewrites.count()
    }

    /// Whether something was changed since [`Core::rewritten`] gave this, or was being changed then.
    pub(crate) fn was_rewritten_since(&self, before: u64) -> bool {
        is_under_way(before) || self.rewrites.count() != before
    }

    /// Waits until a change that readers see already is durable, and with it the event that tells of it.
    pub(crate) fn wait_for_rewrite(&self) {
        for _ in 0..TRIES {
            // A log that failed while it was changed takes no more.
            if !is_under_way(self.rewrites.count()) || self.failed.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

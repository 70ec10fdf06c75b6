//! Reading while erasures, prunings and imports rewrite the log.
//!
//! Data that is read while it is overwritten looks damaged. So damage counts only if the log was not rewritten during
//! the read; otherwise the read is repeated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::Core;
use crate::log::ReadError;

/// How often a read is repeated during consecutive rewrites.
const TRIES: usize = 1_000;

/// The pause between two attempts, during which a rewrite can become durable.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts rewrites. Odd while one is in progress.
#[derive(Default)]
pub(super) struct Rewrites(AtomicU64);

impl Rewrites {
    /// Notes the start of a rewrite.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a rewrite is durable.
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
    /// Runs a rewrite. Readers repeat reads that found damage in the meantime.
    pub(super) fn rewrite<T>(&self, change: impl FnOnce() -> T) -> T {
        self.rewrites.begin();
        let changed = change();
        self.rewrites.end();
        changed
    }

    /// Reads, and repeats the read if it found damage while the log was rewritten.
    pub(crate) fn retry_if_rewritten<T>(&self, read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
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

    /// The number of rewrites so far, to compare with later.
    pub(crate) fn rewrite_count(&self) -> u64 {
        self.rewrites.count()
    }

    /// Whether the log was rewritten since [`Core::rewrite_count`] returned `before`, or was being rewritten then.
    pub(crate) fn was_rewritten_since(&self, before: u64) -> bool {
        is_under_way(before) || self.rewrites.count() != before
    }

    /// Waits until a rewrite that is already visible is durable, together with the event that records it.
    pub(crate) fn wait_for_rewrite(&self) {
        for _ in 0..TRIES {
            // A log that failed during a rewrite stays in that state.
            if !is_under_way(self.rewrites.count()) || self.failed.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

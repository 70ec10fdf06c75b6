//! Waiting for a log to grow.
//!
//! The writer notifies waiting readers after each group and never blocks on them: without waiters, that costs a fence
//! and a load. A waiter first increments the counter and then reads the end of the log; the writer first advances the
//! end and then reads the counter. With a fence between the two steps on both sides, at least one of them sees the
//! other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// The maximum time that a reader waits.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// Wakes readers when the log grows.
#[derive(Default)]
pub(crate) struct TipWatch {
    waiting: AtomicUsize,
    closed: AtomicBool,
    mutex: Mutex<()>,
    changed: Condvar,
}

/// Counts a waiting reader until it is dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TipWatch {
    /// Wakes all waiters. Call it after the end of the log has advanced.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    /// Wakes all waiters and ends all waiting: the log is closed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// A waiter holds this lock from its check until it sleeps, so taking the lock ensures that it is woken.
    fn wake(&self) {
        drop(lock(&self.mutex));
        self.changed.notify_all();
    }

    /// Waits until `has_moved` holds or the log is closed, at most for `patience`; not at all if `max_waiters` readers
    /// already wait. Returns whether `has_moved` held.
    pub(crate) fn wait(&self, patience: Duration, max_waiters: usize, has_moved: impl Fn() -> bool) -> bool {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiting);
        if before >= max_waiters {
            return false;
        }
        fence(Ordering::SeqCst);
        let until = Instant::now() + patience.min(MAX_WAIT);
        let mut guard = lock(&self.mutex);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Checked before `has_moved`: a condition noticed only at the timeout means a missed wakeup.
            if left.is_zero() || self.closed.load(Ordering::Acquire) {
                return false;
            }
            if has_moved() {
                return true;
            }
            guard = self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    /// Longer than any test. Reaching it means a missed wakeup.
    const LONG: Duration = Duration::from_secs(60);

    /// A reader that waits for each number must be woken for each, whether it or the writer is ahead: 20,000 chances to
    /// miss one.
    #[test]
    fn nobody_sleeps_through_a_move() {
        let (watch, end) = (Arc::new(TipWatch::default()), Arc::new(AtomicU64::new(0)));
        let (theirs, seen) = ((watch.clone(), end.clone()), Arc::new(AtomicU64::new(0)));
        let told = seen.clone();
        let reader = thread::spawn(move || {
            let (watch, end) = theirs;
            for number in 1..=20_000 {
                assert!(watch.wait(LONG, 1, || end.load(Ordering::Relaxed) >= number), "it slept through {number}");
                told.store(number, Ordering::Release);
            }
        });
        for number in 1..=20_000 {
            end.store(number, Ordering::Relaxed);
            watch.notify();
            while number % 3 == 0 && seen.load(Ordering::Acquire) < number && !reader.is_finished() {
                thread::yield_now();
            }
        }
        reader.join().unwrap();
    }

    #[test]
    fn one_more_than_may_wait_does_not() {
        let watch = Arc::new(TipWatch::default());
        let theirs = watch.clone();
        let first = thread::spawn(move || theirs.wait(LONG, 1, || false));
        while watch.waiting.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        assert!(!watch.wait(LONG, 1, || true));
        watch.close();
        assert!(!first.join().unwrap());
        assert_eq!(watch.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_closed_log_is_not_waited_for() {
        let watch = TipWatch::default();
        watch.close();
        assert!(!watch.wait(LONG, 1, || false));
    }
}

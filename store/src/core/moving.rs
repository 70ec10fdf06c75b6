//! Waiting until a log moves.
//!
//! The writer says that it has moved after each group, and waits for nobody: with no one who waits, that costs it a fence
//! and a look at a number. Who waits counts itself first and looks at the log's end then; the writer moves the end first and
//! looks at the number then. Both look behind a fence, so that one of them sees what the other did.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Nobody waits longer, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Where readers wait until the log moves.
#[derive(Default)]
pub(crate) struct Moving {
    waiting: AtomicUsize,
    over: AtomicBool,
    turn: Mutex<()>,
    moved: Condvar,
}

/// One that waits, as long as it is there.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Moving {
    /// Wakes who waits. Its end was moved before.
    pub(crate) fn moved(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    /// Wakes who waits, and lets nobody wait any more: the log is closed.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.wake();
    }

    /// Whoever looked before and found nothing holds this lock until it sleeps, and so is woken.
    fn wake(&self) {
        drop(lock(&self.turn));
        self.moved.notify_all();
    }

    /// Waits until `has_moved` holds, or the log is closed, at most for `patience`. With `most` who wait already, it waits not
    /// at all. Says whether it has moved.
    pub(crate) fn wait(&self, patience: Duration, most: usize, has_moved: impl Fn() -> bool) -> bool {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiting);
        if before >= most {
            return false;
        }
        fence(Ordering::SeqCst);
        let until = Instant::now() + patience.min(LONGEST);
        let mut turn = lock(&self.turn);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // One that is only found because the time is over was slept through.
            if left.is_zero() || self.over.load(Ordering::Acquire) {
                return false;
            }
            if has_moved() {
                return true;
            }
            turn = self.moved.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    /// Longer than any test: what is waited for comes before, or was slept through.
    const LONG: Duration = Duration::from_secs(60);

    /// Whoever waits for the next number is woken for each one, whichever of both is ahead: 20,000 chances to sleep through
    /// one.
    #[test]
    fn nobody_sleeps_through_a_move() {
        let (moving, end) = (Arc::new(Moving::default()), Arc::new(AtomicU64::new(0)));
        let (theirs, seen) = ((moving.clone(), end.clone()), Arc::new(AtomicU64::new(0)));
        let told = seen.clone();
        let reader = thread::spawn(move || {
            let (moving, end) = theirs;
            for number in 1..=20_000 {
                assert!(moving.wait(LONG, 1, || end.load(Ordering::Relaxed) >= number), "it slept through {number}");
                told.store(number, Ordering::Release);
            }
        });
        for number in 1..=20_000 {
            end.store(number, Ordering::Relaxed);
            moving.moved();
            while number % 3 == 0 && seen.load(Ordering::Acquire) < number && !reader.is_finished() {
                thread::yield_now();
            }
        }
        reader.join().unwrap();
    }

    #[test]
    fn one_more_than_may_wait_does_not() {
        let moving = Arc::new(Moving::default());
        let theirs = moving.clone();
        let first = thread::spawn(move || theirs.wait(LONG, 1, || false));
        while moving.waiting.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        assert!(!moving.wait(LONG, 1, || true));
        moving.end();
        assert!(!first.join().unwrap());
        assert_eq!(moving.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_closed_log_is_not_waited_for() {
        let moving = Moving::default();
        moving.end();
        assert!(!moving.wait(LONG, 1, || false));
    }
}

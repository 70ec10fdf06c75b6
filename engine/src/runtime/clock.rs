//! The clock of the shell: the wall clock, made monotone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Timestamp;

/// Tells the time. Never goes back, not even when the wall clock does, and not behind the end of the log; and never
/// stands still: where the wall clock is behind what was told before, time passes by the steady clock.
#[derive(Debug)]
pub struct Clock {
    /// What time it was, by both clocks.
    begin: (Instant, i64),
    last: AtomicI64,
}

impl Clock {
    /// A clock that begins at `floor`, or later.
    #[must_use]
    pub fn from(floor: Timestamp) -> Self {
        let begin = wall().max(floor.0);
        Self { begin: (Instant::now(), begin), last: AtomicI64::new(begin) }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.begin.0.elapsed().as_micros()).unwrap_or(i64::MAX);
        let now = wall().max(self.begin.1.saturating_add(passed));
        Timestamp(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// When `due` will be, on the clock that waits go by.
    pub fn instant(&self, due: Timestamp) -> Instant {
        Instant::now() + Duration::from_micros(due.micros_since(self.now()))
    }
}

fn wall() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)
}

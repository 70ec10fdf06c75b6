//! The clock of the shell: the wall clock, made monotone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Timestamp;

/// Tells the time. Never goes back, not even when the wall clock does, and not behind the end of the log.
#[derive(Debug)]
pub struct Clock {
    last: AtomicI64,
}

impl Clock {
    /// A clock that begins at `floor`, or later.
    #[must_use]
    pub fn from(floor: Timestamp) -> Self {
        Self { last: AtomicI64::new(floor.0) }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.last.fetch_max(wall, Ordering::Relaxed).max(wall))
    }

    /// When `due` will be, on the clock that waits go by.
    pub fn instant(&self, due: Timestamp) -> Instant {
        Instant::now() + Duration::from_micros(due.micros_since(self.now()))
    }
}

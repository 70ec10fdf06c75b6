//! The engine's clock: the wall clock, made monotonic, or a virtual one that tests advance.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloacina_store::LogClock;
use cloacina_store::record::Timestamp as LogTime;

use super::lock::lock;
use crate::core::time::Timestamp;

/// The source of an engine's time.
#[derive(Clone, Debug, Default)]
pub enum TimeSource {
    /// The system's wall clock.
    #[default]
    Wall,
    /// A clock that only tests advance.
    Virtual(VirtualClock),
}

/// A clock for tests: only [`VirtualClock::advance`] moves it.
///
/// Several engines can share one. It begins no earlier than the last events of the logs that they open; a new log can
/// use it too, see [`VirtualClock::for_log`]. Only the engine's own waits follow it: a task that sleeps does so in real
/// time.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
/// use cloacina_engine::core::event::TaskError;
/// use cloacina_engine::runtime::clock::{TimeSource, VirtualClock};
/// use cloacina_engine::runtime::engine::{Engine, EngineConfig, ExecutionStatus, StartRequest};
/// use cloacina_engine::runtime::task::Task;
/// use cloacina_engine::runtime::workflow::{Registry, Workflow};
///
/// let runs = AtomicU32::new(0);
/// let stumble = Task::new("stumble", move |_| match runs.fetch_add(1, Ordering::SeqCst) {
///     0 => Err(TaskError::default()),
///     _ => Ok(()),
/// });
/// let registry = Arc::new(Registry::default());
/// registry.register(Workflow::new("stumbling", [stumble])?);
///
/// let clock = VirtualClock::default();
/// let config = EngineConfig { time: TimeSource::Virtual(clock.clone()), ..EngineConfig::default() };
/// let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
/// let engine = Engine::open(log, registry, config)?;
/// let execution = engine.start(StartRequest::new("stumbling"))?;
/// clock.advance(Duration::from_secs(60)); // past the wait before the second attempt, at once
/// assert_eq!(engine.wait(execution, None)?.status, ExecutionStatus::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Microseconds since 1970; 0 until an engine or a test sets it.
    now: AtomicI64,
    /// Held while it advances, so that calls are serialized.
    moving: Mutex<()>,
    followers: Mutex<Vec<Arc<dyn Follower>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} µs", self.now.load(Ordering::SeqCst))
    }
}

/// An engine that follows a virtual clock.
pub(crate) trait Follower: Send + Sync {
    /// Fires the timers that are due, and waits until the engine is idle. `None` if it is gone.
    fn settle(&self) -> Option<Settled>;
}

/// An idle engine's reply.
pub(crate) struct Settled {
    /// When its next timer is due.
    pub(crate) next: Option<Timestamp>,
}

impl VirtualClock {
    /// A clock that begins at `start`, or at the last event of the first log that it is used on, if that is later.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        let clock = Self::default();
        clock.0.now.store(start.0, Ordering::SeqCst);
        clock
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.now.load(Ordering::SeqCst))
    }

    /// The clock for the log's own events, so that a log on disk does not begin in real time.
    #[must_use]
    pub fn for_log(&self) -> LogClock {
        let clock = self.clone();
        LogClock::new(move || match clock.now() {
            // Not set yet.
            Timestamp(0) => LogTime(wall()),
            Timestamp(now) => LogTime(now),
        })
    }

    /// Advances the clock from one due timer to the next, so that each fires at its own time. At each stop it waits
    /// until the engine is idle: events are durable, and the attempts they started have ended. So the result does not
    /// depend on how fast the machine is.
    ///
    /// An attempt that waits for something outside the engine would block this for ever. So an engine waits for each
    /// attempt only once, up to [`PATIENCE`] of real time, and then continues without it; that allows testing of
    /// timeouts. Called from within a task, it waits that long for the task itself.
    pub fn advance(&self, span: Duration) {
        let _one_at_a_time = lock(&self.0.moving);
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let mut next = self.settle();
        let target = Timestamp(self.now().0.saturating_add(span));
        while let Some(due) = next.filter(|due| *due <= target) {
            self.raise(due);
            next = self.settle();
        }
        self.raise(target);
    }

    /// Waits until every engine is idle. Returns when the next timer is due.
    fn settle(&self) -> Option<Timestamp> {
        let followers = lock(&self.0.followers).clone();
        let mut next = None;
        for follower in &followers {
            match follower.settle() {
                Some(settled) => next = [next, settled.next].into_iter().flatten().min(),
                None => lock(&self.0.followers).retain(|other| !Arc::ptr_eq(other, follower)),
            }
        }
        next
    }

    /// Adds an engine that follows the clock.
    pub(crate) fn follow(&self, follower: Arc<dyn Follower>) {
        lock(&self.0.followers).push(follower);
    }

    fn raise(&self, to: Timestamp) {
        self.0.now.fetch_max(to.0, Ordering::SeqCst);
    }
}

/// How long an engine under a virtual clock waits for an attempt to end before the clock moves on.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Longest single wait for a timer. So a timer that became due while the machine slept, or because its clock was set
/// forward, is late by this much at most. An engine without timers does not wake up.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The clock of an engine. Never goes back.
#[derive(Debug)]
pub(crate) enum Clock {
    Wall(WallClock),
    Virtual(VirtualClock),
}

impl Clock {
    /// A clock that begins at `floor`, or later.
    pub(crate) fn from(source: &TimeSource, floor: Timestamp) -> Self {
        match source {
            TimeSource::Wall => Self::Wall(WallClock::from(floor, wall)),
            TimeSource::Virtual(clock) => {
                clock.raise(floor);
                Self::Virtual(clock.clone())
            }
        }
    }

    /// The current time of the log.
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Wall(clock) => clock.now(),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// The current time of the wall clock, which can be set back. Schedules use it.
    pub(crate) fn wall(&self) -> Timestamp {
        match self {
            Self::Wall(clock) => Timestamp((clock.wall)()),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// Converts `due` to the steady clock, for a wait. That clock stops while the machine sleeps and ignores changes of
    /// the wall clock, so a wait ends after [`LONGEST_WAIT`] at most, to check the wall clock again. `None` for a
    /// virtual clock.
    pub(crate) fn instant(&self, due: Timestamp) -> Option<Instant> {
        match self {
            Self::Wall(clock) => {
                let left = Duration::from_micros(due.micros_since(clock.now()));
                Instant::now().checked_add(left.min(LONGEST_WAIT))
            }
            Self::Virtual(_) => None,
        }
    }
}

/// The time of the log: the wall clock, made monotonic.
///
/// It never goes back, not even behind the last event of the log. While it is ahead of the wall clock, because that was
/// set back or was wrong when the log was written, it runs at half speed until the wall clock has caught up: an error
/// of one hour is gone after two. Meanwhile waits for retries and timeouts take up to twice as long, but end. Schedules
/// do not use it: see [`Clock::wall`].
#[derive(Debug)]
pub(crate) struct WallClock {
    /// The last time returned, and when that was by the steady clock.
    last: Mutex<(Instant, i64)>,
    /// Reads the wall clock.
    wall: fn() -> i64,
}

/// How far the last event of a log may be ahead of the clock without a warning. Clocks of machines differ by less.
pub const MOST_AHEAD: Duration = Duration::from_secs(60);

/// Warns if the last event of a log is ahead of the wall clock.
pub(crate) fn warn_if_ahead(log: &str, end: Timestamp) {
    let ahead = Duration::from_micros(end.micros_since(Timestamp(wall())));
    if ahead > MOST_AHEAD {
        tracing::warn!(
            log,
            seconds = ahead.as_secs(),
            "the last event of log {log} is {} s ahead of this machine's clock, so one of the clocks is or was wrong. Check \
             the clock. Until it has caught up, the times of new events advance at half speed; schedules follow the clock",
            ahead.as_secs()
        );
    }
}

impl WallClock {
    fn from(floor: Timestamp, wall: fn() -> i64) -> Self {
        let begin = wall().max(floor.0);
        Self { last: Mutex::new((Instant::now(), begin)), wall }
    }

    fn now(&self) -> Timestamp {
        let mut last = lock(&self.last);
        let steady = Instant::now();
        let passed = i64::try_from(steady.saturating_duration_since(last.0).as_micros()).unwrap_or(i64::MAX);
        let now = (self.wall)().max(last.1.saturating_add(passed / 2));
        // Only update on a change, so that half microseconds add up.
        if now > last.1 {
            *last = (steady, now);
        }
        Timestamp(now)
    }
}

fn wall() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Regression: a single long wait on the steady clock, which stops while the machine sleeps, made a schedule hours
    /// late.
    #[test]
    fn what_was_due_while_the_machine_slept_is_noticed_within_a_minute() {
        static WALL: AtomicI64 = AtomicI64::new(HOUR);
        let clock = Clock::Wall(WallClock::from(Timestamp(0), || WALL.load(Ordering::SeqCst)));
        let due = Timestamp(10 * HOUR);
        let waits_until = clock.instant(due).map(|until| until.saturating_duration_since(Instant::now()));
        assert!(waits_until.is_some_and(|wait| wait <= LONGEST_WAIT), "{waits_until:?}");
        WALL.store(11 * HOUR, Ordering::SeqCst);
        assert!(clock.now() >= due, "the wall clock is followed when it jumps forward");
        assert!(clock.instant(due).is_some_and(|until| until <= Instant::now()), "what is due is not waited for");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_is_not_followed() {
        static WALL: AtomicI64 = AtomicI64::new(5 * HOUR);
        let clock = Clock::Wall(WallClock::from(Timestamp(0), || WALL.load(Ordering::SeqCst)));
        let before = clock.now();
        WALL.store(HOUR, Ordering::SeqCst);
        assert!(clock.now() >= before);
    }

    /// Regression: after the clock had once been wrong, all later events of the log stayed ahead by as much.
    #[test]
    fn a_log_that_is_ahead_is_caught_up_with_and_its_time_does_not_stand_still() {
        static WALL: AtomicI64 = AtomicI64::new(HOUR);
        let clock = Clock::Wall(WallClock::from(Timestamp(6 * HOUR), || WALL.load(Ordering::SeqCst)));
        let first = clock.now();
        assert!(first >= Timestamp(6 * HOUR), "never behind the end of the log");
        std::thread::sleep(Duration::from_millis(2));
        let second = clock.now();
        assert!(second > first, "waits end");
        assert!(second.micros_since(first) < HOUR as u64);
        assert_eq!(clock.wall(), Timestamp(HOUR), "schedules go by the wall");
        WALL.store(7 * HOUR, Ordering::SeqCst);
        assert_eq!(clock.now(), Timestamp(7 * HOUR), "the wall clock has caught up");
    }

    #[test]
    fn a_wait_that_is_short_is_no_shorter_than_it_has_to_be() {
        static WALL: AtomicI64 = AtomicI64::new(HOUR);
        let clock = Clock::Wall(WallClock::from(Timestamp(0), || WALL.load(Ordering::SeqCst)));
        let until = clock.instant(Timestamp(HOUR + 10_000_000));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        assert!(left.is_some_and(|left| left > Duration::from_secs(5) && left <= Duration::from_secs(10)), "{left:?}");
    }
}

//! The clock of the shell: the wall clock, made monotone; or a virtual one, which a test moves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloacina_store::LogClock;
use cloacina_store::record::Timestamp as LogTime;

use super::lock::lock;
use crate::core::time::Timestamp;

/// Where an engine gets the time from.
#[derive(Clone, Debug, Default)]
pub enum TimeSource {
    /// The clock on the wall.
    #[default]
    Wall,
    /// A clock that stands still until it is moved.
    Virtual(VirtualClock),
}

/// A clock that stands still until [`VirtualClock::advance`] moves it: for tests of what takes time.
///
/// Several engines can share one. It begins no earlier than the end of the logs that they open (a new log begins with it, see
/// [`VirtualClock::for_log`]), and only the engine's own
/// waits go by it: a task that sleeps does so by the clock on the wall.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
/// use cloacina_engine::core::event::{Cause, TaskError};
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
/// let request = StartRequest { workflow: "stumbling".into(), input: vec![], execution: None, cause: Cause::Call };
/// let execution = engine.start(request)?;
/// clock.advance(Duration::from_secs(60)); // past the wait before the second attempt, at once
/// assert_eq!(engine.wait(execution, None)?.status, ExecutionStatus::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Microseconds since 1970; 0 until an engine or a test says what time it is.
    now: AtomicI64,
    /// Held while it moves: one move after the other.
    moving: Mutex<()>,
    followers: Mutex<Vec<Arc<dyn Follower>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} µs", self.now.load(Ordering::SeqCst))
    }
}

/// An engine that goes by a virtual clock.
pub(crate) trait Follower: Send + Sync {
    /// Does what is due by now and waits until nothing moves any more. `None` if it is gone.
    fn settle(&self) -> Option<Settled>;
}

/// What an engine says when nothing moves any more.
pub(crate) struct Settled {
    /// When its next timer is due.
    pub(crate) next: Option<Timestamp>,
}

impl VirtualClock {
    /// A clock that begins at `start`; at the end of the first log that it is used on, if that lies later.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        let clock = Self::default();
        clock.0.now.store(start.0, Ordering::SeqCst);
        clock
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.now.load(Ordering::SeqCst))
    }

    /// The clock for the events of the log itself, so that a log on the disk does not begin now.
    #[must_use]
    pub fn for_log(&self) -> LogClock {
        let clock = self.clone();
        LogClock::new(move || match clock.now() {
            // Nobody has said yet what time it is.
            Timestamp(0) => LogTime(wall()),
            Timestamp(now) => LogTime(now),
        })
    }

    /// Moves the clock, from one due timer to the next, and lets each fire at its own time. At each stop it waits until
    /// what was due is done: decided, durable, and the attempts that it started have ended. So what happens does not depend
    /// on how fast the machine is.
    ///
    /// An attempt that waits for something else than the engine would hold that up for ever. So an engine waits for each
    /// attempt only once, for at most [`PATIENCE`] of real time, and then moves on without it: that is how a timeout is
    /// tested. Called from within a task, it waits that long for the task itself.
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

    /// Lets every engine do what is due, until nothing moves; when the next timer is due.
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

    /// Lets an engine go by the clock.
    pub(crate) fn follow(&self, follower: Arc<dyn Follower>) {
        lock(&self.0.followers).push(follower);
    }

    fn raise(&self, to: Timestamp) {
        self.0.now.fetch_max(to.0, Ordering::SeqCst);
    }
}

/// How long an engine under a virtual clock waits for an attempt to end before the clock moves on.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// A timer is never waited for in one piece for longer than this. So what was due while the machine slept, or is due since
/// its clock was set forward, happens at most so much later; and an engine that waits for the next day wakes up once a
/// minute. One that waits for no timer sleeps.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Tells an engine the time. Never goes back.
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

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Wall(clock) => clock.now(),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// What time it is by the clock on the wall, which can be set back: schedules go by it.
    pub(crate) fn wall(&self) -> Timestamp {
        match self {
            Self::Wall(clock) => Timestamp((clock.wall)()),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// Until when to wait for `due`, on the clock that waits go by: that stands still while the machine sleeps, and knows
    /// nothing of a wall clock that is set. So a wait that is longer than [`LONGEST_WAIT`] ends before `due`, to look at
    /// the wall clock again. `None` if waiting brings it no nearer.
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

/// The time of the log: the wall clock, which may be set back, made monotone.
///
/// It never goes back, not even behind the end of the log that it begins with. Where it is ahead of the wall clock, because that
/// was set back or was wrong when the log was written, it goes at half the pace until the wall clock has caught up. So what an
/// hour's mistake has brought is gone after two hours, and meanwhile every wait for a retry or a timeout still ends, after twice
/// as long. Schedules do not go by it: see [`Clock::wall`].
#[derive(Debug)]
pub(crate) struct WallClock {
    /// What was told last, and when that was by the steady clock.
    told: Mutex<(Instant, i64)>,
    /// Reads the clock on the wall.
    wall: fn() -> i64,
}

/// How far the end of a log may lie ahead of the clock without a warning: clocks of machines differ by less.
pub const MOST_AHEAD: Duration = Duration::from_secs(60);

/// Warns if the end of a log lies ahead of the wall clock.
pub(crate) fn warn_if_ahead(log: &str, end: Timestamp) {
    let ahead = Duration::from_micros(end.micros_since(Timestamp(wall())));
    if ahead > MOST_AHEAD {
        tracing::warn!(
            log,
            seconds = ahead.as_secs(),
            "the last event of the log {log} lies {} s ahead of this machine's clock: a clock is wrong, or was. New events go on \
             from there at half the pace until the clock has caught up; schedules go by the clock. Check the clock",
            ahead.as_secs()
        );
    }
}

impl WallClock {
    fn from(floor: Timestamp, wall: fn() -> i64) -> Self {
        let begin = wall().max(floor.0);
        Self { told: Mutex::new((Instant::now(), begin)), wall }
    }

    fn now(&self) -> Timestamp {
        let mut told = lock(&self.told);
        let steady = Instant::now();
        let passed = i64::try_from(steady.saturating_duration_since(told.0).as_micros()).unwrap_or(i64::MAX);
        let now = (self.wall)().max(told.1.saturating_add(passed / 2));
        // Halves of what is too short to be told are not lost.
        if now > told.1 {
            *told = (steady, now);
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

    /// A schedule's next time was waited for in one piece, on a clock that stands still while the machine sleeps: after a
    /// night's sleep, what was due at six came hours late.
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

    /// The clock was wrong by hours once: from then on, every event of the log stayed ahead by as much, for ever.
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

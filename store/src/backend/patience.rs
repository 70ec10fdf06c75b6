//! Waking sled where it sleeps for ever.
//!
//! sled writes on threads of its own. Where such a write fails, it notes the error and, on one of its paths, wakes nobody:
//! a flush that had looked for an error a moment before waits for ever. A second flush finds the error and wakes all who
//! wait. So while sled is at work for us, a thread looks after it, and lets it begin another flush whenever it has been
//! at it for long. It sleeps for good while nothing is written.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// How long sled may be at it before it is nudged for the first time; each time after that, twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// How long the thread stays awake after the last work.
const LINGER: Duration = Duration::from_millis(750);

/// Looks after a database.
pub(super) struct Patience {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Since when sled is at work.
    since: Option<Instant>,
    last: Option<Instant>,
    asleep: bool,
    ended: bool,
}

impl Patience {
    pub(super) fn with(database: ::sled::Db) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("cloacina-patience".to_owned()).spawn(move || watched.look_after(&database))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Does something of which only one is done at a time.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let asleep = {
            let mut state = lock(&self.shared.state);
            state.since = Some(Instant::now());
            state.asleep
        };
        if asleep {
            self.shared.changed.notify_one();
        }
        // A panic leaves it awake; the log stops then anyway.
        let done = work();
        let mut state = lock(&self.shared.state);
        state.since = None;
        state.last = Some(Instant::now());
        done
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.changed.notify_one();
        // It holds the database: nobody else lets go of it for good before it has ended.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn look_after(&self, database: &::sled::Db) {
        let mut patience = FIRST;
        let mut nudged = None;
        let mut state = lock(&self.state);
        while !state.ended {
            if nudged != state.since {
                (nudged, patience) = (state.since, FIRST);
            }
            let wait = match (state.since, state.last) {
                (Some(since), _) if since.elapsed() >= patience => {
                    patience *= 2;
                    drop(state);
                    nudge(database);
                    state = lock(&self.state);
                    continue;
                }
                (Some(since), _) => Some(patience.saturating_sub(since.elapsed())),
                (None, Some(last)) if last.elapsed() < LINGER => Some(FIRST),
                (None, _) => None,
            };
            state = match wait {
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => {
                    state.asleep = true;
                    let mut state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                    state.asleep = false;
                    state
                }
            };
        }
    }
}

/// Lets sled begin a flush on one of its own threads, and does not wait for it.
fn nudge(database: &::sled::Db) {
    let flush = pin!(database.flush_async());
    let _ = flush.poll(&mut Context::from_waker(Waker::noop()));
}

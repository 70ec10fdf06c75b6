//! Waiting for an execution on the caller's thread. All waits for an execution share one callback, so waits that time
//! out do not accumulate memory.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::completion::Waiter;
use super::errors::WaitError;
use super::lock::lock;
use super::outcome::Outcome;
use crate::core::event::ExecutionId;

type Ended = Result<Arc<Outcome>, WaitError>;

/// The waits of all executions.
#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Mutex<HashMap<ExecutionId, Arc<Wait>>>>);

/// The wait for one execution, shared by all its waiters.
#[derive(Default)]
pub(super) struct Wait {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the callback is registered. From then on, an earlier end is known.
    registered: bool,
    ended: Option<Ended>,
}

impl Waits {
    /// The wait for an execution. If it is new, calls `ask` with the callback for the end.
    pub(super) fn of(&self, execution: ExecutionId, ask: impl FnOnce(Waiter)) -> Arc<Wait> {
        let mut waits = lock(&self.0);
        if let Some(wait) = waits.get(&execution) {
            return wait.clone();
        }
        let wait = Arc::new(Wait::default());
        waits.insert(execution, wait.clone());
        // The callback may run immediately, on this thread.
        drop(waits);
        let (ended, all) = (wait.clone(), self.clone());
        ask(Box::new(move |end| {
            let mut waits = lock(&all.0);
            if waits.get(&execution).is_some_and(|wait| Arc::ptr_eq(wait, &ended)) {
                waits.remove(&execution);
            }
            drop(waits);
            lock(&ended.state).ended.get_or_insert(end);
            ended.woken.notify_all();
        }));
        lock(&wait.state).registered = true;
        wait.woken.notify_all();
        wait
    }

    /// Ensures that later waits for an execution ask again: it was retried, and the present ones get the end before that.
    pub(super) fn renew(&self, execution: ExecutionId) {
        lock(&self.0).remove(&execution);
    }
}

impl Wait {
    /// Waits up to `time`. Returns a finished execution even when `time` is zero: the time counts from when the
    /// callback is registered, by whichever thread came first.
    pub(super) fn within(&self, time: Duration) -> Option<Ended> {
        let state = self.woken.wait_while(lock(&self.state), |state| !state.registered && state.ended.is_none());
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(state, time, |state| state.ended.is_none());
        waited.map_or_else(|poisoned| poisoned.into_inner().0.ended.clone(), |(state, _)| state.ended.clone())
    }

    /// Waits for the end.
    pub(super) fn forever(&self) -> Ended {
        loop {
            if let Some(ended) = self.within(LONG) {
                return ended;
            }
        }
    }
}

/// A wait without a timeout repeats waits of a year.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Regression: each wait left a callback behind until the execution ended, so a program that polled a long
    /// execution used ever more memory.
    #[test]
    fn an_execution_is_asked_for_once_however_often_somebody_waits() {
        let (waits, execution) = (Waits::default(), ExecutionId([7; 16]));
        let mut asked = Vec::new();
        for _ in 0..1_000 {
            let wait = waits.of(execution, |waiter| asked.push(waiter));
            assert!(wait.within(Duration::ZERO).is_none());
        }
        assert_eq!(asked.len(), 1);

        let before = waits.of(execution, |_| unreachable!("it was asked for"));
        asked.pop().unwrap()(Err(WaitError::NotFound(execution)));
        assert!(matches!(before.forever(), Err(WaitError::NotFound(_))));

        // The state may have changed since: a later wait asks again.
        waits.of(execution, |waiter| asked.push(waiter));
        assert_eq!(asked.len(), 1);
    }

    /// Regression: who waited after a retry heard of the failure before it, which another wait was still about to hear of.
    #[test]
    fn who_comes_after_a_retry_asks_again() {
        let (waits, execution) = (Waits::default(), ExecutionId([7; 16]));
        let mut asked = Vec::new();
        let before = waits.of(execution, |waiter| asked.push(waiter));
        waits.renew(execution);
        let after = waits.of(execution, |waiter| asked.push(waiter));
        asked.remove(0)(Err(WaitError::NotFound(execution)));
        assert!(matches!(before.forever(), Err(WaitError::NotFound(_))));
        assert!(after.within(Duration::ZERO).is_none());
        waits.of(execution, |_| unreachable!("it was asked for"));
    }

    /// Regression: of two waits for a finished execution, the second timed out while the first was still registering.
    #[test]
    fn who_comes_while_another_is_asking_hears_of_the_end_too() {
        let (waits, execution) = (Waits::default(), ExecutionId([7; 16]));
        let second = std::thread::scope(|scope| {
            let mut second = None;
            let first = waits.of(execution, |waiter| {
                let (found, come) = std::sync::mpsc::channel();
                let others = waits.clone();
                second = Some(scope.spawn(move || {
                    let wait = others.of(execution, |_| unreachable!("it is being asked for"));
                    found.send(()).unwrap();
                    wait.within(Duration::ZERO)
                }));
                come.recv().unwrap();
                waiter(Err(WaitError::NotFound(execution)));
            });
            assert!(first.within(Duration::ZERO).is_some());
            second.unwrap().join().unwrap()
        });
        assert!(second.is_some());
    }
}

//! Waiting for an execution on the caller's own thread. Each execution is asked for once, however many wait for it and
//! however often: a wait that ran out of time leaves nothing behind that grows.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::completion::Waiter;
use super::errors::WaitError;
use super::lock::lock;
use super::outcome::Outcome;
use crate::core::event::ExecutionId;

type Ended = Result<Arc<Outcome>, WaitError>;

/// The executions that somebody waits for.
#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Mutex<HashMap<ExecutionId, Arc<Wait>>>>);

/// The wait for one execution, of everybody who waits for it.
#[derive(Default)]
pub(super) struct Wait {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the question has been put: what has ended before is known from then on.
    asked: bool,
    ended: Option<Ended>,
}

impl Waits {
    /// The wait for an execution. If it is a new one, `ask` is told what to call at the end.
    pub(super) fn of(&self, execution: ExecutionId, ask: impl FnOnce(Waiter)) -> Arc<Wait> {
        let mut waits = lock(&self.0);
        if let Some(wait) = waits.get(&execution) {
            return wait.clone();
        }
        let wait = Arc::new(Wait::default());
        waits.insert(execution, wait.clone());
        // The end may be told at once, on this thread.
        drop(waits);
        let (ended, all) = (wait.clone(), self.clone());
        ask(Box::new(move |end| {
            lock(&all.0).remove(&execution);
            lock(&ended.state).ended.get_or_insert(end);
            ended.woken.notify_all();
        }));
        lock(&wait.state).asked = true;
        wait.woken.notify_all();
        wait
    }
}

impl Wait {
    /// Waits, at most so long. What has ended by now is told in any case, also to somebody who does not want to wait: so
    /// the time counts from when the question has been put, by whoever came first.
    pub(super) fn within(&self, time: Duration) -> Option<Ended> {
        let asked = self.woken.wait_while(lock(&self.state), |state| !state.asked && state.ended.is_none());
        let asked = asked.unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(asked, time, |state| state.ended.is_none());
        waited.map_or_else(|poisoned| poisoned.into_inner().0.ended.clone(), |(state, _)| state.ended.clone())
    }

    /// Waits for the end.
    pub(super) fn for_good(&self) -> Ended {
        loop {
            if let Some(ended) = self.within(LONG) {
                return ended;
            }
        }
    }
}

/// A wait without an end is one of a year at a time.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Each wait left a callback until the execution ended: a program that looked ten times a second whether a long one
    /// was over took ever more memory.
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
        assert!(matches!(before.for_good(), Err(WaitError::NotFound(_))));

        // What it was may have changed since: a later wait asks again.
        waits.of(execution, |waiter| asked.push(waiter));
        assert_eq!(asked.len(), 1);
    }

    /// Two awaited what had just ended, and the second heard that it was still running: the first was about to ask.
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

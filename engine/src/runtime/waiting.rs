//! Waiting for an execution on the caller's own thread. Each execution is asked for once, however many wait for it and
//! however often: a wait that ran out of time leaves nothing behind that grows.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::completion::Waiter;
use super::engine::{Outcome, WaitError, lock};
use crate::core::event::ExecutionId;

type Ended = Result<Arc<Outcome>, WaitError>;

/// The executions that somebody waits for.
#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Mutex<HashMap<ExecutionId, Arc<Wait>>>>);

/// The wait for one execution, of everybody who waits for it.
#[derive(Default)]
pub(super) struct Wait {
    ended: Mutex<Option<Ended>>,
    woken: Condvar,
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
            lock(&ended.ended).get_or_insert(end);
            ended.woken.notify_all();
        }));
        wait
    }
}

impl Wait {
    /// Waits, at most so long.
    pub(super) fn within(&self, time: Duration) -> Option<Ended> {
        let waited = self.woken.wait_timeout_while(lock(&self.ended), time, |ended| ended.is_none());
        waited.map_or_else(|poisoned| poisoned.into_inner().0.clone(), |(ended, _)| ended.clone())
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
}

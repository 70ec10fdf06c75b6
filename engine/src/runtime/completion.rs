//! Who waits for the end of an execution.

use std::sync::{Arc, Mutex};

use super::engine::{Outcome, WaitError, lock};

/// Takes the end of an execution; called once.
pub type Waiter = Box<dyn FnOnce(Result<Arc<Outcome>, WaitError>) + Send>;

/// The end of an execution, and those who wait for it.
#[derive(Default)]
pub(crate) struct Completion {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Option<Result<Arc<Outcome>, WaitError>>,
    /// How it ended, while observers still have to be told of its last tasks.
    held_back: Option<Result<Arc<Outcome>, WaitError>>,
    holds: usize,
    waiters: Vec<Waiter>,
}

/// Holds an answer back until it is dropped.
pub(crate) struct Hold(Arc<Completion>);

impl Completion {
    /// Calls `waiter` when the end is known: now, if it is.
    pub(crate) fn wait(&self, waiter: Waiter) {
        let mut state = lock(&self.state);
        match state.done.clone() {
            None => state.waiters.push(waiter),
            Some(done) => {
                drop(state);
                waiter(done);
            }
        }
    }

    /// Holds the answer back: those who wait hear of the end after the hold is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        lock(&self.state).holds += 1;
        Hold(self.clone())
    }

    /// Says how it ended, once nobody holds the answer back.
    pub(crate) fn answer(&self, done: Result<Arc<Outcome>, WaitError>) {
        let mut state = lock(&self.state);
        if state.holds > 0 {
            state.held_back = Some(done);
        } else {
            drop(state);
            self.complete(done);
        }
    }

    /// Says how it ended, at once. Only the first word counts.
    pub(crate) fn complete(&self, done: Result<Arc<Outcome>, WaitError>) {
        let mut state = lock(&self.state);
        let waiters = std::mem::take(&mut state.waiters);
        let done = state.done.get_or_insert(done).clone();
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter(done.clone()));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.holds -= 1;
        let done = if state.holds == 0 { state.held_back.take() } else { None };
        drop(state);
        if let Some(done) = done {
            self.0.complete(done);
        }
    }
}

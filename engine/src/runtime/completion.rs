//! Who waits for the end of an execution.

use std::sync::{Arc, Mutex, PoisonError};

use super::engine::{Outcome, WaitError};

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
    waiters: Vec<Waiter>,
}

impl Completion {
    /// Calls `waiter` when the end is known: now, if it is.
    pub(crate) fn wait(&self, waiter: Waiter) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.done.clone() {
            None => state.waiters.push(waiter),
            Some(done) => {
                drop(state);
                waiter(done);
            }
        }
    }

    /// Says how it ended. Only the first word counts.
    pub(crate) fn complete(&self, done: Result<Arc<Outcome>, WaitError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = std::mem::take(&mut state.waiters);
        let done = state.done.get_or_insert(done).clone();
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter(done.clone()));
    }
}

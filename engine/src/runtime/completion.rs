//! Promises: what will be known once, and those who wait for it.

use std::sync::{Arc, Mutex, PoisonError};

use super::engine::{Outcome, WaitError};

/// Takes the end of an execution; called once.
pub type Waiter = Box<dyn FnOnce(Result<Arc<Outcome>, WaitError>) + Send>;

/// The end of an execution.
pub(crate) type Completion = Promise<Result<Arc<Outcome>, WaitError>>;

/// That everything which was decided up to some moment is durable, or the reason why it never will be.
pub(crate) type Durable = Result<(), Arc<str>>;

/// What will be known once, and those who wait for it.
pub(crate) struct Promise<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    kept: Option<T>,
    waiters: Vec<Box<dyn FnOnce(T) + Send>>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { kept: None, waiters: Vec::new() }) }
    }
}

impl<T: Clone> Promise<T> {
    /// Calls `waiter` when it is known: now, if it is.
    pub(crate) fn wait(&self, waiter: Box<dyn FnOnce(T) + Send>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.kept.clone() {
            None => state.waiters.push(waiter),
            Some(kept) => {
                drop(state);
                waiter(kept);
            }
        }
    }

    /// Says what it is. Only the first word counts.
    pub(crate) fn complete(&self, known: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = std::mem::take(&mut state.waiters);
        let kept = state.kept.get_or_insert(known).clone();
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter(kept.clone()));
    }
}

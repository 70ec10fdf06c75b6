//! Promises: values that are set once, with waiters for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cloacina_store::log::AppendError;

use super::errors::WaitError;
use super::lock::lock;
use super::outcome::Outcome;
use crate::core::event::ExecutionId;

/// Called once with the end of an execution.
pub type Waiter = Box<dyn FnOnce(Result<Arc<Outcome>, WaitError>) + Send>;

/// The end of an execution.
pub(crate) type Completion = Promise<Result<Arc<Outcome>, WaitError>>;

/// The completions of live executions, shared so that waiters need not ask the scheduler.
#[derive(Clone, Default)]
pub(crate) struct Completions(Arc<Mutex<HashMap<ExecutionId, Arc<Completion>>>>);

impl Completions {
    /// The completion of an execution, if it is live.
    pub(crate) fn find(&self, execution: ExecutionId) -> Option<Arc<Completion>> {
        lock(&self.0).get(&execution).cloned()
    }

    pub(crate) fn insert(&self, execution: ExecutionId, completion: Arc<Completion>) {
        lock(&self.0).insert(execution, completion);
    }

    pub(crate) fn remove(&self, execution: ExecutionId) {
        lock(&self.0).remove(&execution);
    }
}

/// The scheduler's handle to the completions. Clears them when it is dropped: nothing is live then.
pub(crate) struct PublishedCompletions(pub(crate) Completions);

impl Drop for PublishedCompletions {
    fn drop(&mut self) {
        // Dropped outside the lock: dropping a completion runs its waiters.
        let left = std::mem::take(&mut *lock(&self.0.0));
        drop(left);
    }
}

/// Whether all events up to some point are durable, or the reason why they never will be.
pub(crate) type Durable = Result<(), AppendError>;

/// An answer that is sent once its events are durable.
pub(crate) type Answer = Box<dyn FnOnce(Durable) + Send>;

/// A value that is set once, with waiters for it.
pub(crate) struct Promise<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<T>,
    /// The value while a hold delays it.
    delayed: Option<T>,
    holds: usize,
    waiters: Vec<Box<dyn FnOnce(T) + Send>>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { value: None, delayed: None, holds: 0, waiters: Vec::new() }) }
    }
}

impl<T: Clone> Promise<T> {
    /// Calls `waiter` with the value, immediately if it is set.
    pub(crate) fn wait(&self, waiter: Box<dyn FnOnce(T) + Send>) {
        let mut state = lock(&self.state);
        match state.value.clone() {
            None => state.waiters.push(waiter),
            Some(value) => {
                drop(state);
                waiter(value);
            }
        }
    }

    /// Whether the value is set.
    pub(crate) fn is_complete(&self) -> bool {
        lock(&self.state).value.is_some()
    }

    /// Delays [`Promise::answer`] until the hold is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold<T> {
        lock(&self.state).holds += 1;
        Hold(self.clone())
    }

    /// Sets the value once no hold exists.
    pub(crate) fn answer(&self, known: T) {
        let mut state = lock(&self.state);
        if state.holds > 0 {
            state.delayed = Some(known);
        } else {
            drop(state);
            self.complete(known);
        }
    }

    /// Sets the value immediately, if it is not set yet.
    pub(crate) fn complete(&self, known: T) {
        let mut state = lock(&self.state);
        let waiters = std::mem::take(&mut state.waiters);
        let value = state.value.get_or_insert(known).clone();
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter(value.clone()));
    }
}

/// Delays an answer until it is dropped.
pub(crate) struct Hold<T: Clone>(Arc<Promise<T>>);

impl<T: Clone> Drop for Hold<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.holds -= 1;
        let known = if state.holds == 0 { state.delayed.take() } else { None };
        drop(state);
        if let Some(known) = known {
            self.0.complete(known);
        }
    }
}

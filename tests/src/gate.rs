//! A log wrapper that delays appended batches, like a slow disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cloacina_store::keeper::{Change, ChangeError, Changed, Keeper};
use cloacina_store::log::{Acknowledge, AppendError, Batch, EventLog, LogReader};
use cloacina_store::record::StreamId;

use crate::GUARD;

/// A log whose appends can be held back: a held batch is not written, not visible and not acknowledged.
pub struct GatedLog<L> {
    inner: L,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holding: bool,
    held: Vec<(Batch, Acknowledge)>,
}

impl<L: EventLog> GatedLog<L> {
    /// Wraps a log; nothing is held yet.
    pub fn new(inner: L) -> Arc<Self> {
        Arc::new(Self { inner, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Holds back every batch from now on.
    pub fn hold(&self) {
        self.lock().holding = true;
    }

    /// Lets `count` of the held batches through, in order, and keeps holding.
    pub fn let_through(&self, count: usize) {
        let passing: Vec<_> = {
            let mut state = self.lock();
            let count = count.min(state.held.len());
            state.held.drain(..count).collect()
        };
        passing.into_iter().for_each(|(batch, acknowledge)| self.inner.append_then(batch, acknowledge));
    }

    /// Lets every batch through from now on.
    pub fn release(&self) {
        loop {
            self.let_through(usize::MAX);
            let mut state = self.lock();
            if state.held.is_empty() {
                state.holding = false;
                return;
            }
        }
    }

    /// Waits until `count` batches are held.
    ///
    /// # Panics
    /// After the guard timeout.
    pub fn wait_for_held(&self, count: usize) {
        let waited = self.changed.wait_timeout_while(self.lock(), GUARD, |state| state.held.len() < count);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{} of {count} batches came", state.held.len());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: EventLog> LogReader for GatedLog<L> {
    cloacina_store::read_through!(self => self.inner);
}

impl<L: EventLog> Keeper for GatedLog<L> {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.inner.change(change)
    }
}

impl<L: EventLog> EventLog for GatedLog<L> {
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge) {
        let mut state = self.lock();
        if state.holding {
            state.held.push((batch, acknowledge));
            drop(state);
            self.changed.notify_all();
        } else {
            drop(state);
            self.inner.append_then(batch, acknowledge);
        }
    }

    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        self.inner.post(stream, notice);
    }

    fn flushes(&self) -> u64 {
        self.inner.flushes()
    }

    fn close(&self) -> Result<(), AppendError> {
        self.release();
        self.inner.close()
    }
}

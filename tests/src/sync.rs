//! Synchronization: tasks that wait for each other, or for the test.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::GUARD;

/// A door that tasks wait at until the test opens it.
#[derive(Clone, Debug, Default)]
pub struct Door {
    shared: Arc<(Mutex<DoorState>, Condvar)>,
}

#[derive(Debug, Default)]
struct DoorState {
    open: bool,
    arrived: usize,
}

impl Door {
    /// A closed door.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Opens it; it stays open.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Waits until it is open. Returns false after the guard timeout.
    #[must_use]
    pub fn pass(&self) -> bool {
        self.change(|state| state.arrived += 1);
        self.until(|state| state.open)
    }

    /// Waits until `count` tasks in total have arrived at the door.
    ///
    /// # Panics
    /// After the guard timeout.
    pub fn wait_for_arrivals(&self, count: usize) {
        assert!(self.until(|state| state.arrived >= count), "{} of {count} arrived", self.arrivals());
    }

    /// The number of tasks that have arrived at the door so far.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).arrived
    }

    fn change(&self, change: impl FnOnce(&mut DoorState)) {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.1.notify_all();
    }

    fn until(&self, condition: impl Fn(&DoorState) -> bool) -> bool {
        let state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.1.wait_timeout_while(state, GUARD, |state| !condition(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A barrier: nobody continues before all are waiting at the same time.
#[derive(Clone, Debug)]
pub struct Barrier {
    size: usize,
    door: Door,
}

impl Barrier {
    /// A barrier for `size` tasks.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { size, door: Door::closed() }
    }

    /// Waits until all have arrived. Returns false after the guard timeout.
    #[must_use]
    pub fn wait_for_all(&self) -> bool {
        self.door.change(|state| {
            state.arrived += 1;
            state.open = state.arrived >= self.size;
        });
        self.door.until(|state| state.open)
    }
}

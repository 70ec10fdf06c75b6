//! Places where tasks wait for each other, or for the test.

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

    /// Opens it, for good.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Waits until it is open. Returns whether it was opened before the guard ran out.
    #[must_use]
    pub fn pass(&self) -> bool {
        self.change(|state| state.arrived += 1);
        self.until(|state| state.open)
    }

    /// Waits until `count` have arrived at the door, ever.
    ///
    /// # Panics
    /// If they do not come before the guard runs out.
    pub fn wait_for_arrivals(&self, count: usize) {
        assert!(self.until(|state| state.arrived >= count), "{} of {count} arrived", self.arrivals());
    }

    /// How many have arrived at the door, ever.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).arrived
    }

    fn change(&self, change: impl FnOnce(&mut DoorState)) {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.1.notify_all();
    }

    fn until(&self, holds: impl Fn(&DoorState) -> bool) -> bool {
        let state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.1.wait_timeout_while(state, GUARD, |state| !holds(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A meeting of so many: nobody goes on before all are there at once.
#[derive(Clone, Debug)]
pub struct Meeting {
    size: usize,
    door: Door,
}

impl Meeting {
    /// A meeting of `size`.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { size, door: Door::closed() }
    }

    /// Waits until all are there. Returns whether they came before the guard ran out.
    #[must_use]
    pub fn attend(&self) -> bool {
        self.door.change(|state| {
            state.arrived += 1;
            state.open = state.arrived >= self.size;
        });
        self.door.until(|state| state.open)
    }
}

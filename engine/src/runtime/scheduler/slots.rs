//! Slots limit how many attempts run at once. A deferred attempt releases its slot while it waits.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::core::event::TaskId;
use crate::core::state::{Execution, TaskState};
use crate::runtime::attempt::{AttemptKey, AttemptOver, SlotWaiter};

/// The slots, by number. The state of an execution tells which attempt has which slot.
pub(super) struct Slots {
    free: BTreeSet<u32>,
    count: usize,
    /// How often a slot was taken or released.
    changes: u64,
    /// The deferred attempts that want a slot again, in the order of their requests.
    returning: VecDeque<AttemptKey>,
    /// Their callbacks. An attempt that is over remains in `returning` only.
    waiters: HashMap<AttemptKey, SlotWaiter>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self {
            free: (0..count).collect(),
            count: count as usize,
            changes: 0,
            returning: VecDeque::new(),
            waiters: HashMap::new(),
        }
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self) -> Option<u32> {
        let slot = self.free.pop_first()?;
        self.changes += 1;
        Some(slot)
    }

    /// Releases a slot.
    pub(super) fn put(&mut self, slot: u32) {
        self.changes += 1;
        self.free.insert(slot);
    }

    /// The number of slots.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether one is free.
    pub(super) fn is_any_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// A counter that changes whenever a slot changes hands.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether some slots are free and some are taken.
    pub(super) fn are_partly_free(&self) -> bool {
        !self.free.is_empty() && self.free.len() < self.count
    }

    /// An attempt is over; releases its slot, if it had one.
    pub(super) fn leave(&mut self, attempt: &AttemptKey, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.put(slot);
        }
        self.refuse(attempt);
    }

    /// A deferred attempt wants a slot again.
    pub(super) fn want(&mut self, attempt: AttemptKey, waiter: SlotWaiter) {
        self.refuse(&attempt);
        self.waiters.insert(attempt.clone(), waiter);
        self.returning.push_back(attempt);
    }

    /// Removes an attempt that waits for a slot, and tells it that it is over.
    pub(super) fn refuse(&mut self, attempt: &AttemptKey) {
        if let Some(waiter) = self.waiters.remove(attempt) {
            waiter(Err(attempt_over(attempt)));
        }
    }

    /// The next waiting attempt, with a free slot for it.
    pub(super) fn next_return(&mut self) -> Option<(AttemptKey, u32, SlotWaiter)> {
        let slot = *self.free.first()?;
        while let Some(attempt) = self.returning.pop_front() {
            if let Some(waiter) = self.waiters.remove(&attempt) {
                self.changes += 1;
                self.free.remove(&slot);
                return Some((attempt, slot, waiter));
            }
        }
        None
    }

    /// Whether an attempt waits for a slot.
    pub(super) fn is_wanted_by(&self, attempt: &AttemptKey) -> bool {
        self.waiters.contains_key(attempt)
    }

    /// Tells all waiting attempts that they are over.
    pub(super) fn close(&mut self) {
        self.returning.clear();
        for (attempt, waiter) in self.waiters.drain() {
            waiter(Err(attempt_over(&attempt)));
        }
    }
}

/// The slot of an attempt: `Some(None)` while it is deferred, `None` if it is not under way.
pub(super) fn slot_of(state: &Execution, attempt: &AttemptKey) -> Option<Option<u32>> {
    let (_, task, number): &(_, TaskId, _) = attempt;
    let slot = state.task(state.graph().find(task)?);
    match slot.state() {
        TaskState::Running { worker, .. } if slot.attempts() == *number => Some(Some(worker)),
        TaskState::Deferred { .. } if slot.attempts() == *number => Some(None),
        _ => None,
    }
}

/// The error for an attempt that is over.
pub(super) fn attempt_over(attempt: &AttemptKey) -> AttemptOver {
    let (execution, task, attempt) = attempt.clone();
    AttemptOver { execution, task, attempt }
}

//! Slots: how many attempts run at once. An attempt that waits for something outside gives its slot back meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::core::event::TaskId;
use crate::core::state::TaskState;
use crate::runtime::handle::{AttemptOver, SlotWaiter};
use crate::runtime::message::{AttemptKey, SlotRequest};

/// The slots, by number. An attempt begins in the slot that its `TaskStarted` names.
pub(super) struct Slots {
    free: BTreeSet<u32>,
    count: usize,
    /// The attempts that have left the slot they began in.
    moved: HashMap<AttemptKey, Moved>,
    /// Those that want one again, in the order in which they asked. One that is over by now stands in `moved` no more.
    returning: VecDeque<AttemptKey>,
}

/// Where an attempt is that has left its first slot.
enum Moved {
    Away,
    Returning(SlotWaiter),
    In(u32),
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self { free: (0..count).collect(), count: count as usize, moved: HashMap::new(), returning: VecDeque::new() }
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop_first()
    }

    /// Gives one back.
    pub(super) fn put(&mut self, slot: u32) {
        self.free.insert(slot);
    }

    /// Whether some are free, and some are not.
    pub(super) fn are_partly_free(&self) -> bool {
        !self.free.is_empty() && self.free.len() < self.count
    }

    /// An attempt is over that began in `first`: frees what it has.
    pub(super) fn leave(&mut self, attempt: &AttemptKey, first: u32) {
        match self.moved.remove(attempt) {
            None => self.put(first),
            Some(Moved::In(slot)) => self.put(slot),
            Some(Moved::Away) => {}
            Some(Moved::Returning(waiter)) => waiter(Err(over(attempt))),
        }
    }

    /// An attempt that runs, and began in `first`, gives its slot back or wants one again.
    pub(super) fn request(&mut self, attempt: AttemptKey, first: u32, request: SlotRequest) {
        match request {
            SlotRequest::GiveBack => match self.moved.insert(attempt.clone(), Moved::Away) {
                None => self.put(first),
                Some(Moved::In(slot)) => self.put(slot),
                Some(Moved::Away) => {}
                Some(Moved::Returning(waiter)) => waiter(Err(over(&attempt))),
            },
            SlotRequest::Take(waiter) => match self.moved.get_mut(&attempt) {
                None | Some(Moved::In(_)) => waiter(Ok(())),
                Some(moved) => {
                    *moved = Moved::Returning(waiter);
                    self.returning.push_back(attempt);
                }
            },
        }
    }

    /// Lets those come back for whom there is a slot.
    pub(super) fn let_return(&mut self) {
        while let Some(&slot) = self.free.first() {
            let Some(attempt) = self.returning.pop_front() else { return };
            let Some(moved) = self.moved.get_mut(&attempt) else { continue };
            if matches!(moved, Moved::Returning(_))
                && let Moved::Returning(waiter) = std::mem::replace(moved, Moved::In(slot))
            {
                self.free.remove(&slot);
                waiter(Ok(()));
            }
        }
    }

    /// Whether no attempt waits for something outside.
    pub(super) fn nobody_is_away(&self) -> bool {
        self.moved.is_empty()
    }

    /// Whether an attempt waits for something outside, and for no slot.
    pub(super) fn is_away(&self, attempt: &AttemptKey) -> bool {
        matches!(self.moved.get(attempt), Some(Moved::Away))
    }

    /// Tells everybody who waits for a slot that there will be none.
    pub(super) fn close(&mut self) {
        self.returning.clear();
        for (attempt, moved) in self.moved.drain() {
            if let Moved::Returning(waiter) = moved {
                waiter(Err(over(&attempt)));
            }
        }
    }
}

/// The slot that an attempt began in, if it is the one that runs.
pub(super) fn first_slot(state: &crate::core::state::Execution, attempt: &AttemptKey) -> Option<u32> {
    let (_, task, number): &(_, TaskId, _) = attempt;
    let slot = state.task(state.graph().find(task)?);
    match slot.state() {
        TaskState::Running { worker, .. } if slot.attempts() == *number => Some(worker),
        _ => None,
    }
}

/// The news for an attempt that counts no more.
pub(super) fn over(attempt: &AttemptKey) -> AttemptOver {
    let (execution, task, attempt) = attempt.clone();
    AttemptOver { execution, task, attempt }
}

//! Those who wait for the scheduler as a whole: until nothing moves any more, or until it has stopped. And the attempts that
//! wait for executions.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use crate::core::event::{Attempt, ExecutionId, TaskId};
use crate::runtime::attempt::WaitTicket;
use crate::runtime::clock::Settled;
use crate::runtime::errors::EngineError;
use crate::runtime::message::{NestedWait, Reply};

/// Who waits for the engine to settle.
#[derive(Default)]
pub(super) struct Settling {
    pub(super) waiting: Vec<Reply<Settled>>,
    /// Until when attempts that run are waited for.
    pub(super) until: Option<Instant>,
    /// Attempts that were waited for long enough.
    pub(super) given_up: HashSet<(ExecutionId, TaskId, Attempt)>,
    /// Executions whose last batch has promised to send word when it is durable.
    pub(super) watched: HashSet<ExecutionId>,
}

impl Settling {
    /// When the patience ends.
    pub(super) fn until(&self) -> Option<Instant> {
        if self.waiting.is_empty() { None } else { self.until }
    }

    /// The last batch of an execution is durable.
    pub(super) fn durable(&mut self, execution: Option<ExecutionId>) {
        execution.map(|execution| self.watched.remove(&execution));
    }
}

/// That the scheduler was told to stop.
pub(super) struct Stopping {
    /// `None` lies beyond all clocks.
    pub(super) until: Option<Instant>,
    /// Everybody who told it.
    pub(super) replies: Vec<Reply<Result<(), EngineError>>>,
}

impl Stopping {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// The waits that are going on, in the order in which they began.
pub(super) type NestedWaits = BTreeMap<WaitTicket, NestedWait>;

/// The current stall, and whom to ask.
#[derive(Default)]
pub(super) struct Stalls {
    pub(super) look: Option<Box<dyn Fn() + Send>>,
    pub(super) current: Option<Stall>,
}

/// All slots are taken, and none has changed hands.
pub(super) struct Stall {
    /// As [`super::slots::Slots::changes`] was when it began.
    pub(super) changes: u64,
    pub(super) since: Instant,
    pub(super) next_look: Instant,
    pub(super) is_warned_about: bool,
}

impl Stalls {
    pub(super) fn on_stall(&mut self, look: Box<dyn Fn() + Send>) {
        self.look = Some(look);
    }

    /// When the next look is due.
    pub(super) fn until(&self) -> Option<Instant> {
        self.current.as_ref().map(|stall| stall.next_look)
    }
}

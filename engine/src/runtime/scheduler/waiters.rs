//! State of pending requests: settling under a virtual clock, stopping, nested waits and stalls.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use crate::core::event::{Attempt, ExecutionId, TaskId};
use crate::runtime::attempt::WaitTicket;
use crate::runtime::clock::Settled;
use crate::runtime::errors::EngineError;
use crate::runtime::message::{NestedWait, Reply};

/// Requests that wait for the engine to be idle.
#[derive(Default)]
pub(super) struct Settling {
    pub(super) waiting: Vec<Reply<Settled>>,
    /// Deadline for running attempts.
    pub(super) until: Option<Instant>,
    /// Attempts that exceeded the deadline and are no longer waited for.
    pub(super) expired: HashSet<(ExecutionId, TaskId, Attempt)>,
    /// Executions for which `Message::Durable` will arrive when their last batch is durable.
    pub(super) watched: HashSet<ExecutionId>,
}

impl Settling {
    /// The deadline for running attempts, if a request waits.
    pub(super) fn until(&self) -> Option<Instant> {
        if self.waiting.is_empty() { None } else { self.until }
    }

    /// The last batch of an execution is durable.
    pub(super) fn durable(&mut self, execution: Option<ExecutionId>) {
        execution.map(|execution| self.watched.remove(&execution));
    }
}

/// A shutdown under way.
pub(super) struct Stopping {
    /// End of the grace; `None` is later than any representable time.
    pub(super) until: Option<Instant>,
    /// The callers of the shutdown.
    pub(super) replies: Vec<Reply<Result<(), EngineError>>>,
}

impl Stopping {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// The current waits, in the order in which they began.
pub(super) type NestedWaits = BTreeMap<WaitTicket, NestedWait>;

/// The current stall, and the callback that asks for a report.
#[derive(Default)]
pub(super) struct Stalls {
    pub(super) ask_report: Option<Box<dyn Fn() + Send>>,
    pub(super) current: Option<Stall>,
}

/// All slots are taken, and none has changed hands.
pub(super) struct Stall {
    /// [`super::slots::Slots::changes`] at its beginning.
    pub(super) changes: u64,
    pub(super) since: Instant,
    pub(super) next_check: Instant,
    pub(super) is_warned_about: bool,
}

impl Stalls {
    pub(super) fn on_stall(&mut self, ask_report: Box<dyn Fn() + Send>) {
        self.ask_report = Some(ask_report);
    }

    /// When the next check is due.
    pub(super) fn until(&self) -> Option<Instant> {
        self.current.as_ref().map(|stall| stall.next_check)
    }
}

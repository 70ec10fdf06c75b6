//! Attempts that wait for executions. If every slot is held by an attempt that waits for an execution, and those
//! executions need slots, that is a deadlock: the newest wait is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::slots::slot_of;
use crate::core::event::{ExecutionId, TaskId};
use crate::core::state::{Status, TaskState};
use crate::runtime::attempt::{AttemptActivity, AttemptKey, WaitTicket};
use crate::runtime::errors::WaitError;
use crate::runtime::message::{Activity, NestedWait};

/// The waits that block each blocked attempt. It continues once one of them ends.
type Blocked<'a> = BTreeMap<&'a AttemptKey, BTreeSet<WaitTicket>>;

impl Scheduler {
    /// Refuses the newest of the deadlocked waits, if any. `report` tells which attempts wait for waits of other
    /// threads.
    pub(super) fn refuse_deadlocked_wait(&mut self, report: &[Activity]) {
        if self.nested.is_empty() || self.slots.is_any_free() || self.stopping.is_some() || self.failed.is_some() {
            return;
        }
        let Some((ticket, task)) = self.newest_deadlocked_wait(report) else { return };
        let Some(NestedWait { execution, refuse, .. }) = self.nested.remove(&ticket) else { return };
        let slots = self.services.config.max_concurrent_tasks;
        tracing::warn!(
            %execution, %task, slots,
            "deadlock: every slot is held by a task that waits for an execution; one wait is refused"
        );
        refuse(WaitError::NoSlotLeft { execution, task, slots });
    }

    /// The newest deadlocked wait, and the task that it blocks.
    fn newest_deadlocked_wait(&self, report: &[Activity]) -> Option<(WaitTicket, TaskId)> {
        let mut blocked = self.blocked_attempts(report);
        while blocked.len() >= self.slots.count() {
            let can_end =
                |ticket| self.nested.get(ticket).is_none_or(|wait| self.can_progress(wait.execution, &blocked));
            let unblocked =
                blocked.iter().find(|(_, tickets)| tickets.iter().any(can_end)).map(|(attempt, _)| *attempt);
            match unblocked {
                Some(attempt) => blocked.remove(attempt),
                None => {
                    let newest =
                        blocked.iter().flat_map(|(attempt, all)| all.last().map(|ticket| (*ticket, *attempt))).max();
                    return newest.map(|(ticket, (_, task, _))| (ticket, task.clone()));
                }
            };
        }
        None
    }

    fn blocked_attempts<'a>(&'a self, report: &'a [Activity]) -> Blocked<'a> {
        let mut blocked = Blocked::new();
        for (ticket, wait) in &self.nested {
            if let Some(attempt) = wait.attempt.as_ref().filter(|attempt| self.holds_slot(attempt)) {
                blocked.entry(attempt).or_default().insert(*ticket);
            }
        }
        for (attempt, activity) in report {
            let AttemptActivity::WaitsFor(tickets) = activity else { continue };
            // If one of the waits has ended since the report, the attempt may have continued.
            if self.holds_slot(attempt) && tickets.iter().all(|ticket| self.nested.contains_key(ticket)) {
                blocked.entry(attempt).or_default().extend(tickets);
            }
        }
        blocked
    }

    fn holds_slot(&self, attempt: &AttemptKey) -> bool {
        let live = self.live.get(&attempt.0);
        live.and_then(|live| slot_of(&live.state, attempt)).is_some_and(|slot| slot.is_some())
    }

    /// The executions that cannot progress without a slot, and that a thread which is no attempt waits for.
    pub(super) fn starved(&self) -> BTreeSet<ExecutionId> {
        let blocked = self.blocked_attempts(&[]);
        let foreign = self.nested.values().filter(|wait| wait.attempt.is_none());
        let all: BTreeSet<ExecutionId> = foreign.map(|wait| wait.execution).collect();
        all.into_iter().filter(|execution| !self.can_progress(*execution, &blocked)).collect()
    }

    /// Whether an execution can progress without a slot: it is over, waits for a user, or has a running attempt that is
    /// not blocked.
    fn can_progress(&self, execution: ExecutionId, blocked: &Blocked<'_>) -> bool {
        let Some(live) = self.live.get(&execution) else { return true };
        if live.state.status() != Status::Running {
            return true;
        }
        live.state.running().any(|task| {
            let slot = live.state.task(task);
            let attempt = (execution, live.state.graph().name(task).clone(), slot.attempts());
            matches!(slot.state(), TaskState::Running { .. }) && !blocked.contains_key(&attempt)
        })
    }
}

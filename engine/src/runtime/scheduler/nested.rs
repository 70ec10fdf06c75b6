//! Attempts that wait for executions. When every slot is held by an attempt that waits for an execution which needs a
//! slot, none of them would ever end: the wait that came last is refused.

use std::collections::BTreeMap;

use super::Scheduler;
use super::slots::slot_of;
use crate::core::event::ExecutionId;
use crate::core::state::{Status, TaskState};
use crate::runtime::attempt::AttemptKey;
use crate::runtime::errors::WaitError;
use crate::runtime::message::NestedWait;

impl Scheduler {
    /// Refuses the newest of the waits that can never end, if there are such.
    pub(super) fn refuse_hopeless_wait(&mut self) {
        if self.nested.is_empty() || self.slots.is_any_free() || self.stopping.is_some() || self.failed.is_some() {
            return;
        }
        let Some(ticket) = self.newest_hopeless_wait() else { return };
        let Some(NestedWait { attempt, execution, refuse }) = self.nested.remove(&ticket) else { return };
        let (_, task, _) = attempt;
        let slots = self.shell.config.max_concurrent_tasks;
        tracing::warn!(%execution, %task, slots, "every slot is held by a task that waits for an execution; one wait is refused");
        refuse(WaitError::NoSlotLeft { execution, task, slots });
    }

    fn newest_hopeless_wait(&self) -> Option<u64> {
        let mut blocked: BTreeMap<&AttemptKey, Vec<ExecutionId>> = BTreeMap::new();
        for wait in self.nested.values() {
            let state = self.live.get(&wait.attempt.0).map(|live| &live.state);
            if state.and_then(|state| slot_of(state, &wait.attempt)).is_some_and(|slot| slot.is_some()) {
                blocked.entry(&wait.attempt).or_default().push(wait.execution);
            }
        }
        while blocked.len() >= self.slots.count() {
            let goes_on = blocked
                .iter()
                .find(|(_, waits)| waits.iter().any(|execution| self.can_move(*execution, &blocked)))
                .map(|(attempt, _)| *attempt);
            match goes_on {
                Some(attempt) => blocked.remove(attempt),
                None => {
                    let hopeless = |wait: &NestedWait| blocked.contains_key(&wait.attempt);
                    return self.nested.iter().rev().find(|(_, wait)| hopeless(wait)).map(|(ticket, _)| *ticket);
                }
            };
        }
        None
    }

    /// Whether an execution can go on without a slot: it is over, waits for a person, or has an attempt that runs and is
    /// not blocked itself.
    fn can_move(&self, execution: ExecutionId, blocked: &BTreeMap<&AttemptKey, Vec<ExecutionId>>) -> bool {
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

//! Task events: how they change the task, its writes, and the tasks downstream.

use std::sync::Arc;

use crate::core::event::{
    AbandonReason, Seen, Seq, Settled, TaskAbandoned, TaskCompleted, TaskDeferred, TaskFailed, TaskResumed,
    TaskSkipped, TaskStarted,
};
use crate::core::graph::TaskIndex;
use crate::core::rule;
use crate::core::state::{Execution, Failure, Status, TaskState, TimeoutStart, Timer};
use crate::core::time::Timestamp;

impl Execution {
    pub(super) fn task_started(&mut self, time: Timestamp, started: &TaskStarted) -> Result<(), String> {
        let task = self.find_task(&started.task)?;
        let slot = &self.tasks[task.at()];
        let may_start = self.status == Status::Running
            && match slot.state {
                TaskState::Pending => self.ready.contains(&task) || self.undecided.contains(&task),
                TaskState::WaitingRetry { .. } => true,
                _ => false,
            };
        if !may_start {
            return Err(format!(
                "starts task '{}', which is {} and waits for {} tasks, in an execution that is {}",
                started.task,
                slot.state.name(),
                slot.unsettled_upstream,
                self.status.name()
            ));
        }
        if started.attempt != slot.attempts + 1 {
            return Err(format!(
                "starts attempt {} of task '{}' after {} attempts",
                started.attempt, started.task, slot.attempts
            ));
        }
        if let TaskState::WaitingRetry { due } = slot.state {
            self.timers.remove(&(due, Timer::Retry(task)));
        }
        self.resolve_inputs(task);
        self.ready.remove(&task);
        self.undecided.remove(&task);
        self.last_named = task;
        let ledger = self.ledger.clone();
        let slot = &mut self.tasks[task.at()];
        slot.attempts = started.attempt;
        slot.started.get_or_insert(time);
        slot.ledger_at_start = Some(ledger);
        slot.ran_micros = 0;
        slot.timeout_start = TimeoutStart::AttemptStart;
        self.occupy_slot(task, time, started.worker);
        Ok(())
    }

    /// Marks the attempt as running in a slot, and arms its timeout.
    fn occupy_slot(&mut self, task: TaskIndex, since: Timestamp, worker: u32) {
        self.running.insert(task);
        self.tasks[task.at()].state = TaskState::Running { since, worker };
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.insert((due, Timer::TaskTimeout(task)));
        }
    }

    pub(super) fn task_deferred(&mut self, time: Timestamp, deferred: &TaskDeferred) -> Result<(), String> {
        let task = self.running_attempt(&deferred.task, deferred.attempt)?;
        let TaskState::Running { since, .. } = self.tasks[task.at()].state else {
            return Err(format!("defers task '{}', which is already deferred", deferred.task));
        };
        self.end_attempt(task);
        self.running.insert(task);
        self.deferred.insert(task);
        let slot = &mut self.tasks[task.at()];
        let counted_from = match slot.timeout_start {
            TimeoutStart::AttemptStart => since,
            TimeoutStart::NotYet => time,
            TimeoutStart::At(from) => from.max(since),
        };
        slot.ran_micros = slot.ran_micros.saturating_add(time.micros_since(counted_from));
        slot.state = TaskState::Deferred { since: time };
        Ok(())
    }

    pub(super) fn task_resumed(&mut self, time: Timestamp, resumed: &TaskResumed) -> Result<(), String> {
        let task = self.running_attempt(&resumed.task, resumed.attempt)?;
        if !self.deferred.remove(&task) {
            return Err(format!("resumes task '{}', which is not deferred", resumed.task));
        }
        self.tasks[task.at()].timeout_start = TimeoutStart::AttemptStart;
        self.occupy_slot(task, time, resumed.worker);
        Ok(())
    }

    pub(super) fn task_completed(
        &mut self,
        seq: Seq,
        time: Timestamp,
        completed: &TaskCompleted,
    ) -> Result<(), String> {
        let task = self.running_attempt(&completed.task, completed.attempt)?;
        self.end_attempt(task);
        let slot = &mut self.tasks[task.at()];
        if !completed.reads.keys.iter().any(|read| matches!(read.seen, Seen::Undeclared(_))) {
            // No longer needed. Keeping it would also force each write below to copy the nodes that the two ledgers
            // share.
            slot.ledger_at_start = None;
        }
        let sees = slot.sees.clone().unwrap_or_default();
        let writes = std::mem::take(&mut slot.pending);
        slot.gives = Some(Arc::make_mut(&mut self.ledger).commit(&sees, Some(&completed.task), writes));
        self.settle(task, TaskState::Completed, seq, time);
        Ok(())
    }

    pub(super) fn task_failed(&mut self, seq: Seq, time: Timestamp, failed: &TaskFailed) -> Result<(), String> {
        let task = self.running_attempt(&failed.task, failed.attempt)?;
        self.end_attempt(task);
        let slot = &mut self.tasks[task.at()];
        slot.pending.clear();
        slot.failures += 1;
        slot.failure = Some(Box::new(Failure {
            attempt: failed.attempt,
            error: failed.error.clone(),
            reads: failed.reads.clone(),
        }));
        match failed.retry_at {
            Some(due) => {
                slot.state = TaskState::WaitingRetry { due };
                self.timers.insert((due, Timer::Retry(task)));
            }
            None => {
                slot.gives = Some(slot.sees.clone().unwrap_or_default());
                self.settle(task, TaskState::Failed, seq, time);
            }
        }
        Ok(())
    }

    pub(super) fn task_skipped(&mut self, seq: Seq, time: Timestamp, skipped: &TaskSkipped) -> Result<(), String> {
        let task = self.find_task(&skipped.task)?;
        match self.to_skip.get(&task) {
            Some(reason) if reason.failure == skipped.why.failure => {}
            None if self.undecided.remove(&task) => {}
            Some(reason) => {
                return Err(format!(
                    "skips task '{}' by rule {}, but rule {} applies",
                    skipped.task, skipped.why.rule, reason.rule
                ));
            }
            None => {
                return Err(format!(
                    "skips task '{}', which is {} and whose rule does not skip it",
                    skipped.task,
                    self.tasks[task.at()].state.name()
                ));
            }
        }
        self.to_skip.remove(&task);
        self.resolve_inputs(task);
        let slot = &mut self.tasks[task.at()];
        slot.gives = slot.sees.clone();
        slot.skipped = Some(Box::new(skipped.why.clone()));
        self.settle(task, TaskState::Skipped { by_failure: skipped.why.failure }, seq, time);
        Ok(())
    }

    pub(super) fn task_abandoned(&mut self, abandoned: &TaskAbandoned) -> Result<(), String> {
        let task = self.running_attempt(&abandoned.task, abandoned.attempt)?;
        let was_deferred = self.deferred.contains(&task);
        self.end_attempt(task);
        let slot = &mut self.tasks[task.at()];
        slot.pending.clear();
        slot.state = TaskState::Pending;
        slot.sees = None;
        if abandoned.why == AbandonReason::ProcessDied && !was_deferred {
            slot.deaths += 1;
        }
        // If the graph has changed since it started, it may now have to wait or be skipped.
        if slot.unsettled_upstream == 0 {
            self.resolve_inputs(task);
            self.evaluate_rule(task);
        }
        Ok(())
    }

    fn end_attempt(&mut self, task: TaskIndex) {
        self.running.remove(&task);
        self.deferred.remove(&task);
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.remove(&(due, Timer::TaskTimeout(task)));
        }
    }

    /// Records how a task ended, and evaluates the tasks downstream that were waiting for it alone.
    fn settle(&mut self, task: TaskIndex, state: TaskState, seq: Seq, time: Timestamp) {
        let slot = &mut self.tasks[task.at()];
        slot.state = state;
        slot.ended = Some(time);
        slot.ended_seq = Some(seq);
        self.unsettled -= 1;
        if let Some(settled) = state.settled() {
            self.record_failed_end(task, settled);
        }
        let graph = self.graph.clone();
        for &down in graph.downstream(task) {
            self.tasks[down.at()].unsettled_upstream -= 1;
            if self.tasks[down.at()].unsettled_upstream == 0 {
                self.evaluate_rule(down);
            }
        }
    }

    pub(super) fn record_failed_end(&mut self, task: TaskIndex, settled: Settled) {
        if rule::is_failure(settled) && self.graph.downstream(task).is_empty() {
            self.failed_ends.insert(task);
        }
    }
}

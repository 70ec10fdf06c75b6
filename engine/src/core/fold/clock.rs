//! Timeouts and retry delays: the timers of an execution, and the time that counts towards each timeout.

use crate::core::event::Attempt;
use crate::core::graph::TaskIndex;
use crate::core::state::{Execution, ExecutionClock, TaskState, TimeoutStart, Timer};
use crate::core::time::Timestamp;

impl Execution {
    /// Restarts the execution's timeout, as a recovery does.
    pub(super) fn restart_clock(&mut self) {
        self.disarm_execution_timeout();
        self.clock = ExecutionClock::default();
    }

    fn disarm_execution_timeout(&mut self) {
        if let Some(due) = self.clock.due.take() {
            self.timers.remove(&(due, Timer::ExecutionTimeout));
        }
    }

    /// Stops the execution's clock while every attempt in progress is deferred, and lets it run otherwise.
    pub(super) fn update_clock(&mut self, now: Timestamp) {
        let all_deferred = !self.deferred.is_empty() && self.deferred.len() == self.running.len();
        let Some(timeout) = self.options.timeout.filter(|_| !self.status.is_final()) else { return };
        match self.clock.since {
            Some(since) if all_deferred => {
                self.clock.counted = self.clock.counted.saturating_add(now.micros_since(since));
                self.clock.since = None;
                self.disarm_execution_timeout();
            }
            None if !all_deferred => {
                let due = now.after(timeout).before(self.clock.counted);
                self.clock.since = Some(now);
                self.clock.due = Some(due);
                self.timers.insert((due, Timer::ExecutionTimeout));
            }
            _ => {}
        }
    }

    /// Arms the timeouts of running attempts again. A timeout is not part of the graph, so a definition with the same
    /// graph may still change it.
    pub(super) fn rearm_task_timeouts(&mut self) {
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::TaskTimeout(_)));
        for task in self.running.clone() {
            if let Some(due) = self.attempt_deadline(task) {
                self.timers.insert((due, Timer::TaskTimeout(task)));
            }
        }
    }

    /// Returns when the running attempt at a task times out.
    pub(super) fn attempt_deadline(&self, task: TaskIndex) -> Option<Timestamp> {
        let slot = &self.tasks[task.at()];
        let TaskState::Running { since, .. } = slot.state else { return None };
        let from = match slot.timeout_start {
            TimeoutStart::AttemptStart => since,
            TimeoutStart::NotYet => return None,
            TimeoutStart::At(time) => time,
        };
        self.task_timeout(task).map(|timeout| from.after(timeout).before(slot.ran_micros))
    }

    /// Makes a task ready whose retry delay is over. This is not an event: it follows from the state and the time.
    pub(in crate::core) fn end_retry_delay(&mut self, task: TaskIndex, due: Timestamp) {
        if self.timers.remove(&(due, Timer::Retry(task))) {
            self.ready.insert(task);
        }
    }

    /// Counts the timeout of a running attempt from `from`; with `None`, it does not count yet.
    ///
    /// # Errors
    /// The attempt is not running.
    pub fn count_attempt(&mut self, task: &str, attempt: Attempt, from: Option<Timestamp>) -> Result<(), String> {
        let task = self.running_attempt(task, attempt)?;
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.remove(&(due, Timer::TaskTimeout(task)));
        }
        self.tasks[task.at()].timeout_start = from.map_or(TimeoutStart::NotYet, TimeoutStart::At);
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.insert((due, Timer::TaskTimeout(task)));
        }
        Ok(())
    }
}

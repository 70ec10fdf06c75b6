//! The retry of a failed or cancelled execution: which tasks run again.
//!
//! | task | after the retry |
//! |---|---|
//! | Completed | Completed: it never runs again, and its writes stay |
//! | Cancelled: it had not ended when the execution did | Pending |
//! | Failed, or skipped by failure | Pending, unless the failure was handled: then unchanged |
//! | skipped by its own rule | unchanged; with another graph Pending, if something upstream is Pending or failed |
//!
//! A failure was **handled** if tasks depend on the failed task, and none of them runs again. They completed because of
//! the failure or in spite of it, so nothing is left that waits for the failed task.

use super::Graphs;
use crate::core::event::ExecutionRetried;
use crate::core::rule;
use crate::core::state::{Execution, Status, TaskSlot, TaskState};

impl Execution {
    pub(super) fn execution_retried(&mut self, retried: &ExecutionRetried, graphs: &dyn Graphs) -> Result<(), String> {
        if !self.status.is_retriable() {
            return Err(format!("comes while the execution is {}", self.status.name()));
        }
        if let Some(graph) = self.other_graph(retried.definition, graphs)? {
            self.adopt_graph(graph);
            self.fingerprint = retried.definition;
        }
        for (slot, runs_again) in self.run_again().into_iter().enumerate() {
            if runs_again {
                self.tasks[slot].reset();
            }
        }
        self.derive_from_tasks();
        self.status = Status::Running;
        self.reason = "".into();
        self.environment = retried.environment.clone();
        self.options = retried.options;
        self.retries += 1;
        self.restart_clock();
        Ok(())
    }

    /// Returns for each task whether it runs again.
    fn run_again(&self) -> Vec<bool> {
        let graph = &self.graph;
        let failed = |task: usize| self.tasks[task].state.settled().is_some_and(rule::is_failure);
        let mut again = vec![false; graph.len()];
        for task in graph.topological_order() {
            again[task.at()] = match self.tasks[task.at()].state {
                TaskState::Completed | TaskState::Failed | TaskState::Skipped { by_failure: true } => false,
                TaskState::Skipped { by_failure: false } => {
                    graph.upstream(*task).iter().any(|up| again[up.at()] || failed(up.at()))
                }
                _ => true,
            };
        }
        for task in graph.topological_order().iter().rev().filter(|task| failed(task.at())) {
            let downstream = graph.downstream(*task);
            again[task.at()] = downstream.is_empty() || downstream.iter().any(|down| again[down.at()]);
        }
        again
    }
}

impl TaskSlot {
    /// Makes the task pending. Its attempts go on counting; its failures, which the retry policy limits, start at 0.
    fn reset(&mut self) {
        self.state = TaskState::Pending;
        (self.failures, self.deaths) = (0, 0);
        (self.sees, self.gives, self.skipped) = (None, None, None);
        self.collisions.clear();
        self.pending.clear();
        (self.started, self.ended, self.ended_seq) = (None, None, None);
    }
}

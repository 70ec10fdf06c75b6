//! Events of the execution itself: pause, recovery (also with a changed graph), and the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Graphs;
use crate::core::definition::Fingerprint;
use crate::core::event::{ExecutionEnded, ExecutionRecovered, TaskId};
use crate::core::graph::{Graph, difference};
use crate::core::state::{Execution, Status, TaskSlot, TaskState, Timer};
use crate::core::time::Timestamp;

impl Execution {
    pub(super) fn change_status(&mut self, from: Status, to: Status) -> Result<(), String> {
        if self.status != from {
            return Err(format!("comes while the execution is {}", self.status.name()));
        }
        self.status = to;
        Ok(())
    }

    pub(super) fn execution_recovered(
        &mut self,
        recovered: &ExecutionRecovered,
        graphs: &dyn Graphs,
    ) -> Result<(), String> {
        if let Some(graph) = self.other_graph(recovered.definition, graphs)? {
            self.switch_graph(graph);
            self.fingerprint = recovered.definition;
            self.rearm_task_timeouts();
        }
        self.environment = recovered.environment.clone();
        self.recoveries += 1;
        self.restart_clock();
        Ok(())
    }

    /// Returns the graph of the definition to continue with; `None` if that is the present one.
    pub(super) fn other_graph(
        &self,
        definition: Fingerprint,
        graphs: &dyn Graphs,
    ) -> Result<Option<Arc<Graph>>, String> {
        if definition == self.fingerprint {
            return Ok(None);
        }
        let graph = graphs.graph(definition);
        graph.map(Some).ok_or_else(|| format!("names the definition {definition}, which the log does not have"))
    }

    /// Continues with another definition. If the graph is the same, only timeouts can change. Otherwise, everything
    /// that follows from the states of the tasks is derived again.
    fn switch_graph(&mut self, graph: Arc<Graph>) {
        if self.adopt_graph(graph) {
            self.derive_from_tasks();
        }
    }

    /// Replaces the graph; tasks keep their state by name. Returns whether the new graph differs: then the rest of the
    /// state does not fit until [`Execution::derive_from_tasks`].
    pub(super) fn adopt_graph(&mut self, graph: Arc<Graph>) -> bool {
        let old = std::mem::replace(&mut self.graph, graph);
        if difference(old.definition(), self.graph.definition()).is_none() {
            return false;
        }
        let mut slots: BTreeMap<TaskId, TaskSlot> =
            old.tasks().map(|task| old.name(task).clone()).zip(std::mem::take(&mut self.tasks)).collect();
        let graph = &self.graph;
        self.tasks =
            graph.tasks().map(|task| slots.remove(graph.name(task)).unwrap_or_else(|| TaskSlot::new(0))).collect();
        true
    }

    /// Derives again everything that follows from the graph and the states of the tasks: what waits, what is ready, what
    /// is to be skipped.
    pub(super) fn derive_from_tasks(&mut self) {
        let graph = self.graph.clone();
        self.timers.clear();
        self.clock.due = None;
        self.ready.clear();
        self.to_skip.clear();
        self.undecided.clear();
        self.running.clear();
        self.deferred.clear();
        self.failed_ends.clear();
        self.unsettled = 0;
        for task in graph.tasks() {
            let waits = graph.upstream(task).iter().filter(|up| self.tasks[up.at()].state.settled().is_none()).count();
            let slot = &mut self.tasks[task.at()];
            slot.unsettled_upstream = u32::try_from(waits).unwrap_or(u32::MAX);
            match slot.state {
                TaskState::Pending => slot.sees = None,
                TaskState::Running { .. } => {
                    self.running.insert(task);
                }
                TaskState::Deferred { .. } => {
                    self.running.insert(task);
                    self.deferred.insert(task);
                }
                TaskState::WaitingRetry { .. } if waits > 0 => {
                    slot.sees = None;
                    slot.state = TaskState::Pending;
                }
                TaskState::WaitingRetry { due } => {
                    slot.sees = None;
                    self.timers.insert((due, Timer::Retry(task)));
                }
                _ => {}
            }
            match self.tasks[task.at()].state.settled() {
                Some(settled) => self.record_failed_end(task, settled),
                None => self.unsettled += 1,
            }
        }
        for task in graph.tasks() {
            if self.tasks[task.at()].unsettled_upstream == 0 {
                self.evaluate_rule(task);
            }
        }
    }

    pub(super) fn execution_completed(&mut self, time: Timestamp, ended: &ExecutionEnded) -> Result<(), String> {
        if self.unsettled > 0 || !self.failed_ends.is_empty() {
            return Err(format!(
                "comes while {} tasks are unsettled and {} tasks at the end of the graph have failed",
                self.unsettled,
                self.failed_ends.len()
            ));
        }
        self.finish(time, Status::Completed, ended);
        Ok(())
    }

    /// An execution that fails with unsettled tasks has timed out. This cannot check that the timeout had passed: the
    /// log may raise recorded times, so they can be closer together than the times that the decision was based on.
    pub(super) fn execution_failed(&mut self, time: Timestamp, ended: &ExecutionEnded) -> Result<(), String> {
        if self.unsettled == 0 && self.failed_ends.is_empty() {
            return Err("comes although no task at the end of the graph has failed".to_owned());
        }
        if self.unsettled > 0 && self.options.timeout.is_none() {
            return Err(format!("comes while {} tasks are unsettled and the execution has no timeout", self.unsettled));
        }
        self.finish(time, Status::Failed, ended);
        Ok(())
    }

    pub(super) fn finish(&mut self, time: Timestamp, status: Status, ended: &ExecutionEnded) {
        self.status = status;
        self.reason = ended.reason.clone();
        self.timers.clear();
        self.ready.clear();
        self.to_skip.clear();
        self.undecided.clear();
        self.running.clear();
        self.deferred.clear();
        if self.unsettled == 0 {
            return;
        }
        for slot in self.tasks.iter_mut().filter(|slot| slot.state.settled().is_none()) {
            slot.state = TaskState::Cancelled;
            slot.pending.clear();
            slot.ended = Some(time);
        }
    }
}

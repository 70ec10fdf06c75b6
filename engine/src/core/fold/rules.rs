//! Trigger rules: once everything upstream is settled, a task becomes ready or is skipped.

use crate::core::context::Scope;
use crate::core::definition::TriggerRule;
use crate::core::event::{Settled, SkipReason, TaskId};
use crate::core::graph::TaskIndex;
use crate::core::rule::{self, RuleInputs};
use crate::core::state::{Execution, TaskState};

impl Execution {
    pub(super) fn evaluate_roots(&mut self) {
        for task in self.graph.roots() {
            self.evaluate_rule(task);
        }
    }

    /// Evaluates the rule of a pending task whose upstream tasks are all settled: it becomes ready, or is to be
    /// skipped.
    pub(super) fn evaluate_rule(&mut self, task: TaskIndex) {
        if self.tasks[task.at()].state != TaskState::Pending {
            return;
        }
        if self.rule_reads_erased(task) {
            self.undecided.insert(task);
            return;
        }
        match self.skip_reason(task) {
            Some(reason) => {
                self.to_skip.insert(task, reason);
            }
            None => {
                self.ready.insert(task);
            }
        }
    }

    fn rule_reads_erased(&mut self, task: TaskIndex) -> bool {
        let graph = self.graph.clone();
        let rule = &graph.definition().tasks[task.at()].rule;
        if !matches!(rule, TriggerRule::When(_)) {
            return false;
        }
        self.resolve_inputs(task);
        rule::reads_erased(rule, &self.sees(task))
    }

    fn skip_reason(&mut self, task: TaskIndex) -> Option<SkipReason> {
        let graph = self.graph.clone();
        let rule = &graph.definition().tasks[task.at()].rule;
        if let TriggerRule::When(_) = rule {
            self.resolve_inputs(task);
        }
        let dependencies: Vec<(&TaskId, Settled)> = graph
            .dependencies(task)
            .iter()
            .filter_map(|up| Some((graph.name(*up), self.tasks[up.at()].state.settled()?)))
            .collect();
        rule::skip_reason(
            rule,
            &RuleInputs {
                dependencies: &dependencies,
                settled: &|name| graph.find(name).and_then(|up| self.tasks[up.at()].state.settled()),
                failures: &|| self.failures_upstream(task),
                context: &self.sees(task),
            },
        )
    }

    fn failures_upstream(&self, task: TaskIndex) -> Vec<(TaskId, Settled)> {
        let ends = self.graph.upstream(task).iter().filter_map(|up| Some((*up, self.tasks[up.at()].state.settled()?)));
        let failures = ends.filter(|(_, settled)| rule::is_failure(*settled));
        failures.map(|(up, settled)| (self.graph.name(up).clone(), settled)).collect()
    }

    /// Joins what the dependencies of a task give it. Everything upstream has to be settled.
    pub(super) fn resolve_inputs(&mut self, task: TaskIndex) {
        if self.tasks[task.at()].sees.is_some() {
            return;
        }
        let graph = self.graph.clone();
        let (sees, collisions) = match graph.dependencies(task) {
            [] => (self.input.clone(), Vec::new()),
            [only] => (self.tasks[only.at()].gives.clone().unwrap_or_default(), Vec::new()),
            several => {
                let branches: Vec<&Scope> =
                    several.iter().filter_map(|up| self.tasks[up.at()].gives.as_ref()).collect();
                let joined = self.joins.join(&self.ledger, &branches);
                (joined.scope, joined.collisions)
            }
        };
        let slot = &mut self.tasks[task.at()];
        slot.sees = Some(sees);
        slot.collisions = collisions;
    }
}

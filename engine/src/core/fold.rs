//! The fold: the one place where the state of an execution changes.
//!
//! The running engine, recovery and the debugger call the same function. A step costs what it changes, not what the
//! graph holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Joins, Scope};
use super::definition::Fingerprint;
use super::envelope::StreamEnd;
pub use super::envelope::{Happened, IllegalEvent, Recorded};
use super::event::{
    AbandonReason, Attempt, Event, ExecutionEnded, ExecutionId, ExecutionRecovered, ExecutionStarted, Key, Origin,
    Seen, Seq, Settled, SkipReason, TaskAbandoned, TaskCompleted, TaskDeferred, TaskFailed, TaskId, TaskResumed,
    TaskSkipped, TaskStarted,
};
use super::graph::{Graph, TaskIndex, difference};
use super::json::Json;
use super::rule::{self, Facts};
use super::state::{Execution, ExecutionClock, Failure, Status, TaskSlot, TaskState, TimeoutStart, Timer};
use super::time::Timestamp;

/// Finds the graph of a definition.
pub trait Graphs {
    /// The graph of the definition with this fingerprint.
    fn graph(&self, fingerprint: Fingerprint) -> Option<Arc<Graph>>;
}

impl Graphs for BTreeMap<Fingerprint, Arc<Graph>> {
    fn graph(&self, fingerprint: Fingerprint) -> Option<Arc<Graph>> {
        self.get(&fingerprint).cloned()
    }
}

impl<F: Fn(Fingerprint) -> Option<Arc<Graph>>> Graphs for F {
    fn graph(&self, fingerprint: Fingerprint) -> Option<Arc<Graph>> {
        self(fingerprint)
    }
}

/// Folds one event into the state that those before it gave; `None` before the first.
///
/// ```
/// use std::{collections::BTreeMap, sync::Arc};
/// use cloacina_engine::core::{codec, definition::*, event::*, fold::*, graph::Graph, state::Status, time::Timestamp};
/// let definition = Arc::new(Definition { workflow: "etl".into(), tasks: vec![TaskDefinition::new("load")] });
/// let fingerprint = codec::fingerprint(&definition);
/// let graphs = BTreeMap::from([(fingerprint, Arc::new(Graph::new(definition)?))]);
/// let started = Event::ExecutionStarted(ExecutionStarted {
///     workflow: "etl".into(), definition: fingerprint, cause: Cause::Call, environment: Environment::default(),
///     options: ExecutionOptions::default(), inputs: 0,
/// });
/// let recorded = Recorded { seq: 0, time: Timestamp(0), event: started };
/// let state = fold(None, ExecutionId([0; 16]), &recorded, &graphs)?;
/// assert_eq!(state.status(), Status::Running);
/// assert_eq!(state.ready().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`IllegalEvent`]; the state is gone with it.
pub fn fold(
    state: Option<Execution>,
    id: ExecutionId,
    recorded: &Recorded,
    graphs: &dyn Graphs,
) -> Result<Execution, IllegalEvent> {
    match state {
        None => Execution::begin(id, recorded.lent(), graphs),
        Some(mut state) => state.apply(recorded.lent(), graphs).map(|()| state),
    }
}

/// The same where the state stands and the event lies: neither is moved, which counts where there are many.
///
/// # Errors
/// [`IllegalEvent`]; there is no state any more.
pub fn fold_on<'a>(
    state: &'a mut Option<Execution>,
    id: ExecutionId,
    happened: Happened<'_>,
    graphs: &dyn Graphs,
) -> Result<&'a Execution, IllegalEvent> {
    if let Some(before) = state {
        if let Err(illegal) = before.apply(happened, graphs) {
            *state = None;
            return Err(illegal);
        }
    } else {
        *state = Some(Execution::begin(id, happened, graphs)?);
    }
    match state {
        Some(after) => Ok(after),
        None => unreachable!("it was there, or has begun"),
    }
}

impl Execution {
    fn begin(id: ExecutionId, happened: Happened<'_>, graphs: &dyn Graphs) -> Result<Self, IllegalEvent> {
        let Event::ExecutionStarted(started) = happened.event else {
            return Err(happened.illegal("cannot be the first event; expected ExecutionStarted"));
        };
        let end = StreamEnd::after_first(&happened)?;
        let graph = graphs.graph(started.definition).ok_or_else(|| {
            happened.illegal(format!("names the definition {}, which the log does not have", started.definition))
        })?;
        Ok(Self::new(id, end, started, graph))
    }

    fn new(id: ExecutionId, end: StreamEnd, started: &ExecutionStarted, graph: Arc<Graph>) -> Self {
        let time = end.last;
        let tasks = graph.tasks().map(|task| TaskSlot::new(graph.upstream(task).len())).collect();
        let mut state = Self {
            id,
            fingerprint: started.definition,
            cause: started.cause.clone(),
            environment: started.environment.clone(),
            options: started.options,
            status: Status::Running,
            reason: "".into(),
            end,
            started: time,
            recoveries: 0,
            inputs_missing: started.inputs,
            tasks,
            last_named: TaskIndex(0),
            unsettled: graph.len(),
            failed_ends: Default::default(),
            ready: Default::default(),
            to_skip: Default::default(),
            undecided: Default::default(),
            running: Default::default(),
            deferred: Default::default(),
            clock: ExecutionClock::default(),
            timers: Default::default(),
            input: Scope::default(),
            ledger: Arc::default(),
            joins: Joins::default(),
            graph,
        };
        state.update_clock(time);
        if state.inputs_missing == 0 {
            state.evaluate_roots();
        }
        state
    }

    /// Folds one event after the first.
    pub(super) fn apply(&mut self, happened: Happened<'_>, graphs: &dyn Graphs) -> Result<(), IllegalEvent> {
        let Happened { seq, time, event } = happened;
        let illegal = |what: String| happened.illegal(what);
        self.end.check(&happened)?;
        if self.status.is_final() {
            return Err(illegal(format!("comes after the execution has ended ({})", self.status.name())));
        }
        let is_input = matches!(event, Event::ContextWritten(write) if write.origin == Origin::Input);
        if is_input != (self.inputs_missing > 0) {
            return Err(illegal(format!("comes while {} more input values are expected", self.inputs_missing)));
        }
        self.change(seq, time, event, graphs).map_err(illegal)?;
        self.update_clock(time);
        self.end.advance(&happened);
        Ok(())
    }

    /// Each event's own change. Checks before it changes anything.
    fn change(&mut self, seq: Seq, time: Timestamp, event: &Event, graphs: &dyn Graphs) -> Result<(), String> {
        match event {
            Event::ExecutionStarted(_) => Err("occurs a second time".to_owned()),
            Event::ContextWritten(write) => self.context_written(seq, &write.origin, &write.key, Some(&write.value)),
            Event::ContextRemoved(removal) => self.context_written(seq, &removal.origin, &removal.key, None),
            Event::TaskStarted(started) => self.task_started(time, started),
            Event::TaskCompleted(completed) => self.task_completed(seq, time, completed),
            Event::TaskFailed(failed) => self.task_failed(seq, time, failed),
            Event::TaskSkipped(skipped) => self.task_skipped(seq, time, skipped),
            Event::TaskAbandoned(abandoned) => self.task_abandoned(abandoned),
            Event::TaskDeferred(deferred) => self.task_deferred(time, deferred),
            Event::TaskResumed(resumed) => self.task_resumed(time, resumed),
            Event::ExecutionPaused(_) => self.change_status(Status::Running, Status::Paused),
            Event::ExecutionUnpaused(_) => self.change_status(Status::Paused, Status::Running),
            Event::CancelRequested(_) => Ok(()),
            Event::ExecutionRecovered(recovered) => self.execution_recovered(recovered, graphs),
            Event::ExecutionCompleted(ended) => self.execution_completed(time, ended),
            Event::ExecutionFailed(ended) => self.execution_failed(time, ended),
            Event::ExecutionCancelled(ended) => {
                self.finish(time, Status::Cancelled, ended);
                Ok(())
            }
        }
    }

    fn context_written(&mut self, seq: Seq, origin: &Origin, key: &Key, value: Option<&Json>) -> Result<(), String> {
        match origin {
            Origin::Input => {
                let ledger = Arc::make_mut(&mut self.ledger);
                self.input = ledger.commit(&self.input, None, [(key.clone(), value.cloned(), seq)]);
                self.inputs_missing -= 1;
                if self.inputs_missing == 0 {
                    self.evaluate_roots();
                }
            }
            Origin::Task { task, attempt } => {
                let task = self.running_attempt(task, *attempt)?;
                self.last_named = task;
                self.tasks[task.at()].pending.push((key.clone(), value.cloned(), seq));
            }
        }
        Ok(())
    }

    fn task_started(&mut self, time: Timestamp, started: &TaskStarted) -> Result<(), String> {
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

    /// An attempt has a slot, from now on.
    fn occupy_slot(&mut self, task: TaskIndex, since: Timestamp, worker: u32) {
        self.running.insert(task);
        self.tasks[task.at()].state = TaskState::Running { since, worker };
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.insert((due, Timer::TaskTimeout(task)));
        }
    }

    fn task_deferred(&mut self, time: Timestamp, deferred: &TaskDeferred) -> Result<(), String> {
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

    fn task_resumed(&mut self, time: Timestamp, resumed: &TaskResumed) -> Result<(), String> {
        let task = self.running_attempt(&resumed.task, resumed.attempt)?;
        if !self.deferred.remove(&task) {
            return Err(format!("resumes task '{}', which is not deferred", resumed.task));
        }
        self.tasks[task.at()].timeout_start = TimeoutStart::AttemptStart;
        self.occupy_slot(task, time, resumed.worker);
        Ok(())
    }

    fn task_completed(&mut self, seq: Seq, time: Timestamp, completed: &TaskCompleted) -> Result<(), String> {
        let task = self.running_attempt(&completed.task, completed.attempt)?;
        self.end_attempt(task);
        let slot = &mut self.tasks[task.at()];
        if !completed.reads.keys.iter().any(|read| matches!(read.seen, Seen::Undeclared(_))) {
            // Nobody asks for it any more. And while it is held, each write below would copy what it shares with it.
            slot.ledger_at_start = None;
        }
        let sees = slot.sees.clone().unwrap_or_default();
        let writes = std::mem::take(&mut slot.pending);
        slot.gives = Some(Arc::make_mut(&mut self.ledger).commit(&sees, Some(&completed.task), writes));
        self.settle(task, TaskState::Completed, seq, time);
        Ok(())
    }

    fn task_failed(&mut self, seq: Seq, time: Timestamp, failed: &TaskFailed) -> Result<(), String> {
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

    fn task_skipped(&mut self, seq: Seq, time: Timestamp, skipped: &TaskSkipped) -> Result<(), String> {
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

    fn task_abandoned(&mut self, abandoned: &TaskAbandoned) -> Result<(), String> {
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
        // In another graph than it started in it may have to wait, or not to run at all.
        if slot.unsettled_upstream == 0 {
            self.resolve_inputs(task);
            self.evaluate_rule(task);
        }
        Ok(())
    }

    fn change_status(&mut self, from: Status, to: Status) -> Result<(), String> {
        if self.status != from {
            return Err(format!("comes while the execution is {}", self.status.name()));
        }
        self.status = to;
        Ok(())
    }

    fn execution_recovered(&mut self, recovered: &ExecutionRecovered, graphs: &dyn Graphs) -> Result<(), String> {
        if recovered.definition != self.fingerprint {
            let graph = graphs
                .graph(recovered.definition)
                .ok_or_else(|| format!("names the definition {}, which the log does not have", recovered.definition))?;
            self.switch_graph(graph);
            self.fingerprint = recovered.definition;
            self.rearm_task_timeouts();
        }
        self.environment = recovered.environment.clone();
        self.recoveries += 1;
        self.restart_clock();
        Ok(())
    }

    /// Takes another definition. With the same graph nothing else changes but timeouts. With another one, tasks of the same name keep
    /// what happened to them, and the rest is derived anew.
    fn switch_graph(&mut self, graph: Arc<Graph>) {
        let old = std::mem::replace(&mut self.graph, graph);
        if difference(old.definition(), self.graph.definition()).is_none() {
            return;
        }
        let mut slots: BTreeMap<TaskId, TaskSlot> =
            old.tasks().map(|task| old.name(task).clone()).zip(std::mem::take(&mut self.tasks)).collect();
        let graph = self.graph.clone();
        self.tasks =
            graph.tasks().map(|task| slots.remove(graph.name(task)).unwrap_or_else(|| TaskSlot::new(0))).collect();
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

    fn execution_completed(&mut self, time: Timestamp, ended: &ExecutionEnded) -> Result<(), String> {
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

    /// Failed with tasks unsettled is an execution that ran out of time. Whether its time was over cannot be told here: the
    /// log raises times, so what is recorded may lie closer together than what was decided by.
    fn execution_failed(&mut self, time: Timestamp, ended: &ExecutionEnded) -> Result<(), String> {
        if self.unsettled == 0 && self.failed_ends.is_empty() {
            return Err("comes although no task at the end of the graph has failed".to_owned());
        }
        if self.unsettled > 0 && self.options.timeout.is_none() {
            return Err(format!("comes while {} tasks are unsettled and the execution has no timeout", self.unsettled));
        }
        self.finish(time, Status::Failed, ended);
        Ok(())
    }

    fn finish(&mut self, time: Timestamp, status: Status, ended: &ExecutionEnded) {
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

    /// A task has its end: those downstream wait for one less.
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

    fn record_failed_end(&mut self, task: TaskIndex, settled: Settled) {
        if rule::is_failure(settled) && self.graph.downstream(task).is_empty() {
            self.failed_ends.insert(task);
        }
    }

    fn evaluate_roots(&mut self) {
        for task in self.graph.roots() {
            self.evaluate_rule(task);
        }
    }

    /// Asks the rule of a task for which everything upstream is settled.
    fn evaluate_rule(&mut self, task: TaskIndex) {
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
        if !matches!(rule, super::definition::TriggerRule::When(_)) {
            return false;
        }
        self.resolve_inputs(task);
        rule::reads_erased(rule, &self.sees(task))
    }

    fn skip_reason(&mut self, task: TaskIndex) -> Option<SkipReason> {
        let graph = self.graph.clone();
        let rule = &graph.definition().tasks[task.at()].rule;
        if let super::definition::TriggerRule::When(_) = rule {
            self.resolve_inputs(task);
        }
        let dependencies: Vec<(&TaskId, Settled)> = graph
            .dependencies(task)
            .iter()
            .filter_map(|up| Some((graph.name(*up), self.tasks[up.at()].state.settled()?)))
            .collect();
        rule::skip_reason(
            rule,
            &Facts {
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

    /// Finds out what a task's ancestry gives it, once everything upstream is settled.
    fn resolve_inputs(&mut self, task: TaskIndex) {
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

    /// Counts the execution's time anew.
    fn restart_clock(&mut self) {
        self.disarm_execution_timeout();
        self.clock = ExecutionClock::default();
    }

    fn disarm_execution_timeout(&mut self) {
        if let Some(due) = self.clock.due.take() {
            self.timers.remove(&(due, Timer::ExecutionTimeout));
        }
    }

    /// Counts the execution's time, unless all that it does is to wait: then its clock stands still.
    fn update_clock(&mut self, now: Timestamp) {
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

    /// A timeout is no part of the graph: whatever definition it goes on with may give the tasks that run another one.
    fn rearm_task_timeouts(&mut self) {
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::TaskTimeout(_)));
        for task in self.running.clone() {
            if let Some(due) = self.attempt_deadline(task) {
                self.timers.insert((due, Timer::TaskTimeout(task)));
            }
        }
    }

    /// When the time of the attempt that runs at a task is over.
    fn attempt_deadline(&self, task: TaskIndex) -> Option<Timestamp> {
        let slot = &self.tasks[task.at()];
        let TaskState::Running { since, .. } = slot.state else { return None };
        let from = match slot.timeout_start {
            TimeoutStart::AttemptStart => since,
            TimeoutStart::NotYet => return None,
            TimeoutStart::At(time) => time,
        };
        self.task_timeout(task).map(|timeout| from.after(timeout).before(slot.ran_micros))
    }

    /// Ends the wait before a task's next attempt. That it is over is no event: it follows from the state and the time.
    pub(super) fn end_retry_delay(&mut self, task: TaskIndex, due: Timestamp) {
        if self.timers.remove(&(due, Timer::Retry(task))) {
            self.ready.insert(task);
        }
    }

    /// Lets the time of an attempt that runs count from now on, or not yet.
    ///
    /// # Errors
    /// No such attempt runs.
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

    fn end_attempt(&mut self, task: TaskIndex) {
        self.running.remove(&task);
        self.deferred.remove(&task);
        if let Some(due) = self.attempt_deadline(task) {
            self.timers.remove(&(due, Timer::TaskTimeout(task)));
        }
    }

    fn find_task(&self, task: &str) -> Result<TaskIndex, String> {
        // Events come in runs that name one task: what comes with it in a decision, and all where one task runs at a time. A
        // run begins with the task that the engine starts next, which is the first that is ready.
        let likely = [Some(&self.last_named), self.ready.first()];
        let tasks = &self.graph.definition().tasks;
        let matches_name = |index: &&TaskIndex| tasks.get(index.at()).is_some_and(|likely| *likely.id == *task);
        if let Some(index) = likely.into_iter().flatten().find(matches_name) {
            return Ok(*index);
        }
        self.graph.find(task).ok_or_else(|| format!("names task '{task}', which the definition does not have"))
    }

    /// The task, if this attempt at it is under way.
    pub(super) fn running_attempt(&self, task: &str, attempt: u32) -> Result<TaskIndex, String> {
        let index = self.find_task(task)?;
        let slot = &self.tasks[index.at()];
        match slot.state {
            TaskState::Running { .. } | TaskState::Deferred { .. } if slot.attempts == attempt => Ok(index),
            state => Err(format!(
                "is for attempt {attempt} of task '{task}', which is {} after {} attempts",
                state.name(),
                slot.attempts
            )),
        }
    }
}

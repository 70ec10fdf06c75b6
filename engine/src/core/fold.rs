//! The fold: the one place where the state of an execution changes.
//!
//! The running engine, recovery and the debugger call the same function. The cost of a step depends on what it
//! changes, not on the size of the graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Joins, Scope};
use super::definition::Fingerprint;
use super::envelope::StreamEnd;
pub use super::envelope::{EventRef, IllegalEvent, Recorded};
use super::event::{Event, ExecutionId, ExecutionStarted, Key, Origin, Seq};
use super::graph::{Graph, TaskIndex};
use super::json::Json;
use super::state::{Execution, ExecutionClock, Status, TaskSlot, TaskState};
use super::time::Timestamp;

mod clock;
mod lifecycle;
mod retrying;
mod rules;
mod tasks;

/// Looks up graphs by the fingerprint of their definition.
pub trait Graphs {
    /// Returns the graph of the definition with this fingerprint.
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

/// Applies one event to the state so far (`None` before the first event) and returns the new state.
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
/// [`IllegalEvent`]; the state is dropped.
pub fn fold(
    state: Option<Execution>,
    id: ExecutionId,
    recorded: &Recorded,
    graphs: &dyn Graphs,
) -> Result<Execution, IllegalEvent> {
    match state {
        None => Execution::begin(id, recorded.as_ref(), graphs),
        Some(mut state) => state.apply(recorded.as_ref(), graphs).map(|()| state),
    }
}

/// Applies one event as [`fold`] does, but in place and to a borrowed event: nothing is moved or cloned.
///
/// # Errors
/// [`IllegalEvent`]; `state` is then `None`.
pub fn fold_in_place<'a>(
    state: &'a mut Option<Execution>,
    id: ExecutionId,
    recorded: EventRef<'_>,
    graphs: &dyn Graphs,
) -> Result<&'a Execution, IllegalEvent> {
    if let Some(before) = state {
        if let Err(illegal) = before.apply(recorded, graphs) {
            *state = None;
            return Err(illegal);
        }
    } else {
        *state = Some(Execution::begin(id, recorded, graphs)?);
    }
    match state {
        Some(after) => Ok(after),
        None => unreachable!("the state existed or was just created"),
    }
}

impl Execution {
    fn begin(id: ExecutionId, recorded: EventRef<'_>, graphs: &dyn Graphs) -> Result<Self, IllegalEvent> {
        let Event::ExecutionStarted(started) = recorded.event else {
            return Err(recorded.illegal("cannot be the first event; expected ExecutionStarted"));
        };
        let end = StreamEnd::after_first(&recorded)?;
        let graph = graphs.graph(started.definition).ok_or_else(|| {
            recorded.illegal(format!("names the definition {}, which the log does not have", started.definition))
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
            retries: 0,
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
    pub(super) fn apply(&mut self, recorded: EventRef<'_>, graphs: &dyn Graphs) -> Result<(), IllegalEvent> {
        let EventRef { seq, time, event } = recorded;
        let illegal = |what: String| recorded.illegal(what);
        self.end.check(&recorded)?;
        if self.status.is_final() && !matches!(event, Event::ExecutionRetried(_)) {
            return Err(illegal(format!("comes after the execution has ended ({})", self.status.name())));
        }
        let is_input = matches!(event, Event::ContextWritten(write) if write.origin == Origin::Input);
        if is_input != (self.inputs_missing > 0) {
            return Err(illegal(format!("comes while {} more input values are expected", self.inputs_missing)));
        }
        self.change(seq, time, event, graphs).map_err(illegal)?;
        self.update_clock(time);
        self.end.advance(&recorded);
        Ok(())
    }

    /// Makes the change that belongs to each event. Every check comes before the first change.
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
            Event::ExecutionRetried(retried) => self.execution_retried(retried, graphs),
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

    fn find_task(&self, task: &str) -> Result<TaskIndex, String> {
        // Consecutive events usually name the same task: those of one decision do, and all of them do while only one
        // task runs. The next task to appear is usually the first ready one, because the engine starts that one next.
        let likely = [Some(&self.last_named), self.ready.first()];
        let tasks = &self.graph.definition().tasks;
        let matches_name = |index: &&TaskIndex| tasks.get(index.at()).is_some_and(|likely| *likely.id == *task);
        if let Some(index) = likely.into_iter().flatten().find(matches_name) {
            return Ok(*index);
        }
        self.graph.find(task).ok_or_else(|| format!("names task '{task}', which the definition does not have"))
    }

    /// Returns the task if this attempt at it is running or deferred.
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

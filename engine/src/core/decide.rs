//! Decisions: turns a command into events and effects.
//!
//! A decision folds each event as soon as it emits it, so that the next one is based on the new state. Consequences of
//! a command (skipped tasks, the end of the execution) belong to the same decision. A rejected command changes nothing.
//! Effects are values: the runtime performs them once the events are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::codec;
use super::context::{Collision, View, digest};
use super::definition::Fingerprint;
use super::event::{
    AbandonReason, Attempt, Cause, ContextRemoved, ContextWritten, Environment, Event, ExecutionEnded, ExecutionId,
    ExecutionOptions, ExecutionRecovered, ExecutionRetried, ExecutionStarted, Key, Origin, Reads, Request,
    TaskAbandoned, TaskCompleted, TaskDeferred, TaskError, TaskFailed, TaskId, TaskResumed, TaskSkipped, TaskStarted,
};
use super::fold::{Graphs, IllegalEvent, Recorded};
use super::graph::{Graph, TaskIndex};
use super::json::Json;
use super::label::{Label, LabelStatus};
use super::retry::Jitter;
use super::state::{Execution, Status, TaskState, Timer};
use super::task_context::Write;
use super::time::Timestamp;

/// A command to an execution.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start an attempt at a ready task.
    StartTask {
        /// The task.
        task: TaskIndex,
        /// The slot to run it in.
        worker: u32,
    },
    /// An attempt has ended.
    AttemptFinished {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// What the attempt wrote.
        writes: Vec<Write>,
        /// What the attempt read.
        reads: Reads,
        /// How it ended.
        result: Result<(), TaskError>,
        /// The jitter for the delay before the next attempt.
        jitter: Jitter,
    },
    /// An attempt waits for something external and releases its slot.
    Defer {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// A deferred attempt gets a slot again.
    Resume {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// The slot.
        worker: u32,
    },
    /// Time has passed: process every timer that is due.
    TimerFired {
        /// The jitter for the delay before the next attempt, if an attempt times out.
        jitter: Jitter,
    },
    /// Start no more attempts.
    Pause(Request),
    /// Allow attempts to start again.
    Unpause(Request),
    /// Stop all attempts and end the execution.
    Cancel(Request),
    /// Take over the execution from a process that has ended.
    Recover {
        /// The process that takes it over.
        environment: Environment,
        /// The definition to continue with, and its graph.
        definition: (Fingerprint, Arc<Graph>),
    },
    /// Continue a failed or cancelled execution from what failed.
    Retry {
        /// Who requested it, and why.
        request: Request,
        /// The process that continues it.
        environment: Environment,
        /// The options that apply from now on.
        options: ExecutionOptions,
        /// The definition to continue with, and its graph.
        definition: (Fingerprint, Arc<Graph>),
    },
    /// Abandon the running attempts, because the engine shuts down in an orderly way.
    Shutdown,
}

/// The parameters of a new execution.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its id.
    pub id: ExecutionId,
    /// Its graph.
    pub graph: Arc<Graph>,
    /// The fingerprint of its definition.
    pub fingerprint: Fingerprint,
    /// What started it.
    pub cause: Cause,
    /// The process that runs it.
    pub environment: Environment,
    /// Timeouts and other options.
    pub options: ExecutionOptions,
    /// The input.
    pub input: Vec<(Key, Json)>,
}

/// The result of a command: events to append, and effects to perform once they are durable.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// The effects.
    pub effects: Vec<Effect>,
}

/// An action for the runtime to perform.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Run an attempt.
    Run {
        /// The task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
        /// What the attempt sees.
        view: Box<View>,
    },
    /// Stop an attempt if possible. Its result will be ignored.
    Stop {
        /// The task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
        /// The slot that it held, which is now free; `None` if it was deferred.
        worker: Option<u32>,
    },
    /// Answer the callers that wait for the end of the execution.
    Answer,
    /// Warn that a task read a key of a task that it does not depend on.
    UndeclaredRead {
        /// The task that read.
        task: TaskId,
        /// The key.
        key: Key,
        /// The task that wrote the key.
        writer: TaskId,
    },
    /// Warn that values collided in the join of a task's dependencies.
    Collided {
        /// That task.
        task: TaskId,
        /// The collision.
        collision: Collision,
    },
}

/// Why a command was rejected. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The attempt is not in progress: it timed out, was cancelled, or has already reported its result.
    #[error("stale attempt: it {0}")]
    Stale(String),
    /// The execution has ended.
    #[error("the execution has ended ({0})")]
    Ended(&'static str),
    /// The current state does not allow the command.
    #[error("{0}")]
    Impossible(String),
}

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self::Impossible(format!("{} {}", illegal.event, illegal.what))
    }
}

/// Starts an execution.
///
/// # Errors
/// [`Rejection::Impossible`] if the fold rejects an event.
pub fn start(start: Start, now: Timestamp) -> Result<(Execution, Decision), Rejection> {
    let graphs = BTreeMap::from([(start.fingerprint, start.graph.clone())]);
    let event = Event::ExecutionStarted(ExecutionStarted {
        workflow: start.graph.definition().workflow.clone(),
        definition: start.fingerprint,
        cause: start.cause,
        environment: start.environment,
        options: start.options,
        inputs: u32::try_from(start.input.len()).unwrap_or(u32::MAX),
    });
    let recorded = Recorded { seq: 0, time: now, event };
    let mut state = super::fold::fold(None, start.id, &recorded, &graphs)?;
    let decision = Decision { events: vec![recorded], effects: Vec::new() };
    let mut decider = Decider { state: &mut state, graphs: &graphs, now, decision };
    for (key, value) in start.input {
        decider.emit(Event::ContextWritten(ContextWritten { origin: Origin::Input, key, value }))?;
    }
    decider.follow_up()?;
    let decision = decider.decision;
    Ok((state, decision))
}

/// Decides on a command, and folds the resulting events into the state.
///
/// # Errors
/// [`Rejection`]; the state is unchanged.
pub fn decide(state: &mut Execution, command: Command, now: Timestamp) -> Result<Decision, Rejection> {
    let now = now.max(state.last());
    let graphs = match &command {
        Command::Recover { definition: (fingerprint, graph), .. }
        | Command::Retry { definition: (fingerprint, graph), .. } => BTreeMap::from([(*fingerprint, graph.clone())]),
        _ => BTreeMap::new(),
    };
    let mut decider = Decider { state, graphs: &graphs, now, decision: Decision::default() };
    decider.handle(command)?;
    decider.follow_up()?;
    Ok(decider.decision)
}

/// Returns the label of an execution for the listing.
#[must_use]
pub fn label(state: &Execution) -> Label {
    Label {
        workflow: state.workflow().clone(),
        status: match state.status() {
            Status::Running => LabelStatus::Running,
            Status::Paused => LabelStatus::Paused,
            Status::Completed => LabelStatus::Completed,
            Status::Failed => LabelStatus::Failed,
            Status::Cancelled => LabelStatus::Cancelled,
        },
        started: state.started(),
        ended: state.status().is_final().then(|| state.last()),
        definition: state.fingerprint(),
        cause: state.cause().clone(),
        recoveries: state.recoveries(),
        retries: state.retries(),
    }
}

/// An execution while a command is being decided.
struct Decider<'a> {
    state: &'a mut Execution,
    graphs: &'a dyn Graphs,
    now: Timestamp,
    decision: Decision,
}

impl Decider<'_> {
    /// Folds an event and adds it to the decision.
    fn emit(&mut self, event: Event) -> Result<(), Rejection> {
        let recorded = Recorded { seq: self.state.next_seq(), time: self.now, event };
        self.state.apply(recorded.as_ref(), self.graphs)?;
        self.decision.events.push(recorded);
        Ok(())
    }

    fn handle(&mut self, command: Command) -> Result<(), Rejection> {
        let is_retry = matches!(command, Command::Retry { .. }) && self.state.status().is_retriable();
        if self.state.status().is_final() && !is_retry {
            return Err(match command {
                Command::AttemptFinished { .. } => {
                    Rejection::Stale(format!("belongs to an execution that is {}", self.state.status().name()))
                }
                _ => Rejection::Ended(self.state.status().name()),
            });
        }
        match command {
            Command::StartTask { task, worker } => self.start_task(task, worker),
            Command::AttemptFinished { task, attempt, writes, reads, result, jitter } => {
                self.attempt_finished(&task, attempt, writes, reads, result, jitter)
            }
            Command::Defer { task, attempt } => {
                self.state.running_attempt(&task, attempt).map_err(Rejection::Stale)?;
                self.emit(Event::TaskDeferred(TaskDeferred { task, attempt }))
            }
            Command::Resume { task, attempt, worker } => {
                self.state.running_attempt(&task, attempt).map_err(Rejection::Stale)?;
                self.emit(Event::TaskResumed(TaskResumed { task, attempt, worker }))
            }
            Command::TimerFired { jitter } => self.timers_fired(jitter),
            Command::Pause(request) => self.emit(Event::ExecutionPaused(request)),
            Command::Unpause(request) => self.emit(Event::ExecutionUnpaused(request)),
            Command::Cancel(request) => self.cancel(request),
            Command::Recover { environment, definition } => self.recover(environment, definition.0),
            Command::Retry { request, environment, options, definition } => {
                let definition = definition.0;
                self.emit(Event::ExecutionRetried(ExecutionRetried { environment, definition, options, request }))
            }
            Command::Shutdown => self.abandon_running(AbandonReason::Shutdown),
        }
    }

    /// Emits the events that follow without a command: skips of tasks whose rule does not hold, and the end of the
    /// execution once every task is settled.
    fn follow_up(&mut self) -> Result<(), Rejection> {
        while let Some((&task, why)) = self.state.to_skip.first_key_value() {
            let (task, why) = (self.state.graph().name(task).clone(), why.clone());
            self.emit(Event::TaskSkipped(TaskSkipped { task, why }))?;
        }
        if self.state.unsettled == 0 && !self.state.status().is_final() {
            let reason = self.failure_reason();
            let ended = ExecutionEnded {
                context: digest(&self.state.context()),
                reason: reason.as_deref().unwrap_or_default().into(),
            };
            self.emit(if reason.is_some() { Event::ExecutionFailed(ended) } else { Event::ExecutionCompleted(ended) })?;
            self.decision.effects.push(Effect::Answer);
        }
        Ok(())
    }

    fn start_task(&mut self, task: TaskIndex, worker: u32) -> Result<(), Rejection> {
        if !self.state.ready.contains(&task) {
            return Err(Rejection::Impossible(match self.state.tasks.get(task.at()) {
                Some(slot) => {
                    format!("task '{}' is {} and not ready", self.state.graph().name(task), slot.state().name())
                }
                None => format!("there is no task {} in workflow '{}'", task.0, self.state.workflow()),
            }));
        }
        let attempt = self.state.task(task).attempts() + 1;
        let name = self.state.graph().name(task).clone();
        self.emit(Event::TaskStarted(TaskStarted { task: name.clone(), attempt, worker }))?;
        if attempt == 1 {
            let collisions = self.state.task(task).collisions().to_vec();
            let collided = collisions.into_iter().map(|collision| Effect::Collided { task: name.clone(), collision });
            self.decision.effects.extend(collided);
        }
        self.decision.effects.push(Effect::Run { task, attempt, view: Box::new(self.state.view(task)) });
        Ok(())
    }

    fn attempt_finished(
        &mut self,
        task: &TaskId,
        attempt: Attempt,
        writes: Vec<Write>,
        reads: Reads,
        result: Result<(), TaskError>,
        jitter: Jitter,
    ) -> Result<(), Rejection> {
        let index = self.state.running_attempt(task, attempt).map_err(Rejection::Stale)?;
        let origin = Origin::Task { task: task.clone(), attempt };
        for Write { key, value } in writes {
            let origin = origin.clone();
            self.emit(match value {
                Some(value) => Event::ContextWritten(ContextWritten { origin, key, value }),
                None => Event::ContextRemoved(ContextRemoved { origin, key }),
            })?;
        }
        for (key, writer) in self.state.undeclared(index, &reads) {
            self.decision.effects.push(Effect::UndeclaredRead { task: task.clone(), key, writer });
        }
        match result {
            Ok(()) => self.emit(Event::TaskCompleted(TaskCompleted { task: task.clone(), attempt, reads })),
            Err(error) => self.fail(index, error, reads, jitter),
        }
    }

    /// Fails the running attempt at a task, and schedules the next one if the retry policy allows it.
    fn fail(&mut self, task: TaskIndex, mut error: TaskError, reads: Reads, jitter: Jitter) -> Result<(), Rejection> {
        let name = self.state.graph().name(task).clone();
        if error.hint.is_none() {
            error.hint = self.state.hint(&name, &reads).map(Into::into);
        }
        let slot = self.state.task(task);
        let (attempt, failures) = (slot.attempts(), slot.failures() + 1);
        let policy = &self.state.task_definition(task).retry;
        let retry_at = policy.retries(failures, &error).then(|| self.now.after(policy.delay_with(failures, jitter)));
        self.emit(Event::TaskFailed(TaskFailed { task: name, attempt, error, reads, retry_at }))
    }

    fn timers_fired(&mut self, jitter: Jitter) -> Result<(), Rejection> {
        while let Some((due, timer)) = self.state.next_timer().filter(|(due, _)| *due <= self.now) {
            match timer {
                Timer::Retry(task) => self.state.end_retry_delay(task, due),
                Timer::TaskTimeout(task) => self.time_out(task, jitter)?,
                // A task that has just timed out may have been the last one: then the execution ends because of that
                // task.
                Timer::ExecutionTimeout => {
                    self.follow_up()?;
                    if !self.state.status().is_final() {
                        self.time_out_execution()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn time_out(&mut self, task: TaskIndex, jitter: Jitter) -> Result<(), Rejection> {
        let limit = self.state.task_timeout(task).unwrap_or_default().0;
        self.stop(task);
        let error = TaskError {
            kind: "TaskTimeoutError".into(),
            message: format!("the attempt ran longer than {} s", seconds(limit)).into(),
            lineage: ["TaskTimeoutError", "TimeoutError", "OSError", "Exception"].map(Into::into).to_vec(),
            transient: true,
            ..TaskError::default()
        };
        self.fail(task, error, Reads::default(), jitter)
    }

    fn time_out_execution(&mut self) -> Result<(), Rejection> {
        let limit = self.state.options().timeout.unwrap_or_default().0;
        let unsettled: Vec<&str> = self.unsettled_tasks();
        let reason = format!("the workflow ran longer than {} s; not done: {}", seconds(limit), unsettled.join(", "));
        self.stop_all();
        let context = digest(&self.state.context());
        self.emit(Event::ExecutionFailed(ExecutionEnded { reason: reason.into(), context }))?;
        self.decision.effects.push(Effect::Answer);
        Ok(())
    }

    fn unsettled_tasks(&self) -> Vec<&str> {
        let graph = self.state.graph();
        let open = graph.tasks().filter(|task| self.state.task(*task).state().settled().is_none());
        open.map(|task| &**graph.name(task)).collect()
    }

    fn cancel(&mut self, request: Request) -> Result<(), Rejection> {
        let reason = match &request.reason {
            Some(reason) => format!("cancelled by {}: {reason}", request.by),
            None => format!("cancelled by {}", request.by),
        };
        self.emit(Event::CancelRequested(request))?;
        self.stop_all();
        let context = digest(&self.state.context());
        self.emit(Event::ExecutionCancelled(ExecutionEnded { reason: reason.into(), context }))?;
        self.decision.effects.push(Effect::Answer);
        Ok(())
    }

    fn stop_all(&mut self) {
        let running: Vec<TaskIndex> = self.state.running().collect();
        running.into_iter().for_each(|task| self.stop(task));
    }

    fn stop(&mut self, task: TaskIndex) {
        let slot = self.state.task(task);
        let worker = match slot.state() {
            TaskState::Running { worker, .. } => Some(worker),
            TaskState::Deferred { .. } => None,
            _ => return,
        };
        self.decision.effects.push(Effect::Stop { task, attempt: slot.attempts(), worker });
    }

    fn recover(&mut self, environment: Environment, definition: Fingerprint) -> Result<(), Rejection> {
        self.emit(Event::ExecutionRecovered(ExecutionRecovered { environment, definition }))?;
        self.abandon_running(AbandonReason::ProcessDied)
    }

    /// Ends the attempts in progress without an outcome. A task whose attempts keep dying with their process fails; a
    /// deferred attempt does not count, because it did nothing that could have killed the process.
    fn abandon_running(&mut self, why: AbandonReason) -> Result<(), Rejection> {
        let running: Vec<TaskIndex> = self.state.running().collect();
        for index in running {
            let slot = self.state.task(index);
            let (task, attempt, deaths) = (self.state.graph().name(index).clone(), slot.attempts(), slot.deaths() + 1);
            let died = why == AbandonReason::ProcessDied && !self.state.deferred.contains(&index);
            if died && deaths > self.state.options().max_recoveries {
                let error = TaskError {
                    kind: "ProcessDied".into(),
                    message: format!("its process died while it ran, {deaths} times").into(),
                    hint: Some(
                        "find out why the process ends (out of memory? os._exit? a crash in native code?)".into(),
                    ),
                    ..TaskError::default()
                };
                self.emit(Event::TaskFailed(TaskFailed {
                    task,
                    attempt,
                    error,
                    reads: Reads::default(),
                    retry_at: None,
                }))?;
            } else {
                self.emit(Event::TaskAbandoned(TaskAbandoned { task, attempt, why }))?;
            }
        }
        Ok(())
    }

    /// Returns why the execution failed; `None` if no failure reached the end of the graph. Names the first failure
    /// that did, with a hint based on everything written so far.
    fn failure_reason(&self) -> Option<String> {
        let end = *self.state.failed_ends.first()?;
        let root = self.state.root_failures();
        let Some((task, others, failure)) =
            root.and_then(|(task, others)| Some((task, others, self.state.task(task).failure()?)))
        else {
            // The failed task is not in the graph that the execution was recovered with.
            return Some(format!("task '{}' was skipped because of a failure upstream", self.state.graph().name(end)));
        };
        let name = self.state.graph().name(task);
        // Abandoned attempts are numbered too, but do not count as failures, so the number may exceed `max_attempts`.
        let allowed = self.state.task_definition(task).retry.max_attempts.max(failure.attempt);
        let mut reason = format!(
            "task '{name}' failed, attempt {} of {allowed}: {}: {}",
            failure.attempt, failure.error.kind, failure.error.message
        );
        if let Some(hint) = self.state.failure_hint(task) {
            reason.push_str(&format!(" (hint: {hint})"));
        }
        if others > 0 {
            reason.push_str(&format!("; {others} more failed"));
        }
        Some(reason)
    }
}

impl Execution {
    /// Returns the first failure that reached the end of the graph, and how many others did; `None` if there is none.
    #[must_use]
    pub fn root_failures(&self) -> Option<(TaskIndex, usize)> {
        let mut seen = self.failed_ends.clone();
        let mut open: Vec<TaskIndex> = seen.iter().copied().collect();
        let mut failed = Vec::new();
        while let Some(task) = open.pop() {
            match self.task(task).state() {
                TaskState::Failed => failed.push(task),
                TaskState::Skipped { by_failure: true } => {
                    let upstream = self.graph().upstream(task).iter().copied();
                    open.extend(upstream.filter(|up| seen.insert(*up)));
                }
                _ => {}
            }
        }
        let first = failed.iter().copied().min_by_key(|task| self.tasks[task.at()].ended_seq)?;
        Some((first, failed.len() - 1))
    }

    /// Returns the hint for a task's last failure, based on everything written so far.
    #[must_use]
    pub fn failure_hint(&self, task: TaskIndex) -> Option<String> {
        let failure = self.task(task).failure()?;
        let recorded = failure.error.hint.as_ref().map(ToString::to_string);
        recorded.or_else(|| self.hint(self.graph().name(task), &failure.reads))
    }
}

fn seconds(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Encodes events as the log stores them.
#[must_use]
pub fn encode(events: &[Recorded]) -> Vec<Vec<u8>> {
    events.iter().map(|recorded| codec::encode_event(&recorded.event)).collect()
}

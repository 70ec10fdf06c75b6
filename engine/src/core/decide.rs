//! Decisions: what a command makes of an execution, as events, and what has to be done about it, as effects.
//!
//! A decision folds each event as it makes it, so that the next one rests on it; what follows from a command
//! (tasks that are skipped, the end of the execution) is in the same decision. A command that is rejected has changed
//! nothing. Effects are values: the runtime performs them once the events are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::codec;
use super::context::{Collision, View, digest};
use super::definition::Fingerprint;
use super::event::{
    AbandonReason, Attempt, Cause, ContextRemoved, ContextWritten, Environment, Event, ExecutionEnded, ExecutionId,
    ExecutionOptions, ExecutionRecovered, ExecutionStarted, Key, Origin, Reads, Request, TaskAbandoned, TaskCompleted,
    TaskDeferred, TaskError, TaskFailed, TaskId, TaskResumed, TaskSkipped, TaskStarted,
};
use super::fold::{Graphs, IllegalEvent, Recorded};
use super::graph::{Graph, TaskIndex};
use super::json::Json;
use super::label::{Label, LabelStatus};
use super::retry::Jitter;
use super::state::{Execution, Status, TaskState, Timer};
use super::task_context::Write;
use super::time::Timestamp;

/// What is asked of an execution.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start an attempt at a ready task.
    StartTask {
        /// The task.
        task: TaskIndex,
        /// The slot that it gets.
        worker: u32,
    },
    /// An attempt has ended.
    AttemptFinished {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// What it wrote.
        writes: Vec<Write>,
        /// What it read.
        reads: Reads,
        /// How it ended.
        result: Result<(), TaskError>,
        /// What varies the wait before the next one.
        jitter: Jitter,
    },
    /// An attempt waits for something outside, and gives its slot back.
    Defer {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// An attempt that was deferred gets a slot again.
    Resume {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// The slot.
        worker: u32,
    },
    /// The clock has moved on: whatever is due by now happens.
    TimerFired {
        /// What varies the wait before the next attempt, should one have run out of time.
        jitter: Jitter,
    },
    /// Start no more attempts.
    Pause(Request),
    /// Start attempts again.
    Unpause(Request),
    /// Stop.
    Cancel(Request),
    /// Take the execution over from a process that is gone.
    Recover {
        /// The process that takes it over.
        environment: Environment,
        /// The definition to go on with, and its graph.
        definition: (Fingerprint, Arc<Graph>),
    },
    /// Give up the attempts that run: the engine shuts down in order.
    Shutdown,
}

/// What begins an execution.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its id.
    pub id: ExecutionId,
    /// The graph that it is executed by.
    pub graph: Arc<Graph>,
    /// The fingerprint of its definition.
    pub fingerprint: Fingerprint,
    /// What caused it.
    pub cause: Cause,
    /// The process.
    pub environment: Environment,
    /// The rules that hold for all of it.
    pub options: ExecutionOptions,
    /// The input.
    pub input: Vec<(Key, Json)>,
}

/// What a command makes: events to append, and effects to perform once they are durable.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// What has to be done.
    pub effects: Vec<Effect>,
}

/// What has to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Run an attempt.
    Run {
        /// The task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
        /// What it sees.
        view: Box<View>,
    },
    /// Stop an attempt, if it can be stopped: its result counts no more.
    Stop {
        /// The task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
        /// The slot that it had, if it had one, which is free now.
        worker: Option<u32>,
    },
    /// Answer those who wait: the execution is over.
    Answer,
    /// Tell that a task read what it does not depend on.
    UndeclaredRead {
        /// The task that read.
        task: TaskId,
        /// The key.
        key: Key,
        /// The task that wrote.
        writer: TaskId,
    },
    /// Tell that values collided where a task's dependencies meet.
    Collided {
        /// That task.
        task: TaskId,
        /// What collided.
        collision: Collision,
    },
}

/// A command that the execution cannot take. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The attempt is not the one that runs: it was timed out, cancelled, or reported before.
    #[error("stale attempt: it {0}")]
    Stale(String),
    /// The execution is over.
    #[error("the execution has ended ({0})")]
    Ended(&'static str),
    /// The state is not one for it.
    #[error("{0}")]
    Impossible(String),
}

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self::Impossible(format!("{} {}", illegal.event, illegal.what))
    }
}

/// Begins an execution.
///
/// # Errors
/// [`Rejection::Impossible`] if the definition and its fingerprint do not belong together.
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

/// Decides on a command, and folds what it decides.
///
/// # Errors
/// [`Rejection`]; the state is as it was.
pub fn decide(state: &mut Execution, command: Command, now: Timestamp) -> Result<Decision, Rejection> {
    let now = now.max(state.last());
    let graphs = match &command {
        Command::Recover { definition: (fingerprint, graph), .. } => BTreeMap::from([(*fingerprint, graph.clone())]),
        _ => BTreeMap::new(),
    };
    let mut decider = Decider { state, graphs: &graphs, now, decision: Decision::default() };
    decider.handle(command)?;
    decider.follow_up()?;
    Ok(decider.decision)
}

/// What the listing shows of an execution.
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
    }
}

/// An execution on which a command is decided.
struct Decider<'a> {
    state: &'a mut Execution,
    graphs: &'a dyn Graphs,
    now: Timestamp,
    decision: Decision,
}

impl Decider<'_> {
    /// Makes an event: folds it, and keeps it for the log.
    fn emit(&mut self, event: Event) -> Result<(), Rejection> {
        let recorded = Recorded { seq: self.state.next_seq(), time: self.now, event };
        self.state.apply(recorded.lent(), self.graphs)?;
        self.decision.events.push(recorded);
        Ok(())
    }

    fn handle(&mut self, command: Command) -> Result<(), Rejection> {
        if self.state.status().is_final() {
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
            Command::Shutdown => self.abandon_running(AbandonReason::Shutdown),
        }
    }

    /// What follows by itself: tasks whose rule does not hold are skipped, and the last settled task ends the execution.
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

    /// Fails the running attempt at a task, and says when the next one is due, if there is to be one.
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
                // A task that ran out of time just now may have been the last one: then that is how the execution ends.
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

    /// Ends the attempts under way without an outcome. A task whose attempts keep dying with their process while they run
    /// has failed; one that was deferred did nothing that could kill it.
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

    /// Why the execution failed; `None` if no failure reached the end of the graph. Names the first failure that did,
    /// with the hint that everything that was written by now gives.
    fn failure_reason(&self) -> Option<String> {
        let end = *self.state.failed_ends.first()?;
        let root = self.state.root_failures();
        let Some((task, others, failure)) =
            root.and_then(|(task, others)| Some((task, others, self.state.task(task).failure()?)))
        else {
            // What failed is gone from the graph that the execution goes on with.
            return Some(format!("task '{}' was skipped because of a failure upstream", self.state.graph().name(end)));
        };
        let name = self.state.graph().name(task);
        // An abandoned attempt has a number, and takes none of those that may fail.
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
    /// The failure that reached the end of the graph first, and how many others did; `None` if there is none.
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

    /// The hint to a task's last failure, by what is known now.
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

/// The body of an event as the log keeps it.
#[must_use]
pub fn encode(events: &[Recorded]) -> Vec<Vec<u8>> {
    events.iter().map(|recorded| codec::encode_event(&recorded.event)).collect()
}

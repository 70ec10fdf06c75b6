//! The state of an execution: the result of folding its events.
//!
//! | from | to | event |
//! |---|---|---|
//! | Pending | Running | TaskStarted, once everything upstream is settled and its rule holds |
//! | Pending | Skipped | TaskSkipped, once everything upstream is settled and its rule does not hold |
//! | Running, Deferred | Completed | TaskCompleted |
//! | Running, Deferred | WaitingRetry | TaskFailed with `retry_at` |
//! | Running, Deferred | Failed | TaskFailed without `retry_at` |
//! | Running | Deferred | TaskDeferred: it waits and holds no slot |
//! | Deferred | Running | TaskResumed |
//! | Running, Deferred | Pending | TaskAbandoned |
//! | WaitingRetry | Running | TaskStarted |
//! | WaitingRetry | Pending | ExecutionRecovered with a changed graph, in which something upstream is not settled |
//! | Pending, Running, Deferred, WaitingRetry | Cancelled | ExecutionCancelled, ExecutionFailed (timeout) |
//! | Failed, Skipped | Pending | ExecutionRetried, unless the failure was handled or its own rule skipped it |
//! | Cancelled | Pending | ExecutionRetried |
//!
//! Completed is final; Failed, Skipped and Cancelled are final until a retry of the execution. Only
//! [`crate::core::fold`] changes a state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::{Collision, Context, Joined, Joins, Ledger, Scope, Source, View};
use super::definition::{Definition, Fingerprint, TaskDefinition, Timeout};
use super::envelope::StreamEnd;
use super::event::{
    Attempt, Cause, Environment, ExecutionId, ExecutionOptions, Key, Reads, Seen, Seq, Settled, SkipReason, TaskError,
    TaskId,
};
use super::graph::{Graph, TaskIndex};
use super::json::Json;
use super::time::{Millis, Timestamp};

/// The state of an execution after the events folded so far.
#[derive(Clone, Debug)]
pub struct Execution {
    pub(super) id: ExecutionId,
    pub(super) graph: Arc<Graph>,
    pub(super) fingerprint: Fingerprint,
    pub(super) cause: Cause,
    pub(super) environment: Environment,
    pub(super) options: ExecutionOptions,
    pub(super) status: Status,
    pub(super) reason: Arc<str>,
    pub(super) end: StreamEnd,
    pub(super) started: Timestamp,
    pub(super) recoveries: u32,
    pub(super) retries: u32,
    /// How many input values must still follow before any other event is legal.
    pub(super) inputs_missing: u32,
    pub(super) tasks: Vec<TaskSlot>,
    /// The task that the last event named: a first guess for the next lookup by name. After a change of graph it may be
    /// an unrelated task, or out of range.
    pub(super) last_named: TaskIndex,
    pub(super) unsettled: usize,
    /// Tasks at the end of the graph that a failure has reached.
    pub(super) failed_ends: BTreeSet<TaskIndex>,
    /// Pending, all upstream settled, rule holds; or waiting for a retry that is due.
    pub(super) ready: BTreeSet<TaskIndex>,
    /// Pending, all upstream settled, rule does not hold.
    pub(super) to_skip: BTreeMap<TaskIndex, SkipReason>,
    /// Pending, all upstream settled, and the rule reads an erased value: only the next event in the log tells whether
    /// the task ran or was skipped.
    pub(super) undecided: BTreeSet<TaskIndex>,
    /// Tasks with an attempt in progress: running or deferred.
    pub(super) running: BTreeSet<TaskIndex>,
    /// The subset of `running` that is deferred.
    pub(super) deferred: BTreeSet<TaskIndex>,
    pub(super) clock: ExecutionClock,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    pub(super) input: Scope,
    pub(super) ledger: Arc<Ledger>,
    pub(super) joins: Joins,
}

/// The clock of an execution's timeout.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExecutionClock {
    /// Microseconds counted before `since`.
    pub(super) counted: u64,
    /// When the clock was last started; `None` while it is stopped.
    pub(super) since: Option<Timestamp>,
    /// When the execution times out, as registered in `timers`.
    pub(super) due: Option<Timestamp>,
}

/// The status of an execution, as its events determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Tasks start when they are ready.
    Running,
    /// No task starts.
    Paused,
    /// Ended without a failure at the end of the graph.
    Completed,
    /// Ended with a failure at the end of the graph, or timed out.
    Failed,
    /// Ended by cancellation.
    Cancelled,
}

impl Status {
    /// Whether the execution has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether an execution with this status can be retried.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled)
    }

    /// Returns the name of the variant.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// What happens when a timer of an execution is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The retry delay of a task is over.
    Retry(TaskIndex),
    /// The attempt at a task times out.
    TaskTimeout(TaskIndex),
    /// The execution times out.
    ExecutionTimeout,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It waits for upstream tasks or for a slot.
    Pending,
    /// An attempt runs.
    Running {
        /// When it started, or resumed after it was deferred.
        since: Timestamp,
        /// The slot that it runs in.
        worker: u32,
    },
    /// An attempt waits for something external and holds no slot.
    Deferred {
        /// When it was deferred.
        since: Timestamp,
    },
    /// An attempt failed, and the next one is scheduled.
    WaitingRetry {
        /// When the next attempt is due.
        due: Timestamp,
    },
    /// It succeeded.
    Completed,
    /// It failed and will not be retried.
    Failed,
    /// It was skipped.
    Skipped {
        /// Whether it was skipped because of a failure upstream.
        by_failure: bool,
    },
    /// Its execution ended before it did.
    Cancelled,
}

impl TaskState {
    /// Returns the name of the variant.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running { .. } => "Running",
            Self::Deferred { .. } => "Deferred",
            Self::WaitingRetry { .. } => "WaitingRetry",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Skipped { .. } => "Skipped",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Returns how the task ended, if it has ended in a way that trigger rules consider.
    #[must_use]
    pub fn settled(self) -> Option<Settled> {
        match self {
            Self::Completed => Some(Settled::Completed),
            Self::Failed => Some(Settled::Failed),
            Self::Skipped { by_failure: false } => Some(Settled::Skipped),
            Self::Skipped { by_failure: true } => Some(Settled::SkippedByFailure),
            Self::Pending
            | Self::Running { .. }
            | Self::Deferred { .. }
            | Self::WaitingRetry { .. }
            | Self::Cancelled => None,
        }
    }
}

/// A task in an execution.
#[derive(Clone, Debug)]
pub struct TaskSlot {
    pub(super) state: TaskState,
    /// How many upstream tasks are not settled.
    pub(super) unsettled_upstream: u32,
    pub(super) attempts: Attempt,
    pub(super) timeout_start: TimeoutStart,
    pub(super) failures: u32,
    pub(super) deaths: u32,
    /// How long the attempt ran before it was last deferred.
    pub(super) ran_micros: u64,
    /// The writes of the running attempt, which have no effect yet.
    pub(super) pending: Vec<(Key, Option<Json>, Seq)>,
    /// What the task sees through its dependencies. Computed on demand once everything upstream is settled.
    pub(super) sees: Option<Scope>,
    pub(super) collisions: Vec<Collision>,
    /// What downstream tasks see through it. Known once it is settled.
    pub(super) gives: Option<Scope>,
    /// The ledger at the start of its last attempt, kept while undeclared reads can still refer to it.
    pub(super) ledger_at_start: Option<Arc<Ledger>>,
    pub(super) failure: Option<Box<Failure>>,
    pub(super) skipped: Option<Box<SkipReason>>,
    pub(super) started: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
    pub(super) ended_seq: Option<Seq>,
}

/// When the timeout of an attempt starts to count. This is not an event: a process that folds the stream again has no
/// running attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TimeoutStart {
    /// At the start of the attempt.
    #[default]
    AttemptStart,
    /// Not yet: the executor is still being prepared.
    NotYet,
    /// At a later time.
    At(Timestamp),
}

/// The last failure of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The attempt.
    pub attempt: Attempt,
    /// Its error.
    pub error: TaskError,
    /// What it read before it failed.
    pub reads: Reads,
}

impl TaskSlot {
    pub(super) fn new(upstream: usize) -> Self {
        Self {
            state: TaskState::Pending,
            unsettled_upstream: u32::try_from(upstream).unwrap_or(u32::MAX),
            attempts: 0,
            timeout_start: TimeoutStart::default(),
            failures: 0,
            deaths: 0,
            ran_micros: 0,
            pending: Vec::new(),
            sees: None,
            collisions: Vec::new(),
            gives: None,
            ledger_at_start: None,
            failure: None,
            skipped: None,
            started: None,
            ended: None,
            ended_seq: None,
        }
    }

    /// Returns the task's state.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// Returns how many attempts were started, which is the number of the last one.
    #[must_use]
    pub fn attempts(&self) -> Attempt {
        self.attempts
    }

    /// Returns how many attempts failed, since the last retry of the execution.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns how many attempts died with their process while running, since the last retry of the execution.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Returns the last failure, if any.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    /// Returns why the task was skipped, if it was.
    #[must_use]
    pub fn skipped(&self) -> Option<&SkipReason> {
        self.skipped.as_deref()
    }

    /// Returns when the first attempt started, since the last retry of the execution.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// Returns when the task was settled or cancelled.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// Returns the collisions in the join of the task's dependencies. Known once it has started.
    #[must_use]
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }
}

impl Execution {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Returns the graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Returns the current definition.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        self.graph.definition()
    }

    /// Returns the fingerprint of the current definition.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the workflow's name.
    #[must_use]
    pub fn workflow(&self) -> &Arc<str> {
        &self.graph.definition().workflow
    }

    /// Returns what started the execution.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns the process that runs the execution, or ran it last.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the options of the execution: those of its start or its last retry.
    #[must_use]
    pub fn options(&self) -> &ExecutionOptions {
        &self.options
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns why it failed or was cancelled; empty if it completed or has not ended.
    #[must_use]
    pub fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// Returns the `seq` of the next event, which is the number of events folded so far.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.end.next_seq
    }

    /// Returns when the execution started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Returns the time of the last event.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.end.last
    }

    /// Returns how often the execution was recovered.
    #[must_use]
    pub fn recoveries(&self) -> u32 {
        self.recoveries
    }

    /// Returns how often the execution was retried.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Returns the state of a task.
    #[must_use]
    pub fn task(&self, task: TaskIndex) -> &TaskSlot {
        &self.tasks[task.at()]
    }

    /// Returns the definition of a task.
    #[must_use]
    pub fn task_definition(&self, task: TaskIndex) -> &TaskDefinition {
        &self.graph.definition().tasks[task.at()]
    }

    /// Returns the tasks that may start now, in definition order. Empty while the execution is paused or has ended.
    pub fn ready(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        let may_start = self.status == Status::Running;
        self.ready.iter().copied().filter(move |_| may_start)
    }

    /// Returns the tasks with an attempt in progress (running or deferred).
    pub fn running(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        self.running.iter().copied()
    }

    /// Returns the timer that is due next.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Timestamp, Timer)> {
        self.timers.first().copied()
    }

    /// Returns all timers, the earliest first.
    pub fn timers(&self) -> impl Iterator<Item = (Timestamp, Timer)> + '_ {
        self.timers.iter().copied()
    }

    /// Returns the input.
    #[must_use]
    pub fn input(&self) -> Context {
        self.context_in(&self.input)
    }

    fn context_in(&self, scope: &Scope) -> Context {
        Context::new(self.ledger.clone(), scope.clone())
    }

    /// Returns what the last attempt at a task sees or saw. Once the task has completed without undeclared reads, only
    /// the declared part is still known.
    #[must_use]
    pub fn view(&self, task: TaskIndex) -> View {
        let slot = &self.tasks[task.at()];
        View { declared: self.sees(task), latest: slot.ledger_at_start.clone().unwrap_or_default() }
    }

    /// Returns what a task sees through its dependencies, as far as it is known.
    pub(super) fn sees(&self, task: TaskIndex) -> Context {
        self.tasks[task.at()].sees.as_ref().map(|scope| self.context_in(scope)).unwrap_or_default()
    }

    /// Returns what downstream tasks see through a task; `None` until it is settled.
    #[must_use]
    pub fn gives(&self, task: TaskIndex) -> Option<Context> {
        self.tasks[task.at()].gives.as_ref().map(|scope| self.context_in(scope))
    }

    /// Returns the final context: what a task that depends on every leaf would see. An unsettled task contributes what
    /// it sees so far.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context_in(&self.join_leaves().scope)
    }

    /// Returns the collisions in the join of the leaves that gives [`Execution::context`].
    #[must_use]
    pub fn collisions_at_the_end(&self) -> Vec<Collision> {
        self.join_leaves().collisions
    }

    fn join_leaves(&self) -> Joined {
        let mut joins = self.joins.clone();
        let gives = |task: &TaskIndex| self.tasks[task.at()].gives.as_ref();
        let ends: Option<Vec<&Scope>> = self.graph.leaves().iter().map(gives).collect();
        if let Some(ends) = ends {
            return joins.join(&self.ledger, &ends);
        }
        let mut so_far: Vec<Scope> = vec![self.input.clone(); self.graph.len()];
        for task in self.graph.topological_order() {
            if let Some(given) = gives(task) {
                so_far[task.at()] = given.clone();
                continue;
            }
            let upstream: Vec<&Scope> = self.graph.dependencies(*task).iter().map(|up| &so_far[up.at()]).collect();
            if !upstream.is_empty() {
                so_far[task.at()] = joins.join(&self.ledger, &upstream).scope;
            }
        }
        let ends: Vec<&Scope> = self.graph.leaves().iter().map(|leaf| &so_far[leaf.at()]).collect();
        joins.join(&self.ledger, &ends)
    }

    /// Returns the merges made so far. Joins that use a copy of them produce the same versions as
    /// [`Execution::context`].
    #[must_use]
    pub fn joins(&self) -> &Joins {
        &self.joins
    }

    /// Returns the timeout of an attempt at a task.
    #[must_use]
    pub fn task_timeout(&self, task: TaskIndex) -> Option<Millis> {
        match self.task_definition(task).timeout {
            Timeout::Inherited => self.options.task_timeout,
            Timeout::After(limit) => Some(limit),
            Timeout::Off => None,
        }
    }

    /// Returns the dependencies that an attempt may lack: each key that it read without an ancestor's write and that
    /// now has a value, with the task that wrote it. [`Execution::hint`] filters these by what is known of the reader.
    #[must_use]
    pub fn missing_dependencies(&self, reads: &Reads) -> Vec<(Key, TaskId)> {
        let undeclared = reads.keys.iter().filter(|read| matches!(read.seen, Seen::Nothing | Seen::Undeclared(_)));
        undeclared.filter_map(|read| Some((read.key.clone(), writer(&self.ledger, &read.key)?))).collect()
    }

    /// Returns the undeclared reads of the last attempt at a task: each key with the task whose write it saw.
    #[must_use]
    pub fn undeclared(&self, task: TaskIndex, reads: &Reads) -> Vec<(Key, TaskId)> {
        let Some(seen) = &self.tasks[task.at()].ledger_at_start else { return Vec::new() };
        let undeclared = reads.keys.iter().filter(|read| matches!(read.seen, Seen::Undeclared(_)));
        undeclared.filter_map(|read| Some((read.key.clone(), writer(seen, &read.key)?))).collect()
    }

    /// Returns a hint which dependencies to add, if the last attempt at `task` read keys of tasks that it does not
    /// depend on. The hint leaves out ancestors of `task`, and tasks that wait for it, since depending on those would
    /// be a cycle.
    #[must_use]
    pub fn hint(&self, task: &str, reads: &Reads) -> Option<String> {
        let index = self.graph.find(task)?;
        let nothing = reads.keys.iter().filter(|read| read.seen == Seen::Nothing).cloned().collect();
        let nothing = self.missing_dependencies(&Reads { keys: nothing, all: false });
        let mut missing: BTreeMap<Key, TaskId> = self.undeclared(index, reads).into_iter().chain(nothing).collect();
        if !missing.is_empty() {
            let ancestors = self.graph.ancestors(index);
            missing.retain(|_, writer| {
                let writer = self.graph.find(writer);
                writer.is_some_and(|it| it != index && !ancestors.contains(&it) && !self.graph.waits_for(it, index))
            });
        }
        let describe =
            |(key, writer)| format!("`{task}` reads `{key}`, which `{writer}` writes: add it to its dependencies");
        let hints: Vec<String> = missing.into_iter().map(describe).collect();
        (!hints.is_empty()).then(|| hints.join("; "))
    }
}

/// Returns the task whose write to a key took effect last, unless that write removed the value.
fn writer(ledger: &Ledger, key: &str) -> Option<TaskId> {
    let version = ledger.latest(key).filter(|version| version.value().is_some())?;
    match version.source() {
        Source::Write { writer, .. } => writer.clone(),
        Source::Merge { .. } => None,
    }
}

//! The state of an execution: what the fold of its events gives.
//!
//! | a task is | and becomes | by |
//! |---|---|---|
//! | Pending | Running | TaskStarted, once all that it waits for is settled and its rule holds |
//! | Pending | Skipped | TaskSkipped, once all that it waits for is settled and its rule does not hold |
//! | Running, Deferred | Completed | TaskCompleted |
//! | Running, Deferred | WaitingRetry | TaskFailed with a time for the next attempt |
//! | Running, Deferred | Failed | TaskFailed without one |
//! | Running | Deferred | TaskDeferred: it waits without a slot |
//! | Deferred | Running | TaskResumed |
//! | Running, Deferred | Pending | TaskAbandoned |
//! | WaitingRetry | Running | TaskStarted |
//! | WaitingRetry | Pending | ExecutionRecovered with another graph, in which it has to wait |
//! | Pending, Running, Deferred, WaitingRetry | Cancelled | ExecutionCancelled, ExecutionFailed (out of time) |
//!
//! Completed, Failed, Skipped and Cancelled are final. Only [`crate::core::fold`] changes a state.

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

/// An execution, as far as its events were folded.
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
    /// How many input values are still to come before anything else may.
    pub(super) inputs_missing: u32,
    pub(super) tasks: Vec<TaskSlot>,
    /// The task that was named last, where the next event's is looked for first. Of another graph it may be any task, or
    /// none.
    pub(super) last_named: TaskIndex,
    pub(super) unsettled: usize,
    /// Tasks at the end of the graph that a failure has reached.
    pub(super) failed_ends: BTreeSet<TaskIndex>,
    /// Pending, all upstream settled, rule holds; or waiting for a retry that is due.
    pub(super) ready: BTreeSet<TaskIndex>,
    /// Pending, all upstream settled, rule does not hold.
    pub(super) to_skip: BTreeMap<TaskIndex, SkipReason>,
    /// Pending, all upstream settled, and the rule asks for a value that was erased: the log says what it came to.
    pub(super) undecided: BTreeSet<TaskIndex>,
    /// An attempt is under way: it runs, or is deferred.
    pub(super) running: BTreeSet<TaskIndex>,
    /// Those of `running` that are deferred.
    pub(super) deferred: BTreeSet<TaskIndex>,
    pub(super) clock: ExecutionClock,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    pub(super) input: Scope,
    pub(super) ledger: Arc<Ledger>,
    pub(super) joins: Joins,
}

/// How much of its time an execution has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExecutionClock {
    /// The microseconds that were counted before `since`.
    pub(super) counted: u64,
    /// Since when time counts; `None` while the execution only waits.
    pub(super) since: Option<Timestamp>,
    /// When the time is over, as it stands in the timers.
    pub(super) due: Option<Timestamp>,
}

/// How an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Tasks start when they are ready.
    Running,
    /// No task starts.
    Paused,
    /// Over, without a failure at the end of the graph.
    Completed,
    /// Over, with one, or out of time.
    Failed,
    /// Over, cancelled.
    Cancelled,
}

impl Status {
    /// Whether nothing more can happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Its name.
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

/// What an execution waits for the clock for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The next attempt at a task is due.
    Retry(TaskIndex),
    /// An attempt has run for as long as it may.
    TaskTimeout(TaskIndex),
    /// The execution has run for as long as it may.
    ExecutionTimeout,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It waits: for what is upstream, or for a slot.
    Pending,
    /// An attempt runs.
    Running {
        /// When it started, or went on after it was deferred.
        since: Timestamp,
        /// The slot that it runs in.
        worker: u32,
    },
    /// An attempt waits for something outside, and holds no slot.
    Deferred {
        /// Since when.
        since: Timestamp,
    },
    /// An attempt failed, and another one will follow.
    WaitingRetry {
        /// When.
        due: Timestamp,
    },
    /// It succeeded.
    Completed,
    /// It finally failed.
    Failed,
    /// It will not run.
    Skipped {
        /// Whether because of a failure upstream.
        by_failure: bool,
    },
    /// Its execution ended first.
    Cancelled,
}

impl TaskState {
    /// Its name.
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

    /// How the task ended, if it did in a way that those downstream go by.
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
    /// How many tasks upstream are not settled.
    pub(super) unsettled_upstream: u32,
    pub(super) attempts: Attempt,
    pub(super) timeout_start: TimeoutStart,
    pub(super) failures: u32,
    pub(super) deaths: u32,
    /// The microseconds that the attempt ran before it was deferred last.
    pub(super) ran_micros: u64,
    /// The writes of the attempt that runs, which have no effect yet.
    pub(super) pending: Vec<(Key, Option<Json>, Seq)>,
    /// What its ancestry gives; known once everything upstream is settled and somebody asked.
    pub(super) sees: Option<Scope>,
    pub(super) collisions: Vec<Collision>,
    /// What those downstream see of it; known once it is settled.
    pub(super) gives: Option<Scope>,
    /// What had taken effect when its last attempt started, for as long as somebody may ask what it saw of that.
    pub(super) ledger_at_start: Option<Arc<Ledger>>,
    pub(super) failure: Option<Box<Failure>>,
    pub(super) skipped: Option<Box<SkipReason>>,
    pub(super) started: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
    pub(super) ended_seq: Option<Seq>,
}

/// From when on the time of an attempt counts. No event: whoever folds the stream again has no attempt that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TimeoutStart {
    /// From its start.
    #[default]
    AttemptStart,
    /// Not yet: its executor makes ready.
    NotYet,
    /// From a later time.
    At(Timestamp),
}

/// The last failure of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The attempt.
    pub attempt: Attempt,
    /// Its error.
    pub error: TaskError,
    /// What it had read.
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

    /// Its state.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// How many attempts were started; the number of the last one.
    #[must_use]
    pub fn attempts(&self) -> Attempt {
        self.attempts
    }

    /// How many attempts failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How many attempts died with their process while they ran.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Its last failure.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    /// Why it was skipped.
    #[must_use]
    pub fn skipped(&self) -> Option<&SkipReason> {
        self.skipped.as_deref()
    }

    /// When its first attempt started.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// When it was settled.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// What collided where its dependencies meet; known once it has started.
    #[must_use]
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }
}

impl Execution {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Its graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The definition that it is executed by.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        self.graph.definition()
    }

    /// The fingerprint of that definition.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The workflow's name.
    #[must_use]
    pub fn workflow(&self) -> &Arc<str> {
        &self.graph.definition().workflow
    }

    /// What caused it.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The process that has it, or had it last.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The rules that hold for all of it.
    #[must_use]
    pub fn options(&self) -> &ExecutionOptions {
        &self.options
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it ended so; empty when it completed or runs.
    #[must_use]
    pub fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// How many events were folded: the `seq` of the next one.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.end.next_seq
    }

    /// When it started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// When its last event happened.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.end.last
    }

    /// How often it was recovered.
    #[must_use]
    pub fn recoveries(&self) -> u32 {
        self.recoveries
    }

    /// A task.
    #[must_use]
    pub fn task(&self, task: TaskIndex) -> &TaskSlot {
        &self.tasks[task.at()]
    }

    /// What the log says of a task's definition.
    #[must_use]
    pub fn task_definition(&self, task: TaskIndex) -> &TaskDefinition {
        &self.graph.definition().tasks[task.at()]
    }

    /// The tasks that may start now, in the order of the definition. None while it is paused or over.
    pub fn ready(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        let may_start = self.status == Status::Running;
        self.ready.iter().copied().filter(move |_| may_start)
    }

    /// The tasks of which an attempt is under way: it runs, or is deferred.
    pub fn running(&self) -> impl Iterator<Item = TaskIndex> + '_ {
        self.running.iter().copied()
    }

    /// When the clock next matters.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Timestamp, Timer)> {
        self.timers.first().copied()
    }

    /// Everything that it waits for the clock for, the earliest first.
    pub fn timers(&self) -> impl Iterator<Item = (Timestamp, Timer)> + '_ {
        self.timers.iter().copied()
    }

    /// The input.
    #[must_use]
    pub fn input(&self) -> Context {
        self.context_in(&self.input)
    }

    fn context_in(&self, scope: &Scope) -> Context {
        Context::new(self.ledger.clone(), scope.clone())
    }

    /// What the last attempt at a task saw, or sees. Of one that completed and read nothing undeclared, only what its
    /// ancestry gave it is still known.
    #[must_use]
    pub fn view(&self, task: TaskIndex) -> View {
        let slot = &self.tasks[task.at()];
        View { declared: self.sees(task), latest: slot.ledger_at_start.clone().unwrap_or_default() }
    }

    /// What a task's ancestry gives, as far as it is known.
    pub(super) fn sees(&self, task: TaskIndex) -> Context {
        self.tasks[task.at()].sees.as_ref().map(|scope| self.context_in(scope)).unwrap_or_default()
    }

    /// What those downstream of a task see of it; `None` until it is settled.
    #[must_use]
    pub fn gives(&self, task: TaskIndex) -> Option<Context> {
        self.tasks[task.at()].gives.as_ref().map(|scope| self.context_in(scope))
    }

    /// The final context: what a task that depends on every leaf would see. While tasks are unsettled, those count with
    /// what they see so far.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context_in(&self.join_leaves().scope)
    }

    /// What collides where the ends of the graph meet in [`Execution::context`].
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

    /// The merges that were made so far. Joins that are made with a copy of them give the very versions that
    /// [`Execution::context`] gives.
    #[must_use]
    pub fn joins(&self) -> &Joins {
        &self.joins
    }

    /// How long an attempt at a task may run.
    #[must_use]
    pub fn task_timeout(&self, task: TaskIndex) -> Option<Millis> {
        match self.task_definition(task).timeout {
            Timeout::Inherited => self.options.task_timeout,
            Timeout::After(limit) => Some(limit),
            Timeout::Off => None,
        }
    }

    /// The dependencies that may be missing, as far as an attempt's reads and everybody's writes tell: each key that it
    /// read without an ancestor's write, and that somebody has written since, with that task. What is known of the
    /// reader narrows it down: see [`Execution::hint`].
    #[must_use]
    pub fn missing_dependencies(&self, reads: &Reads) -> Vec<(Key, TaskId)> {
        let undeclared = reads.keys.iter().filter(|read| matches!(read.seen, Seen::Nothing | Seen::Undeclared(_)));
        undeclared.filter_map(|read| Some((read.key.clone(), writer(&self.ledger, &read.key)?))).collect()
    }

    /// The undeclared reads of the last attempt at a task: each key, with the task whose write it saw.
    #[must_use]
    pub fn undeclared(&self, task: TaskIndex, reads: &Reads) -> Vec<(Key, TaskId)> {
        let Some(seen) = &self.tasks[task.at()].ledger_at_start else { return Vec::new() };
        let undeclared = reads.keys.iter().filter(|read| matches!(read.seen, Seen::Undeclared(_)));
        undeclared.filter_map(|read| Some((read.key.clone(), writer(seen, &read.key)?))).collect()
    }

    /// The hint to the last attempt at `task` that read what it does not depend on; `None` if it did not. It names no
    /// task that `task` depends on already, and none that waits for it: that would be a cycle.
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
        let says =
            |(key, writer)| format!("`{task}` reads `{key}`, which `{writer}` writes: add it to its dependencies");
        let hints: Vec<String> = missing.into_iter().map(says).collect();
        (!hints.is_empty()).then(|| hints.join("; "))
    }
}

/// The task whose write to a key took effect last, if it left a value.
fn writer(ledger: &Ledger, key: &str) -> Option<TaskId> {
    let version = ledger.latest(key).filter(|version| version.value().is_some())?;
    match version.source() {
        Source::Write { writer, .. } => writer.clone(),
        Source::Merge { .. } => None,
    }
}

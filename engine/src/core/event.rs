//! What happened: every state change of an execution and every context write, as an immutable event.
//!
//! An execution is nothing but its events, in order; see [`crate::core::fold`]. How an event becomes bytes stands in
//! [`crate::core::codec`]. Fields and variants are never removed, reordered or given another meaning: that would be a
//! new format.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bincode::{Decode, Encode};
use uuid::Uuid;

use super::digest::Fingerprint;
use super::json::Json;
use super::time::{Millis, Timestamp};

/// The name of a task, unique in its workflow.
pub type TaskId = Arc<str>;
/// The name of a value in the context.
pub type Key = Arc<str>;
/// The place of an event in its execution's stream, from 0.
pub type Seq = u64;
/// The number of an attempt at a task, from 1. An abandoned attempt has a number too.
pub type Attempt = u32;

/// Names an execution: the sixteen bytes of a UUIDv7, so that ids sort by the time at which they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ExecutionId(pub [u8; 16]);

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExecutionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Uuid>().map(|id| Self(id.into_bytes()))
    }
}

/// One event of an execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first event of every execution.
    ExecutionStarted(ExecutionStarted),
    /// A value was written.
    ContextWritten(ContextWritten),
    /// A value was removed.
    ContextRemoved(ContextRemoved),
    /// An attempt at a task has a slot and runs.
    TaskStarted(TaskStarted),
    /// An attempt succeeded; its writes take effect.
    TaskCompleted(TaskCompleted),
    /// An attempt failed; its writes stay without effect.
    TaskFailed(TaskFailed),
    /// A task will not run.
    TaskSkipped(TaskSkipped),
    /// An attempt ended without an outcome.
    TaskAbandoned(TaskAbandoned),
    /// An attempt waits for something outside and gave its slot back.
    TaskDeferred(TaskDeferred),
    /// An attempt that was deferred has a slot again and runs on.
    TaskResumed(TaskResumed),
    /// No further attempt starts until [`Event::ExecutionUnpaused`].
    ExecutionPaused(Request),
    /// Attempts start again.
    ExecutionUnpaused(Request),
    /// Somebody asked for the execution to be cancelled.
    CancelRequested(Request),
    /// Another process took the execution over.
    ExecutionRecovered(ExecutionRecovered),
    /// Every task is settled, and no failure reached the end of the graph.
    ExecutionCompleted(ExecutionEnded),
    /// A failure reached the end of the graph, or the execution ran out of time.
    ExecutionFailed(ExecutionEnded),
    /// The execution was cancelled.
    ExecutionCancelled(ExecutionEnded),
}

impl Event {
    /// The definition that the execution goes by from this event on.
    #[must_use]
    pub fn definition(&self) -> Option<Fingerprint> {
        match self {
            Self::ExecutionStarted(started) => Some(started.definition),
            Self::ExecutionRecovered(recovered) => Some(recovered.definition),
            _ => None,
        }
    }
}

/// Which workflow is executed, why, and by whom.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionStarted {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The definition that it is executed by.
    pub definition: Fingerprint,
    /// What caused it.
    pub cause: Cause,
    /// Where it runs.
    pub environment: Environment,
    /// The rules that hold for all of it.
    pub options: ExecutionOptions,
    /// How many [`Event::ContextWritten`] with its input follow at once.
    pub inputs: u32,
}

/// What caused an execution.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Cause {
    /// Somebody called `execute` or `submit`.
    Call,
    /// A cron schedule fired for this time.
    Schedule {
        /// The schedule's stream.
        schedule: [u8; 16],
        /// The time that it fired for.
        scheduled: Timestamp,
    },
    /// An event trigger fired.
    Trigger {
        /// Its name.
        name: Arc<str>,
    },
    /// It continues another execution from one of its events on.
    Fork {
        /// That execution.
        execution: ExecutionId,
        /// The last event that both share.
        seq: Seq,
    },
    /// A task of another execution started it.
    Parent {
        /// That execution.
        execution: ExecutionId,
        /// The task.
        task: TaskId,
    },
}

/// The process that runs an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Environment {
    /// The engine's version.
    pub engine: Arc<str>,
    /// The host's name.
    pub host: Arc<str>,
    /// The process id.
    pub pid: u32,
    /// The Python version, where Python runs the tasks.
    pub python: Option<Arc<str>>,
}

/// Rules that hold for a whole execution. They are recorded, so that a recovery keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExecutionOptions {
    /// How long it may run, counted from its start or its last recovery. Time in which it only waits, because each of its
    /// attempts is deferred, does not count.
    pub timeout: Option<Millis>,
    /// How long an attempt may run whose task does not say.
    pub task_timeout: Option<Millis>,
    /// Whether an undeclared read is an error.
    pub strict_context: bool,
    /// How often an attempt at a task may die with its process before the task has failed.
    pub max_recoveries: u32,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Millis(3_600_000)),
            task_timeout: Some(Millis(300_000)),
            strict_context: false,
            max_recoveries: 3,
        }
    }
}

/// Who wrote a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Origin {
    /// The caller, as input.
    Input,
    /// An attempt at a task.
    Task {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
}

/// A value was written. One event for each key and attempt: the value that the attempt left.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct ContextWritten {
    /// Who wrote it.
    pub origin: Origin,
    /// Its name.
    pub key: Key,
    /// The value.
    pub value: Json,
}

/// A value was removed.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct ContextRemoved {
    /// Who removed it.
    pub origin: Origin,
    /// Its name.
    pub key: Key,
}

/// An attempt has a slot and runs.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct TaskStarted {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The slot that it runs in, from 0.
    pub worker: u32,
}

/// An attempt succeeded.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct TaskCompleted {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// What it read.
    pub reads: Reads,
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskFailed {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Why.
    pub error: TaskError,
    /// What it had read.
    pub reads: Reads,
    /// When the next attempt is due; `None` if the task has finally failed.
    pub retry_at: Option<Timestamp>,
}

/// What an attempt read from the context, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Reads {
    /// Each key that it asked for.
    pub keys: Vec<Read>,
    /// Whether it took the whole context (iterated over it, or turned it into a dict).
    pub all: bool,
}

/// One key that an attempt asked for, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// The key.
    pub key: Key,
    /// What it saw.
    pub seen: Seen,
}

/// What a read saw.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Seen {
    /// That there was no such key.
    Nothing,
    /// The write at this `seq`, of the input or of an ancestor.
    Write(Seq),
    /// A value merged at joins from the writes at these `seq`s, in ascending order.
    Merged(Vec<Seq>),
    /// The write at this `seq`, of a task that is no ancestor: it was there by chance.
    Undeclared(Seq),
}

/// Why an attempt failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TaskError {
    /// The error's type, as its language names it (`ValueError`).
    pub kind: Arc<str>,
    /// What it says.
    pub message: Arc<str>,
    /// Where it was raised.
    pub traceback: Option<Arc<str>>,
    /// The names of the type and of its bases, nearest first, for retry conditions.
    pub lineage: Vec<Arc<str>>,
    /// Whether whoever raised it knows that it passes (a network error, a timeout).
    pub transient: bool,
    /// What to do about it.
    pub hint: Option<Arc<str>>,
}

/// A task will not run.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskSkipped {
    /// The task.
    pub task: TaskId,
    /// What decided it.
    pub why: SkipReason,
}

/// Why a task was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SkipReason {
    /// The rule, by its name, or the condition that did not hold.
    pub rule: Arc<str>,
    /// The upstream tasks that decided the rule, and then every other one that failed or was skipped by failure, each
    /// with how it ended.
    pub tasks: Vec<(TaskId, Settled)>,
    /// The context values that decided it.
    pub keys: Vec<Key>,
    /// Whether the task is skipped by failure: one that it waits for failed, or was skipped by failure. Then it counts
    /// as a failure to those that wait for it.
    pub failure: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Settled {
    /// It succeeded.
    Completed,
    /// It finally failed.
    Failed,
    /// Its own rule skipped it.
    Skipped,
    /// It was skipped while one that it waits for had failed, or was itself skipped by failure.
    SkippedByFailure,
}

/// An attempt ended without an outcome.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskAbandoned {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Why.
    pub why: AbandonReason,
}

/// Why an attempt ended without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AbandonReason {
    /// Its process died. Counts against `max_recoveries`, unless the attempt was deferred.
    ProcessDied,
    /// Its engine was shut down in order. Does not count.
    Shutdown,
}

/// An attempt waits for something outside, in the memory of its process, and gave its slot back. While it waits, its
/// timeout stands still, and its end with the process does not count against `max_recoveries`.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskDeferred {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

/// An attempt that was deferred runs on.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskResumed {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The slot that it runs in now, from 0.
    pub worker: u32,
}

/// Who asked for something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// Who asked.
    pub by: Arc<str>,
    /// Why, if it was said.
    pub reason: Option<Arc<str>>,
}

/// Another process took the execution over.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionRecovered {
    /// That process.
    pub environment: Environment,
    /// The definition that it goes on with.
    pub definition: Fingerprint,
}

/// The execution is over.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionEnded {
    /// Why it ended so; empty when it completed.
    pub reason: Arc<str>,
    /// SHA-256 of the final context: see [`crate::core::context::digest`].
    pub context: [u8; 32],
}

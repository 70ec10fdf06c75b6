//! The events of an execution: every state change and every context write, immutable.
//!
//! An execution consists only of its ordered events; see [`crate::core::fold`]. [`crate::core::codec`] encodes them.
//! Fields and variants are never removed, reordered or given another meaning: that would need a new format.

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
/// The position of an event in its execution's stream, from 0.
pub type Seq = u64;
/// The number of an attempt at a task, from 1. Abandoned attempts are counted too.
pub type Attempt = u32;

/// The id of an execution: the 16 bytes of a UUIDv7, so that ids sort by creation time.
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
    /// An attempt at a task got a slot and started.
    TaskStarted(TaskStarted),
    /// An attempt succeeded; its writes take effect.
    TaskCompleted(TaskCompleted),
    /// An attempt failed; its writes have no effect.
    TaskFailed(TaskFailed),
    /// A task was skipped.
    TaskSkipped(TaskSkipped),
    /// An attempt ended without an outcome.
    TaskAbandoned(TaskAbandoned),
    /// An attempt waits for something external and released its slot.
    TaskDeferred(TaskDeferred),
    /// A deferred attempt got a slot again and continues.
    TaskResumed(TaskResumed),
    /// No further attempt starts until [`Event::ExecutionUnpaused`].
    ExecutionPaused(Request),
    /// Attempts start again.
    ExecutionUnpaused(Request),
    /// Cancellation of the execution was requested.
    CancelRequested(Request),
    /// Another process took over the execution.
    ExecutionRecovered(ExecutionRecovered),
    /// Every task is settled, and no failure reached the end of the graph.
    ExecutionCompleted(ExecutionEnded),
    /// A failure reached the end of the graph, or the execution timed out.
    ExecutionFailed(ExecutionEnded),
    /// The execution was cancelled.
    ExecutionCancelled(ExecutionEnded),
    /// A failed or cancelled execution continues from what failed.
    ExecutionRetried(ExecutionRetried),
}

impl Event {
    /// Returns the definition that applies to the execution from this event on, if the event sets one.
    #[must_use]
    pub fn definition(&self) -> Option<Fingerprint> {
        match self {
            Self::ExecutionStarted(started) => Some(started.definition),
            Self::ExecutionRecovered(recovered) => Some(recovered.definition),
            Self::ExecutionRetried(retried) => Some(retried.definition),
            _ => None,
        }
    }

    /// Returns whether this event ends the execution. Only [`Event::ExecutionRetried`] can follow it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::ExecutionCompleted(_) | Self::ExecutionFailed(_) | Self::ExecutionCancelled(_))
    }
}

/// An execution started: its workflow, cause and environment.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionStarted {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The fingerprint of its definition.
    pub definition: Fingerprint,
    /// What started it.
    pub cause: Cause,
    /// The process that runs it.
    pub environment: Environment,
    /// Timeouts and other options.
    pub options: ExecutionOptions,
    /// The number of [`Event::ContextWritten`] events with its input that follow immediately.
    pub inputs: u32,
}

/// What started an execution.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Cause {
    /// A call of `execute` or `submit`.
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
    /// It is a fork: it continues another execution after one of that execution's events.
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

/// Options of a whole execution. They are recorded, so that a recovery keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExecutionOptions {
    /// Timeout of the execution, counted from its start, its last recovery or its last retry. The clock stops while
    /// every attempt in progress is deferred.
    pub timeout: Option<Millis>,
    /// Timeout of an attempt, for tasks without a timeout of their own.
    pub task_timeout: Option<Millis>,
    /// Whether an undeclared read is an error.
    pub strict_context: bool,
    /// How many attempts at a task may die with their process before the task fails.
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

/// The origin of a write.
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

/// A value was written. There is one event per key and attempt, with the final value.
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

/// An attempt got a slot and started.
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
    /// What the attempt read.
    pub reads: Reads,
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskFailed {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The reason.
    pub error: TaskError,
    /// What it read before it failed.
    pub reads: Reads,
    /// When the next attempt is due; `None` if the task will not be retried.
    pub retry_at: Option<Timestamp>,
}

/// The context reads of an attempt, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Reads {
    /// The keys that it read. Reads of its own writes are not recorded.
    pub keys: Vec<Read>,
    /// Whether it read the whole context (iterated over it, or converted it to a dict).
    pub all: bool,
}

/// One key that an attempt read, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// The key.
    pub key: Key,
    /// The result of the read.
    pub seen: Seen,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Seen {
    /// The key did not exist.
    Nothing,
    /// The write at this `seq`, of the input or of an ancestor.
    Write(Seq),
    /// A value merged at joins from the writes at these `seq`s, in ascending order.
    Merged(Vec<Seq>),
    /// The write at this `seq`, made by a task that is not an ancestor: seeing it depended on timing.
    Undeclared(Seq),
}

/// Why an attempt failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TaskError {
    /// The error's type, as its language names it (`ValueError`).
    pub kind: Arc<str>,
    /// The error message.
    pub message: Arc<str>,
    /// The traceback.
    pub traceback: Option<Arc<str>>,
    /// The names of the error's type and its base types, most derived first, for retry conditions.
    pub lineage: Vec<Arc<str>>,
    /// Whether the raiser marked it as transient (a network error, a timeout).
    pub transient: bool,
    /// A suggestion how to fix it.
    pub hint: Option<Arc<str>>,
}

/// A task was skipped.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskSkipped {
    /// The task.
    pub task: TaskId,
    /// Why it was skipped.
    pub why: SkipReason,
}

/// Why a task was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SkipReason {
    /// The name of the rule, or the condition that did not hold.
    pub rule: Arc<str>,
    /// The upstream tasks that decided the rule, then all others that failed or were skipped by failure, each with how
    /// it ended.
    pub tasks: Vec<(TaskId, Settled)>,
    /// The context keys that decided the rule.
    pub keys: Vec<Key>,
    /// Whether the task is skipped by failure, because an upstream task failed or was skipped by failure. Downstream
    /// tasks treat it as a failure.
    pub failure: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Settled {
    /// It succeeded.
    Completed,
    /// It failed and will not be retried.
    Failed,
    /// Its own rule skipped it.
    Skipped,
    /// It was skipped, and an upstream task had failed or was itself skipped by failure.
    SkippedByFailure,
}

/// An attempt ended without an outcome.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskAbandoned {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The reason.
    pub why: AbandonReason,
}

/// Why an attempt ended without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AbandonReason {
    /// Its process died. This counts against `max_recoveries` unless the attempt was deferred.
    ProcessDied,
    /// Its engine shut down in an orderly way. This does not count.
    Shutdown,
}

/// An attempt waits for something external and released its slot. It stays in the memory of its process. Meanwhile its
/// timeout does not count, and its death with the process does not count against `max_recoveries`.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskDeferred {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

/// A deferred attempt continues.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskResumed {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The slot that it runs in now, from 0.
    pub worker: u32,
}

/// Who requested something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The requester.
    pub by: Arc<str>,
    /// The reason, if one was given.
    pub reason: Option<Arc<str>>,
}

/// Another process took over the execution.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionRecovered {
    /// That process.
    pub environment: Environment,
    /// The definition that it continues with.
    pub definition: Fingerprint,
}

/// A failed or cancelled execution continues from what failed: see [`crate::core::fold`] for which tasks run again.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionRetried {
    /// The process that continues it.
    pub environment: Environment,
    /// The definition that it continues with.
    pub definition: Fingerprint,
    /// The options that apply from now on: those of that process.
    pub options: ExecutionOptions,
    /// Who requested the retry, and why.
    pub request: Request,
}

/// The execution has ended.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ExecutionEnded {
    /// Why it failed or was cancelled; empty if it completed.
    pub reason: Arc<str>,
    /// SHA-256 of the final context: see [`crate::core::context::digest`].
    pub context: [u8; 32],
}

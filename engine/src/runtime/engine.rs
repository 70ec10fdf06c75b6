//! The engine: what a program opens, and what it asks of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina_store::log::EventLog;

use super::workflow::Registry;
use crate::core::event::{Cause, ExecutionId, Key, TaskError, TaskId};
use crate::core::json::Json;
use crate::core::time::{Millis, Timestamp};

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How many attempts run at once.
    pub max_concurrent_tasks: usize,
    /// How long an attempt may run whose task does not say.
    pub task_timeout: Option<Millis>,
    /// How long an execution may run.
    pub workflow_timeout: Option<Millis>,
    /// Whether an undeclared read is an error.
    pub strict_context: bool,
    /// How often an attempt at a task may die with its process.
    pub max_recoveries: u32,
    /// No context value may be longer, in bytes of JSON.
    pub max_value_bytes: usize,
    /// Whether unfinished executions are resumed.
    pub recover: bool,
    /// The Python version, where Python runs the tasks; recorded in the log.
    pub python: Option<Arc<str>>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_concurrent_tasks: 4,
            task_timeout: Some(Millis(300_000)),
            workflow_timeout: Some(Millis(3_600_000)),
            strict_context: false,
            max_recoveries: 3,
            max_value_bytes: 16 << 20,
            recover: true,
            python: None,
        }
    }
}

/// What is to be executed.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The input.
    pub input: Vec<(Key, Json)>,
    /// The id; an execution that has it already is attached to. `None` makes a new one.
    pub execution: Option<ExecutionId>,
    /// What caused it.
    pub cause: Cause,
}

/// The state of an execution, in the words that people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// Unfinished, and nobody runs it: its workflow is not registered, or is another one.
    Pending,
    /// It runs.
    Running,
    /// It starts no further attempts until it is unpaused.
    Paused,
    /// Over, without a failure at the end of the graph.
    Completed,
    /// Over, with one.
    Failed,
    /// Over, cancelled.
    Cancelled,
}

/// How an execution ended, or how it stands.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The final context; while it runs, what a task after all that has been done would see.
    pub context: BTreeMap<Key, Json>,
    /// Why it failed: which task, which attempt, which error, and the hint.
    pub error: Option<String>,
    /// The attempt that made it fail.
    pub failed: Option<(TaskId, u32)>,
    /// Each task, in the order of the definition.
    pub tasks: Vec<TaskOutcome>,
}

/// How a task ended, or how it stands.
#[derive(Clone, Debug)]
pub struct TaskOutcome {
    /// The task.
    pub task: TaskId,
    /// Its state's name: `Pending Running WaitingRetry Completed Failed Skipped Cancelled`.
    pub state: &'static str,
    /// How many attempts were started.
    pub attempts: u32,
    /// The last error.
    pub error: Option<TaskError>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it was settled.
    pub ended: Option<Timestamp>,
}

/// An execution in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How many events it has.
    pub events: u64,
    /// Why it is not resumed, if it is held: the difference between its workflow and the registered one.
    pub blocked: Option<String>,
}

/// Why an execution could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No such workflow.
    #[error("workflow '{name}' is not registered{}", .nearest.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default())]
    UnknownWorkflow {
        /// The name.
        name: Arc<str>,
        /// The nearest that is.
        nearest: Option<Arc<str>>,
    },
    /// The execution exists and cannot be resumed by itself.
    #[error(
        "execution {execution} is blocked: {why}; register the workflow that it began with, or resume it on purpose"
    )]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// A value is too long.
    #[error("context key '{key}': the value has {bytes} bytes of JSON, more than max_value_bytes ({limit})")]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log failed.
    #[error("{0}")]
    Log(String),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// Why a wait gave no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Time ran out; the execution goes on.
    #[error("execution {execution} was still running after {waited:?}; it goes on")]
    TimedOut {
        /// The execution.
        execution: ExecutionId,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// It is held.
    #[error(
        "execution {execution} is blocked: {why}; register the workflow that it began with, or resume it on purpose"
    )]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// The log failed.
    #[error("{0}")]
    Log(String),
    /// The engine was shut down first; the execution is resumed by the next one that opens the log.
    #[error("the engine was shut down before execution {0} ended; the next runner on this log resumes it")]
    ShutDown(ExecutionId),
}

/// Why an engine could not be opened, or a request on an execution failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The log failed.
    #[error("{0}")]
    Log(String),
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// The execution cannot take the request in its state.
    #[error("execution {execution}: {why}")]
    Rejected {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// An engine: one scheduler over one log. Closed by [`Engine::shutdown`], or when it is dropped.
pub struct Engine {}

#[allow(unused_variables, missing_docs, clippy::todo, clippy::missing_errors_doc)]
impl Engine {
    /// Takes a log over: resumes what is unfinished and whose workflow is registered, now or later.
    pub fn open(log: Arc<dyn EventLog>, registry: Arc<Registry>, config: EngineConfig) -> Result<Self, EngineError> {
        todo!()
    }

    /// Starts an execution, or attaches to the one that has the id. Returns its id once it is durable.
    pub fn start(&self, request: StartRequest) -> Result<ExecutionId, StartError> {
        todo!()
    }

    /// Waits for the end of an execution.
    pub fn wait(&self, execution: ExecutionId, timeout: Option<Duration>) -> Result<Arc<Outcome>, WaitError> {
        todo!()
    }

    /// Calls back, once, when an execution has ended. The callback runs on an engine thread: hand over, do not work.
    pub fn when_done(&self, execution: ExecutionId, done: Box<dyn FnOnce(Result<Arc<Outcome>, WaitError>) + Send>) {
        todo!()
    }

    /// How an execution stands.
    pub fn outcome(&self, execution: ExecutionId) -> Result<Arc<Outcome>, EngineError> {
        todo!()
    }

    /// Executions, newest first.
    pub fn executions(
        &self,
        status: Option<ExecutionStatus>,
        workflow: Option<&str>,
        limit: usize,
        before: Option<ExecutionId>,
    ) -> Result<Vec<Listed>, EngineError> {
        todo!()
    }

    pub fn cancel(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        todo!()
    }

    pub fn pause(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        todo!()
    }

    pub fn unpause(&self, execution: ExecutionId) -> Result<(), EngineError> {
        todo!()
    }

    /// Resumes a blocked execution on purpose, with the workflow that is registered now.
    pub fn resume(&self, execution: ExecutionId) -> Result<(), EngineError> {
        todo!()
    }

    /// The executions that were unfinished when the log was opened, oldest first.
    pub fn recovered(&self) -> Vec<ExecutionId> {
        todo!()
    }

    /// Stops: takes nothing new, gives running attempts `grace`, abandons the rest in order, closes the log.
    pub fn shutdown(&self, grace: Duration) -> Result<(), EngineError> {
        todo!()
    }
}

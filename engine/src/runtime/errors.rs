//! Why something asked of an engine was not done.

use std::sync::Arc;
use std::time::Duration;

use super::fault::LogFault;
use super::ids::ForeignId;
use crate::core::event::{ExecutionId, Key, TaskId};
use crate::core::standing::Standing;

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
    #[error("execution {execution} is {}: {}", .standing.status.in_a_sentence(), .standing.advice().unwrap_or_default())]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// How it stands, why, and what makes it go on.
        standing: Box<Standing>,
    },
    /// The execution with that id is one of another workflow.
    #[error("execution {execution} is one of workflow '{workflow}', not of '{asked}'; take another id")]
    OtherWorkflow {
        /// The execution.
        execution: ExecutionId,
        /// The workflow that it belongs to.
        workflow: Arc<str>,
        /// The one that was asked for.
        asked: Arc<str>,
    },
    /// The id belongs to something else.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
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
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// Why executions that were to start together did not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("request {at}: {why}")]
pub struct StartManyError {
    /// The place of the request that could not be met, from 0.
    pub at: usize,
    /// Why not.
    #[source]
    pub why: StartError,
}

/// Why an execution that was to start and end gave no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The wait gave no outcome.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why a wait gave no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Time ran out; the execution goes on.
    #[error("execution {execution} was still running after {} s; it goes on", .waited.as_secs_f64())]
    TimedOut {
        /// The execution.
        execution: ExecutionId,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// The id belongs to something else.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
    /// It is held.
    #[error("execution {execution} is {}: {}", .standing.status.in_a_sentence(), .standing.advice().unwrap_or_default())]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// How it stands, why, and what makes it go on.
        standing: Box<Standing>,
    },
    /// The wait would never end: every slot is held by an attempt that waits for an execution which needs one.
    #[error(
        "execution {execution} cannot get a slot: each of the {slots} slots (max_concurrent_tasks) is held by a task that \
         waits for an execution, and '{task}' is one of them. Give the slot back while the task waits: start the \
         execution with submit, and wait for its end with defer_until on the task's handle. Or raise max_concurrent_tasks"
    )]
    NoSlotLeft {
        /// The execution that was waited for.
        execution: ExecutionId,
        /// The task that waited.
        task: TaskId,
        /// How many slots there are.
        slots: usize,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine was shut down first; the execution is resumed by the next one that opens the log.
    #[error(
        "the engine was shut down before it told the end of execution {0}; the next one on this log does, and resumes it \
        if it is unfinished"
    )]
    ShutDown(ExecutionId),
}

/// Why an engine could not be opened, or a request on an execution failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// The id belongs to something else.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
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

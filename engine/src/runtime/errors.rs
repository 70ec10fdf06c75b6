//! Errors of the engine's operations.

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
        /// The registered workflow with the most similar name.
        nearest: Option<Arc<str>>,
    },
    /// The execution exists and cannot be resumed automatically.
    #[error("execution {execution} is {}: {}", .standing.status.lowercase(), .standing.advice().unwrap_or_default())]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Its status, the reason, and how to resume it.
        standing: Box<Standing>,
    },
    /// The id belongs to an execution of another workflow.
    #[error("execution {execution} belongs to workflow '{workflow}', not '{asked}'; use another id")]
    OtherWorkflow {
        /// The execution.
        execution: ExecutionId,
        /// The workflow that it belongs to.
        workflow: Arc<str>,
        /// The requested workflow.
        asked: Arc<str>,
    },
    /// The id belongs to a stream that is not an execution.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
    /// The execution has failed and could not be retried.
    #[error(transparent)]
    NotRetried(Box<EngineError>),
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

/// Why a group of executions could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[error("request {at}: {why}")]
pub struct StartManyError {
    /// Index of the request that failed.
    pub at: usize,
    /// Its error.
    #[source]
    pub why: StartError,
}

/// Why [`Engine::execute`](super::engine::Engine::execute) returned no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The wait for its end failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why a wait returned no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The wait timed out; the execution keeps running.
    #[error("execution {execution} was still running after {} s; it keeps running", .waited.as_secs_f64())]
    TimedOut {
        /// The execution.
        execution: ExecutionId,
        /// The time waited.
        waited: Duration,
    },
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// The id belongs to a stream that is not an execution.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
    /// The execution cannot go on without a user's action.
    #[error("execution {execution} is {}: {}", .standing.status.lowercase(), .standing.advice().unwrap_or_default())]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Its status, the reason, and how to resume it.
        standing: Box<Standing>,
    },
    /// A deadlock: every slot is held by an attempt that waits for an execution, and that execution needs a slot.
    #[error(
        "execution {execution} cannot get a slot: each of the {slots} slots (max_concurrent_tasks) is held by a task that \
         waits for an execution, and '{task}' is one of them. Release the slot while the task waits: start the \
         execution with submit, and wait for its end with defer_until on the task's handle. Or raise max_concurrent_tasks"
    )]
    NoSlotLeft {
        /// The awaited execution.
        execution: ExecutionId,
        /// The waiting task.
        task: TaskId,
        /// The number of slots.
        slots: usize,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine was shut down first; the next engine that opens the log resumes the execution.
    #[error("the engine was shut down before execution {0} finished; the next engine that opens this log resumes it")]
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
    /// The id belongs to a stream that is not an execution.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
    /// The execution's state does not allow the request.
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

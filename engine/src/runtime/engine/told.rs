//! What an engine tells of executions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::event::{ExecutionId, Key, TaskError, TaskId};
use crate::core::json::Json;
use crate::core::time::Timestamp;

pub use crate::core::standing::{ExecutionStatus, Standing};

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
    /// Why it failed: which task, which attempt, which error, and the hint; or why it does not go on, and what to do.
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
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How many events it has.
    pub events: u64,
    /// How it stands, why, and what to do.
    pub standing: Standing,
}

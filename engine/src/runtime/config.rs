//! Configuration of an engine, and requests to start executions.

use std::sync::Arc;

use super::clock::TimeSource;
use crate::core::event::{Cause, Environment, ExecutionId, ExecutionOptions, Key, Request};
use crate::core::json::Json;
use crate::core::time::Millis;

/// Configuration of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Maximum number of attempts that run at once.
    pub max_concurrent_tasks: usize,
    /// Default timeout of an attempt, for tasks without their own.
    pub task_timeout: Option<Millis>,
    /// Timeout of an execution.
    pub workflow_timeout: Option<Millis>,
    /// Whether an undeclared read is an error.
    pub strict_context: bool,
    /// How many attempts of a task may die with their process before the task fails.
    pub max_recoveries: u32,
    /// Maximum size of a context value, in bytes of JSON.
    pub max_value_bytes: usize,
    /// Whether unfinished executions are resumed.
    pub recover: bool,
    /// Whether schedules fire.
    pub cron: bool,
    /// Maximum number of missed fires of a schedule that are caught up.
    pub max_catchup: u32,
    /// The Python version, if Python runs the tasks; recorded in the log.
    pub python: Option<Arc<str>>,
    /// The source of time.
    pub time: TimeSource,
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
            cron: true,
            max_catchup: 100,
            python: None,
            time: TimeSource::Wall,
        }
    }
}

impl EngineConfig {
    /// The environment that the engine records about its process.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            engine: env!("CARGO_PKG_VERSION").into(),
            host: rustix::system::uname().nodename().to_string_lossy().as_ref().into(),
            pid: std::process::id(),
            python: self.python.clone(),
        }
    }

    /// The options of the executions that the engine starts and retries.
    pub(crate) fn execution_options(&self) -> ExecutionOptions {
        ExecutionOptions {
            timeout: self.workflow_timeout,
            task_timeout: self.task_timeout,
            strict_context: self.strict_context,
            max_recoveries: self.max_recoveries,
        }
    }
}

/// A request to start an execution.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The input.
    pub input: Vec<(Key, Json)>,
    /// The id. Attaches if an execution with this id exists; `None` generates a new id.
    pub execution: Option<ExecutionId>,
    /// What caused it.
    pub cause: Cause,
    /// Whether to retry the execution with this id if it has failed, instead of attaching to the failure: who requests
    /// that, and why. An execution that was cancelled stays cancelled.
    pub retry_failed: Option<Request>,
}

impl StartRequest {
    /// Creates a request to start a workflow without input, under a new id.
    #[must_use]
    pub fn new(workflow: &str) -> Self {
        Self { workflow: workflow.into(), input: Vec::new(), execution: None, cause: Cause::Call, retry_failed: None }
    }
}

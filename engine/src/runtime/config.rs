//! How an engine runs, and what it is asked to execute.

use std::sync::Arc;

use super::clock::TimeSource;
use crate::core::event::{Cause, Environment, ExecutionId, Key};
use crate::core::json::Json;
use crate::core::time::Millis;

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
    /// Whether schedules fire.
    pub cron: bool,
    /// How many missed fires of a schedule are caught up with at most.
    pub max_catchup: u32,
    /// The Python version, where Python runs the tasks; recorded in the log.
    pub python: Option<Arc<str>>,
    /// Where it gets the time from.
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
    /// What an engine records of the process that it runs in.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            engine: env!("CARGO_PKG_VERSION").into(),
            host: rustix::system::uname().nodename().to_string_lossy().as_ref().into(),
            pid: std::process::id(),
            python: self.python.clone(),
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

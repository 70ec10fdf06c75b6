//! A world to open engines in: a disk, and the workflows and the engine configuration of a process.

use std::sync::Arc;

use cloacina_engine::core::event::{ExecutionId, Key};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::time::Millis;
use cloacina_engine::runtime::engine::{Engine, EngineConfig, Outcome, StartRequest};
use cloacina_engine::runtime::workflow::{Registry, Workflow};
use cloacina_store::log::EventLog;
use cloacina_store::{MemoryDisk, MemoryLog};
use serde_json::Value;

use crate::GUARD;

/// A disk, and a process that opens engines on it.
#[derive(Clone, Default)]
pub struct World {
    /// The disk.
    pub disk: MemoryDisk,
    /// The workflows that the process has registered.
    pub registry: Arc<Registry>,
    /// The configuration of its engines.
    pub config: EngineConfig,
}

impl World {
    /// An empty disk, and a process with these workflows.
    #[must_use]
    pub fn of(workflows: impl IntoIterator<Item = Workflow>) -> Self {
        Self::default().with_workflows(workflows)
    }

    /// The same world, with more workflows registered.
    #[must_use]
    pub fn with_workflows(self, workflows: impl IntoIterator<Item = Workflow>) -> Self {
        workflows.into_iter().for_each(|workflow| drop(self.registry.register(workflow)));
        self
    }

    /// The same world, with another engine configuration.
    #[must_use]
    pub fn with_config(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The same world, with this number of slots.
    #[must_use]
    pub fn with_slots(self, slots: usize) -> Self {
        self.with_config(|config| config.max_concurrent_tasks = slots)
    }

    /// Opens the log.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn log(&self) -> MemoryLog {
        MemoryLog::open(&self.disk).expect("the log opens")
    }

    /// Opens an engine on the disk.
    #[must_use]
    pub fn open(&self) -> Engine {
        self.open_on(Arc::new(self.log()))
    }

    /// Opens an engine on another log.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open_on(&self, log: Arc<dyn EventLog>) -> Engine {
        Engine::open(log, self.registry.clone(), self.config.clone()).expect("the engine opens")
    }

    /// The world after a kill at this moment: the disk as it is now, and a new process without workflows. The old process
    /// continues on its own copy of the disk.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self { disk: self.disk.after_kill(), registry: Arc::default(), config: self.config.clone() }
    }

    /// The same disk, and a new process without workflows.
    #[must_use]
    pub fn in_new_process(&self) -> Self {
        Self { disk: self.disk.clone(), registry: Arc::default(), config: self.config.clone() }
    }
}

/// A request to start a workflow without input.
#[must_use]
pub fn call(workflow: &str) -> StartRequest {
    StartRequest::new(workflow)
}

/// A request to start a workflow under a given id.
#[must_use]
pub fn call_as(workflow: &str, execution: ExecutionId) -> StartRequest {
    StartRequest { execution: Some(execution), ..call(workflow) }
}

/// A fixed execution id.
#[must_use]
pub fn id(number: u8) -> ExecutionId {
    ExecutionId([1, 0x90, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, number])
}

/// One input value.
///
/// # Panics
/// Never: a [`Value`] is always JSON.
#[must_use]
pub fn input(key: &str, value: Value) -> (Key, Json) {
    (key.into(), Json::from(value))
}

/// Starts a workflow.
///
/// # Panics
/// If it is refused.
pub fn start(engine: &Engine, workflow: &str) -> ExecutionId {
    engine.start(call(workflow)).expect("the workflow starts")
}

/// Waits for the end of an execution.
///
/// # Panics
/// After the guard timeout.
pub fn end_of(engine: &Engine, execution: ExecutionId) -> Arc<Outcome> {
    engine.wait(execution, Some(GUARD)).expect("the execution ends")
}

/// Starts a workflow and waits for its end.
pub fn run(engine: &Engine, workflow: &str) -> Arc<Outcome> {
    end_of(engine, start(engine, workflow))
}

/// A value of an outcome's context; `null` if it is missing.
#[must_use]
pub fn value(outcome: &Outcome, key: &str) -> Value {
    outcome.context.get(key).map_or(Value::Null, Json::value)
}

/// The state of a task, and its number of attempts.
///
/// # Panics
/// If the workflow has no such task.
#[must_use]
pub fn task(outcome: &Outcome, name: &str) -> (&'static str, u32) {
    let task = outcome.tasks.iter().find(|task| &*task.task == name).expect("the workflow has the task");
    (task.state, task.attempts)
}

/// Milliseconds.
#[must_use]
pub fn millis(count: u64) -> Millis {
    Millis(count)
}

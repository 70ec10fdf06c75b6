//! A world to open engines in: a disk, the workflows of a process, and how its engines run.

use std::sync::Arc;

use cloacina_engine::core::event::{Cause, ExecutionId, Key};
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
    /// What the process has registered.
    pub registry: Arc<Registry>,
    /// How its engines run.
    pub config: EngineConfig,
}

impl World {
    /// An empty disk, and a process that knows these workflows.
    #[must_use]
    pub fn of(workflows: impl IntoIterator<Item = Workflow>) -> Self {
        Self::default().knowing(workflows)
    }

    /// The same world, with more workflows registered.
    #[must_use]
    pub fn knowing(self, workflows: impl IntoIterator<Item = Workflow>) -> Self {
        workflows.into_iter().for_each(|workflow| drop(self.registry.register(workflow)));
        self
    }

    /// The same world, with engines that run otherwise.
    #[must_use]
    pub fn configured(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The same world, with so many slots.
    #[must_use]
    pub fn with_slots(self, slots: usize) -> Self {
        self.configured(|config| config.max_concurrent_tasks = slots)
    }

    /// The log, opened.
    ///
    /// # Panics
    /// If it cannot be.
    #[must_use]
    pub fn log(&self) -> MemoryLog {
        MemoryLog::open(&self.disk).expect("the log opens")
    }

    /// An engine on the disk.
    #[must_use]
    pub fn open(&self) -> Engine {
        self.open_on(Arc::new(self.log()))
    }

    /// An engine on another log.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open_on(&self, log: Arc<dyn EventLog>) -> Engine {
        Engine::open(log, self.registry.clone(), self.config.clone()).expect("the engine opens")
    }

    /// What is left when the process is killed now: the disk, and a new process that knows nothing yet. The old one
    /// goes on in its own world, where it disturbs nobody.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self { disk: self.disk.after_kill(), registry: Arc::default(), config: self.config.clone() }
    }

    /// The same disk, and a new process that knows nothing yet.
    #[must_use]
    pub fn in_new_process(&self) -> Self {
        Self { disk: self.disk.clone(), registry: Arc::default(), config: self.config.clone() }
    }
}

/// A call of a workflow, without input.
#[must_use]
pub fn call(workflow: &str) -> StartRequest {
    StartRequest { workflow: workflow.into(), input: Vec::new(), execution: None, cause: Cause::Call }
}

/// A call of a workflow under a given id.
#[must_use]
pub fn call_as(workflow: &str, execution: ExecutionId) -> StartRequest {
    StartRequest { execution: Some(execution), ..call(workflow) }
}

/// An id that is the same in every run.
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
/// If it does not end before the guard runs out.
pub fn end_of(engine: &Engine, execution: ExecutionId) -> Arc<Outcome> {
    engine.wait(execution, Some(GUARD)).expect("the execution ends")
}

/// Starts a workflow and waits for its end.
pub fn run(engine: &Engine, workflow: &str) -> Arc<Outcome> {
    end_of(engine, start(engine, workflow))
}

/// A value of an outcome's context, `null` if it is not there.
#[must_use]
pub fn value(outcome: &Outcome, key: &str) -> Value {
    outcome.context.get(key).map_or(Value::Null, Json::value)
}

/// The state of a task, and how many attempts it took.
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

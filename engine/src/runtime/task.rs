//! What a task is to the runtime: its definition, and a body that can be run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::core::definition::{TaskDefinition, TriggerRule};
use crate::core::event::{Attempt as AttemptNumber, ExecutionId, TaskError, TaskId};
use crate::core::retry::RetryPolicy;
use crate::core::task_context::TaskContext;
use crate::core::time::Millis;

/// A task: what the log knows of it, and what runs.
#[derive(Clone)]
pub struct Task {
    /// What the log knows.
    pub definition: TaskDefinition,
    /// What runs.
    pub body: TaskBody,
}

/// What runs when a task runs.
#[derive(Clone)]
pub enum TaskBody {
    /// A function on a worker thread.
    Blocking(Arc<TaskFunction>),
    /// A future on tokio.
    Async(Arc<dyn Fn(TaskContext, AttemptInfo) -> AsyncBody + Send + Sync>),
    /// Somebody else's executor: the function hands the attempt over and returns at once (it runs on the log's writer
    /// thread, which has other work); whoever has the attempt calls [`RunningAttempt::finish`].
    Detached(Arc<dyn Fn(RunningAttempt) + Send + Sync>),
}

/// How an attempt ended.
pub type TaskResult = Result<(), TaskError>;

/// A task's function.
pub type TaskFunction = dyn Fn(&mut TaskContext, &AttemptInfo) -> TaskResult + Send + Sync;

/// Takes the result of an attempt. Called once, on whatever thread the attempt ended.
pub(crate) type Report = Box<dyn FnOnce(TaskContext, TaskResult) + Send>;

/// What an async task gives back: its context, and how it ended.
pub type AsyncBody = Pin<Box<dyn Future<Output = (TaskContext, TaskResult)> + Send>>;

/// Which attempt runs.
#[derive(Clone, Debug)]
pub struct AttemptInfo {
    /// The execution.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The task.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: AttemptNumber,
}

/// An attempt in the hands of a [`TaskBody::Detached`] executor. Dropped unfinished, it fails.
pub struct RunningAttempt {
    /// Which attempt it is.
    pub info: AttemptInfo,
    /// Its context; give it back with [`RunningAttempt::finish`].
    pub context: TaskContext,
    pub(crate) report: Option<Report>,
    pub(crate) cancel: Option<CancelSlot>,
}

/// Where an executor leaves what cancels an attempt: called, once, if it times out or its execution is cancelled.
pub type CancelSlot = Arc<std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl RunningAttempt {
    /// Says how to stop it, should it time out or its execution be cancelled.
    pub fn on_cancel(&self, cancel: impl FnOnce() + Send + 'static) {
        if let Some(slot) = &self.cancel
            && let Ok(mut slot) = slot.lock()
        {
            *slot = Some(Box::new(cancel));
        }
    }

    /// Ends the attempt, with the context that holds its writes and reads.
    pub fn finish(mut self, context: TaskContext, result: TaskResult) {
        if let Some(report) = self.report.take() {
            report(context, result);
        }
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            let error = TaskError {
                kind: "ExecutorLost".into(),
                message: "the executor dropped the attempt without an outcome".into(),
                ..TaskError::default()
            };
            report(std::mem::take(&mut self.context), Err(error));
        }
    }
}

impl Task {
    /// A task that runs a function on a worker thread.
    pub fn new(id: impl Into<TaskId>, body: impl Fn(&mut TaskContext) -> TaskResult + Send + Sync + 'static) -> Self {
        Self {
            definition: TaskDefinition::new(id),
            body: TaskBody::Blocking(Arc::new(move |context, _| body(context))),
        }
    }

    /// A task that runs a future on tokio.
    pub fn new_async<F>(id: impl Into<TaskId>, body: impl Fn(TaskContext) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = (TaskContext, TaskResult)> + Send + 'static,
    {
        Self {
            definition: TaskDefinition::new(id),
            body: TaskBody::Async(Arc::new(move |context, _| Box::pin(body(context)))),
        }
    }

    /// Names the tasks that it depends on, in the order that matters at joins.
    #[must_use]
    pub fn after<'a>(mut self, dependencies: impl IntoIterator<Item = &'a str>) -> Self {
        self.definition.dependencies = dependencies.into_iter().map(Into::into).collect();
        self
    }

    /// Says what happens when an attempt fails.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.definition.retry = policy;
        self
    }

    /// Says when it runs.
    #[must_use]
    pub fn rule(mut self, rule: TriggerRule) -> Self {
        self.definition.rule = rule;
        self
    }

    /// Says how long an attempt may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = Some(Millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// A version of its code; change it when what the task does changes. (Rust cannot tell by itself.)
    #[must_use]
    pub fn code_version(mut self, version: &str) -> Self {
        self.definition.code = crate::core::codec::sha256(version.as_bytes());
        self
    }
}

//! Tasks for the runtime: a definition and a body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

pub use super::attempt::AttemptInfo;
use super::completion::Hold;
use super::errors::WaitError;
use super::handle::TaskHandle;
use super::message::{Finished, Message};
use super::outcome::Outcome;
use crate::core::definition::{TaskDefinition, Timeout, TriggerRule};
use crate::core::event::{Key, TaskError, TaskId};
use crate::core::json::Json;
use crate::core::retry::RetryPolicy;
use crate::core::task_context::TaskContext;
use crate::core::time::Millis;

/// A task: its definition and its body.
#[derive(Clone)]
pub struct Task {
    /// Its definition, which is stored in the log.
    pub definition: TaskDefinition,
    /// The code that runs.
    pub body: TaskBody,
    /// Called at the end of each attempt.
    pub observer: Option<Arc<Observer>>,
}

/// Called with the end of an attempt, once that is durable. Runs on the log's writer thread and must not block.
pub type Observer = dyn Fn(Notice) + Send + Sync;

/// The end of an attempt. Waiters for the execution are answered after its last notice is dropped.
///
/// Delivered at most once: a process that dies between the end of an attempt and its notice loses the notice.
pub struct Notice {
    /// The attempt.
    pub info: AttemptInfo,
    /// How it ended.
    pub end: AttemptEnd,
    /// The context that the task's dependents see; for a failed attempt, the context that it saw itself.
    pub context: Vec<(Key, Json)>,
    pub(crate) _hold: Hold<Result<Arc<Outcome>, WaitError>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It succeeded.
    Completed,
    /// It failed and will be retried.
    Retrying(TaskError),
    /// It failed, and with it the task.
    Failed(TaskError),
}

/// The code of a task.
#[derive(Clone)]
pub enum TaskBody {
    /// A function on a worker thread.
    Blocking(Arc<TaskFunction>),
    /// A future on tokio.
    Async(Arc<dyn Fn(TaskContext, TaskHandle) -> AsyncBody + Send + Sync>),
    /// An external executor: the function hands the attempt over and returns immediately (it runs on the log's writer
    /// thread and must not block); the executor calls [`RunningAttempt::finish`].
    Detached(Arc<dyn Fn(RunningAttempt) + Send + Sync>),
}

/// How an attempt ended.
pub type TaskResult = Result<(), TaskError>;

/// A task's function.
pub type TaskFunction = dyn Fn(&mut TaskContext, &TaskHandle) -> TaskResult + Send + Sync;

/// Called once with the result of an attempt, on the thread where it ended.
pub(crate) type Report = Box<dyn FnOnce(TaskContext, TaskResult, &mut Results) + Send>;

/// The future of an async task. Returns its context and how it ended.
pub type AsyncBody = Pin<Box<dyn Future<Output = (TaskContext, TaskResult)> + Send>>;

/// An attempt run by a [`TaskBody::Detached`] executor. It fails if dropped unfinished.
pub struct RunningAttempt {
    /// The attempt.
    pub info: AttemptInfo,
    /// Its context; give it back with [`RunningAttempt::finish`].
    pub context: TaskContext,
    pub(crate) report: Option<Report>,
    pub(crate) handle: TaskHandle,
}

impl RunningAttempt {
    /// Sets the callback that stops the attempt if it times out or its execution is cancelled. Called immediately if
    /// that has already happened.
    pub fn on_cancel(&self, cancel: impl FnOnce() + Send + 'static) {
        self.handle.stop_token().on_stop(cancel);
    }

    /// The handle of the attempt.
    #[must_use]
    pub fn handle(&self) -> &TaskHandle {
        &self.handle
    }

    /// Ends the attempt, with the context that holds its writes and reads.
    pub fn finish(self, context: TaskContext, result: TaskResult) {
        self.finish_into(context, result, &mut Results::default());
    }

    /// Like [`RunningAttempt::finish`], but the engine gets the result only when `results` is sent or dropped.
    pub fn finish_into(mut self, context: TaskContext, result: TaskResult, results: &mut Results) {
        if let Some(report) = self.report.take() {
            report(context, result, results);
        }
    }
}

/// A batch of attempt results for the engine, so that their events can share a flush. For executors that run many short
/// attempts in a row. Sent when dropped.
#[derive(Default)]
pub struct Results(Option<(Sender<Message>, Vec<Finished>)>);

impl Results {
    /// Sends them.
    pub fn send(&mut self) {
        if let Some((scheduler, finished)) = self.0.take() {
            // If the scheduler is gone, recovery runs the attempts again.
            let _ = scheduler.send(Message::Finished(finished));
        }
    }

    /// The number of results.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, finished)| finished.len())
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn add(&mut self, scheduler: &Sender<Message>, finished: Finished) {
        if self.0.as_ref().is_some_and(|(other, _)| !other.same_channel(scheduler)) {
            self.send();
        }
        self.0.get_or_insert_with(|| (scheduler.clone(), Vec::new())).1.push(finished);
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.send();
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
            report(std::mem::take(&mut self.context), Err(error), &mut Results::default());
        }
    }
}

impl Task {
    /// A task that runs a function on a worker thread.
    pub fn new(id: impl Into<TaskId>, body: impl Fn(&mut TaskContext) -> TaskResult + Send + Sync + 'static) -> Self {
        Self::with_handle(id, move |context, _| body(context))
    }

    /// A task that runs a function on a worker thread, which gets a [`TaskHandle`] too.
    pub fn with_handle(
        id: impl Into<TaskId>,
        body: impl Fn(&mut TaskContext, &TaskHandle) -> TaskResult + Send + Sync + 'static,
    ) -> Self {
        Self { definition: TaskDefinition::new(id), body: TaskBody::Blocking(Arc::new(body)), observer: None }
    }

    /// A task that runs a future on tokio, which gets a [`TaskHandle`] too.
    pub fn async_with_handle<F>(
        id: impl Into<TaskId>,
        body: impl Fn(TaskContext, TaskHandle) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = (TaskContext, TaskResult)> + Send + 'static,
    {
        let body = move |context: TaskContext, handle: TaskHandle| -> AsyncBody { Box::pin(body(context, handle)) };
        Self { definition: TaskDefinition::new(id), body: TaskBody::Async(Arc::new(body)), observer: None }
    }

    /// A task that runs a future on tokio.
    pub fn new_async<F>(id: impl Into<TaskId>, body: impl Fn(TaskContext) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = (TaskContext, TaskResult)> + Send + 'static,
    {
        Self::async_with_handle(id, move |context, _| body(context))
    }

    /// Sets the tasks that it depends on. Their order decides merges at joins.
    #[must_use]
    pub fn after<'a>(mut self, dependencies: impl IntoIterator<Item = &'a str>) -> Self {
        self.definition.dependencies = dependencies.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the retry policy.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.definition.retry = policy;
        self
    }

    /// Sets the trigger rule.
    #[must_use]
    pub fn rule(mut self, rule: TriggerRule) -> Self {
        self.definition.rule = rule;
        self
    }

    /// Sets the timeout of an attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = Timeout::After(Millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// Disables the timeout, whatever the execution's options say.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.definition.timeout = Timeout::Off;
        self
    }

    /// Sets the observer of its attempts.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Sets the version of its code. Change it whenever the code changes: Rust cannot detect that by itself.
    #[must_use]
    pub fn code_version(mut self, version: &str) -> Self {
        self.definition.code = crate::core::codec::sha256(version.as_bytes());
        self
    }
}

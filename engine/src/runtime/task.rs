//! What a task is to the runtime: its definition, and a body that can be run.

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

/// A task: what the log knows of it, and what runs.
#[derive(Clone)]
pub struct Task {
    /// What the log knows.
    pub definition: TaskDefinition,
    /// What runs.
    pub body: TaskBody,
    /// Who is told how its attempts end.
    pub observer: Option<Arc<Observer>>,
}

/// Is told how an attempt ended, once that is durable. Runs on the log's writer thread: hand over, do not work.
pub type Observer = dyn Fn(Notice) + Send + Sync;

/// How an attempt ended. Those who wait for the execution are answered after its last notice was dropped.
///
/// A process that dies between the end of an attempt and its notice takes the notice with it: an observer is told at
/// most once.
pub struct Notice {
    /// Which attempt it was.
    pub info: AttemptInfo,
    /// How it ended.
    pub end: AttemptEnd,
    /// What the task's dependents see of it; of a failed attempt, what it saw itself.
    pub context: Vec<(Key, Json)>,
    pub(crate) _hold: Hold<Result<Arc<Outcome>, WaitError>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It succeeded.
    Completed,
    /// It failed, and another one will follow.
    Retrying(TaskError),
    /// It failed, and with it the task.
    Failed(TaskError),
}

/// What runs when a task runs.
#[derive(Clone)]
pub enum TaskBody {
    /// A function on a worker thread.
    Blocking(Arc<TaskFunction>),
    /// A future on tokio.
    Async(Arc<dyn Fn(TaskContext, TaskHandle) -> AsyncBody + Send + Sync>),
    /// Somebody else's executor: the function hands the attempt over and returns at once (it runs on the log's writer
    /// thread, which has other work); whoever has the attempt calls [`RunningAttempt::finish`].
    Detached(Arc<dyn Fn(RunningAttempt) + Send + Sync>),
}

/// How an attempt ended.
pub type TaskResult = Result<(), TaskError>;

/// A task's function.
pub type TaskFunction = dyn Fn(&mut TaskContext, &TaskHandle) -> TaskResult + Send + Sync;

/// Takes the result of an attempt. Called once, on whatever thread the attempt ended.
pub(crate) type Report = Box<dyn FnOnce(TaskContext, TaskResult, &mut Results) + Send>;

/// What an async task gives back: its context, and how it ended.
pub type AsyncBody = Pin<Box<dyn Future<Output = (TaskContext, TaskResult)> + Send>>;

/// An attempt in the hands of a [`TaskBody::Detached`] executor. Dropped unfinished, it fails.
pub struct RunningAttempt {
    /// Which attempt it is.
    pub info: AttemptInfo,
    /// Its context; give it back with [`RunningAttempt::finish`].
    pub context: TaskContext,
    pub(crate) report: Option<Report>,
    pub(crate) handle: TaskHandle,
}

impl RunningAttempt {
    /// Says how to stop it, should it time out or its execution be cancelled; if that has happened already, at once.
    pub fn on_cancel(&self, cancel: impl FnOnce() + Send + 'static) {
        self.handle.life().on_over(cancel);
    }

    /// What it can ask about itself and its slot.
    #[must_use]
    pub fn handle(&self) -> &TaskHandle {
        &self.handle
    }

    /// Ends the attempt, with the context that holds its writes and reads.
    pub fn finish(self, context: TaskContext, result: TaskResult) {
        self.finish_into(context, result, &mut Results::default());
    }

    /// As [`RunningAttempt::finish`], but the engine does not hear of it before the results are sent or dropped.
    pub fn finish_into(mut self, context: TaskContext, result: TaskResult, results: &mut Results) {
        if let Some(report) = self.report.take() {
            report(context, result, results);
        }
    }
}

/// Results of attempts, on their way to the engine together: what follows from them can then share a flush. For executors
/// that run short attempts one after the other. Dropped, they are sent.
#[derive(Default)]
pub struct Results(Option<(Sender<Message>, Vec<Finished>)>);

impl Results {
    /// Sends them.
    pub fn send(&mut self) {
        if let Some((scheduler, finished)) = self.0.take() {
            // If the scheduler is gone, the attempts are left to recovery.
            let _ = scheduler.send(Message::Finished(finished));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, finished)| finished.len())
    }

    /// Whether there are none.
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
        self.definition.timeout = Timeout::After(Millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// Lets an attempt run without a limit, whatever the execution's options say.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.definition.timeout = Timeout::Off;
        self
    }

    /// Says who is told how its attempts end.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// A version of its code; change it when what the task does changes. (Rust cannot tell by itself.)
    #[must_use]
    pub fn code_version(mut self, version: &str) -> Self {
        self.definition.code = crate::core::codec::sha256(version.as_bytes());
        self
    }
}

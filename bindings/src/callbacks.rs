//! The way of an attempt's end to the callbacks of its task.
//!
//! The engine tells of it on the log's writer thread, when it is durable. What it tells waits here, per execution and
//! task, so that one task's callbacks run one after the other and in order; who waits for the execution waits for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloacina_engine::core::event::{ExecutionId, Key, TaskError, TaskId};
use cloacina_engine::core::json::Json;
use cloacina_engine::runtime::task::{AttemptEnd, AttemptInfo, Notice};
use pyo3::prelude::*;

use crate::context::Context;

/// What a task wants to have called.
#[derive(Default)]
pub struct Callbacks {
    /// When it succeeded.
    pub on_success: Option<Py<PyAny>>,
    /// When it failed for good.
    pub on_failure: Option<Py<PyAny>>,
    /// When an attempt failed and another one will follow.
    pub on_retry: Option<Py<PyAny>>,
}

impl Callbacks {
    /// Whether there is one at all.
    pub fn any(&self) -> bool {
        self.on_success.is_some() || self.on_failure.is_some() || self.on_retry.is_some()
    }

    fn of(&self, end: &AttemptEnd) -> Option<&Py<PyAny>> {
        match end {
            AttemptEnd::Completed => self.on_success.as_ref(),
            AttemptEnd::Retrying(_) => self.on_retry.as_ref(),
            AttemptEnd::Failed(_) => self.on_failure.as_ref(),
        }
    }

    /// Whether this end is to be told.
    pub fn want(&self, end: &AttemptEnd) -> bool {
        self.of(end).is_some()
    }
}

/// What a notice says: which attempt it was, how it ended, and its context.
type Said = (AttemptInfo, AttemptEnd, Vec<(Key, Json)>);

/// What has to be told yet, and who waits until it has been.
#[derive(Clone, Default)]
pub struct Pending(Arc<Shared>);

#[derive(Default)]
struct Shared {
    executions: Mutex<HashMap<ExecutionId, Untold>>,
    told: Condvar,
}

#[derive(Default)]
struct Untold {
    /// Notices that wait, and those whose callbacks run.
    count: usize,
    /// There is a queue as long as somebody works on it, or is about to: one at a time.
    queues: HashMap<TaskId, VecDeque<Notice>>,
    /// The notices whose callbacks run, kept for the engine's sake: it answers nobody while it misses one.
    running: HashMap<TaskId, Notice>,
    waiters: Vec<Box<dyn FnOnce() + Send>>,
}

impl Pending {
    fn executions(&self) -> MutexGuard<'_, HashMap<ExecutionId, Untold>> {
        self.0.executions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a notice. Says whether somebody has to be sent to its task's queue.
    pub fn add(&self, notice: Notice) -> bool {
        let mut executions = self.executions();
        let untold = executions.entry(notice.info.execution).or_default();
        untold.count += 1;
        let mut is_new = false;
        let queue = untold.queues.entry(notice.info.task.clone()).or_insert_with(|| {
            is_new = true;
            VecDeque::new()
        });
        queue.push_back(notice);
        is_new
    }

    /// What the next notice of a task says; the queue is gone with the last.
    fn next(&self, execution: ExecutionId, task: &TaskId) -> Option<Said> {
        let mut executions = self.executions();
        let untold = executions.get_mut(&execution)?;
        if let Some(mut notice) = untold.queues.get_mut(task)?.pop_front() {
            let context = std::mem::take(&mut notice.context);
            let next = (notice.info.clone(), notice.end.clone(), context);
            untold.running.insert(task.clone(), notice);
            return Some(next);
        }
        untold.queues.remove(task);
        if untold.queues.is_empty() && untold.count == 0 {
            executions.remove(&execution);
        }
        None
    }

    fn done(&self, execution: ExecutionId, task: &TaskId) {
        // First the engine's: whom it lets go asks here next.
        let notice = self.executions().get_mut(&execution).and_then(|untold| untold.running.remove(task));
        if notice.is_none() {
            // It was given up.
            return;
        }
        drop(notice);
        let mut executions = self.executions();
        let Some(untold) = executions.get_mut(&execution) else { return };
        untold.count -= 1;
        if untold.count > 0 {
            return;
        }
        let waiters = std::mem::take(&mut untold.waiters);
        drop(executions);
        self.0.told.notify_all();
        waiters.into_iter().for_each(|waiter| waiter());
    }

    /// Calls `waiter` when nothing of the execution is left to be told: now, if nothing is.
    pub fn when_told(&self, execution: ExecutionId, waiter: Box<dyn FnOnce() + Send>) {
        let mut executions = self.executions();
        if let Some(untold) = executions.get_mut(&execution).filter(|untold| untold.count > 0) {
            untold.waiters.push(waiter);
        } else {
            drop(executions);
            waiter();
        }
    }

    /// Waits until all is told, at most so long; then gives the rest up.
    pub fn finish(&self, time: Duration) {
        let executions = self.executions();
        let waited = self
            .0
            .told
            .wait_timeout_while(executions, time, |executions| executions.values().any(|untold| untold.count > 0));
        let mut executions = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(executions, _)| executions);
        let rest = std::mem::take(&mut *executions);
        drop(executions);
        for untold in rest.into_values() {
            drop((untold.queues, untold.running));
            untold.waiters.into_iter().for_each(|waiter| waiter());
        }
    }
}

/// The ends of a task's attempts that have to be told, in order.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Endings {
    pub(crate) callbacks: Arc<Callbacks>,
    pub(crate) execution: ExecutionId,
    pub(crate) task: TaskId,
    pub(crate) pending: Pending,
}

#[pymethods]
impl Endings {
    /// The next one; None if there is none left.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Ending>> {
        let Some((info, end, values)) = self.pending.next(self.execution, &self.task) else { return Ok(None) };
        let told = Told { pending: self.pending.clone(), execution: info.execution, task: info.task.clone() };
        let context = Py::new(py, Context::from_values(values))?;
        Ok(Some(Ending { callbacks: self.callbacks.clone(), info, end, context, told: Mutex::new(Some(told)) }))
    }
}

/// Lets those who wait go on when it is dropped.
struct Told {
    pending: Pending,
    execution: ExecutionId,
    task: TaskId,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.pending.done(self.execution, &self.task);
    }
}

/// How one attempt ended, for the callback that is told.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Ending {
    callbacks: Arc<Callbacks>,
    info: AttemptInfo,
    end: AttemptEnd,
    context: Py<Context>,
    told: Mutex<Option<Told>>,
}

/// An error as `cloaca._failure.describe` describes it.
type Described = (String, String, Option<String>, Vec<String>, bool, Option<String>);

#[pymethods]
impl Ending {
    /// What is to be called.
    #[getter]
    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callbacks.of(&self.end).map(|callback| callback.clone_ref(py))
    }

    /// Which of its task's callbacks that is: "on_success", "on_failure" or "on_retry".
    #[getter]
    fn name(&self) -> &'static str {
        match self.end {
            AttemptEnd::Completed => "on_success",
            AttemptEnd::Retrying(_) => "on_retry",
            AttemptEnd::Failed(_) => "on_failure",
        }
    }

    /// The execution's id.
    #[getter]
    fn execution_id(&self) -> String {
        self.info.execution.to_string()
    }

    /// The task's id.
    #[getter]
    fn task_id(&self) -> &str {
        &self.info.task
    }

    /// The number of the attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.info.attempt
    }

    /// What the task's dependents see; of a failed attempt, what it saw itself.
    #[getter]
    fn context(&self, py: Python<'_>) -> Py<Context> {
        self.context.clone_ref(py)
    }

    /// The error, as the log has it; None if the attempt succeeded.
    #[getter]
    fn error(&self) -> Option<Described> {
        match &self.end {
            AttemptEnd::Completed => None,
            AttemptEnd::Retrying(error) | AttemptEnd::Failed(error) => Some(described(error)),
        }
    }

    /// Says that the callback has returned: those who wait for the execution need not wait for it any more.
    fn done(&self) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(told);
    }

    fn __repr__(&self) -> String {
        format!(
            "Ending(name='{}', task_id='{}', attempt={}, execution_id='{}')",
            self.name(),
            self.task_id(),
            self.attempt(),
            self.info.execution
        )
    }
}

fn described(error: &TaskError) -> Described {
    (
        error.kind.to_string(),
        error.message.to_string(),
        error.traceback.as_ref().map(ToString::to_string),
        error.lineage.iter().map(ToString::to_string).collect(),
        error.transient,
        error.hint.as_ref().map(ToString::to_string),
    )
}

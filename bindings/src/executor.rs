//! Attempts that Python threads run; see [`crate::inbox`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloacina_engine::core::event::TaskError;
use cloacina_engine::runtime::handle::TaskHandle;
use cloacina_engine::runtime::task::RunningAttempt;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::time::{ClockId, clock_gettime};

use crate::context::Context;
use crate::errors;
use crate::exit::without_gil;
use crate::failure::task_error;
use crate::inbox::{CallOnDrop, InboxMessage, InboxSender, LONG};
use crate::json::type_name;
use crate::task::TaskSpec;

/// One attempt of a task, run by a Python thread.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Attempt {
    spec: Py<TaskSpec>,
    handle: TaskHandle,
    context: Py<Context>,
    running: Mutex<Option<RunningAttempt>>,
    inbox: InboxSender,
    /// When it began.
    began: StartTimes,
    /// The process that runs it. A fork has no threads that would answer requests.
    process: u32,
}

impl Attempt {
    /// The engine's handle of the attempt.
    pub fn handle(&self) -> &TaskHandle {
        &self.handle
    }

    /// Creates an attempt that begins now, on this thread.
    pub fn new(py: Python<'_>, spec: Py<TaskSpec>, mut running: RunningAttempt, inbox: InboxSender) -> PyResult<Self> {
        let context = Py::new(py, Context::wrap(std::mem::take(&mut running.context)))?;
        let (handle, began, process) = (running.handle().clone(), StartTimes::now(), std::process::id());
        Ok(Self { spec, handle, context, running: Mutex::new(Some(running)), inbox, began, process })
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() { Ok(()) } else { Err(errors::over(py, &self.handle.over())) }
    }

    fn finish(&self, result: Result<(), TaskError>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            let spec = self.spec.get();
            if spec.has_thread() {
                spec.expect_short(self.began.was_short());
            }
            self.inbox.finish(running, self.context.get().snapshot(), result);
        }
    }
}

/// When an attempt began, in wall time and in CPU time of its thread.
struct StartTimes {
    at: Instant,
    cpu: Duration,
}

/// An attempt is short if it takes less than this, and waits for less than [`MAX_WAIT`] of it.
const SHORT: Duration = Duration::from_micros(500);
const MAX_WAIT: Duration = Duration::from_micros(100);

impl StartTimes {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: thread_cpu_time() }
    }

    fn was_short(&self) -> bool {
        let took = self.at.elapsed();
        took < SHORT && took.saturating_sub(thread_cpu_time().saturating_sub(self.cpu)) < MAX_WAIT
    }
}

/// The CPU time of this thread.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[pymethods]
impl Attempt {
    /// The task's function.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.spec.get().function(py)
    }

    /// Number of its parameters: none, the context, or the context and a handle.
    #[getter]
    fn parameters(&self) -> u8 {
        self.spec.get().parameters()
    }

    /// Whether it runs in a worker process.
    #[getter]
    fn in_process(&self) -> bool {
        self.spec.get().in_process()
    }

    /// Whether it is a coroutine function.
    #[getter]
    fn is_async(&self) -> bool {
        self.spec.get().is_async()
    }

    /// The attempt's context.
    #[getter]
    fn context(&self, py: Python<'_>) -> Py<Context> {
        self.context.clone_ref(py)
    }

    /// The execution's id.
    #[getter]
    fn execution_id(&self) -> String {
        self.handle.info().execution.to_string()
    }

    /// The workflow's name.
    #[getter]
    fn workflow(&self) -> &str {
        &self.handle.info().workflow
    }

    /// The task's id.
    #[getter]
    fn task_id(&self) -> &str {
        &self.handle.info().task
    }

    /// The number of the attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.handle.info().attempt
    }

    /// Whether it holds a slot.
    #[getter]
    fn is_slot_held(&self) -> bool {
        self.handle.is_slot_held()
    }

    /// Whether it is over.
    #[getter]
    fn is_over(&self) -> bool {
        self.handle.is_over()
    }

    /// Releases its slot for another attempt.
    fn release_slot(&self) {
        self.handle.release_slot();
    }

    /// Suspends its timeout until begin_timeout(), because its function has not begun yet.
    fn hold_timeout(&self) {
        self.handle.hold_timeout();
    }

    /// Starts its timeout now.
    fn begin_timeout(&self) {
        self.handle.begin_timeout();
    }

    /// Waits for a slot.
    fn take_slot(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        let taken = without_gil(py, || self.handle.take_slot())?;
        taken.map_err(|over| errors::over(py, &over))
    }

    /// Calls `call` on a reader of the inbox when it gets a slot or is over.
    fn take_slot_then(&self, call: Py<PyAny>) {
        let call = CallOnDrop::new(call, self.inbox.clone());
        self.handle.take_slot_then(Box::new(move |_| drop(call)));
    }

    /// Sleeps for `seconds`, or until it is over.
    fn sleep(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        self.check_process(py)?;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(LONG);
        let slept = without_gil(py, || self.handle.sleep(time))?;
        slept.map_err(|over| errors::over(py, &over))
    }

    /// The error of an attempt that is over.
    fn over(&self, py: Python<'_>) -> Py<PyAny> {
        errors::over(py, &self.handle.over()).into_value(py).into_any()
    }

    /// Calls `cancel` on a reader of the inbox if the attempt times out or its execution is cancelled.
    fn on_cancel(&self, cancel: Py<PyAny>) {
        let inbox = self.inbox.clone();
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.on_cancel(move || inbox.send(InboxMessage::Call(cancel)));
        }
    }

    /// Ends the attempt with what the function returned. Raises a TypeError or ValueError if that is not allowed; then
    /// the caller has to fail the attempt.
    fn complete(&self, returned: &Bound<'_, PyAny>) -> PyResult<()> {
        apply_returned(self.context.bind(returned.py()), returned, &self.handle.info().task)?;
        self.finish(Ok(()));
        Ok(())
    }

    /// Applies the changes that were made to the context's copy in another process.
    fn apply(&self, changes: &Bound<'_, PyAny>) -> PyResult<()> {
        self.context.get().apply_changes(changes.extract()?);
        Ok(())
    }

    /// Ends the attempt with an error, as `cloaca._failure.describe` describes it.
    fn fail(&self, described: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(Err(task_error(described)?));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.spec)?;
        visit.call(&self.context)
    }

    fn __repr__(&self) -> String {
        let info = self.handle.info();
        format!("Attempt(task_id='{}', attempt={}, execution_id='{}')", info.task, info.attempt, info.execution)
    }
}

/// Applies a task's return value to its context. Raises a TypeError or ValueError if that type is not allowed.
pub fn apply_returned(context: &Bound<'_, Context>, returned: &Bound<'_, PyAny>, task: &str) -> PyResult<()> {
    if let Ok(other) = returned.cast::<Context>() {
        if !other.is(context) {
            context.get().assign_from(other.get());
        }
    } else if let Ok(values) = returned.cast::<PyDict>() {
        context.get().set_all(values)?;
    } else if !returned.is_none() {
        let kind = type_name(returned);
        let message = match kind.as_str() {
            "coroutine" => format!(
                "task '{task}' returned a coroutine that was never awaited: a decorator that is not async wraps an \
                 async function. Make the decorator's wrapper `async def`, with `return await function(...)`"
            ),
            _ => format!(
                "task '{task}' returned a value of type {kind}; a task returns the context, None, another Context, or a \
                 dict of the keys to set"
            ),
        };
        return Err(crate::errors::error(returned.py(), "ReturnedTypeError", &message, &[]));
    }
    Ok(())
}

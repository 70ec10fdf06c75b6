//! Triggers of the Python API: a definition for the log, and a Python function to poll.

use std::sync::{Arc, Mutex, PoisonError};

use cloacina_engine::core::time::Millis;
use cloacina_engine::core::trigger::Pace;
use cloacina_engine::runtime::trigger::{Poll as Polled, PollResult, RunningPoll, Trigger, TriggerBody};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::context::Context;
use crate::failure::task_error;

/// A decorated trigger. Only this object holds the function, as with [`TaskSpec`](crate::task::TaskSpec).
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct TriggerSpec {
    name: String,
    workflow: String,
    pace: Pace,
    allow_concurrent: bool,
    function: Py<PyAny>,
    is_async: bool,
}

impl TriggerSpec {
    /// The trigger with a body.
    pub fn with_body(&self, body: TriggerBody) -> PyResult<Trigger> {
        let name = self.name.as_str();
        let trigger = Trigger::new(name, self.workflow.as_str(), self.pace.clone(), body)
            .map_err(|invalid| PyValueError::new_err(invalid.to_string()))?;
        Ok(if self.allow_concurrent { trigger.allow_concurrent() } else { trigger })
    }
}

#[pymethods]
impl TriggerSpec {
    #[new]
    #[pyo3(signature = (name, workflow, function, *, interval_ms, cron, allow_concurrent, is_async))]
    fn new(
        name: String,
        workflow: String,
        function: Py<PyAny>,
        interval_ms: u64,
        cron: Option<(String, String)>,
        allow_concurrent: bool,
        is_async: bool,
    ) -> PyResult<Self> {
        let pace = match cron {
            Some((expression, timezone)) => Pace::Cron { expression: expression.into(), timezone: timezone.into() },
            None => Pace::Interval(Millis(interval_ms)),
        };
        let spec = Self { name, workflow, pace, allow_concurrent, function, is_async };
        // Checks the definition now, so that errors are raised at the decorator.
        spec.with_body(TriggerBody::Detached(Arc::new(drop)))?;
        Ok(spec)
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The name of the workflow that it starts.
    #[getter]
    fn workflow(&self) -> &str {
        &self.workflow
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }

    fn __repr__(&self) -> String {
        format!("TriggerSpec('{}')", self.name)
    }
}

/// One poll of a trigger, run by a Python thread.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Poll {
    trigger: Py<TriggerSpec>,
    running: Mutex<Option<RunningPoll>>,
}

impl Poll {
    /// Creates a poll that the engine requested.
    pub fn new(trigger: Py<TriggerSpec>, running: RunningPoll) -> Self {
        Self { trigger, running: Mutex::new(Some(running)) }
    }

    fn finish(&self, result: PollResult) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.finish(result);
        }
    }
}

#[pymethods]
impl Poll {
    /// The trigger's name.
    #[getter]
    fn name(&self) -> &str {
        &self.trigger.get().name
    }

    /// The trigger's function.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.trigger.get().function.clone_ref(py)
    }

    /// Whether it is a coroutine function.
    #[getter]
    fn is_async(&self) -> bool {
        self.trigger.get().is_async
    }

    /// Whether it is polled by a cron expression.
    #[getter]
    fn by_cron(&self) -> bool {
        matches!(self.trigger.get().pace, Pace::Cron { .. })
    }

    /// Ends the poll without starting an execution.
    fn skip(&self) {
        self.finish(Ok(Polled::Skip));
    }

    /// Ends the poll, and starts the workflow with this context.
    fn fire(&self, py: Python<'_>, context: &Context) -> PyResult<()> {
        self.finish(Ok(Polled::Fire(context.input(py)?)));
        Ok(())
    }

    /// Ends the poll with an error, as `cloaca._failure.describe` describes it.
    fn fail(&self, described: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(Err(task_error(described)?));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.trigger)
    }

    fn __repr__(&self) -> String {
        format!("Poll('{}')", self.trigger.get().name)
    }
}

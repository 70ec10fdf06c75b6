//! Tasks of the Python API: a definition for the log, and a Python function.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloacina_engine::core::definition::{TaskDefinition, Timeout, TriggerRule};
use cloacina_engine::core::event::TaskId;
use cloacina_engine::core::time::Millis;
use cloacina_engine::runtime::task::{AttemptEnd, Task, TaskBody};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::condition::{parse_condition, rename};
use crate::retry::PyRetryPolicy;

/// The callbacks of a task, called at the end of its attempts.
#[derive(Default)]
pub struct Callbacks {
    /// An attempt succeeded.
    pub on_success: Option<Py<PyAny>>,
    /// An attempt failed, and so did the task.
    pub on_failure: Option<Py<PyAny>>,
    /// An attempt failed and will be retried.
    pub on_retry: Option<Py<PyAny>>,
}

impl Callbacks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.on_success.is_none() && self.on_failure.is_none() && self.on_retry.is_none()
    }

    /// Clones the references.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let same = |callback: &Option<Py<PyAny>>| callback.as_ref().map(|callback| callback.clone_ref(py));
        Self { on_success: same(&self.on_success), on_failure: same(&self.on_failure), on_retry: same(&self.on_retry) }
    }

    /// Visits them for Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.on_success, &self.on_failure, &self.on_retry].into_iter().try_for_each(|callback| visit.call(callback))
    }

    /// The callback for this end.
    pub fn of(&self, end: &AttemptEnd) -> Option<&Py<PyAny>> {
        match end {
            AttemptEnd::Completed => self.on_success.as_ref(),
            AttemptEnd::Failed(_) => self.on_failure.as_ref(),
            AttemptEnd::Retrying(_) => self.on_retry.as_ref(),
        }
    }
}

/// A decorated task. Only this object holds the function and the callbacks; others hold it, so that Python's garbage
/// collector sees every reference.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct TaskSpec {
    definition: TaskDefinition,
    function: Py<PyAny>,
    parameters: u8,
    is_async: bool,
    in_process: bool,
    callbacks: Callbacks,
    /// Whether its last attempt was short and did not release the GIL for long.
    is_short: AtomicBool,
}

/// A task shared with the engine, whose threads cannot count Python references without the GIL.
pub type SharedSpec = Arc<Py<TaskSpec>>;

#[pymethods]
impl TaskSpec {
    #[new]
    #[pyo3(signature = (id, function, *, dependencies, rule, retry, timeout_ms, code, source, parameters, is_async, in_process=false,
        timeout_off=false, on_success=None, on_failure=None, on_retry=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        id: String,
        function: Py<PyAny>,
        dependencies: Vec<String>,
        rule: &Bound<'_, PyAny>,
        retry: &PyRetryPolicy,
        timeout_ms: Option<u64>,
        code: [u8; 32],
        source: String,
        parameters: u8,
        is_async: bool,
        in_process: bool,
        timeout_off: bool,
        on_success: Option<Py<PyAny>>,
        on_failure: Option<Py<PyAny>>,
        on_retry: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let definition = TaskDefinition {
            id: id.into(),
            dependencies: dependencies.into_iter().map(Into::into).collect(),
            rule: parse_rule(rule)?,
            retry: retry.inner.clone(),
            timeout: match timeout_ms {
                Some(limit) => Timeout::After(Millis(limit)),
                None if timeout_off => Timeout::Off,
                None => Timeout::Inherited,
            },
            code,
            source: source.into(),
        };
        let callbacks = Callbacks { on_success, on_failure, on_retry };
        let is_short = AtomicBool::new(false);
        Ok(Self { definition, function, parameters, is_async, in_process, callbacks, is_short })
    }

    /// Its name.
    #[getter]
    fn id(&self) -> &str {
        &self.definition.id
    }

    /// The function.
    #[getter]
    pub fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    /// Whether its attempts run in worker processes.
    #[getter]
    pub fn in_process(&self) -> bool {
        self.in_process
    }

    /// Number of its parameters: none, the context, or the context and a handle.
    #[getter]
    pub fn parameters(&self) -> u8 {
        self.parameters
    }

    /// Whether it is a coroutine function.
    #[getter]
    pub fn is_async(&self) -> bool {
        self.is_async
    }

    /// Its dependencies. Their order decides merges at joins.
    #[getter]
    fn dependencies(&self) -> Vec<String> {
        self.definition.dependencies.iter().map(ToString::to_string).collect()
    }

    /// The ids of the tasks in its dependencies and its rule.
    fn named(&self) -> Vec<String> {
        let mut named = self.dependencies();
        if let TriggerRule::When(condition) = &self.definition.rule {
            // Only collects the names: the renamed copy is dropped.
            let seen = RefCell::new(&mut named);
            rename(&mut condition.clone(), &|task| {
                seen.borrow_mut().push(task.to_string());
                task.clone()
            });
        }
        named
    }

    /// Returns the task with the ids in its dependencies and its rule renamed.
    fn renamed(&self, py: Python<'_>, names: HashMap<String, String>) -> Self {
        let name = |task: &TaskId| names.get(&**task).map_or_else(|| task.clone(), |name| name.as_str().into());
        let mut definition = self.definition.clone();
        definition.dependencies = definition.dependencies.iter().map(name).collect();
        if let TriggerRule::When(condition) = &mut definition.rule {
            rename(condition, &name);
        }
        Self {
            definition,
            function: self.function.clone_ref(py),
            parameters: self.parameters,
            is_async: self.is_async,
            in_process: self.in_process,
            callbacks: self.callbacks.clone_ref(py),
            is_short: AtomicBool::new(false),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        self.callbacks.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        format!("TaskSpec('{}')", self.definition.id)
    }
}

/// Parses a rule: a name or a condition tree.
fn parse_rule(rule: &Bound<'_, PyAny>) -> PyResult<TriggerRule> {
    let Ok(name) = rule.cast::<PyString>() else {
        return Ok(TriggerRule::When(parse_condition(rule)?));
    };
    let name = name.to_str()?;
    TriggerRule::named(name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "unknown trigger rule '{name}'; the rules are none_failed, all_success, all_done, all_failed, one_success, \
             one_failed, always (and trigger_rules takes a condition tree)"
        ))
    })
}

impl TaskSpec {
    /// The task with a body that does nothing, for checking its definition.
    pub fn unbound(&self) -> Task {
        self.with_body(TaskBody::Detached(Arc::new(|_| {})))
    }

    /// The task with a body.
    pub fn with_body(&self, body: TaskBody) -> Task {
        Task { definition: self.definition.clone(), body, observer: None }
    }

    /// Whether its attempts run on the thread that takes them from the inbox.
    pub fn has_thread(&self) -> bool {
        !self.is_async && !self.in_process
    }

    /// Whether a thread that takes an attempt will be back soon.
    pub fn is_short(&self) -> bool {
        // A coroutine is only handed to the event loop.
        self.is_async || self.is_short.load(Ordering::Relaxed)
    }

    /// Sets whether the next attempt is expected to be short.
    pub fn expect_short(&self, is_short: bool) {
        self.is_short.store(is_short && self.has_thread(), Ordering::Relaxed);
    }

    /// Its callbacks.
    pub fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }
}

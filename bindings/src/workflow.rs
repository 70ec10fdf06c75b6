//! A checked workflow and its graph.

use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::runtime::workflow::Workflow;
use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors;
use crate::inbox::InboxSender;
use crate::task::TaskSpec;

/// A workflow whose definition was checked.
#[pyclass(frozen, module = "cloaca._cloaca", name = "NativeWorkflow")]
pub struct NativeWorkflow {
    specs: Vec<Py<TaskSpec>>,
    checked: Workflow,
}

impl NativeWorkflow {
    /// Returns the workflow with bodies that queue attempts in an inbox.
    pub fn bound(&self, py: Python<'_>, inbox: &InboxSender) -> PyResult<Workflow> {
        let tasks = self.specs.iter().map(|spec| inbox.task(spec.clone_ref(py)));
        Workflow::new(self.checked.name().clone(), tasks).map_err(|invalid| errors::invalid(py, &invalid))
    }

    fn names(&self, tasks: &[TaskIndex]) -> Vec<String> {
        tasks.iter().map(|task| self.checked.graph().name(*task).to_string()).collect()
    }

    fn find(&self, task: &str) -> PyResult<TaskIndex> {
        let missing =
            || PyKeyError::new_err(format!("there is no task '{task}' in workflow '{}'", self.checked.name()));
        self.checked.graph().find(task).ok_or_else(missing)
    }
}

#[pymethods]
impl NativeWorkflow {
    #[new]
    fn new(py: Python<'_>, name: String, specs: Vec<Py<TaskSpec>>) -> PyResult<Self> {
        let tasks = specs.iter().map(|spec| spec.get().unbound());
        let checked = Workflow::new(name, tasks).map_err(|invalid| errors::invalid(py, &invalid))?;
        Ok(Self { specs, checked })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.specs.iter().try_for_each(|spec| visit.call(spec))
    }

    #[getter]
    fn name(&self) -> &str {
        self.checked.name()
    }

    #[getter]
    fn version(&self) -> String {
        self.checked.fingerprint().version()
    }

    #[getter]
    fn specs(&self, py: Python<'_>) -> Vec<Py<TaskSpec>> {
        self.specs.iter().map(|spec| spec.clone_ref(py)).collect()
    }

    fn topological_sort(&self) -> Vec<String> {
        self.names(self.checked.graph().topological_order())
    }

    fn levels(&self) -> Vec<Vec<String>> {
        self.checked.graph().levels().iter().map(|level| self.names(level)).collect()
    }

    fn roots(&self) -> Vec<String> {
        self.names(&self.checked.graph().roots())
    }

    fn leaves(&self) -> Vec<String> {
        self.names(self.checked.graph().leaves())
    }

    fn independent(&self, one: &str, other: &str) -> PyResult<bool> {
        Ok(self.checked.graph().independent(self.find(one)?, self.find(other)?))
    }

    /// The upstream tasks of each task: (task, [tasks]).
    fn edges(&self) -> Vec<(String, Vec<String>)> {
        let graph = self.checked.graph();
        graph.tasks().map(|task| (graph.name(task).to_string(), self.names(graph.upstream(task)))).collect()
    }
}

/// Returns the name most similar to `wanted`, if one is similar enough.
#[pyfunction]
pub fn nearest(wanted: &str, names: Vec<String>) -> Option<String> {
    cloacina_engine::core::graph::nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

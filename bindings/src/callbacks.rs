//! Callbacks of tasks, called at the end of attempts: one at a time for each execution, in the order of the log.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::runtime::task::{AttemptEnd, Notice};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::context::Context;
use crate::outcome::says;
use crate::task::SharedSpec;

/// The notices that are not delivered yet, by execution.
#[derive(Clone, Default)]
pub struct Untold(Arc<Mutex<HashMap<ExecutionId, VecDeque<Telling>>>>);

/// A notice and the task with the callbacks. Waiters for the execution are answered after it is dropped.
struct Telling {
    task: SharedSpec,
    notice: Notice,
}

impl Untold {
    fn queues(&self) -> MutexGuard<'_, HashMap<ExecutionId, VecDeque<Telling>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a notice if the task has a callback for it. Returns whether the execution now needs a reader.
    pub fn keep(&self, task: SharedSpec, notice: Notice) -> bool {
        if task.get().callbacks().of(&notice.end).is_none() {
            return false;
        }
        let execution = notice.info.execution;
        let telling = Telling { task, notice };
        match self.queues().entry(execution) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(telling);
                false
            }
            Entry::Vacant(none) => {
                none.insert(VecDeque::from([telling]));
                true
            }
        }
    }

    fn next(&self, execution: ExecutionId) -> Option<Telling> {
        let mut queues = self.queues();
        let next = queues.get_mut(&execution).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(&execution);
        }
        next
    }
}

/// The notices of one execution, for the thread that calls its callbacks.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Notices {
    untold: Untold,
    execution: ExecutionId,
}

impl Notices {
    /// The notices of an execution.
    pub fn new(untold: Untold, execution: ExecutionId) -> Self {
        Self { untold, execution }
    }
}

#[pymethods]
impl Notices {
    /// The next call; None when no notice is left for now.
    fn take(&self) -> Option<Call> {
        self.untold.next(self.execution).map(|telling| Call(Mutex::new(Some(telling))))
    }
}

/// One call of a callback.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Call(Mutex<Option<Telling>>);

#[pymethods]
impl Call {
    /// Calls the callback, and raises what it raises.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let Some((function, arguments)) = self.call(py)? else { return Ok(()) };
        function.call1(py, arguments).map(|_| ())
    }

    /// Marks the call as done, so that it no longer delays waiters for the execution.
    fn done(&self, py: Python<'_>) {
        let telling = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(telling));
    }
}

impl Call {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Option<(Py<PyAny>, Bound<'py, PyTuple>)>> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Telling { task: spec, notice }) = &*told else { return Ok(None) };
        let Some(function) = spec.get().callbacks().of(&notice.end) else { return Ok(None) };
        let task = notice.info.task.to_string();
        let context = Bound::new(py, Context::from_values(notice.context.iter().cloned()))?;
        let arguments = match &notice.end {
            AttemptEnd::Completed => (task, context).into_pyobject(py)?,
            AttemptEnd::Failed(error) => (task, says(error), context).into_pyobject(py)?,
            AttemptEnd::Retrying(error) => (task, says(error), context, notice.info.attempt).into_pyobject(py)?,
        };
        Ok(Some((function.clone_ref(py), arguments)))
    }
}

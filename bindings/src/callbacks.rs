//! Callbacks of tasks, called at the end of attempts: one at a time for each execution, in the order of the log.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::runtime::task::{AttemptEnd, Notice};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::context::Context;
use crate::outcome::error_line;
use crate::task::SharedSpec;

/// The notices that are not delivered yet, by execution.
#[derive(Clone, Default)]
pub struct PendingNotices(Arc<Mutex<HashMap<ExecutionId, VecDeque<PendingNotice>>>>);

/// A notice and the task with the callbacks. Waiters for the execution are answered after it is dropped.
struct PendingNotice {
    task: SharedSpec,
    notice: Notice,
}

impl PendingNotices {
    fn queues(&self) -> MutexGuard<'_, HashMap<ExecutionId, VecDeque<PendingNotice>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a notice if the task has a callback for it. Returns whether the execution now needs a reader.
    pub fn push(&self, task: SharedSpec, notice: Notice) -> bool {
        if task.get().callbacks().of(&notice.end).is_none() {
            return false;
        }
        let execution = notice.info.execution;
        let pending = PendingNotice { task, notice };
        match self.queues().entry(execution) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(pending);
                false
            }
            Entry::Vacant(none) => {
                none.insert(VecDeque::from([pending]));
                true
            }
        }
    }

    fn next(&self, execution: ExecutionId) -> Option<PendingNotice> {
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
    pending_notices: PendingNotices,
    execution: ExecutionId,
}

impl Notices {
    /// The notices of an execution.
    pub fn new(pending_notices: PendingNotices, execution: ExecutionId) -> Self {
        Self { pending_notices, execution }
    }
}

#[pymethods]
impl Notices {
    /// The next call; None when no notice is left for now.
    fn take(&self) -> Option<Call> {
        self.pending_notices.next(self.execution).map(|pending| Call(Mutex::new(Some(pending))))
    }
}

/// One call of a callback.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Call(Mutex<Option<PendingNotice>>);

#[pymethods]
impl Call {
    /// Calls the callback, and raises what it raises.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let Some((function, arguments)) = self.call(py)? else { return Ok(()) };
        function.call1(py, arguments).map(|_| ())
    }

    /// Marks the call as done, so that it no longer delays waiters for the execution.
    fn done(&self, py: Python<'_>) {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(pending));
    }
}

impl Call {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Option<(Py<PyAny>, Bound<'py, PyTuple>)>> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(PendingNotice { task: spec, notice }) = &*pending else { return Ok(None) };
        let Some(function) = spec.get().callbacks().of(&notice.end) else { return Ok(None) };
        let task = notice.info.task.to_string();
        let context = Bound::new(py, Context::from_values(notice.context.iter().cloned()))?;
        let arguments = match &notice.end {
            AttemptEnd::Completed => (task, context).into_pyobject(py)?,
            AttemptEnd::Failed(error) => (task, error_line(error), context).into_pyobject(py)?,
            AttemptEnd::Retrying(error) => (task, error_line(error), context, notice.info.attempt).into_pyobject(py)?,
        };
        Ok(Some((function.clone_ref(py), arguments)))
    }
}

//! Outcomes of executions as plain Python values.

use cloacina_engine::core::event::TaskError;
use cloacina_engine::core::standing::{ExecutionStatus, Standing, UnknownStatus};
use cloacina_engine::runtime::engine::{Listed, Outcome, TaskOutcome};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::context::Context;

/// Parses a status name, ignoring case.
pub fn status_named(name: &str) -> PyResult<ExecutionStatus> {
    name.parse().map_err(|unknown: UnknownStatus| PyValueError::new_err(unknown.to_string()))
}

/// Converts a standing to a dict; `RawStanding` in the stubs.
pub fn standing<'py>(py: Python<'py>, standing: &Standing) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    put_standing(&dict, standing)?;
    Ok(dict)
}

fn put_standing(dict: &Bound<'_, PyDict>, standing: &Standing) -> PyResult<()> {
    let py = dict.py();
    dict.set_item(intern!(py, "status"), standing.status.name())?;
    dict.set_item(intern!(py, "reason"), standing.reason.as_deref())?;
    dict.set_item(intern!(py, "until"), standing.until.map(|time| time.0))?;
    dict.set_item(intern!(py, "next_step"), standing.next.as_deref())
}

/// Converts an outcome to a dict; `RawOutcome` in the stubs.
pub fn outcome<'py>(py: Python<'py>, outcome: &Outcome) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "execution_id"), outcome.execution.to_string())?;
    dict.set_item(intern!(py, "workflow_name"), &*outcome.workflow)?;
    dict.set_item(intern!(py, "status"), outcome.status.name())?;
    dict.set_item(intern!(py, "started"), outcome.started.0)?;
    dict.set_item(intern!(py, "ended"), outcome.ended.map(|time| time.0))?;
    let context = outcome.context.iter().map(|(key, value)| (key.clone(), value.clone()));
    dict.set_item(intern!(py, "context"), Bound::new(py, Context::from_values(context))?)?;
    dict.set_item(intern!(py, "error"), outcome.error.as_deref())?;
    dict.set_item(intern!(py, "failed"), outcome.failed.as_ref().map(|(task, attempt)| (task.to_string(), *attempt)))?;
    let tasks = outcome.tasks.iter().map(|task| self::task(py, task)).collect::<PyResult<Vec<_>>>()?;
    dict.set_item(intern!(py, "tasks"), PyList::new(py, tasks)?)?;
    Ok(dict)
}

fn task<'py>(py: Python<'py>, task: &TaskOutcome) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "task_id"), &*task.task)?;
    dict.set_item(intern!(py, "state"), task.state)?;
    dict.set_item(intern!(py, "attempts"), task.attempts)?;
    dict.set_item(intern!(py, "error"), task.error.as_ref().map(error_line))?;
    dict.set_item(intern!(py, "error_type"), task.error.as_ref().map(|error| error.kind.to_string()))?;
    dict.set_item(intern!(py, "traceback"), task.error.as_ref().and_then(|error| error.traceback.as_deref()))?;
    dict.set_item(intern!(py, "skipped"), task.skipped.as_deref())?;
    dict.set_item(intern!(py, "started"), task.started.map(|time| time.0))?;
    dict.set_item(intern!(py, "ended"), task.ended.map(|time| time.0))?;
    Ok(dict)
}

/// Formats an error as one line: type, message and hint.
pub fn error_line(error: &TaskError) -> String {
    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    if error.message.is_empty() {
        format!("{}{hint}", error.kind)
    } else {
        format!("{}: {}{hint}", error.kind, error.message)
    }
}

/// Converts an execution in a listing to a dict; `RawListed` in the stubs.
pub fn listed<'py>(py: Python<'py>, listed: &Listed) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "execution_id"), listed.execution.to_string())?;
    dict.set_item(intern!(py, "workflow_name"), &*listed.workflow)?;
    put_standing(&dict, &listed.standing)?;
    dict.set_item(intern!(py, "started"), listed.started.0)?;
    dict.set_item(intern!(py, "ended"), listed.ended.map(|time| time.0))?;
    dict.set_item(intern!(py, "events"), listed.events)?;
    Ok(dict)
}

/// Formats a span of microseconds as `replay` does.
#[pyfunction]
pub fn span(micros: u64) -> String {
    cloacina_replay::words::span(micros)
}

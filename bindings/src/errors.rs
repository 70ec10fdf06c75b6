//! The engine's errors as Python's. The classes are Python's own (`cloaca.errors`): typed, documented, picklable.

use std::path::Path;

use cloacina_engine::core::graph::InvalidDefinition;
use cloacina_engine::core::task_context::UndeclaredRead;
use cloacina_engine::runtime::engine::{EngineError, StartError, WaitError};
use cloacina_engine::runtime::schedules::ScheduleError;
use cloacina_engine::runtime::triggers::TriggerError;
use cloacina_store::log::OpenError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The error of a class of `cloaca.errors`, with these attributes.
pub fn error<'py>(py: Python<'py>, class: &str, message: &str, attributes: &[(&str, Bound<'py, PyAny>)]) -> PyErr {
    let made = || -> PyResult<PyErr> {
        let keywords = PyDict::new(py);
        for (name, value) in attributes {
            keywords.set_item(name, value)?;
        }
        let class = py.import("cloaca.errors")?.getattr(class)?;
        Ok(PyErr::from_value(class.call((message,), Some(&keywords))?))
    };
    made().unwrap_or_else(|other| other)
}

fn text<'py>(py: Python<'py>, value: impl ToString) -> Bound<'py, PyAny> {
    pyo3::types::PyString::new(py, &value.to_string()).into_any()
}

fn path<'py>(py: Python<'py>, path: &Path) -> Bound<'py, PyAny> {
    text(py, path.display())
}

/// A read of a key that no ancestor wrote, in a strict context.
pub fn undeclared(py: Python<'_>, read: &UndeclaredRead) -> PyErr {
    error(py, "UndeclaredReadError", &read.to_string(), &[("key", text(py, &read.key))])
}

/// A definition that is not one.
pub fn invalid(py: Python<'_>, invalid: &InvalidDefinition) -> PyErr {
    error(py, "WorkflowValidationError", &invalid.to_string(), &[])
}

/// An execution that could not be started.
pub fn start(py: Python<'_>, why: &StartError) -> PyErr {
    let message = why.to_string();
    match why {
        StartError::UnknownWorkflow { name, .. } => {
            error(py, "WorkflowNotFoundError", &message, &[("workflow", text(py, name))])
        }
        StartError::Blocked { execution, .. } => error(py, "Error", &message, &[("execution_id", text(py, execution))]),
        StartError::ValueTooLarge { key, .. } => error(py, "ContextError", &message, &[("key", text(py, key))]),
        StartError::Log(_) => error(py, "LogError", &message, &[]),
        _ => error(py, "Error", &message, &[]),
    }
}

/// A wait without an outcome. That its time ran out is not an error here: see the caller.
pub fn wait(py: Python<'_>, why: &WaitError) -> PyErr {
    let message = why.to_string();
    match why {
        WaitError::TimedOut { execution, .. } => {
            error(py, "WaitTimeoutError", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::NotFound(execution) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::Blocked { execution, .. } | WaitError::ShutDown(execution) => {
            error(py, "Error", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::Log(_) => error(py, "LogError", &message, &[]),
        _ => error(py, "Error", &message, &[]),
    }
}

/// A request that failed.
pub fn engine(py: Python<'_>, why: &EngineError) -> PyErr {
    let message = why.to_string();
    match why {
        EngineError::NotFound(execution) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, execution))])
        }
        EngineError::Rejected { execution, .. } => {
            error(py, "Error", &message, &[("execution_id", text(py, execution))])
        }
        EngineError::Log(_) => error(py, "LogError", &message, &[]),
        _ => error(py, "Error", &message, &[]),
    }
}

/// Something asked of a schedule that failed: what was being done, and why.
pub fn schedule(py: Python<'_>, doing: &str, why: &ScheduleError) -> PyErr {
    let message = format!("{doing}: {why}");
    match why {
        ScheduleError::Log(_) => error(py, "LogError", &message, &[]),
        ScheduleError::ShutDown => error(py, "Error", &message, &[]),
        ScheduleError::ValueTooLarge { key, .. } => error(py, "ContextError", &message, &[("key", text(py, key))]),
        _ => PyValueError::new_err(message),
    }
}

/// Something asked of a trigger that failed: what was being done, and why.
pub fn trigger(py: Python<'_>, doing: &str, why: &TriggerError) -> PyErr {
    let message = format!("{doing}: {why}");
    match why {
        TriggerError::Log(_) => error(py, "LogError", &message, &[]),
        TriggerError::ShutDown => error(py, "Error", &message, &[]),
        _ => PyValueError::new_err(message),
    }
}

/// A log that could not be opened. What is a wrong path, and not a log gone wrong, is the configuration's fault.
pub fn open(py: Python<'_>, why: &OpenError) -> PyErr {
    let message = why.to_string();
    let (class, place) = match why {
        OpenError::NotALog { path, .. } | OpenError::Missing { path } => ("ConfigurationError", path),
        OpenError::Locked { path, .. } => ("LogLockedError", path),
        OpenError::NewerFormat { path, .. } => ("LogVersionError", path),
        OpenError::Damaged { path, .. } => ("LogCorruptedError", path),
        OpenError::Io { path, .. } => ("LogError", path),
        _ => return error(py, "LogError", &message, &[]),
    };
    error(py, class, &message, &[("path", self::path(py, place))])
}

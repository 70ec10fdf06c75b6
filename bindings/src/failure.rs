//! Failures of tasks and polls, from Python's description.

use cloacina_engine::core::event::TaskError;
use pyo3::prelude::*;

/// Converts (kind, message, traceback, lineage, transient, hint) to the engine's error.
pub fn task_error(described: &Bound<'_, PyAny>) -> PyResult<TaskError> {
    type Parts = (String, String, Option<String>, Vec<String>, bool, Option<String>);
    let (kind, message, traceback, lineage, transient, hint): Parts = described.extract()?;
    Ok(TaskError {
        kind: kind.into(),
        message: message.into(),
        traceback: traceback.map(Into::into),
        lineage: lineage.into_iter().map(Into::into).collect(),
        transient,
        hint: hint.map(Into::into),
    })
}

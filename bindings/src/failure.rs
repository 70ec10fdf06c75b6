//! The failure of a task or a poll, as Python describes it.

use cloacina_engine::core::event::TaskError;
use pyo3::prelude::*;

/// The engine's error for (kind, message, traceback, lineage, transient, hint).
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

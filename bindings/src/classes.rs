//! The classes of `cloaca.errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

const MODULE: &str = "cloaca.errors";

/// The classes by name, kept for the interpreter's shutdown: nothing can be imported then.
static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Keeps the classes for calls during the interpreter's shutdown.
pub fn keep_classes(py: Python<'_>) -> PyResult<()> {
    let classes = || Ok(py.import(MODULE)?.dict().copy()?.unbind());
    CLASSES.get_or_try_init(py, classes).map(drop)
}

/// Creates an exception of a class of `cloaca.errors` with these attributes.
pub fn error<'py>(py: Python<'py>, class: &str, message: &str, attributes: &[(&str, Bound<'py, PyAny>)]) -> PyErr {
    let made = || -> PyResult<PyErr> {
        let keywords = PyDict::new(py);
        for (name, value) in attributes {
            keywords.set_item(name, value)?;
        }
        let class = match CLASSES.get(py) {
            Some(classes) => classes.bind(py).as_any().get_item(class)?,
            None => py.import(MODULE)?.getattr(class)?,
        };
        Ok(PyErr::from_value(class.call((message,), Some(&keywords))?))
    };
    made().unwrap_or_else(|other| other)
}

//! Condition trees: conversion from the dicts of the Python API to the engine's type.

use cloacina_engine::core::definition::{Condition, Operator};
use cloacina_engine::core::event::TaskId;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::json::{from_python, quoted, type_name};
use crate::parse::to_python;

const KINDS: &str = "Always, All, Any, None, TaskSuccess, TaskFailed, TaskSkipped, ContextValue";
const OPERATORS: &str =
    "Equals (==), NotEquals (!=), GreaterThan (>), LessThan (<), Contains, NotContains, Exists, NotExists";

/// Parses a tree of dicts.
pub fn parse_condition(tree: &Bound<'_, PyAny>) -> PyResult<Condition> {
    parse(tree, 0)
}

/// Checks a tree, and returns it as plain dicts with the operators' full names.
#[pyfunction]
pub fn checked_condition<'py>(py: Python<'py>, tree: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    to_dict(py, &parse_condition(tree)?)
}

/// Shows a tree as the calls of the builder functions.
#[pyfunction]
pub fn shown_condition(py: Python<'_>, tree: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(show(py, &parse_condition(tree)?))
}

/// Renames the tasks in a condition.
pub fn rename(condition: &mut Condition, name: &impl Fn(&TaskId) -> TaskId) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) | Condition::None(parts) => {
            parts.iter_mut().for_each(|part| rename(part, name));
        }
        Condition::TaskSuccess(task) | Condition::TaskFailed(task) | Condition::TaskSkipped(task) => *task = name(task),
        Condition::Always | Condition::ContextValue { .. } => {}
    }
}

fn to_dict<'py>(py: Python<'py>, condition: &Condition) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let entry = |name: &str, value: Bound<'py, PyAny>| dict.set_item(name, value);
    let text = |text: &str| PyString::new(py, text).into_any();
    let parts = |parts: &[Condition]| -> PyResult<Bound<'py, PyAny>> {
        let parts = parts.iter().map(|part| to_dict(py, part)).collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, parts)?.into_any())
    };
    let kind = match condition {
        Condition::Always => "Always",
        Condition::All(_) => "All",
        Condition::Any(_) => "Any",
        Condition::None(_) => "None",
        Condition::TaskSuccess(_) => "TaskSuccess",
        Condition::TaskFailed(_) => "TaskFailed",
        Condition::TaskSkipped(_) => "TaskSkipped",
        Condition::ContextValue { .. } => "ContextValue",
    };
    entry("type", text(kind))?;
    match condition {
        Condition::Always => {}
        Condition::All(conditions) | Condition::Any(conditions) | Condition::None(conditions) => {
            entry("conditions", parts(conditions)?)?;
        }
        Condition::TaskSuccess(task) | Condition::TaskFailed(task) | Condition::TaskSkipped(task) => {
            entry("task_name", text(task))?;
        }
        Condition::ContextValue { key, operator, value } => {
            entry("key", text(key))?;
            entry("operator", text(&format!("{operator:?}")))?;
            let value = match value {
                Some(value) => to_python(py, value.as_str())?,
                None => py.None().into_bound(py),
            };
            entry("value", value)?;
        }
    }
    Ok(dict)
}

fn parse(tree: &Bound<'_, PyAny>, depth: usize) -> PyResult<Condition> {
    let Ok(dict) = tree.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "a condition must be made by all_of(), any_of(), none_of(), task_success() … or be a dict, not {}",
            type_name(tree)
        )));
    };
    if depth > 100 {
        return Err(PyValueError::new_err(
            "a condition tree is nested too deep; put conditions side by side: any_of(*many), all_of(*many)",
        ));
    }
    let kind = text_field(dict, "type", "condition")?;
    let parts = || -> PyResult<Vec<Condition>> {
        field(dict, "conditions", &kind)?.try_iter()?.map(|part| parse(&part?, depth + 1)).collect()
    };
    let task = || text_field(dict, "task_name", &kind).map(Into::into);
    match kind.as_str() {
        "Always" => Ok(Condition::Always),
        "All" => parts().map(Condition::All),
        "Any" => parts().map(Condition::Any),
        "None" => parts().map(Condition::None),
        "TaskSuccess" => task().map(Condition::TaskSuccess),
        "TaskFailed" => task().map(Condition::TaskFailed),
        "TaskSkipped" => task().map(Condition::TaskSkipped),
        "ContextValue" => context_value(dict, &kind),
        other => Err(PyValueError::new_err(format!("unknown condition type '{other}'; the types are {KINDS}"))),
    }
}

fn context_value(dict: &Bound<'_, PyDict>, kind: &str) -> PyResult<Condition> {
    let key = text_field(dict, "key", kind)?;
    let operator = operator(&text_field(dict, "operator", kind)?)?;
    let value = if matches!(operator, Operator::Exists | Operator::NotExists) {
        None
    } else {
        let value = dict.get_item("value")?.unwrap_or_else(|| dict.py().None().into_bound(dict.py()));
        let shown = quoted(&PyString::new(dict.py(), &key));
        Some(from_python(&value).map_err(|problem| problem.into_error(&format!("the value for context key {shown}")))?)
    };
    Ok(Condition::ContextValue { key: key.into(), operator, value })
}

fn operator(written: &str) -> PyResult<Operator> {
    let plain: String = written.to_lowercase().replace('_', "");
    match plain.as_str() {
        "equals" | "equal" | "==" | "eq" => Ok(Operator::Equals),
        "notequals" | "notequal" | "!=" | "ne" => Ok(Operator::NotEquals),
        "greaterthan" | ">" | "gt" => Ok(Operator::GreaterThan),
        "lessthan" | "<" | "lt" => Ok(Operator::LessThan),
        "contains" => Ok(Operator::Contains),
        "notcontains" => Ok(Operator::NotContains),
        "exists" => Ok(Operator::Exists),
        "notexists" => Ok(Operator::NotExists),
        _ => Err(PyValueError::new_err(format!("unknown operator '{written}'; the operators are {OPERATORS}"))),
    }
}

fn field<'py>(dict: &Bound<'py, PyDict>, name: &str, kind: &str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("a {kind} needs the entry '{name}'")))
}

fn text_field(dict: &Bound<'_, PyDict>, name: &str, kind: &str) -> PyResult<String> {
    let value = field(dict, name, kind)?;
    let text = value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("the entry '{name}' of a {kind} must be a str, not {}", type_name(&value)))
    })?;
    Ok(text.to_str()?.to_owned())
}

/// Formats a condition as calls of the builder functions.
fn show(py: Python<'_>, condition: &Condition) -> String {
    let text = |text: &str| quoted(&PyString::new(py, text));
    let all = |name: &str, parts: &[Condition]| {
        format!("{name}({})", parts.iter().map(|part| show(py, part)).collect::<Vec<_>>().join(", "))
    };
    match condition {
        Condition::Always => "always()".to_owned(),
        Condition::All(parts) => all("all_of", parts),
        Condition::Any(parts) => all("any_of", parts),
        Condition::None(parts) => all("none_of", parts),
        Condition::TaskSuccess(task) => format!("task_success({})", text(task)),
        Condition::TaskFailed(task) => format!("task_failed({})", text(task)),
        Condition::TaskSkipped(task) => format!("task_skipped({})", text(task)),
        Condition::ContextValue { key, operator, value } => {
            let value = value.as_ref().and_then(|value| to_python(py, value.as_str()).ok());
            let value = value.map(|value| format!(", {}", quoted(&value))).unwrap_or_default();
            format!("context_value({}, '{operator:?}'{value})", text(key))
        }
    }
}

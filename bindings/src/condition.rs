//! Condition trees: from the dicts that people write to the engine's.

use cloacina_engine::core::definition::{Condition, Operator};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::json::{from_python, quoted, type_name};
use crate::parse::to_python;

const KINDS: &str = "Always, All, Any, None, TaskSuccess, TaskFailed, TaskSkipped, ContextValue";
const OPERATORS: &str =
    "Equals (==), NotEquals (!=), GreaterThan (>), LessThan (<), Contains, NotContains, Exists, NotExists";

/// A condition over the tasks upstream and the values of the context, for `trigger_rules`.
///
/// Made by always(), all_of(), any_of(), none_of(), task_success(), task_failed(), task_skipped() and context_value().
/// Equal trees are equal.
///
/// Example:
///     >>> condition = cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", ">", 0))
///     >>> condition
///     all_of(task_success('load'), context_value('rows', 'GreaterThan', 0))
///     >>> condition == cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", "gt", 0))
///     True
#[pyclass(frozen, eq, module = "cloaca", name = "Condition")]
#[derive(PartialEq)]
pub struct PyCondition {
    /// The engine's.
    pub inner: Condition,
}

#[pymethods]
impl PyCondition {
    /// The condition that a plain dict describes; a condition is returned as it is.
    ///
    /// Raises:
    ///     TypeError, ValueError: It describes none; the message says what is missing or unknown, and what there is.
    ///
    /// Example:
    ///     >>> cloaca.Condition.parse({"type": "ContextValue", "key": "rows", "operator": ">", "value": 0})
    ///     context_value('rows', 'GreaterThan', 0)
    ///     >>> cloaca.Condition.parse({"type": "TaskSuccess"})
    ///     Traceback (most recent call last):
    ///     ValueError: a TaskSuccess needs the entry 'task_name'
    #[staticmethod]
    pub fn parse(tree: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { inner: parse(tree, 0)? })
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        show(py, &self.inner)
    }
}

fn parse(tree: &Bound<'_, PyAny>, depth: usize) -> PyResult<Condition> {
    if let Ok(condition) = tree.cast::<PyCondition>() {
        return Ok(condition.get().inner.clone());
    }
    let Ok(dict) = tree.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "a condition is made by all_of(), any_of(), none_of(), task_success() … or a dict, not {}",
            type_name(tree)
        )));
    };
    if depth > 100 {
        return Err(PyValueError::new_err("a condition tree may be nested 100 levels deep"));
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

/// As the builder functions would be called.
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

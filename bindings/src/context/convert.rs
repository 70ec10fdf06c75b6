//! Conversion between Python values and the keys and values of a context.

use std::collections::BTreeMap;

use cloacina_engine::core::event::Key;
use cloacina_engine::core::json::{Erasure, Json};
use cloacina_replay::time::{parse_rfc3339, rfc3339};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};

use super::Context;
use crate::canonical;
use crate::json::{self, from_python, quoted, sorted_text, type_name, write_text};
use crate::parse::to_python;

/// Converts a key to a string.
pub(super) fn key_text(key: &Bound<'_, PyAny>) -> PyResult<String> {
    let Ok(text) = key.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("a context key must be a str, not {}", type_name(key))));
    };
    text.to_str().map(ToOwned::to_owned).map_err(|_| {
        let shown = quoted(key);
        let message = format!(
            "context key {shown} has a lone surrogate, which is not Unicode; use key.encode('utf-8', 'replace').decode()"
        );
        crate::errors::error(key.py(), "NotJsonError", &message, &[])
    })
}

/// Converts the value of a key to JSON.
pub(super) fn value_json(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Json> {
    from_python(value).map_err(|problem| {
        let shown = quoted(&PyString::new(value.py(), key));
        problem.into_error(&format!("context key {shown}"))
    })
}

pub(super) fn pairs_of(values: &Bound<'_, PyDict>) -> PyResult<Vec<(Key, Json)>> {
    let pair = |(key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let key = key_text(&key)?;
        let value = value_json(&key, &value)?;
        Ok((key.into(), value))
    };
    values.iter().map(pair).collect()
}

/// Like `pairs_of`, for a dict that may contain erased values.
pub(super) fn pairs_with_erased(values: &Bound<'_, PyDict>) -> PyResult<Vec<(Key, Json)>> {
    let pair = |(key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let key = key_text(&key)?;
        let value = match erased(&value)? {
            Some(erased) => erased,
            None => value_json(&key, &value)?,
        };
        Ok((key.into(), value))
    };
    values.iter().map(pair).collect()
}

/// Converts any mapping to a dict.
pub(super) fn dict_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if let Ok(dict) = data.cast::<PyDict>() {
        return Ok(dict.clone());
    }
    if let Ok(context) = data.cast::<Context>() {
        return context.get().to_dict(data.py());
    }
    let Ok(mapping) = data.cast::<PyMapping>() else {
        return Err(PyTypeError::new_err(format!("a context is made from a dict, not from {}", type_name(data))));
    };
    let dict = PyDict::new(data.py());
    dict.update(mapping)?;
    Ok(dict)
}

/// Converts a value to Python; an erased value becomes a [`cloaca.Erased`].
pub(super) fn value_of<'py>(py: Python<'py>, value: &Json) -> PyResult<Bound<'py, PyAny>> {
    if !value.is_erased() {
        return to_python(py, value.as_str());
    }
    let class = py.import("cloaca._erased")?.getattr("Erased")?;
    match value.erasure() {
        Some(erasure) => {
            let time = rfc3339(erasure.time());
            class.call1((erasure.by, erasure.reason, time))
        }
        None => class.call0(),
    }
}

/// Returns the JSON of an erased value, if `value` is a [`cloaca.Erased`].
fn erased(value: &Bound<'_, PyAny>) -> PyResult<Option<Json>> {
    // Compares the name first, to avoid the import for most values.
    if value.get_type().name()? != "Erased" {
        return Ok(None);
    }
    let class = value.py().import("cloaca._erased")?.getattr("Erased")?;
    if !value.is_instance(&class)? {
        return Ok(None);
    }
    let part = |name: &str| value.getattr(name)?.extract::<Option<String>>();
    let (by, reason, time) = (part("by")?, part("reason")?, part("time")?);
    Ok(Some(match (by, reason, time.as_deref().and_then(parse_rfc3339)) {
        (Some(by), Some(reason), Some(time)) => Json::erased_by(&Erasure::new(by, reason, time)),
        _ => Json::erased(),
    }))
}

pub(super) fn json_kind(value: &Bound<'_, PyAny>) -> String {
    match type_name(value).as_str() {
        "NoneType" => "null".to_owned(),
        "list" => "a list".to_owned(),
        "str" => "a string".to_owned(),
        "bool" => "a boolean".to_owned(),
        _ => "a number".to_owned(),
    }
}

pub(super) fn sorted(py: Python<'_>, all: &BTreeMap<Key, Json>) -> PyResult<String> {
    let mut out = String::from("{");
    for (key, value) in all {
        if out.len() > 1 {
            out.push(',');
        }
        write_text(&mut out, key);
        out.push(':');
        if value.is_erased() {
            write_text(&mut out, value.as_str());
        } else if !value.as_str().contains('{') {
            out.push_str(value.as_str());
        } else if let Some(text) = canonical::sorted(py, value.as_str()) {
            out.push_str(&text);
        } else {
            let value = value_of(py, value)?;
            let text: Result<String, json::NotJson> = sorted_text(&value);
            out.push_str(&text.map_err(|problem| problem.into_error(key))?);
        }
    }
    out.push('}');
    Ok(out)
}

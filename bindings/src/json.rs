//! Serializes Python values to JSON text, without loss or with an error.

use std::fmt::Write as _;

use cloacina_engine::core::json::Json;
use num_bigint::BigInt;
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use crate::errors;

/// Maximum nesting depth of values.
pub const MAX_DEPTH: usize = 1_000;

/// Number of steps shown at either end of a long path.
const SHOWN_STEPS: usize = 6;

/// Why a value is not JSON, and the path to the problem.
pub struct NotJson {
    /// From the inside out.
    path: Vec<Step>,
    problem: String,
}

enum Step {
    Key(String),
    Index(usize),
}

impl NotJson {
    fn new(problem: String) -> Self {
        Self { path: Vec::new(), problem }
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// Converts it to a Python exception. `what` names the owner of the value, like `context key 'report'`.
    pub fn into_error(self, what: &str) -> PyErr {
        let steps: Vec<String> = self
            .path
            .iter()
            .rev()
            .map(|step| match step {
                Step::Key(key) => format!("[{key}]"),
                Step::Index(index) => format!("[{index}]"),
            })
            .collect();
        let place = if steps.len() > 2 * SHOWN_STEPS {
            let last = steps.len() - SHOWN_STEPS;
            format!("{} … {}", steps[..SHOWN_STEPS].concat(), steps[last..].concat())
        } else {
            steps.concat()
        };
        let at = if place.is_empty() { String::new() } else { format!(", at {place}") };
        let message = format!("{what}{at}: {}", self.problem);
        Python::attach(|py| errors::error(py, "NotJsonError", &message, &[]))
    }
}

/// Serializes a value. The keys of dicts keep their order.
pub fn from_python(value: &Bound<'_, PyAny>) -> Result<Json, NotJson> {
    text(value, false).map(Json::from_serializer)
}

/// Serializes a value with the keys of dicts sorted.
pub fn sorted_text(value: &Bound<'_, PyAny>) -> Result<String, NotJson> {
    text(value, true)
}

fn text(value: &Bound<'_, PyAny>, sorted: bool) -> Result<String, NotJson> {
    let mut writer = Writer { out: String::new(), sorted, open: Vec::new() };
    writer.value(value)?;
    Ok(writer.out)
}

/// The `repr` of a value.
pub fn quoted(value: &Bound<'_, PyAny>) -> String {
    value.repr().map(|repr| repr.to_string_lossy().into_owned()).unwrap_or_else(|_| "?".to_owned())
}

/// The name of a value's type.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map(|name| name.to_string()).unwrap_or_else(|_| "object".to_owned())
}

struct Writer {
    out: String,
    sorted: bool,
    /// The ids of the containers being written, from the outside in.
    open: Vec<usize>,
}

impl Writer {
    fn value(&mut self, value: &Bound<'_, PyAny>) -> Result<(), NotJson> {
        // Exact types first, which are cheap to compare; then subclasses.
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)?;
        } else if value.is_exact_instance_of::<PyInt>() {
            self.integer(value)?;
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            self.float(float)?;
        } else if value.is_none() {
            self.out.push_str("null");
        } else if let Ok(text) = value.cast::<PyString>() {
            self.text(text)?;
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.out.push_str(if truth.is_true() { "true" } else { "false" });
        } else if value.is_instance_of::<PyInt>() {
            self.integer(value)?;
        } else if let Ok(float) = value.cast::<PyFloat>() {
            self.float(float)?;
        } else if let Ok(list) = value.cast::<PyList>() {
            self.open(value)?;
            self.sequence(list.iter())?;
            self.open.pop();
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.open(value)?;
            self.sequence(tuple.iter())?;
            self.open.pop();
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.open(value)?;
            self.object(dict)?;
            self.open.pop();
        } else {
            return Err(not_a_value(value));
        }
        Ok(())
    }

    fn open(&mut self, value: &Bound<'_, PyAny>) -> Result<(), NotJson> {
        let id = value.as_ptr() as usize;
        if self.open.contains(&id) {
            return Err(NotJson::new(format!("the {} contains itself", type_name(value))));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(NotJson::new(format!("the value is nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(id);
        Ok(())
    }

    fn sequence<'py>(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>) -> Result<(), NotJson> {
        self.out.push('[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.value(&item).map_err(|problem| problem.at(Step::Index(index)))?;
        }
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, dict: &Bound<'_, PyDict>) -> Result<(), NotJson> {
        self.out.push('{');
        if self.sorted {
            let mut entries = Vec::with_capacity(dict.len());
            for (key, value) in dict.iter() {
                let Ok(key) = key.cast_into::<PyString>() else { return Err(key_not_text(dict)) };
                entries.push((key, value));
            }
            entries.sort_by_cached_key(|(key, _)| key.to_string_lossy().into_owned());
            for (index, (key, value)) in entries.iter().enumerate() {
                self.member(index, key, value)?;
            }
        } else {
            for (index, (key, value)) in dict.iter().enumerate() {
                let Ok(key) = key.cast::<PyString>() else { return Err(key_not_text(dict)) };
                self.member(index, key, &value)?;
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn member(&mut self, index: usize, key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> Result<(), NotJson> {
        if index > 0 {
            self.out.push(',');
        }
        self.text(key).map_err(|problem| NotJson { problem: format!("a key: {}", problem.problem), ..problem })?;
        self.out.push(':');
        self.value(value).map_err(|problem| problem.at(Step::Key(quoted(key))))
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> Result<(), NotJson> {
        let text = text.to_str().map_err(|error| surrogate(text, &error))?;
        write_text(&mut self.out, text);
        Ok(())
    }

    fn integer(&mut self, value: &Bound<'_, PyAny>) -> Result<(), NotJson> {
        if let Ok(small) = value.extract::<i64>() {
            self.out.push_str(itoa::Buffer::new().format(small));
            return Ok(());
        }
        // Not `str`: Python limits the conversion of integers to 4,300 digits.
        let big: BigInt = value.extract().map_err(|error: PyErr| NotJson::new(error.to_string()))?;
        let _ = write!(self.out, "{big}");
        Ok(())
    }

    fn float(&mut self, float: &Bound<'_, PyFloat>) -> Result<(), NotJson> {
        let value = float.value();
        if !value.is_finite() {
            let name = if value.is_nan() { "nan" } else { "an infinite float" };
            return Err(NotJson::new(format!("{name} is not a JSON value; use None, or a string such as str(value)")));
        }
        // Python's `repr`: other implementations differ where two texts are equally short and equally near. Of the base
        // class: a subclass may have another `repr` (`np.float64(1.0)`).
        let is_plain = float.is_exact_instance_of::<PyFloat>();
        let text = if is_plain { float.repr() } else { PyFloat::new(float.py(), value).repr() };
        let text = text.map_err(|error| NotJson::new(error.to_string()))?;
        self.out.push_str(&text.to_string_lossy());
        Ok(())
    }
}

/// The bytes that need no escape in a JSON string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 32 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Writes a text as a JSON string.
pub fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if PLAIN[byte as usize] {
            continue;
        }
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            8 => "\\b",
            12 => "\\f",
            _ => "",
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

fn surrogate(text: &Bound<'_, PyString>, error: &PyErr) -> NotJson {
    let py = text.py();
    let place = error
        .is_instance_of::<PyUnicodeEncodeError>(py)
        .then(|| error.value(py).getattr("start").and_then(|start| start.extract::<usize>()).ok())
        .flatten();
    let place = place.map(|index| format!(" at index {index}")).unwrap_or_default();
    NotJson::new(format!(
        "the text has a lone surrogate{place}, which is not Unicode; use value.encode('utf-8', 'replace').decode()"
    ))
}

fn key_not_text(dict: &Bound<'_, PyDict>) -> NotJson {
    let key = dict.iter().map(|(key, _)| key).find(|key| !key.is_instance_of::<PyString>());
    let (shown, kind) = key.map_or_else(Default::default, |key| (quoted(&key), type_name(&key)));
    NotJson::new(format!("the key {shown} is of type {kind}; JSON keys are strings; use str(key)"))
}

fn not_a_value(value: &Bound<'_, PyAny>) -> NotJson {
    let name = type_name(value);
    let module = value.get_type().module().map(|module| module.to_string()).unwrap_or_else(|_| String::new());
    let has = |attribute: &str| value.hasattr(attribute).unwrap_or(false);
    let is_scalar = || value.getattr("ndim").and_then(|ndim| ndim.extract::<usize>()).is_ok_and(|ndim| ndim == 0);
    let hint = match (module.as_str(), name.as_str()) {
        _ if value.is_instance_of::<PyType>() => "store data, not code",
        (_, "datetime" | "date" | "time") => "use isoformat()",
        (_, "timedelta") => "use total_seconds()",
        (_, "set" | "frozenset") => "use sorted(value), or list(value)",
        (_, "bytes" | "bytearray") => "use decode(), or base64.b64encode(value).decode()",
        (_, "memoryview" | "array" | "bytes_") => "use base64.b64encode(value).decode()",
        (_, "Decimal" | "UUID" | "Fraction" | "datetime64" | "timedelta64") => "use str(value)",
        (_, "complex") => "use [value.real, value.imag]",
        (
            _,
            "range" | "generator" | "map" | "filter" | "zip" | "dict_keys" | "dict_values" | "dict_items" | "deque",
        ) => "use list(value)",
        (_, "NAType" | "NaTType") => "use None",
        ("cloaca", "Context") => "use to_dict()",
        ("cloaca._erased", "Erased") => "the value was erased from its log: use another one, or None",
        ("builtins", "function" | "module") => "store data, not code",
        _ if module.starts_with("pathlib") => "use str(value)",
        _ if has("__dataclass_fields__") => "use dataclasses.asdict(value)",
        _ if has("__attrs_attrs__") => "use attrs.asdict(value)",
        _ if has("model_dump") => "use model_dump(mode='json')",
        _ if has("to_dicts") => "use to_dicts()",
        _ if has("to_dict") && has("columns") => "use to_dict('records')",
        _ if has("item") && is_scalar() => "use item()",
        _ if has("tolist") => "use tolist()",
        _ if has("to_dict") => "use to_dict()",
        _ if has("isoformat") => "use isoformat()",
        _ if has("_value_") => "use its .value",
        _ if has("keys") => "use dict(value)",
        _ => "use None, bool, int, float, str, list or dict",
    };
    // Types such as numpy's `bool` have the name of a builtin type.
    let shown = match name.as_str() {
        "bool" | "int" | "float" | "str" | "list" | "dict" => format!("{module}.{name}"),
        _ => name,
    };
    NotJson::new(format!("{shown} is not a JSON value; {hint}"))
}

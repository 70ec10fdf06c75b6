//! `cloaca.Context`: a mapping of JSON values, either standalone or the context of an attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloacina_engine::core::event::Key;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::task_context::TaskContext;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyMapping, PyString, PyTuple};

use crate::json::quoted;
use crate::parse::to_python;
use crate::{canonical, errors};

mod convert;

use convert::{dict_of, json_kind, key_text, pairs_of, pairs_with_erased, sorted, value_json, value_of};

/// The values that the tasks of a workflow share: a mutable mapping from strings to JSON values.
///
/// Values are None, bool, int, float, str, list, tuple and dict with string keys, nested. Integers of any size and
/// floats are stored exactly; a tuple becomes a list. Anything else raises a TypeError or ValueError that names its
/// position. Reading a value returns a copy: to change a value, set it again.
///
/// Example:
///     >>> context = cloaca.Context({"rows": [1, 2]})
///     >>> context["done"] = True
///     >>> context
///     Context({"done":true,"rows":[1,2]})
///     >>> context["rows"].append(3)  # changes a copy
///     >>> context["rows"], len(context), "rows" in context, list(context)
///     ([1, 2], 2, True, ['done', 'rows'])
///     >>> del context["done"]
///     >>> context == {"rows": [1, 2]}
///     True
///     >>> context["when"] = [{"day": {1, 2}}]
///     Traceback (most recent call last):
///     cloaca.errors.NotJsonError: context key 'when', at [0]['day']: set is not a JSON value; use sorted(value), or list(value)
#[pyclass(frozen, mapping, weakref, module = "cloaca", name = "Context")]
pub struct Context {
    inner: Mutex<TaskContext>,
}

impl Context {
    /// Wraps the context of an attempt.
    pub fn wrap(inner: TaskContext) -> Self {
        Self { inner: Mutex::new(inner) }
    }

    /// Creates a context with these values.
    pub fn from_values(values: impl IntoIterator<Item = (Key, Json)>) -> Self {
        Self::wrap(TaskContext::from_values(values))
    }

    /// Returns all values without recording a read.
    pub fn peek(&self) -> BTreeMap<Key, Json> {
        self.inner().peek()
    }

    /// Returns all values as the input of an execution.
    ///
    /// # Errors
    /// `ValueError` if one was erased.
    pub fn input(&self, py: Python<'_>) -> PyResult<Vec<(Key, Json)>> {
        let values = self.peek();
        if let Some((key, _)) = values.iter().find(|(_, value)| value.is_erased()) {
            let shown = quoted(&PyString::new(py, key));
            let what = format!(
                "context key {shown}: the value was erased from its log; pass another value, or leave the key out"
            );
            return Err(PyValueError::new_err(what));
        }
        Ok(values.into_iter().collect())
    }

    /// Returns a copy of the attempt's context. Later changes have no effect on it.
    pub fn snapshot(&self) -> TaskContext {
        self.inner().clone()
    }

    /// Changes the context under its lock.
    pub fn change(&self, change: impl FnOnce(&mut TaskContext)) {
        change(&mut self.inner());
    }

    /// Locks the context. No Python code may run under the lock.
    fn inner(&self) -> MutexGuard<'_, TaskContext> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lookup(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<Json>> {
        let key = key_text(key)?;
        let found = self.inner().get(&key);
        found.map_err(|read| errors::undeclared(py, &read))
    }

    /// Sets all values of a dict, or none if one is not JSON.
    pub fn set_all(&self, values: &Bound<'_, PyDict>) -> PyResult<()> {
        let pairs = pairs_of(values)?;
        let mut inner = self.inner();
        pairs.into_iter().for_each(|(key, value)| inner.set(key, value));
        Ok(())
    }

    /// Makes this context equal to `other`, writing only the differences.
    pub fn assign_from(&self, other: &Self) {
        let wanted = other.peek();
        let mut inner = self.inner();
        let have = inner.peek();
        for key in have.keys().filter(|key| !wanted.contains_key(*key)) {
            // Only an undeclared key in a strict context cannot be removed; `have` contains none.
            let _ = inner.remove(key);
        }
        for (key, value) in wanted {
            if have.get(&key) != Some(&value) {
                inner.set(key, value);
            }
        }
    }

    fn view<'py>(slf: &Bound<'py, Self>, class: &str) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("collections.abc")?.getattr(class)?.call1((slf,))
    }

    fn take_value(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<Json>> {
        let key = key_text(key)?;
        let found = self.inner().remove(&key);
        found.map_err(|read| errors::undeclared(py, &read))
    }
}

fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

#[pymethods]
impl Context {
    #[new]
    #[pyo3(signature = (data=None))]
    fn new(data: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let pairs = match data {
            None => Vec::new(),
            Some(data) => pairs_with_erased(&dict_of(data)?)?,
        };
        Ok(Self::from_values(pairs))
    }

    /// Returns the value of a key, or `default` if the key does not exist. A key whose value is None exists.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3, "note": None})
    ///     >>> context.get("rows"), context.get("columns"), context.get("columns", 1), context.get("note", "none yet")
    ///     (3, None, 1, None)
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.lookup(py, key)? {
            Some(value) => value_of(py, &value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// Sets a key to a value, like `context[key] = value`.
    ///
    /// Raises:
    ///     TypeError, ValueError: The key is not a string, or the value is not JSON; the message names the
    ///         position.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.set("rows", 4)
    ///     >>> context["rows"]
    ///     4
    ///     >>> context.set("mean", float("nan"))
    ///     Traceback (most recent call last):
    ///     cloaca.errors.NotJsonError: context key 'mean': nan is not a JSON value; use None, or a string such as str(value)
    fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = key_text(key)?;
        let value = value_json(&key, value)?;
        self.inner().set(key, value);
        Ok(())
    }

    /// Sets a new key.
    ///
    /// Raises:
    ///     ValueError: The key already exists.
    ///
    /// Example:
    ///     >>> context = cloaca.Context()
    ///     >>> context.insert("rows", 3)
    ///     >>> context.insert("rows", 4)
    ///     Traceback (most recent call last):
    ///     ValueError: context key 'rows' already exists; use set() or update()
    fn insert(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.lookup(py, key)?.is_some() {
            return Err(PyValueError::new_err(format!(
                "context key {} already exists; use set() or update()",
                quoted(key)
            )));
        }
        self.set(key, value)
    }

    /// Sets an existing key. (Unlike dict's update(); to set all keys of a dict, use update_from_dict().)
    ///
    /// Raises:
    ///     KeyError: The key does not exist.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.update("rows", 4)
    ///     >>> context.update("row", 5)
    ///     Traceback (most recent call last):
    ///     KeyError: 'row'
    ///     >>> context
    ///     Context({"rows":4})
    fn update(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.lookup(py, key)?.is_none() {
            return Err(missing(key));
        }
        self.set(key, value)
    }

    /// Removes a key. Returns its value, or None if it did not exist.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.remove("rows"), context.remove("rows")
    ///     (3, None)
    fn remove<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.take_value(py, key)? {
            Some(value) => value_of(py, &value),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// Alias of remove().
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.delete("rows"), len(context)
    ///     (3, 0)
    fn delete<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.remove(py, key)
    }

    /// Removes a key and returns its value. If it does not exist, returns `default`, or raises a KeyError without one.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.pop("rows"), context.pop("rows", 0)
    ///     (3, 0)
    ///     >>> context.pop("rows")
    ///     Traceback (most recent call last):
    ///     KeyError: 'rows'
    #[pyo3(signature = (key, *default))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            return Err(PyTypeError::new_err("pop takes a key and at most one default"));
        }
        match self.take_value(py, key)? {
            Some(value) => value_of(py, &value),
            None => default.get_item(0).map_err(|_| missing(key)),
        }
    }

    /// Removes the last key in sorted order. Returns it with its value.
    ///
    /// Raises:
    ///     KeyError: The context is empty.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"b": 2, "a": 1})
    ///     >>> context.popitem(), context.popitem()
    ///     (('b', 2), ('a', 1))
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(String, Bound<'py, PyAny>)> {
        let last = self.inner().all().pop_last();
        let Some((key, value)) = last else { return Err(PyKeyError::new_err("the context is empty")) };
        let removed = self.inner().remove(&key);
        removed.map_err(|read| errors::undeclared(py, &read))?;
        Ok((key.to_string(), value_of(py, &value)?))
    }

    /// Returns a copy of the value of a key, after setting it to `default` if it does not exist.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.setdefault("rows", 0), context.setdefault("files", [])
    ///     (3, [])
    ///     >>> context
    ///     Context({"files":[],"rows":3})
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(value) = self.lookup(py, key)? {
            return value_of(py, &value);
        }
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        self.set(key, &default)?;
        self.get(py, key, None)
    }

    /// Removes all keys.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> context.clear()
    ///     >>> context
    ///     Context({})
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let mut inner = self.inner();
        let keys: Vec<Key> = inner.all().into_keys().collect();
        let removed = keys.iter().try_for_each(|key| inner.remove(key).map(|_| ()));
        drop(inner);
        removed.map_err(|read| errors::undeclared(py, &read))
    }

    /// Returns a dict with copies of all values. Keys are sorted.
    ///
    /// Example:
    ///     >>> cloaca.Context({"rows": (1, 2), "day": "2026-01-31"}).to_dict()
    ///     {'day': '2026-01-31', 'rows': [1, 2]}
    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = self.inner().all();
        let dict = PyDict::new(py);
        for (key, value) in all {
            dict.set_item(&*key, value_of(py, &value)?)?;
        }
        Ok(dict)
    }

    /// Sets all keys of a dict (or another mapping), or none if one of the values is not JSON.
    ///
    /// Raises:
    ///     TypeError, ValueError: `data` is not a mapping, or a value is not JSON.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3, "day": "2026-01-31"})
    ///     >>> context.update_from_dict({"rows": 4, "file": "a.csv"})
    ///     >>> context
    ///     Context({"day":"2026-01-31","file":"a.csv","rows":4})
    ///     >>> context.update_from_dict({"rows": 5, "file": b"a.csv"})
    ///     Traceback (most recent call last):
    ///     cloaca.errors.NotJsonError: context key 'file': bytes is not a JSON value; use decode(), or base64.b64encode(value).decode()
    ///     >>> context["rows"]
    ///     4
    fn update_from_dict(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_all(&dict_of(data)?)
    }

    /// Returns all values as one JSON object, with keys sorted at every level and without spaces. Equal contexts return
    /// the same text.
    ///
    /// Example:
    ///     >>> cloaca.Context({"rows": {"b": 2, "a": 1.0}, "big": 2**70}).to_json()
    ///     '{"big":1180591620717411303424,"rows":{"a":1.0,"b":2}}'
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        let all = self.inner().all();
        sorted(py, &all)
    }

    /// Creates a context from a JSON object.
    ///
    /// Raises:
    ///     ValueError: The text is not a JSON object.
    ///
    /// Example:
    ///     >>> cloaca.Context.from_json('{"rows": 3}')["rows"]
    ///     3
    ///     >>> cloaca.Context.from_json("[3]")
    ///     Traceback (most recent call last):
    ///     ValueError: a context is a JSON object, not a list
    #[staticmethod]
    fn from_json(py: Python<'_>, json_str: &str) -> PyResult<Self> {
        if let Some(members) = canonical::members(py, json_str) {
            let pairs = members.into_iter().map(|(key, value)| (key.into(), Json::from_serializer(value)));
            return Ok(Self::from_values(pairs));
        }
        let value = to_python(py, json_str)?;
        let Ok(dict) = value.cast::<PyDict>() else {
            return Err(PyValueError::new_err(format!("a context is a JSON object, not {}", json_kind(&value))));
        };
        Ok(Self::from_values(pairs_of(dict)?))
    }

    /// Returns a view of the keys, sorted.
    ///
    /// Example:
    ///     >>> list(cloaca.Context({"b": 2, "a": 1}).keys())
    ///     ['a', 'b']
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, "KeysView")
    }

    /// Returns a view of the values, in the order of the sorted keys.
    ///
    /// Example:
    ///     >>> list(cloaca.Context({"b": 2, "a": 1}).values())
    ///     [1, 2]
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, "ValuesView")
    }

    /// Returns a view of the (key, value) pairs, in the order of the sorted keys.
    ///
    /// Example:
    ///     >>> {key: value for key, value in cloaca.Context({"b": 2, "a": 1}).items() if value > 1}
    ///     {'b': 2}
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, "ItemsView")
    }

    /// Returns an independent context with the same values.
    ///
    /// Example:
    ///     >>> context = cloaca.Context({"rows": 3})
    ///     >>> other = context.copy()
    ///     >>> other["rows"] = 4
    ///     >>> context["rows"], other == context
    ///     (3, False)
    fn copy(&self) -> Self {
        let all = self.inner().all();
        Self::from_values(all)
    }

    fn __copy__(&self) -> Self {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> Self {
        self.copy()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        Ok((slf.get_type().into_any(), (slf.get().to_dict(slf.py())?,)))
    }

    fn __len__(&self) -> usize {
        self.inner().all().len()
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !key.is_instance_of::<PyString>() {
            return Ok(false);
        }
        Ok(self.lookup(py, key)?.is_some())
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.lookup(py, key)? {
            Some(value) => value_of(py, &value),
            None => Err(missing(key)),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set(key, value)
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.take_value(py, key)?.map(|_| ()).ok_or_else(|| missing(key))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let all = self.inner().all();
        PyList::new(py, all.keys().map(|key| PyString::new(py, key)))?.try_iter()
    }

    fn __eq__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !other.is_instance_of::<Context>() && !other.is_instance_of::<PyMapping>() {
            return Ok(py.NotImplemented().into_bound(py));
        }
        let same = self.to_dict(py)?.eq(dict_of(other)?)?;
        Ok(pyo3::types::PyBool::new(py, same).to_owned().into_any())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Context({})", sorted(py, &self.peek())?))
    }
}

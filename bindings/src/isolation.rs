//! Contexts of attempts that run in another process: sent there as JSON texts, and returned as changes.

use cloacina_engine::core::event::Key;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::task_context::{ContextChanges, ContextSnapshot, TaskContext, Write};
use pyo3::prelude::*;

use crate::context::Context;
use crate::executor::apply_returned;

/// Keys and JSON texts.
type Texts = Vec<(String, String)>;

/// (values from ancestors, undeclared values, whether reading those is an error).
type SightingParts = (Texts, Texts, bool);

/// (writes, with None for a removal; the keys that were read; whether all were read).
pub type DeedsParts = (Vec<(String, Option<String>)>, Vec<String>, bool);

impl Context {
    /// Applies the changes that were made to its copy.
    pub fn apply_changes(&self, (writes, reads, all): DeedsParts) {
        let write =
            |(key, value): (String, Option<String>)| Write { key: key.into(), value: value.map(Json::from_serializer) };
        let writes = writes.into_iter().map(write).collect();
        let reads = reads.into_iter().map(Key::from).collect();
        self.change(|inner| inner.apply(ContextChanges { writes, reads, all }));
    }
}

/// A snapshot of what an attempt's context shows, for `context_of`.
#[pyfunction]
pub fn snapshot_of(context: &Context) -> SightingParts {
    let ContextSnapshot { declared, undeclared, strict } = context.snapshot().snapshot();
    let texts = |values: Vec<(Key, Json)>| -> Texts {
        values.iter().map(|(key, value)| (key.to_string(), value.as_str().to_owned())).collect()
    };
    (texts(declared), texts(undeclared), strict)
}

/// Creates a context from the snapshot of `snapshot_of`.
#[pyfunction]
pub fn context_of(snapshot: SightingParts) -> Context {
    let (declared, undeclared, strict) = snapshot;
    // The texts were made by the other process's own serializer.
    let values = |texts: Texts| -> Vec<(Key, Json)> {
        texts.into_iter().map(|(key, text)| (key.into(), Json::from_serializer(text))).collect()
    };
    let snapshot = ContextSnapshot { declared: values(declared), undeclared: values(undeclared), strict };
    Context::wrap(TaskContext::from_snapshot(snapshot))
}

/// Applies a task's return value to its context.
#[pyfunction]
pub fn take_returned(context: &Bound<'_, Context>, returned: &Bound<'_, PyAny>, task_id: &str) -> PyResult<()> {
    apply_returned(context, returned, task_id)
}

/// Converts writes to keys and JSON texts, with None for a removal.
pub fn texts_of(writes: Vec<Write>) -> Vec<(String, Option<String>)> {
    let text = |write: Write| (write.key.to_string(), write.value.map(|value| value.as_str().to_owned()));
    writes.into_iter().map(text).collect()
}

/// The changes that were made to a context, for `Attempt.apply`.
#[pyfunction]
pub fn changes_of(context: &Context) -> DeedsParts {
    let changes = context.snapshot().changes();
    (texts_of(changes.writes), changes.reads.iter().map(ToString::to_string).collect(), changes.all)
}

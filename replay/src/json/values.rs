//! Values, and what may not be there, as JSON.

use std::sync::Arc;

use cloacina_engine::core::json::Json;
use cloacina_engine::core::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::time::rfc3339;

/// A value as the text that was written. A text that is no JSON after all is told as a string, and so is one that was
/// erased: as `"erased"`, which the event or the context beside it says, too.
///
/// # Errors
/// Never, for a text of ours.
pub fn raw(value: &Json) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(value.as_str().to_owned()).or_else(|_| to_raw_value(value.as_str()))
}

/// Who erased a value, when and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErasedJson {
    pub(super) time: String,
    pub(super) by: String,
    pub(super) reason: String,
}

impl ErasedJson {
    /// Who erased a value; `None` of one that was not erased.
    #[must_use]
    pub fn of(value: &Json) -> Option<Self> {
        let erasure = value.erasure()?;
        Some(Self { time: rfc3339(erasure.time()), by: erasure.by, reason: erasure.reason })
    }
}

/// A value that is there; `null` is one too.
///
/// # Errors
/// If it is no JSON.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(super) fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// A time, or nothing.
#[must_use]
pub fn maybe(time: Option<Timestamp>) -> Option<String> {
    time.map(rfc3339)
}

//! Values and optional members as JSON.

use std::sync::Arc;

use cloacina_engine::core::json::Json;
use cloacina_engine::core::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::time::rfc3339;

/// Returns a value as the exact text that was written. Text that is not JSON becomes a string. So does an erased value,
/// as `"erased"`; the event or context next to it says that it was erased.
///
/// # Errors
/// Never for text of this library.
pub fn raw(value: &Json) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(value.as_str().to_owned()).or_else(|_| to_raw_value(value.as_str()))
}

/// An erasure: who erased a value, when and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErasedJson {
    pub(super) time: String,
    pub(super) by: String,
    pub(super) reason: String,
}

impl ErasedJson {
    /// Returns the erasure of a value; `None` if it was not erased.
    #[must_use]
    pub fn of(value: &Json) -> Option<Self> {
        let erasure = value.erasure()?;
        Some(Self { time: rfc3339(erasure.time()), by: erasure.by, reason: erasure.reason })
    }
}

/// Deserializes a member that is present, including an explicit `null`.
///
/// # Errors
/// The member is not valid JSON.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(super) fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// Formats an optional time.
#[must_use]
pub fn maybe(time: Option<Timestamp>) -> Option<String> {
    time.map(rfc3339)
}

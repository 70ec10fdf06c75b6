//! JSON values, kept as their original text.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Timestamp;

/// A JSON value, kept as its original text: integers of any size, floats and the key order of objects are preserved
/// exactly.
///
/// ```
/// use cloacina_engine::core::json::Json;
/// let big = Json::parse("123456789012345678901234567890")?;
/// assert_eq!(big.as_str(), "123456789012345678901234567890");
/// assert!(Json::parse("{").is_err());
/// # Ok::<(), cloacina_engine::core::json::NotJson>(())
/// ```
#[derive(Clone, Encode, Decode)]
pub struct Json(Arc<str>);

/// Prefix that marks an erased value; details of the erasure may follow. No JSON value starts with it.
const ERASED: &str = "erased";

/// Who erased a value, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Who requested it.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// When, in microseconds since 1970.
    time: i64,
}

impl Erasure {
    /// Creates a record of an erasure.
    #[must_use]
    pub fn new(by: impl Into<String>, reason: impl Into<String>, time: Timestamp) -> Self {
        Self { by: by.into(), reason: reason.into(), time: time.0 }
    }

    /// Returns when the value was erased.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }
}

/// The text is not one JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON value: {0}")]
pub struct NotJson(String);

impl Json {
    /// Parses a text as one JSON value.
    ///
    /// # Errors
    /// [`NotJson`] with the position in the text.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| NotJson(error.to_string()))?;
        Ok(Self(text.into()))
    }

    /// Wraps the output of a serializer without checking it again.
    #[must_use]
    pub fn from_serializer(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the marker for an erased value. No JSON value has this text, so the marker is unambiguous.
    #[must_use]
    pub fn erased() -> Self {
        Self(ERASED.into())
    }

    /// Returns the marker for an erased value, with who erased it, when and why.
    #[must_use]
    pub fn erased_by(erasure: &Erasure) -> Self {
        let known = serde_json::to_string(erasure).unwrap_or_default();
        Self([ERASED, &known].concat().into())
    }

    /// Returns whether this is the marker for an erased value.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.0.starts_with(ERASED)
    }

    /// Returns who erased the value, when and why; `None` if it was not erased or this is not known.
    #[must_use]
    pub fn erasure(&self) -> Option<Erasure> {
        serde_json::from_str(self.0.strip_prefix(ERASED)?).ok()
    }

    /// Returns the text; `erased` for an erased value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.is_erased() { ERASED } else { &self.0 }
    }

    /// Returns the parsed value. A text that nests deeper than 127 levels, or is not JSON (in a record that was not
    /// written by this engine), gives `null`.
    #[must_use]
    pub fn value(&self) -> Value {
        self.try_value().unwrap_or(Value::Null)
    }

    /// Returns the parsed value; `None` if it nests too deep or is not JSON.
    #[must_use]
    pub fn try_value(&self) -> Option<Value> {
        serde_json::from_str(&self.0).ok()
    }
}

/// Values compare as texts. All erased values are equal, because their contents are unknown.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl PartialOrd for Json {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Json {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Json {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! JSON values as the text that they came in.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Timestamp;

/// A JSON value, kept as its text: an integer of any size, a float and the order of an object's keys come back exactly
/// as they went in.
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

/// What the text of a value begins with that was erased. No JSON value begins so; who erased it stands behind.
const ERASED: &str = "erased";

/// Who erased a value, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in microseconds since 1970.
    time: i64,
}

impl Erasure {
    /// What is known of a value that was erased.
    #[must_use]
    pub fn new(by: impl Into<String>, reason: impl Into<String>, time: Timestamp) -> Self {
        Self { by: by.into(), reason: reason.into(), time: time.0 }
    }

    /// When it was erased.
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
    /// Checks a text.
    ///
    /// # Errors
    /// [`NotJson`] with the place in the text.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| NotJson(error.to_string()))?;
        Ok(Self(text.into()))
    }

    /// Takes a text that a serializer made. It is not checked again.
    #[must_use]
    pub fn from_serializer(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// What stands for a value that was erased. No JSON value has this text, so no value can be taken for it.
    #[must_use]
    pub fn erased() -> Self {
        Self(ERASED.into())
    }

    /// The same, where it is known who erased the value, when and why.
    #[must_use]
    pub fn erased_by(erasure: &Erasure) -> Self {
        let known = serde_json::to_string(erasure).unwrap_or_default();
        Self([ERASED, &known].concat().into())
    }

    /// Whether it stands for a value that was erased. Nothing can be said of such a value but where it was, and who erased it.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.0.starts_with(ERASED)
    }

    /// Who erased the value, when and why; `None` if it was not erased, or that is not known.
    #[must_use]
    pub fn erasure(&self) -> Option<Erasure> {
        serde_json::from_str(self.0.strip_prefix(ERASED)?).ok()
    }

    /// The text; `erased` for a value that was erased.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.is_erased() { ERASED } else { &self.0 }
    }

    /// The value. A text that is nested deeper than 127 levels, or is no JSON after all (a record that was not written by
    /// us), reads as `null`.
    #[must_use]
    pub fn value(&self) -> Value {
        self.try_value().unwrap_or(Value::Null)
    }

    /// The value, `None` if it is nested too deep to be looked into, or no JSON after all.
    #[must_use]
    pub fn try_value(&self) -> Option<Value> {
        serde_json::from_str(&self.0).ok()
    }
}

/// Values are compared as texts; all that were erased are alike, since nobody knows what they were.
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

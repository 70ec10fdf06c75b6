//! JSON values as the text that they came in.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use serde_json::Value;

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
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Json(Arc<str>);

const ERASED: &str = "erased";

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

    /// Whether it stands for a value that was erased. Nothing can be said of such a value but where it was.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        &*self.0 == ERASED
    }

    /// The text; `erased` for a value that was erased.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

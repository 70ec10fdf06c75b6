//! The same facts as JSON: one object, `"format": "cloaca.replay/1"`, events verbatim, context values as the very text
//! that was written.

pub mod definitions;
pub mod diff;
pub mod document;
pub mod events;
pub mod facts;
pub mod graph;
pub mod lines;
pub mod log;
pub mod outcomes;
pub mod schedules;
pub mod starts;
pub mod values;

use std::fmt::Write as _;

/// The format, and the version of it, that everything here is written in.
pub const FORMAT: &str = "cloaca.replay/1";

/// A text that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum NotAHistory {
    /// It is no JSON, or lacks a part.
    #[error("this is no {FORMAT} history: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another format.
    #[error("this has the format '{0}', not '{FORMAT}'")]
    Format(String),
    /// A part of it cannot be.
    #[error("this is no {FORMAT} history: {0}")]
    Part(String),
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that [`hex`] wrote.
///
/// # Errors
/// [`NotAHistory::Part`].
pub fn unhex<const N: usize>(text: &str) -> Result<[u8; N], NotAHistory> {
    let wrong = || NotAHistory::Part(format!("'{text}' is not {N} bytes in hex"));
    if text.len() != N * 2 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// The time that [`crate::time::rfc3339`] wrote.
fn time(text: &str) -> Result<cloacina_engine::core::time::Timestamp, NotAHistory> {
    crate::time::parse_rfc3339(text).ok_or_else(|| NotAHistory::Part(format!("'{text}' is no time")))
}

//! JSON output: one object with `"format": "cloaca.replay/1"`. Context values keep the exact text that was written.

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

/// The name and version of the format.
pub const FORMAT: &str = "cloaca.replay/1";

/// The text cannot be parsed as a history.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHistory {
    /// It is not JSON, or lacks a member.
    #[error("not a valid {FORMAT} history: {0}")]
    Json(#[from] serde_json::Error),
    /// It has another format.
    #[error("this has the format '{0}', not '{FORMAT}'")]
    Format(String),
    /// A part of it is invalid.
    #[error("not a valid {FORMAT} history: {0}")]
    Part(String),
}

/// Encodes bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Decodes the output of [`hex`].
///
/// # Errors
/// [`InvalidHistory::Part`].
pub fn unhex<const N: usize>(text: &str) -> Result<[u8; N], InvalidHistory> {
    let wrong = || InvalidHistory::Part(format!("'{text}' is not {N} bytes in hex"));
    if text.len() != N * 2 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// Parses the output of [`crate::time::rfc3339`].
fn time(text: &str) -> Result<cloacina_engine::core::time::Timestamp, InvalidHistory> {
    crate::time::parse_rfc3339(text).ok_or_else(|| InvalidHistory::Part(format!("'{text}' is not a time")))
}

//! Lookup of an execution by what people type: its whole id, any unique end or beginning of it, `latest`, `@`, `@-`.

use cloacina_engine::core::event::ExecutionId;
use cloacina_store::log::{LogReader, ReadError};

use crate::source::{Head, executions, head};

/// How many candidates are named if a text matches several executions.
const CANDIDATES: usize = 10;
/// How many digits of the end of an id are shown; usually enough to identify it.
const SHOWN: usize = 8;

/// Why no execution was found in a log.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotFound {
    /// No id begins or ends with the text.
    #[error("no execution")]
    Unknown {
        /// The executions with the most similar ids.
        nearest: Vec<Head>,
    },
    /// The text cannot be an id.
    #[error(
        "'{0}' is not an id: an id is hex digits, whole or any unique end or beginning; `latest` and `@` are the newest execution, `@-` the one before"
    )]
    NoId(String),
    /// Several ids begin or end with the text.
    #[error("several executions")]
    Ambiguous {
        /// Some of them, newest first.
        candidates: Vec<Head>,
        /// Whether there are more.
        more: bool,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
}

/// Returns the end of an id, as it is shown and typed.
#[must_use]
pub fn short(id: ExecutionId) -> String {
    let whole = id.to_string();
    whole[whole.len() - SHOWN..].to_owned()
}

/// Finds an execution in a log.
///
/// # Errors
/// [`NotFound`].
pub fn resolve(reader: &dyn LogReader, text: &str) -> Result<ExecutionId, NotFound> {
    if let Some(back) = steps_back(text) {
        let found = executions(reader).nth(back).transpose()?;
        return found
            .map(|entry| ExecutionId(*entry.stream.as_bytes()))
            .ok_or(NotFound::Unknown { nearest: Vec::new() });
    }
    let wanted = digits(text).ok_or_else(|| NotFound::NoId(text.to_owned()))?;
    if let Ok(id) = wanted.parse::<ExecutionId>() {
        return match head(reader, id) {
            Ok(_) => Ok(id),
            Err(ReadError::NoStream(_)) => Err(NotFound::Unknown { nearest: nearest(reader, &wanted)? }),
            Err(error) => Err(error.into()),
        };
    }
    match &matching(reader, &wanted)?[..] {
        [] => Err(NotFound::Unknown { nearest: nearest(reader, &wanted)? }),
        [only] => Ok(*only),
        several => {
            let some = several.iter().take(CANDIDATES).map(|id| head(reader, *id));
            Err(NotFound::Ambiguous { candidates: some.collect::<Result<_, _>>()?, more: several.len() > CANDIDATES })
        }
    }
}

/// Parses `latest`, `@`, `@-`, `@--`: how many executions to go back from the newest.
fn steps_back(text: &str) -> Option<usize> {
    match text {
        "latest" => Some(0),
        _ => {
            let dashes = text.strip_prefix('@')?;
            dashes.chars().all(|letter| letter == '-').then_some(dashes.len())
        }
    }
}

/// Returns the hex digits of an id or a part of one, written as `…9f3ac1d2`, `9F3AC1D2` or with dashes.
pub(crate) fn digits(text: &str) -> Option<String> {
    let text = text.trim_start_matches(['…', '.']).replace('-', "").to_ascii_lowercase();
    let is_hex = !text.is_empty() && text.len() <= 32 && text.chars().all(|letter| letter.is_ascii_hexdigit());
    is_hex.then_some(text)
}

pub(crate) fn hex(id: ExecutionId) -> String {
    id.to_string().replace('-', "")
}

/// Returns the executions whose id ends or begins with `wanted`, newest first; at most one more than are named.
fn matching(reader: &dyn LogReader, wanted: &str) -> Result<Vec<ExecutionId>, ReadError> {
    let mut found = Vec::new();
    for entry in executions(reader) {
        let id = ExecutionId(*entry?.stream.as_bytes());
        let whole = hex(id);
        if whole.ends_with(wanted) || whole.starts_with(wanted) {
            found.push(id);
        }
        if found.len() > CANDIDATES {
            break;
        }
    }
    Ok(found)
}

/// Returns the executions whose ids are most similar to what was typed, with more than half of the digits in place.
fn nearest(reader: &dyn LogReader, wanted: &str) -> Result<Vec<Head>, ReadError> {
    const NAMED: usize = 3;
    let mut best: Vec<(usize, ExecutionId)> = Vec::new();
    for entry in executions(reader) {
        let id = ExecutionId(*entry?.stream.as_bytes());
        let similarity = similarity(&hex(id), wanted);
        let place = best.partition_point(|(other, _)| *other >= similarity);
        if place < NAMED {
            best.insert(place, (similarity, id));
            best.truncate(NAMED);
        }
    }
    best.retain(|(similarity, _)| *similarity * 2 > wanted.len());
    best.into_iter().map(|(_, id)| head(reader, id)).collect()
}

/// Counts the equal digits with the text aligned to the end or to the beginning of an id, whichever gives more.
fn similarity(whole: &str, wanted: &str) -> usize {
    let same = |part: &str| part.bytes().zip(wanted.bytes()).filter(|(left, right)| left == right).count();
    same(&whole[whole.len() - wanted.len().min(whole.len())..]).max(same(whole))
}

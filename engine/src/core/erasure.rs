//! Erasure for privacy: which events lose their values, and what remains of them.
//!
//! The log deletes the body of an event and stores a redacted copy in its place: values become [`Json::erased`], texts
//! become `(erased)`. The fold works as before and shows "erased" instead of the value. Values of an unfinished
//! execution cannot be erased, because its tasks may still read them.

use std::collections::BTreeMap;

use super::event::{Event, ExecutionEnded, Request, Seq, TaskError};
use super::json::{Erasure, Json};

/// The text that replaces an erased text.
pub const ERASED_TEXT: &str = "(erased)";

/// A selection of events to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// All values ever written to a key, whether or not they took effect.
    Key(String),
    /// The contents of one event.
    Seq(Seq),
}

/// Why nothing can be erased.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NothingToErase {
    /// No value was written to the key.
    #[error("no value was written to key '{key}'; the keys of this execution are: {}", .written.join(", "))]
    NoKey {
        /// The key.
        key: String,
        /// The keys that were written.
        written: Vec<String>,
    },
    /// There is no such event.
    #[error("no event has seq {seq}; the execution has {events} events")]
    NoSeq {
        /// The requested position.
        seq: Seq,
        /// How many events there are.
        events: u64,
    },
    /// The event holds no value, only names of tasks and keys.
    #[error("seq {seq} is {event}, which holds no value; only values, errors and reasons can be erased")]
    NoValue {
        /// The event's position.
        seq: Seq,
        /// The event's name.
        event: &'static str,
    },
    /// The execution has not ended.
    #[error("the execution has not ended, so its tasks may still read the value; wait until it ends, or cancel it")]
    NotOver,
}

/// Returns the events of a finished execution that must be replaced, each with its redacted copy. The last event is
/// always one of them, and so is every end before a retry: their digests of the context would allow guesses at an
/// erased value to be checked.
///
/// ```
/// use cloacina_engine::core::erasure::{NothingToErase, What, plan};
/// assert_eq!(plan(&[], &[What::Seq(3)]), Err(NothingToErase::NotOver));
/// ```
///
/// # Errors
/// [`NothingToErase`].
pub fn plan(events: &[(Seq, Event)], what: &[What]) -> Result<BTreeMap<Seq, Event>, NothingToErase> {
    if !events.last().is_some_and(|(_, event)| event.is_end()) {
        return Err(NothingToErase::NotOver);
    }
    let mut erased = BTreeMap::new();
    for what in what {
        match what {
            What::Key(key) => erased.extend(redacted_writes(events, key)?),
            What::Seq(seq) => {
                let found = events.iter().find(|(found, _)| found == seq);
                let (_, event) = found.ok_or(NothingToErase::NoSeq { seq: *seq, events: events.len() as u64 })?;
                let copy = redacted(event).ok_or(NothingToErase::NoValue { seq: *seq, event: event.name() })?;
                erased.insert(*seq, copy);
            }
        }
    }
    let erases_error = erased.values().any(|event| !matches!(event, Event::ContextWritten(_)));
    for (seq, event) in events.iter().filter(|(_, event)| event.is_end()) {
        erased.entry(*seq).or_insert_with(|| redacted_end(event, erases_error));
    }
    Ok(erased)
}

fn redacted_writes(events: &[(Seq, Event)], key: &str) -> Result<BTreeMap<Seq, Event>, NothingToErase> {
    let writes = events.iter().filter(|(_, event)| matches!(event, Event::ContextWritten(write) if *write.key == *key));
    let erased: BTreeMap<Seq, Event> =
        writes.filter_map(|(seq, event)| redacted(event).map(|event| (*seq, event))).collect();
    if erased.is_empty() {
        return Err(NothingToErase::NoKey { key: key.to_owned(), written: written_keys(events) });
    }
    Ok(erased)
}

fn written_keys(events: &[(Seq, Event)]) -> Vec<String> {
    let mut keys: Vec<String> = events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::ContextWritten(write) => Some(write.key.to_string()),
            _ => None,
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Returns a redacted copy of an event; `None` if the event holds nothing to erase.
fn redacted(event: &Event) -> Option<Event> {
    Some(match event {
        Event::ContextWritten(write) => {
            let mut write = write.clone();
            write.value = Json::erased();
            Event::ContextWritten(write)
        }
        Event::TaskFailed(failed) => {
            let mut failed = failed.clone();
            failed.error = TaskError { message: ERASED_TEXT.into(), traceback: None, hint: None, ..failed.error };
            Event::TaskFailed(failed)
        }
        Event::ExecutionPaused(request) => Event::ExecutionPaused(redacted_request(request)),
        Event::ExecutionUnpaused(request) => Event::ExecutionUnpaused(redacted_request(request)),
        Event::CancelRequested(request) => Event::CancelRequested(redacted_request(request)),
        Event::ExecutionRetried(retried) => {
            let mut retried = retried.clone();
            retried.request = redacted_request(&retried.request);
            Event::ExecutionRetried(retried)
        }
        Event::ExecutionCompleted(_) | Event::ExecutionFailed(_) | Event::ExecutionCancelled(_) => {
            redacted_end(event, true)
        }
        _ => return None,
    })
}

/// Adds to a redacted event who erased it, in the place of its value.
#[must_use]
pub fn attributed(event: Event, erasure: &Erasure) -> Event {
    match event {
        Event::ContextWritten(mut write) if write.value.is_erased() => {
            write.value = Json::erased_by(erasure);
            Event::ContextWritten(write)
        }
        other => other,
    }
}

fn redacted_request(request: &Request) -> Request {
    Request { by: ERASED_TEXT.into(), reason: request.reason.as_ref().map(|_| ERASED_TEXT.into()) }
}

/// Returns the last event of an execution without the digest of its context, and without its reason if `erase_reason`.
fn redacted_end(event: &Event, erase_reason: bool) -> Event {
    let redact = |ended: &ExecutionEnded| {
        let has_reason = erase_reason && !ended.reason.is_empty();
        let reason = if has_reason { ERASED_TEXT.into() } else { ended.reason.clone() };
        ExecutionEnded { reason, context: [0; 32] }
    };
    match event {
        Event::ExecutionCompleted(ended) => Event::ExecutionCompleted(redact(ended)),
        Event::ExecutionFailed(ended) => Event::ExecutionFailed(redact(ended)),
        Event::ExecutionCancelled(ended) => Event::ExecutionCancelled(redact(ended)),
        other => other.clone(),
    }
}

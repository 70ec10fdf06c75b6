//! The listing of a log: its executions and the standing of each, from the index. Events are read only to find damage
//! of executions that nothing runs.

use std::collections::BTreeMap;

use cloacina_engine::core::codec::{self, DecodeError, Label};
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::standing::{ExecutionStatus, Standing};
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{Durability, ListingKey, LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::log_event::LogEvent;
use cloacina_store::record::{StreamId, StreamKind};

use crate::damage_finder::DamageFinder;
use crate::reading::{HistoryError, stream_of};
use crate::standing::{Runner, is_damage};

/// How many index entries are read at once.
const PAGE: usize = 512;

/// An execution as listed in the index of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its id.
    pub id: ExecutionId,
    /// The location of its log.
    pub location: String,
    /// The durability mode of its first events; `None` if unknown or not looked up.
    pub durability: Option<Durability>,
    /// Its entry in the index.
    pub entry: StreamEntry,
    /// The label that its engine wrote for listings.
    pub label: Result<Label, DecodeError>,
    /// Its status, the reason, and what to do next.
    pub standing: Standing,
}

impl Head {
    fn new(reader: &dyn LogReader, runner: &Runner, entry: StreamEntry, durability: Option<Durability>) -> Self {
        let label = codec::decode_label(&entry.label);
        let id = ExecutionId(*entry.stream.as_bytes());
        // If the label cannot be read, it may be what is damaged.
        let damage = label.is_err().then(|| reader.stream(entry.stream).err()).flatten().filter(ReadError::is_damage);
        let standing = match damage {
            Some(damage) => Standing::damaged(id, &damage.to_string()),
            None => runner.standing(id, &label),
        };
        Self { id, location: reader.location(), durability, entry, label, standing }
    }

    /// Updates the standing after its events were read: an unfinished execution with a damaged history becomes damaged.
    pub fn note(&mut self, trouble: Option<&HistoryError>) {
        if trouble.is_some_and(is_damage) {
            self.note_damage(&trouble.map(ToString::to_string).unwrap_or_default());
        }
    }

    /// Marks it as damaged, with a description. A finished execution keeps its status.
    pub fn note_damage(&mut self, what: &str) {
        if !self.standing.status.is_final() {
            self.standing = Standing::damaged(self.id, what);
        }
    }

    /// Returns when it ended: the time of its last event, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        let is_over = self.label.as_ref().is_ok_and(|label| label.ended.is_some());
        is_over.then_some(Timestamp(self.entry.last.0))
    }

    /// Returns the error if only the first `read` of its events exist: the tail is cut.
    #[must_use]
    pub fn cut(&self, read: u64) -> Option<HistoryError> {
        let (stream, head) = (self.entry.stream, self.entry.records);
        (read < head).then(|| ReadError::TailCut { stream, head, found: read }.into())
    }

    /// Returns the name of its status; `unknown` if its label cannot be read, unless that is because of damage.
    #[must_use]
    pub fn status(&self) -> &'static str {
        let is_known = self.label.is_ok() || self.standing.status == ExecutionStatus::Damaged;
        if is_known { self.standing.status.name() } else { "unknown" }
    }

    /// Returns the workflow's name; `unknown` if its label cannot be read.
    #[must_use]
    pub fn workflow(&self) -> &str {
        self.label.as_ref().map_or("unknown", |label| &label.workflow)
    }
}

/// Looks an execution up in the index.
///
/// # Errors
/// [`ReadError::NoStream`] if there is no such execution.
pub fn head(reader: &dyn LogReader, id: ExecutionId) -> Result<Head, ReadError> {
    let entry = reader.stream(stream_of(id))?;
    if entry.kind != StreamKind::Execution {
        return Err(ReadError::NoStream(entry.stream));
    }
    let durability = written_with(reader, &entry);
    Ok(Head::new(reader, &Runner::of(reader), entry, durability))
}

/// Returns the present standing of an execution.
///
/// # Errors
/// [`ReadError::NoStream`] if there is no such execution.
pub fn standing(reader: &dyn LogReader, id: ExecutionId) -> Result<Standing, ReadError> {
    let entry = reader.stream(stream_of(id))?;
    Ok(Runner::of(reader).standing(id, &codec::decode_label(&entry.label)))
}

/// Returns the durability mode of the process that wrote the first event of an execution.
fn written_with(reader: &dyn LogReader, entry: &StreamEntry) -> Option<Durability> {
    let first = reader.read(entry.stream, 0, 1).ok()?.first()?.position;
    let mut durability = None;
    let mut next = 0;
    loop {
        let page = reader.read(StreamId::LOG, next, PAGE).ok()?;
        for record in &page {
            if record.position > first {
                return durability;
            }
            if let Some(Ok(LogEvent::Opened(opened))) = record.body.bytes().map(LogEvent::decode) {
                durability = opened.durability();
            }
        }
        match page.last() {
            Some(last) => next = last.seq + 1,
            None => return durability,
        }
    }
}

/// A filter for executions.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only this status, compared without regard to case.
    pub status: Option<String>,
    /// Only this workflow.
    pub workflow: Option<String>,
    /// Only executions that started at this time or later.
    pub since: Option<Timestamp>,
    /// The maximum number of executions.
    pub limit: Option<usize>,
}

impl Wanted {
    fn takes(&self, head: &Head) -> bool {
        self.status.as_ref().is_none_or(|status| head.status().eq_ignore_ascii_case(status))
            && self.since.is_none_or(|since| head.entry.started.0 >= since.0)
            && self.workflow.as_ref().is_none_or(|workflow| head.workflow() == workflow)
    }
}

/// Lists executions, newest first, and whether there are more. Finds damage of those that nothing runs.
///
/// # Errors
/// [`ReadError`] if the log is damaged.
pub fn list(reader: &dyn LogReader, wanted: &Wanted) -> Result<(Vec<Head>, bool), ReadError> {
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut finder = DamageFinder::new(reader);
    for head in heads(reader) {
        let mut head = head?;
        finder.check(&mut head);
        if !wanted.takes(&head) {
            continue;
        }
        if found.len() == limit {
            return Ok((found, true));
        }
        found.push(head);
    }
    Ok((found, false))
}

/// Lists the executions with events from a position on, in their present state and without durability. Also returns the
/// position for the next call.
///
/// # Errors
/// [`ReadError`] if the log cannot be read at the moment.
pub fn heads_since(reader: &dyn LogReader, from: u64) -> Result<(Vec<Head>, u64), ReadError> {
    let (mut next, mut changed) = (from, BTreeMap::new());
    loop {
        let since = reader.streams_since(next, PAGE)?;
        if since.next == next {
            break;
        }
        next = since.next;
        let executions = since.streams.into_iter().filter(|entry| entry.kind == StreamKind::Execution);
        changed.extend(executions.map(|entry| (entry.stream, entry)));
    }
    let runner = Runner::of(reader);
    Ok((changed.into_values().map(|entry| Head::new(reader, &runner, entry, None)).collect(), next))
}

/// Lists the unfinished executions of a log, newest first, without durability.
///
/// # Errors
/// [`ReadError`] if the index is damaged.
pub fn open_heads(reader: &dyn LogReader) -> Result<Vec<Head>, ReadError> {
    let open = StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: usize::MAX };
    let runner = Runner::of(reader);
    Ok(reader.streams(&open)?.into_iter().map(|entry| Head::new(reader, &runner, entry, None)).collect())
}

/// Iterates over all executions of a log, newest first, page by page, without durability.
pub fn heads(reader: &dyn LogReader) -> impl Iterator<Item = Result<Head, ReadError>> + '_ {
    let runner = Runner::of(reader);
    executions(reader).map(move |entry| entry.map(|entry| Head::new(reader, &runner, entry, None)))
}

/// Iterates over the index entries of all executions, newest first by start time, page by page.
pub fn executions(reader: &dyn LogReader) -> impl Iterator<Item = Result<StreamEntry, ReadError>> + '_ {
    Executions { reader, before: None, page: Vec::new().into_iter(), over: false }
}

struct Executions<'a> {
    reader: &'a dyn LogReader,
    before: Option<ListingKey>,
    page: std::vec::IntoIter<StreamEntry>,
    over: bool,
}

impl Iterator for Executions<'_> {
    type Item = Result<StreamEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.as_slice().is_empty() && !self.over {
            let filter =
                StreamFilter { kind: Some(StreamKind::Execution), open_only: false, before: self.before, limit: PAGE };
            match self.reader.streams(&filter) {
                Ok(page) => {
                    self.over = page.len() < PAGE;
                    self.page = page.into_iter();
                }
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        let entry = self.page.next()?;
        self.before = Some(entry.listing_key());
        Some(Ok(entry))
    }
}

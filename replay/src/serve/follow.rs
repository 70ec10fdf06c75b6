//! The updates for pages: new events of one execution with their frames, and executions of the list that changed.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use cloacina_engine::core::codec::LabelStatus;
use cloacina_engine::core::event::{Event, ExecutionId, Request, Seq};
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::state::Execution;
use cloacina_store::log::{LogReader, Notices, ReadError};
use cloacina_store::paging::Records;
use cloacina_store::record::StreamId;
use serde::Serialize;

use super::watch::{LogWatch, Tick};
use crate::json::definitions::DefinitionJson;
use crate::json::events::EntryJson;
use crate::json::facts::ExecutionJson;
use crate::reading::{Decoder, stream_of};
use crate::report::document::{Layouts, write_documents};
use crate::report::frames::{Frame, Framer};
use crate::report::layout::Layout;
use crate::source::{self, Head, Wanted};

/// How many events are pushed at once.
const PAGE: usize = 512;

/// How many executions the list page starts with.
pub const LISTED: usize = 2_000;

/// How many characters of a reason the list gets: more than a line shows. The page of the execution has all of it.
const LONGEST_REASON: usize = 400;

/// How many of the last events of a paused execution are searched for the pause.
const AFTER_A_PAUSE: u64 = 64;

/// A message to a page.
pub struct Message {
    /// The kind of message.
    pub kind: &'static str,
    /// JSON without line breaks.
    pub data: String,
}

impl Message {
    /// Creates a message from a value. A server-sent event cannot contain line breaks. JSON that a task wrote may have
    /// them between tokens, but never inside strings, so they can be replaced by spaces.
    pub fn new(kind: &'static str, value: &impl Serialize) -> io::Result<Self> {
        let data = serde_json::to_string(value)?.replace(['\n', '\r'], " ");
        Ok(Self { kind, data })
    }
}

#[derive(Serialize)]
struct NewEvents<'a> {
    execution: ExecutionJson,
    events: Vec<EntryJson>,
    frames: Vec<Frame>,
    layouts: &'a [Layout],
    definitions: Vec<DefinitionJson>,
}

#[derive(Serialize)]
struct Documents {
    history: String,
    report: String,
}

/// Follows one execution for one page.
pub struct ExecutionFollower {
    watch: Arc<LogWatch>,
    id: ExecutionId,
    /// The first event that the page does not have.
    from: Seq,
    next: Seq,
    framer: Framer<Arc<LogWatch>>,
    layouts: Layouts,
    /// If the page has the end: how many records the execution has then. More records follow if it is retried.
    ended_at: Option<u64>,
    /// How many records of the execution are erased in the page's version.
    erased: usize,
    /// The length of the log's own stream, which records erasures, at the last check.
    erasures_read_to: Option<u64>,
    /// The standing that was sent last.
    standing: Option<Standing>,
}

impl ExecutionFollower {
    /// Creates a follower for a page that has the events before `from`, `erased` of them erased.
    #[must_use]
    pub fn new(watch: Arc<LogWatch>, id: ExecutionId, from: Seq, erased: usize) -> Self {
        let framer = Framer::new(id, watch.clone());
        let layouts = Layouts::default();
        Self {
            watch,
            id,
            from,
            next: 0,
            framer,
            layouts,
            ended_at: None,
            erased,
            erasures_read_to: None,
            standing: None,
        }
    }

    /// Returns the messages about changes since the last call, and whether to call again at once for more.
    ///
    /// # Errors
    /// [`io::Error`] if the log cannot be read at the moment. Call again when the log has changed.
    pub fn step(&mut self) -> io::Result<(Vec<Message>, bool)> {
        let reader = self.watch.reader();
        if self.erasures_changed(&*reader)? {
            return Ok((vec![self.restart()?], true));
        }
        if let Some(records) = self.ended_at {
            let is_retried = reader.stream(stream_of(self.id)).map_err(io::Error::other)?.records > records;
            let restarted = is_retried.then(|| self.restart()).transpose()?;
            return Ok((restarted.into_iter().collect(), is_retried));
        }
        let (mut events, mut frames) = (Vec::new(), Vec::new());
        let laid_out = self.layouts.found.len();
        let mut seen = 0;
        let mut broken = false;
        let mut decoder = Decoder::new(&*reader);
        for record in Records::new(&*reader, stream_of(self.id), self.next).take(PAGE) {
            let entry = match record {
                Ok(record) => decoder.decode(&record),
                // The engine is gone or the read failed: try again later.
                Err(ReadError::Gone | ReadError::Io(_)) => break,
                Err(error) => Err(error.into()),
            };
            let Ok(entry) = entry else {
                broken = true;
                break;
            };
            seen += 1;
            self.next = entry.seq + 1;
            let Ok(Some(frame)) = self.framer.step(&entry) else {
                broken = true;
                break;
            };
            self.layouts.add(&self.framer);
            if entry.seq >= self.from {
                events.push(EntryJson::new(&entry)?);
                frames.push(frame);
            }
        }
        let more = seen == PAGE;
        let over = broken || self.framer.state().is_some_and(|state| state.status().is_final());
        if over && !more {
            self.ended_at = Some(if broken { u64::MAX } else { self.next });
            // A page that was made after the end is complete.
            if !broken && self.next <= self.from {
                return Ok((Vec::new(), false));
            }
            // Hints and other facts need the final state, and an error shows only in the complete documents.
            return Ok((vec![self.documents()?.0], false));
        }
        let standing = source::standing(&*reader, self.id).map_err(io::Error::other)?;
        let standing_changed = self.standing.as_ref().is_some_and(|sent| *sent != standing);
        self.standing = Some(standing);
        if events.is_empty() && !standing_changed {
            return Ok((Vec::new(), more));
        }
        let head = source::head(&*reader, self.id).map_err(io::Error::other)?;
        if events.is_empty() {
            let execution = ExecutionJson::new(&head, &self.watch.location);
            return Ok((vec![Message::new("execution", &execution)?], more));
        }
        let definition = |state: &Execution| DefinitionJson::new(state.definition());
        let definitions = self.framer.state().map(definition).transpose()?;
        let added = NewEvents {
            execution: ExecutionJson::new(&head, &self.watch.location),
            events,
            frames,
            layouts: &self.layouts.found[laid_out..],
            definitions: definitions.into_iter().filter(|_| self.layouts.found.len() > laid_out).collect(),
        };
        Ok((vec![Message::new("add", &added)?], more))
    }

    /// Whether the number of erased records is different from the page's.
    fn erasures_changed(&mut self, reader: &dyn LogReader) -> io::Result<bool> {
        let own = reader.stream(StreamId::LOG).map_err(io::Error::other)?.records;
        if self.erasures_read_to == Some(own) {
            return Ok(false);
        }
        let erased = reader.erasures(stream_of(self.id)).map_err(io::Error::other)?;
        let erased = erased.iter().map(|erasure| erasure.seq).collect::<BTreeSet<_>>().len();
        let is_new = erased != self.erased;
        (self.erased, self.erasures_read_to) = (erased, Some(own));
        Ok(is_new)
    }

    /// Starts over after an erasure or a retry: returns the complete documents, and folds later events from what is left.
    fn restart(&mut self) -> io::Result<Message> {
        let (message, from) = self.documents()?;
        let restarted = Self::new(self.watch.clone(), self.id, from, self.erased);
        *self = Self { erasures_read_to: self.erasures_read_to, ..restarted };
        Ok(message)
    }

    /// Returns the complete documents, and the first event that is not in them.
    fn documents(&self) -> io::Result<(Message, Seq)> {
        let (mut history, mut report) = (Vec::new(), Vec::new());
        let reader = self.watch.reader();
        let next = write_documents(&*reader, self.id, &self.watch.location, &mut history, &mut report)
            .map_err(io::Error::other)?;
        let text = |bytes| String::from_utf8(bytes).map_err(io::Error::other);
        let message = Message::new("whole", &Documents { history: text(history)?, report: text(report)? })?;
        Ok((message, next))
    }
}

/// Returns an execution for the list. Includes the reason for its status, which may require reading its last events.
pub fn list_entry(reader: &dyn LogReader, head: &Head, location: &str) -> ExecutionJson {
    ExecutionJson::new(head, location).or_reason(|| reason(reader, head))
}

/// Returns the reason for its status in one line: its error, or who stopped it and why.
fn reason(reader: &dyn LogReader, head: &Head) -> Option<String> {
    // The end is the last event. A pause may be followed by events of attempts that were still running.
    let tail = match head.label.as_ref().ok()?.status {
        LabelStatus::Failed | LabelStatus::Cancelled => 1,
        LabelStatus::Paused => AFTER_A_PAUSE,
        LabelStatus::Running | LabelStatus::Completed => return None,
    };
    let from = head.entry.records.saturating_sub(tail);
    let records = match reader.read(stream_of(head.id), from, PAGE) {
        Ok(records) => records,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    let mut decoder = Decoder::new(reader);
    let reason = records.iter().rev().find_map(|record| match decoder.decode(record).ok()?.event? {
        Event::ExecutionFailed(ended) | Event::ExecutionCancelled(ended) => Some(ended.reason.to_string()),
        Event::ExecutionPaused(Request { by, reason: Some(reason) }) => Some(format!("paused by {by}: {reason}")),
        Event::ExecutionPaused(Request { by, reason: None }) => Some(format!("paused by {by}")),
        _ => None,
    })?;
    let cut = reason.char_indices().nth(LONGEST_REASON).map_or(reason.len(), |(at, _)| at);
    Some(reason[..cut].to_owned()).filter(|reason| !reason.is_empty())
}

#[derive(Serialize)]
struct Executions {
    executions: Vec<ExecutionJson>,
}

/// Follows the list of executions for one page.
pub struct ListFollower {
    watch: Arc<LogWatch>,
    /// The first record of the log that the page has not seen.
    position: u64,
    opened: Option<u64>,
    /// The engine's notices at the last update.
    notices: Arc<Notices>,
}

impl ListFollower {
    /// Creates a follower for a page that was made when the log had `position` records.
    #[must_use]
    pub fn new(watch: Arc<LogWatch>, position: u64) -> Self {
        let notices = watch.ticks().borrow().notices.clone();
        Self { watch, position, opened: None, notices }
    }

    /// Returns a message with the executions that changed since the last call, if any did.
    ///
    /// # Errors
    /// [`io::Error`] if the log cannot be read at the moment.
    pub fn step(&mut self, tick: &Tick) -> io::Result<Option<Message>> {
        let reader = self.watch.reader();
        if self.opened.is_some_and(|opened| opened != tick.opened) {
            // The log was reopened, so anything may have changed: send the whole list.
            self.opened = Some(tick.opened);
            self.position = tick.position;
            self.notices = tick.notices.clone();
            return self.all().map(Some);
        }
        self.opened = Some(tick.opened);
        let (mut heads, next) = source::heads_since(&*reader, self.position).map_err(io::Error::other)?;
        self.position = next;
        let last = std::mem::replace(&mut self.notices, tick.notices.clone());
        let differs = |id: &&StreamId| last.get(id) != tick.notices.get(id);
        let noticed: BTreeSet<StreamId> = last.keys().chain(tick.notices.keys()).filter(differs).copied().collect();
        let known: BTreeSet<StreamId> = heads.iter().map(|head| head.entry.stream).collect();
        for stream in noticed.difference(&known) {
            // An error means that the execution was pruned meanwhile: it is skipped.
            heads.extend(source::head(&*reader, ExecutionId(*stream.as_bytes())));
        }
        let executions: Vec<ExecutionJson> = heads.iter().map(|head| self.list_entry(&*reader, head)).collect();
        if executions.is_empty() {
            return Ok(None);
        }
        Message::new("executions", &Executions { executions }).map(Some)
    }

    fn all(&self) -> io::Result<Message> {
        let wanted = Wanted { limit: Some(LISTED), ..Wanted::default() };
        let reader = self.watch.reader();
        let (heads, _) = source::list(&*reader, &wanted).map_err(io::Error::other)?;
        let executions = heads.iter().map(|head| self.list_entry(&*reader, head)).collect();
        Message::new("executions", &Executions { executions })
    }

    fn list_entry(&self, reader: &dyn LogReader, head: &Head) -> ExecutionJson {
        list_entry(reader, head, &self.watch.location)
    }
}

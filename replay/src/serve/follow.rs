//! What is pushed to a page: the events of one execution with what they change, and the executions that changed.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use cloacina_engine::core::codec::LabelStatus;
use cloacina_engine::core::event::{Event, ExecutionId, Seq};
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::state::Execution;
use cloacina_store::log::{LogReader, Notices, ReadError};
use cloacina_store::paging::Records;
use cloacina_store::record::StreamId;
use serde::Serialize;

use super::watch::{Tick, Watch};
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

/// How many executions a list begins with.
pub const LISTED: usize = 2_000;

/// How many letters of an error the list gets: more than a line shows. The page of the execution has all of it.
const LONGEST_ERROR: usize = 400;

/// A message to a page.
pub struct Message {
    /// What is in it.
    pub kind: &'static str,
    /// JSON without line breaks.
    pub data: String,
}

impl Message {
    /// A message with a value in it. Between the tokens of a value that a task wrote there may be line breaks, which a
    /// message cannot hold; inside of strings JSON has none.
    pub fn new(kind: &'static str, value: &impl Serialize) -> io::Result<Self> {
        let data = serde_json::to_string(value)?.replace(['\n', '\r'], " ");
        Ok(Self { kind, data })
    }
}

#[derive(Serialize)]
struct Added<'a> {
    execution: ExecutionJson,
    events: Vec<EntryJson>,
    frames: Vec<Frame>,
    layouts: &'a [Layout],
    definitions: Vec<DefinitionJson>,
}

#[derive(Serialize)]
struct Whole {
    history: String,
    report: String,
}

/// Follows one execution for one page.
pub struct Follower {
    watch: Arc<Watch>,
    id: ExecutionId,
    /// The first event that the page does not have.
    from: Seq,
    next: Seq,
    framer: Framer<Arc<Watch>>,
    layouts: Layouts,
    ended: bool,
    /// How many of its records were erased, as the page has it.
    erased: usize,
    /// How many records the log's own stream, which says what was erased, had when it was looked at last.
    looked_at: Option<u64>,
    /// How it stood when the page was told last.
    standing: Option<Standing>,
}

impl Follower {
    /// For a page that has the events before `from`, of which so many are erased.
    #[must_use]
    pub fn new(watch: Arc<Watch>, id: ExecutionId, from: Seq, erased: usize) -> Self {
        let framer = Framer::new(id, watch.clone());
        let layouts = Layouts::default();
        Self { watch, id, from, next: 0, framer, layouts, ended: false, erased, looked_at: None, standing: None }
    }

    /// What has happened since it was last asked: messages for the page, and whether there may be more at once.
    ///
    /// # Errors
    /// [`io::Error`] where the log cannot be read now; it is asked again when that has changed.
    pub fn step(&mut self) -> io::Result<(Vec<Message>, bool)> {
        let reader = self.watch.reader();
        if self.was_erased(&*reader)? {
            return Ok((vec![self.begin_anew()?], true));
        }
        if self.ended {
            return Ok((Vec::new(), false));
        }
        let (mut events, mut frames) = (Vec::new(), Vec::new());
        let laid_out = self.layouts.found.len();
        let mut seen = 0;
        let mut broken = false;
        let mut decoder = Decoder::new(&*reader);
        for record in Records::new(&*reader, stream_of(self.id), self.next).take(PAGE) {
            let entry = match record {
                Ok(record) => decoder.decode(&record),
                // It is being written, or the engine has gone: later.
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
            self.ended = true;
            // A page that was made when it was over has all of it.
            if !broken && self.next <= self.from {
                return Ok((Vec::new(), false));
            }
            // Only the end tells all, and only the whole tells what is broken.
            return Ok((vec![self.whole()?.0], false));
        }
        let standing = source::standing(&*reader, self.id).map_err(io::Error::other)?;
        let stands_otherwise = self.standing.as_ref().is_some_and(|told| *told != standing);
        self.standing = Some(standing);
        if events.is_empty() && !stands_otherwise {
            return Ok((Vec::new(), more));
        }
        let head = source::head(&*reader, self.id).map_err(io::Error::other)?;
        if events.is_empty() {
            let execution = ExecutionJson::new(&head, &self.watch.location);
            return Ok((vec![Message::new("execution", &execution)?], more));
        }
        let definition = |state: &Execution| DefinitionJson::new(state.definition());
        let definitions = self.framer.state().map(definition).transpose()?;
        let added = Added {
            execution: ExecutionJson::new(&head, &self.watch.location),
            events,
            frames,
            layouts: &self.layouts.found[laid_out..],
            definitions: definitions.into_iter().filter(|_| self.layouts.found.len() > laid_out).collect(),
        };
        Ok((vec![Message::new("add", &added)?], more))
    }

    /// Whether more of it, or less, was erased than the page knows.
    fn was_erased(&mut self, reader: &dyn LogReader) -> io::Result<bool> {
        let own = reader.stream(StreamId::LOG).map_err(io::Error::other)?.records;
        if self.looked_at == Some(own) {
            return Ok(false);
        }
        let erased = reader.erasures(stream_of(self.id)).map_err(io::Error::other)?;
        let erased = erased.iter().map(|erasure| erasure.seq).collect::<BTreeSet<_>>().len();
        let is_new = erased != self.erased;
        (self.erased, self.looked_at) = (erased, Some(own));
        Ok(is_new)
    }

    /// All of it, for a page that shows what is erased now; what comes after is folded from what is left.
    fn begin_anew(&mut self) -> io::Result<Message> {
        let (message, from) = self.whole()?;
        let anew = Self::new(self.watch.clone(), self.id, from, self.erased);
        *self = Self { looked_at: self.looked_at, ..anew };
        Ok(message)
    }

    /// All of it, and the first event that is not in it.
    fn whole(&self) -> io::Result<(Message, Seq)> {
        let (mut history, mut report) = (Vec::new(), Vec::new());
        let reader = self.watch.reader();
        let next = write_documents(&*reader, self.id, &self.watch.location, &mut history, &mut report)
            .map_err(io::Error::other)?;
        let text = |bytes| String::from_utf8(bytes).map_err(io::Error::other);
        let message = Message::new("whole", &Whole { history: text(history)?, report: text(report)? })?;
        Ok((message, next))
    }
}

/// An execution in the list.
#[derive(Serialize)]
pub struct Listed {
    #[serde(flatten)]
    execution: ExecutionJson,
}

impl Listed {
    /// An execution as the list shows it. Reads its last event, if that may say why it ended or stands still.
    pub fn new(reader: &dyn LogReader, head: &Head, location: &str) -> Self {
        Self { execution: ExecutionJson::new(head, location).or_reason(|| reason(reader, head)) }
    }
}

/// Why it stands as it does, in a line: its error, or who stopped it and why.
fn reason(reader: &dyn LogReader, head: &Head) -> Option<String> {
    let status = head.label.as_ref().ok()?.status;
    if !matches!(status, LabelStatus::Failed | LabelStatus::Cancelled | LabelStatus::Paused) {
        return None;
    }
    let last = head.entry.records.checked_sub(1)?;
    let record = match reader.read(stream_of(head.id), last, 1) {
        Ok(records) => records.into_iter().next()?,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    let reason = match Decoder::new(reader).decode(&record).ok()?.event? {
        Event::ExecutionFailed(ended) | Event::ExecutionCancelled(ended) => ended.reason.to_string(),
        Event::ExecutionPaused(paused) => match &paused.reason {
            Some(reason) => format!("paused by {}: {reason}", paused.by),
            None => format!("paused by {}", paused.by),
        },
        _ => return None,
    };
    let cut = reason.char_indices().nth(LONGEST_ERROR).map_or(reason.len(), |(at, _)| at);
    Some(reason[..cut].to_owned()).filter(|reason| !reason.is_empty())
}

#[derive(Serialize)]
struct Executions {
    executions: Vec<Listed>,
}

/// Follows the list of executions for one page.
pub struct Lister {
    watch: Arc<Watch>,
    /// The first record of the log that the page knows nothing of.
    position: u64,
    opened: Option<u64>,
    /// What the engine said of executions when the page was told of them.
    notices: Arc<Notices>,
}

impl Lister {
    /// For a page that was made when the log had so many records.
    #[must_use]
    pub fn new(watch: Arc<Watch>, position: u64) -> Self {
        let notices = watch.ticks().borrow().notices.clone();
        Self { watch, position, opened: None, notices }
    }

    /// The executions that changed since it was last asked.
    ///
    /// # Errors
    /// [`io::Error`] where the log cannot be read now.
    pub fn step(&mut self, tick: &Tick) -> io::Result<Option<Message>> {
        let reader = self.watch.reader();
        if self.opened.is_some_and(|opened| opened != tick.opened) {
            // Another engine, or another state of the files: told anew, which is never wrong.
            self.opened = Some(tick.opened);
            self.position = tick.position;
            self.notices = tick.notices.clone();
            return self.all().map(Some);
        }
        self.opened = Some(tick.opened);
        let (mut heads, next) = source::heads_since(&*reader, self.position).map_err(io::Error::other)?;
        self.position = next;
        let told = std::mem::replace(&mut self.notices, tick.notices.clone());
        let differs = |id: &&StreamId| told.get(id) != tick.notices.get(id);
        let moved: BTreeSet<StreamId> = told.keys().chain(tick.notices.keys()).filter(differs).copied().collect();
        let known: BTreeSet<StreamId> = heads.iter().map(|head| head.entry.stream).collect();
        for stream in moved.difference(&known) {
            // One that is gone meanwhile is on no list any more.
            heads.extend(source::head(&*reader, ExecutionId(*stream.as_bytes())));
        }
        let executions: Vec<Listed> = heads.iter().map(|head| self.listed(&*reader, head)).collect();
        if executions.is_empty() {
            return Ok(None);
        }
        Message::new("executions", &Executions { executions }).map(Some)
    }

    fn all(&self) -> io::Result<Message> {
        let wanted = Wanted { limit: Some(LISTED), ..Wanted::default() };
        let reader = self.watch.reader();
        let (heads, _) = source::list(&*reader, &wanted).map_err(io::Error::other)?;
        let executions = heads.iter().map(|head| self.listed(&*reader, head)).collect();
        Message::new("executions", &Executions { executions })
    }

    fn listed(&self, reader: &dyn LogReader, head: &Head) -> Listed {
        Listed::new(reader, head, &self.watch.location)
    }
}

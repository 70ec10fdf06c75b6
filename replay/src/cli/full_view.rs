//! `replay ID --full`: every event, one per row. Each row is written as it is read, so memory use does not depend on
//! the length of the history.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use cloacina_engine::core::definition::{Changes, Fingerprint};
use cloacina_engine::core::event::{Event, Origin, Reads, Seen};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::time::Timestamp;

use super::failure::Failure;
use super::notes::error_text;
use super::screen::Screen;
use super::style::Tone;
use super::target::Target;
use super::text;
use crate::moment::task_of;
use crate::reading::{Definitions, Entry, Erased, entries, started};
use crate::source::Head;
use crate::words;

/// The width of the longest event name.
const EVENT_WIDTH: usize = 18;
/// The largest width of the task column.
const MAX_TASK_WIDTH: usize = 28;
/// The smallest width of the last column, if shrinking the task column can provide it.
const MIN_WHAT_WIDTH: usize = 24;

/// Writes every event up to and including `until`.
///
/// # Errors
/// [`Failure`] if an event cannot be read.
pub fn write(
    screen: &mut Screen<'_>,
    target: &Target,
    head: &Head,
    until: Option<u64>,
    values: bool,
) -> Result<(), Failure> {
    let last = until.unwrap_or(head.entry.records.saturating_sub(1));
    let rows = Rows { seq: last.to_string().len().max(3), ..Rows::new(screen, target, head, values) };
    rows.heading(screen)?;
    for entry in entries(&*target.log.reader, target.id) {
        let entry = entry?;
        if entry.seq > last {
            break;
        }
        rows.entry(screen, &entry)?;
    }
    Ok(())
}

/// Returns the width of the task column: the definition has all names before the first event is shown.
fn task_width(target: &Target, head: &Head) -> usize {
    let reader = &*target.log.reader;
    let graph = head.label.as_ref().ok().and_then(|label| (&reader).load(label.definition).ok());
    let names = graph.iter().flat_map(|graph| graph.tasks().map(|task| text::width(&text::clean(graph.name(task)))));
    names.max().unwrap_or(MAX_TASK_WIDTH).clamp(4, MAX_TASK_WIDTH)
}

/// Writes events, one per row.
pub struct Rows<'a> {
    target: &'a Target,
    start: Timestamp,
    values: bool,
    seq: usize,
    time: usize,
    task: usize,
    /// The definition in effect at the last event.
    definition: RefCell<Option<Arc<Graph>>>,
}

impl<'a> Rows<'a> {
    /// Chooses column widths for the events of an execution.
    #[must_use]
    pub fn new(screen: &Screen<'_>, target: &'a Target, head: &Head, values: bool) -> Self {
        let start = started(&head.entry);
        let seq = head.entry.records.to_string().len().max(3);
        let time = text::width(&screen.moment(start, start)).max(9);
        // The contents of an event matter more than the end of a long task name.
        let room = screen.width.saturating_sub(seq + time + EVENT_WIDTH + 5 * 2 + MIN_WHAT_WIDTH);
        let task = task_width(target, head).min(room.max(8));
        Self { target, start, values, seq, time, task, definition: RefCell::default() }
    }

    /// Writes the heading of the columns.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn heading(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let time = screen.moments();
        let line = self.columns("seq", time, "event", "task", "what");
        let line = screen.style.paint(Tone::Dim, &line);
        screen.line(&line)
    }

    fn columns(&self, seq: &str, time: &str, event: &str, task: &str, what: &str) -> String {
        format!(
            "  {}  {}  {}  {}  {what}",
            text::pad_left(seq, self.seq),
            text::pad(time, self.time),
            text::pad(event, EVENT_WIDTH),
            text::pad(&text::cut(task, self.task), self.task),
        )
    }

    /// Writes the row of an event.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn entry(&self, screen: &mut Screen<'_>, entry: &Entry) -> io::Result<()> {
        let time = screen.moment(entry.time, self.start);
        let seq = entry.seq.to_string();
        let Some(event) = &entry.event else {
            let line = self.columns(&seq, &time, "-", "-", "the body of this event is missing");
            return screen.line(&line);
        };
        let task = task_of(event).map_or_else(|| "-".to_owned(), |task| text::clean(task));
        let room = screen.width.saturating_sub(text::width(&self.columns("", &time, "", "", ""))).max(12);
        let (what, tone, mut more) = self.what(screen, event, room);
        if let Some(Erased { time, by, reason }) = &entry.erased {
            more.push(format!("erased by {} on {}: {}", text::clean(by), screen.date(*time), text::clean(reason)));
        }
        let (first, rest) = match &text::wrap(&what, room)[..] {
            [first, rest @ ..] => (first.clone(), rest.to_vec()),
            [] => (String::new(), Vec::new()),
        };
        let line = self.columns(&seq, &time, event.name(), &task, &screen.style.paint(tone, &first));
        screen.line(&line)?;
        let indent = " ".repeat(text::width(&self.columns("", &time, "", "", "")));
        for line in rest.into_iter().chain(more.iter().flat_map(|line| text::wrap(line, room))) {
            let line = screen.style.paint(tone, &line);
            screen.line(&format!("{indent}{line}"))?;
        }
        Ok(())
    }

    /// Switches to another definition, and describes how it differs from the previous one.
    fn changes(&self, now: Fingerprint) -> Vec<String> {
        let graph = (&&*self.target.log.reader).load(now).ok();
        let before = self.definition.replace(graph.clone());
        match (before, graph) {
            (Some(before), Some(now)) => Changes::between(before.definition(), now.definition()).words(),
            _ => Vec::new(),
        }
    }

    /// Returns the contents of an event: its first line, its tone, and further lines.
    fn what(&self, screen: &Screen<'_>, event: &Event, room: usize) -> (String, Tone, Vec<String>) {
        let one = |text: String| (text, Tone::Plain, Vec::new());
        match event {
            Event::ExecutionStarted(started) => one({
                self.changes(started.definition);
                format!(
                    "by {}; {}",
                    text::clean(&words::cause(&started.cause)),
                    text::clean(&words::environment(&started.environment))
                )
            }),
            Event::ContextWritten(write) => {
                let key = text::clean(&write.key);
                let by = origin(&write.origin);
                if !self.values {
                    return one(format!("{key} ({}){by}", text::value_size(&write.value)));
                }
                // The value gets its own line: next to the key, a narrow screen would leave no room for it.
                let (shown, was_cut) = text::value(&write.value, room);
                let mut more = vec![shown];
                if was_cut {
                    more.push(format!("full value: {}", self.target.command("--json")));
                }
                (format!("{key}{by}"), Tone::Plain, more)
            }
            Event::ContextRemoved(removal) => one(format!("{}{}", text::clean(&removal.key), origin(&removal.origin))),
            Event::TaskStarted(started) => one(format!("attempt {}, worker {}", started.attempt, started.worker)),
            Event::TaskCompleted(done) => one(format!("attempt {}{}", done.attempt, reads(&done.reads))),
            Event::TaskFailed(failed) => {
                let next = match failed.retry_at {
                    Some(due) => format!("; next attempt at {}", screen.moment(due, self.start)),
                    None => "; no further attempt".to_owned(),
                };
                let error = error_text(&failed.error);
                let hint = failed.error.hint.iter().map(|hint| format!("hint: {}", text::clean(hint))).collect();
                (format!("attempt {}: {error}{next}{}", failed.attempt, reads(&failed.reads)), Tone::Bad, hint)
            }
            Event::TaskSkipped(skipped) => {
                let why = &skipped.why;
                let by = if why.failure { "by failure: " } else { "" };
                one(format!("{by}{}", text::clean(&words::skip(why))))
            }
            Event::TaskAbandoned(abandoned) => {
                let why = words::abandoned(abandoned.why);
                (format!("attempt {}: {why}", abandoned.attempt), Tone::Warning, Vec::new())
            }
            Event::TaskDeferred(deferred) => one(format!("attempt {}: waits without a slot", deferred.attempt)),
            Event::TaskResumed(resumed) => one(format!("attempt {}, worker {}", resumed.attempt, resumed.worker)),
            Event::ExecutionPaused(request) | Event::ExecutionUnpaused(request) | Event::CancelRequested(request) => {
                let reason = request.reason.iter().map(|reason| format!("reason: {}", text::clean(reason))).collect();
                (format!("by {}", text::clean(&request.by)), Tone::Warning, reason)
            }
            Event::ExecutionRecovered(recovered) => {
                let changes = self.changes(recovered.definition).iter().map(|change| text::clean(change)).collect();
                (text::clean(&words::environment(&recovered.environment)), Tone::Warning, changes)
            }
            Event::ExecutionRetried(retried) => {
                let by = text::clean(&retried.request.by);
                let environment = text::clean(&words::environment(&retried.environment));
                let reason = retried.request.reason.iter().map(|reason| format!("reason: {}", text::clean(reason)));
                let changes = self.changes(retried.definition);
                let more = reason.chain(changes.iter().map(|change| text::clean(change))).collect();
                (format!("by {by}; {environment}"), Tone::Warning, more)
            }
            Event::ExecutionCompleted(_) => (String::new(), Tone::Good, Vec::new()),
            Event::ExecutionFailed(ended) => (text::clean(&ended.reason), Tone::Bad, Vec::new()),
            Event::ExecutionCancelled(ended) => (text::clean(&ended.reason), Tone::Warning, Vec::new()),
        }
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Input => ", input".to_owned(),
        Origin::Task { attempt, .. } => format!(", attempt {attempt}"),
    }
}

/// Lists the keys that were read, each with the `seq` of the write that was seen.
fn reads(reads: &Reads) -> String {
    let read = reads.keys.iter().map(|read| {
        let key = text::clean(&read.key);
        match &read.seen {
            Seen::Nothing => format!("{key} (not set)"),
            Seen::Write(seq) => format!("{key} (seq {seq})"),
            Seen::Merged(seqs) => {
                let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
                format!("{key} (merged from seq {})", seqs.join(", "))
            }
            Seen::Undeclared(seq) => format!("{key} (seq {seq}, undeclared)"),
        }
    });
    let mut all: Vec<String> = read.collect();
    if reads.all {
        all.insert(0, "the whole context".to_owned());
    }
    if all.is_empty() { String::new() } else { format!("; read {}", all.join(", ")) }
}

//! A moment of an execution: after an event, at a time, or when a task was done.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use cloacina_engine::core::event::{Event, Origin, Seq, TaskId};
use cloacina_engine::core::time::Timestamp;

use crate::reading::{Entry, Trouble};

/// A moment of an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// After its last event.
    #[default]
    End,
    /// After this event.
    Seq(Seq),
    /// So many microseconds after its start.
    After(u64),
    /// At this time.
    Time(Timestamp),
    /// After the last event of this task.
    Task(TaskId),
}

/// What was written is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no moment: write a seq (19), a time since the start (+2.5s, +300ms, +2m), a time (2026-11-24T03:22:10Z) or a task's name"
)]
pub struct NoMoment(String);

/// A moment that the execution does not have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotThere {
    /// It has not so many events.
    #[error("there is no event with seq {seq}; the last one is {last}")]
    Seq {
        /// What was asked for.
        seq: Seq,
        /// The last one that there is.
        last: Seq,
    },
    /// The moment lies before its start.
    #[error("that is before the execution started")]
    Before,
    /// No event names this task.
    #[error("no event names a task '{0}'")]
    Task(TaskId),
    /// It has no events.
    #[error("the execution has no events")]
    Empty,
    /// The events cannot be read so far.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl FromStr for At {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Some(span) = text.strip_prefix('+') {
            return micros(span).map(Self::After).ok_or_else(|| NoMoment(text.to_owned()));
        }
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(Timestamp(time.with_timezone(&Utc).timestamp_micros())));
        }
        if text.is_empty() {
            return Err(NoMoment(text.to_owned()));
        }
        Ok(Self::Task(text.into()))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end"),
            Self::Seq(seq) => write!(f, "{seq}"),
            Self::After(micros) => write!(f, "+{}ms", micros / 1_000),
            Self::Time(time) => write!(f, "{}", crate::time::rfc3339(*time)),
            Self::Task(task) => f.write_str(task),
        }
    }
}

/// The microseconds of `2.5s`, `300ms`, `2m`, `1h` or `2.5`.
fn micros(span: &str) -> Option<u64> {
    let digits = span.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(span.len());
    let (number, unit) = span.split_at(digits);
    let factor = match unit.trim() {
        "us" => 1.0,
        "ms" => 1e3,
        "" | "s" => 1e6,
        "m" | "min" => 60e6,
        "h" => 3_600e6,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((number * factor).round() as u64)
}

impl At {
    /// The last event at or before this moment. Reads no further than it must.
    ///
    /// # Errors
    /// [`NotThere`].
    pub fn find(&self, entries: impl Iterator<Item = Result<Entry, Trouble>>) -> Result<Seq, NotThere> {
        let mut found: Option<Seq> = None;
        let mut last: Option<Seq> = None;
        let mut start = Timestamp::default();
        for entry in entries {
            let entry = entry?;
            if last.is_none() {
                start = entry.time;
            }
            last = Some(entry.seq);
            let (takes, done) = match self {
                Self::End => (true, false),
                Self::Seq(seq) => (entry.seq == *seq, entry.seq >= *seq),
                Self::After(micros) => within(entry.time.micros_since(start) <= *micros),
                Self::Time(time) => within(entry.time <= *time),
                Self::Task(task) => (entry.event.as_ref().and_then(task_of) == Some(task), false),
            };
            if takes {
                found = Some(entry.seq);
            }
            if done {
                break;
            }
        }
        found.ok_or_else(|| self.not_there(last))
    }

    fn not_there(&self, last: Option<Seq>) -> NotThere {
        match (last, self) {
            (None, _) => NotThere::Empty,
            (Some(last), Self::Seq(seq)) => NotThere::Seq { seq: *seq, last },
            (_, Self::Task(task)) => NotThere::Task(task.clone()),
            _ => NotThere::Before,
        }
    }
}

fn within(is: bool) -> (bool, bool) {
    (is, !is)
}

/// The task that an event belongs to.
#[must_use]
pub fn task_of(event: &Event) -> Option<&TaskId> {
    match event {
        Event::ContextWritten(write) => writer(&write.origin),
        Event::ContextRemoved(removal) => writer(&removal.origin),
        Event::TaskStarted(started) => Some(&started.task),
        Event::TaskCompleted(completed) => Some(&completed.task),
        Event::TaskFailed(failed) => Some(&failed.task),
        Event::TaskSkipped(skipped) => Some(&skipped.task),
        Event::TaskAbandoned(abandoned) => Some(&abandoned.task),
        _ => None,
    }
}

/// The task that wrote; `None` is the input.
#[must_use]
pub fn writer(origin: &Origin) -> Option<&TaskId> {
    match origin {
        Origin::Task { task, .. } => Some(task),
        Origin::Input => None,
    }
}

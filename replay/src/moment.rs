//! A moment of an execution: after an event, at a time, or after the last event of a task.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Local, NaiveDate, NaiveTime, Utc};
use cloacina_engine::core::event::{Event, Origin, Seq, TaskId};
use cloacina_engine::core::time::Timestamp;

use crate::reading::{Entry, HistoryError};

/// A moment of an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// After its last event.
    #[default]
    End,
    /// After this event.
    Seq(Seq),
    /// This many microseconds after its start.
    After(u64),
    /// At this time.
    Time(Timestamp),
    /// After the last event of this task.
    Task(TaskId),
}

/// The text cannot be parsed as a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a moment: use a seq (19), a time since the start (+2.5s, +300ms, +2m), a time (2026-11-24T03:22:10Z) or the name of a task"
)]
pub struct InvalidMoment(String);

/// A moment that the execution does not have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MomentError {
    /// The execution has fewer events.
    #[error("there is no event with seq {seq}; the last one is {last}")]
    Seq {
        /// The requested event.
        seq: Seq,
        /// The last event.
        last: Seq,
    },
    /// The moment is before the start.
    #[error("that is before the execution started")]
    Before,
    /// No event names this task.
    #[error("no event names a task '{0}'")]
    Task(TaskId),
    /// The execution has no events.
    #[error("the execution has no events")]
    Empty,
    /// The events cannot be read up to the moment.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl FromStr for At {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        if let Some(span) = text.strip_prefix('+') {
            return parse_span(span).map(Self::After).ok_or_else(|| InvalidMoment(text.to_owned()));
        }
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(Timestamp(time.with_timezone(&Utc).timestamp_micros())));
        }
        if text.is_empty() {
            return Err(InvalidMoment(text.to_owned()));
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

/// Parses `2.5s`, `300ms`, `2m`, `1h` or `2.5` to microseconds.
fn parse_span(span: &str) -> Option<u64> {
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

/// The earliest start time of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This many microseconds ago.
    Ago(u64),
    /// At this time.
    Time(Timestamp),
}

/// The text cannot be parsed as a start time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time: use a span (30m, 2h, 7d), a date (2026-11-24) or a time (2026-11-24T03:22:10Z)")]
pub struct InvalidTime(String);

impl FromStr for Since {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let wrong = || InvalidTime(text.to_owned());
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(Timestamp(time.timestamp_micros())));
        }
        if let Ok(date) = text.parse::<NaiveDate>() {
            let midnight = date.and_time(NaiveTime::MIN);
            // The first moment of the local day: a change of clocks can skip midnight.
            let first = midnight
                .and_local_timezone(Local)
                .earliest()
                .map_or(midnight.and_utc().timestamp_micros(), |time| time.timestamp_micros());
            return Ok(Self::Time(Timestamp(first)));
        }
        match text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
            Some(days) => Ok(Self::Ago(days.saturating_mul(86_400_000_000))),
            // A bare number would mean seconds, which nobody wants here.
            None if text.ends_with(|letter: char| letter.is_ascii_digit()) => Err(wrong()),
            None => parse_span(text).map(Self::Ago).ok_or_else(wrong),
        }
    }
}

impl Since {
    /// Returns the absolute time.
    #[must_use]
    pub fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(micros) => Timestamp(now.0.saturating_sub_unsigned(micros)),
            Self::Time(time) => time,
        }
    }
}

impl At {
    /// Finds the last event at or before this moment. Reads no further than necessary.
    ///
    /// # Errors
    /// [`MomentError`].
    pub fn find(&self, entries: impl Iterator<Item = Result<Entry, HistoryError>>) -> Result<Seq, MomentError> {
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

    /// Returns the moment in a form that needs no later events: the end of a task becomes the `seq` of its last event.
    ///
    /// # Errors
    /// [`MomentError`].
    pub fn resolved(&self, entries: impl Iterator<Item = Result<Entry, HistoryError>>) -> Result<Self, MomentError> {
        match self {
            Self::Task(_) => self.find(entries).map(Self::Seq),
            other => Ok(other.clone()),
        }
    }

    /// Whether this moment is at or after an event of an execution that started at `start`.
    pub(crate) fn is_at_or_after(&self, entry: &Entry, start: Timestamp) -> bool {
        match self {
            Self::End | Self::Task(_) => true,
            Self::Seq(seq) => entry.seq <= *seq,
            Self::After(micros) => entry.time.micros_since(start) <= *micros,
            Self::Time(time) => entry.time <= *time,
        }
    }

    /// Whether no later event can belong to the moment, as far as this event shows.
    pub(crate) fn is_reached_with(&self, entry: &Entry) -> bool {
        matches!(self, Self::Seq(seq) if entry.seq >= *seq)
    }

    /// Whether `last`, the last event that was found, satisfies the moment.
    pub(crate) fn is_met_by(&self, last: &Entry) -> bool {
        !matches!(self, Self::Seq(seq) if last.seq != *seq)
    }

    pub(crate) fn not_there(&self, last: Option<Seq>) -> MomentError {
        match (last, self) {
            (None, _) => MomentError::Empty,
            (Some(last), Self::Seq(seq)) => MomentError::Seq { seq: *seq, last },
            (_, Self::Task(task)) => MomentError::Task(task.clone()),
            _ => MomentError::Before,
        }
    }
}

fn within(is: bool) -> (bool, bool) {
    (is, !is)
}

/// Returns the task that an event belongs to.
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
        Event::TaskDeferred(deferred) => Some(&deferred.task),
        Event::TaskResumed(resumed) => Some(&resumed.task),
        _ => None,
    }
}

/// Returns the task that wrote; `None` for the input.
#[must_use]
pub fn writer(origin: &Origin) -> Option<&TaskId> {
    match origin {
        Origin::Task { task, .. } => Some(task),
        Origin::Input => None,
    }
}

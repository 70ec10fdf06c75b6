//! What the events of executions, schedules and triggers have around them: a place in their stream, and a time.

use super::event::{Event, Seq};
use super::time::Timestamp;

/// An event with its place and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recorded<E = Event> {
    /// Its place in the stream.
    pub seq: Seq,
    /// When it was decided.
    pub time: Timestamp,
    /// What happened.
    pub event: E,
}

/// A [`Recorded`] that lies elsewhere.
pub type Happened<'a> = Recorded<&'a Event>;

/// An event that the state cannot take. The stream that holds it is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("impossible event at seq {seq}: {event} {what}")]
pub struct IllegalEvent {
    /// Its place.
    pub seq: Seq,
    /// Its name.
    pub event: &'static str,
    /// Why the state cannot take it: both sides.
    pub what: String,
}

/// An event of one of the kinds of streams.
pub trait StreamEvent {
    /// Its name, the same in every place that shows it.
    fn name(&self) -> &'static str;
}

impl<E: StreamEvent> StreamEvent for &E {
    fn name(&self) -> &'static str {
        (*self).name()
    }
}

impl<E> Recorded<E> {
    /// Lends it.
    #[must_use]
    pub fn lent(&self) -> Recorded<&E> {
        Recorded { seq: self.seq, time: self.time, event: &self.event }
    }
}

impl<E: StreamEvent> Recorded<E> {
    /// Says that the state cannot take it.
    pub(super) fn illegal(&self, what: impl Into<String>) -> IllegalEvent {
        IllegalEvent { seq: self.seq, event: self.event.name(), what: what.into() }
    }
}

/// The end of a stream: where its next event goes, and when the last one happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamEnd {
    pub(super) next_seq: Seq,
    pub(super) last: Timestamp,
}

impl StreamEnd {
    /// The end behind the first event.
    pub(super) fn after_first<E: StreamEvent>(first: &Recorded<E>) -> Result<Self, IllegalEvent> {
        match first.seq {
            0 => Ok(Self { next_seq: 1, last: first.time }),
            _ => Err(first.illegal("is the first event, but not at seq 0")),
        }
    }

    /// Checks that an event is the next one.
    pub(super) fn check<E: StreamEvent>(&self, next: &Recorded<E>) -> Result<(), IllegalEvent> {
        if next.seq != self.next_seq {
            return Err(next.illegal(format!("is out of order: expected seq {}", self.next_seq)));
        }
        if next.time < self.last {
            return Err(next.illegal("is older than the event before it"));
        }
        Ok(())
    }

    /// Takes an event that was checked.
    pub(super) fn advance<E>(&mut self, taken: &Recorded<E>) {
        self.next_seq += 1;
        self.last = taken.time;
    }
}

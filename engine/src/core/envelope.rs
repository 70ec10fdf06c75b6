//! The envelope that all events share: their position in the stream (`seq`) and their time.

use super::event::{Event, Seq};
use super::time::Timestamp;

/// An event with its `seq` and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recorded<E = Event> {
    /// The position in the stream.
    pub seq: Seq,
    /// When it was decided.
    pub time: Timestamp,
    /// The event.
    pub event: E,
}

/// A [`Recorded`] that borrows its event.
pub type EventRef<'a> = Recorded<&'a Event>;

/// An event that is not legal in the current state. The whole stream that contains it is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("impossible event at seq {seq}: {event} {what}")]
pub struct IllegalEvent {
    /// The event's position in the stream.
    pub seq: Seq,
    /// The event's name.
    pub event: &'static str,
    /// What the event does and which state forbids it.
    pub what: String,
}

/// An event of any kind of stream: execution, schedule or trigger.
pub trait StreamEvent {
    /// Returns the event's name, which is the same everywhere it is shown.
    fn name(&self) -> &'static str;
}

impl<E: StreamEvent> StreamEvent for &E {
    fn name(&self) -> &'static str {
        (*self).name()
    }
}

impl<E> Recorded<E> {
    /// Borrows the event.
    #[must_use]
    pub fn as_ref(&self) -> Recorded<&E> {
        Recorded { seq: self.seq, time: self.time, event: &self.event }
    }
}

impl<E: StreamEvent> Recorded<E> {
    /// Returns an [`IllegalEvent`] error for this event.
    pub(super) fn illegal(&self, what: impl Into<String>) -> IllegalEvent {
        IllegalEvent { seq: self.seq, event: self.event.name(), what: what.into() }
    }
}

/// The end of a stream: the `seq` of the next event, and the time of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamEnd {
    pub(super) next_seq: Seq,
    pub(super) last: Timestamp,
}

impl StreamEnd {
    /// Returns the end of a stream that holds only its first event.
    pub(super) fn after_first<E: StreamEvent>(first: &Recorded<E>) -> Result<Self, IllegalEvent> {
        match first.seq {
            0 => Ok(Self { next_seq: 1, last: first.time }),
            _ => Err(first.illegal("is the first event, but not at seq 0")),
        }
    }

    /// Checks that an event is the next one and not older than the last.
    pub(super) fn check<E: StreamEvent>(&self, next: &Recorded<E>) -> Result<(), IllegalEvent> {
        if next.seq != self.next_seq {
            return Err(next.illegal(format!("is out of order: expected seq {}", self.next_seq)));
        }
        if next.time < self.last {
            return Err(next.illegal("is older than the event before it"));
        }
        Ok(())
    }

    /// Moves past an event that was checked.
    pub(super) fn advance<E>(&mut self, taken: &Recorded<E>) {
        self.next_seq += 1;
        self.last = taken.time;
    }
}

//! Builds the index from the log, frame by frame.

use std::sync::Arc;

use crate::index::{FrameAt, IndexError, Part, StreamState};
use crate::layout::definition;
use crate::layout::frame::{FrameHeader, FrameOrigin, StoredFrame};
use crate::log_event::{LogEvent, PrunedStream};
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::walk::{Group, Item, LocatedItem};
use crate::segments::{SegmentError, Span, damaged_at};

/// Builds the index of consecutive groups.
pub(crate) struct Fold<Known> {
    pub(crate) part: Part,
    /// Looks up a stream in the index of the log before these groups.
    known: Known,
}

/// A group cannot be indexed.
pub(crate) enum FoldError {
    Segment(SegmentError),
    Index(IndexError),
}

impl From<SegmentError> for FoldError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

impl From<IndexError> for FoldError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl<Known: Fn(StreamId) -> Result<Option<StreamState>, IndexError>> Fold<Known> {
    pub(crate) fn new(known: Known) -> Self {
        Self { part: Part::default(), known }
    }

    /// For a part that is only appended to another one.
    pub(crate) fn unordered(known: Known) -> Self {
        Self { part: Part::unordered(), known }
    }

    /// The current state of a stream.
    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, IndexError> {
        match self.part.streams.get(&stream) {
            Some(touched) => Ok(Some(touched.state.clone())),
            None => (self.known)(stream),
        }
    }

    /// Adds a frame of a group that ends at position `end`.
    pub(crate) fn frame(&mut self, header: &FrameHeader, label: &[u8], span: Span, end: u64) -> Result<(), IndexError> {
        let before = self.stream(header.stream)?;
        let end = if header.origin == FrameOrigin::Appended { header.end() } else { end };
        let state = StreamState::after(before.as_ref(), header, label, end);
        // A stream that was pruned and then imported starts over.
        let is_reset = header.first_seq == 0 && before.is_some();
        self.part.add(header.stream, state, FrameAt { first_seq: header.first_seq, span }, is_reset);
        Ok(())
    }

    /// Adds what an event of the log's own stream says about other streams.
    pub(crate) fn event(&mut self, event: &LogEvent, end: u64) {
        let LogEvent::Pruned(pruned) = event else { return };
        for PrunedStream { stream, kind, records, bytes, head, times } in &pruned.streams {
            let (started, last) = *times;
            let state = StreamState {
                kind: *kind,
                open: false,
                pruned: true,
                started,
                last,
                records: *records,
                bytes: *bytes,
                head: *head,
                end,
                label: Arc::from([]),
            };
            self.part.prune(*stream, state);
        }
    }

    /// Adds a group, up to its first unreadable item.
    pub(crate) fn group(&mut self, group: &Group) -> Result<(), FoldError> {
        self.part.note_group(group.header.first, group.place);
        for found in group.items() {
            let found = found?;
            if !self.continues_stream(&found)? {
                return Err(damaged_at(found.place, "a frame does not continue its stream").into());
            }
            self.item(&found, group.header.end)?;
        }
        Ok(())
    }

    /// Whether a frame continues its stream. If a frame's checksum is wrong, this distinguishes a damaged body from a
    /// damaged header that names another stream, which would hide the end of the right one.
    pub(crate) fn continues_stream(&self, found: &LocatedItem) -> Result<bool, IndexError> {
        let Item::Frame(header) = &found.item else { return Ok(true) };
        let from = match self.part.streams.get(&header.stream) {
            Some(touched) => Some((touched.state.records, touched.state.head)),
            None => (self.known)(header.stream)?.map(|state| (state.records, state.head)),
        };
        let begins = header.first_seq == 0 && header.previous == Hash::ZERO;
        Ok(match from {
            None => begins,
            Some(from) => {
                from == (header.first_seq, header.previous) || begins && header.origin == FrameOrigin::Imported
            }
        })
    }

    pub(crate) fn item(&mut self, found: &LocatedItem, end: u64) -> Result<(), FoldError> {
        let span = Span { place: found.place, length: u32::try_from(found.bytes.len()).unwrap_or(u32::MAX) };
        match &found.item {
            // Its records are gone, so there are no frames to index.
            Item::Frame(header) if header.pruned => {
                let before = self.stream(header.stream)?;
                self.part.prune(header.stream, StreamState::after(before.as_ref(), header, &[], end));
            }
            Item::Frame(header) => {
                let Some(frame) = found.frame() else { return Ok(()) };
                self.frame(header, frame.label(), span, end)?;
                if header.kind == StreamKind::Log {
                    events_of(&frame).iter().for_each(|event| self.event(event, end));
                }
            }
            Item::Definition => {
                let fingerprint = definition::fingerprint_of(&found.bytes);
                if let Ok(fingerprint) = fingerprint {
                    self.part.define(fingerprint, span);
                }
            }
            Item::Gap(..) => {}
        }
        Ok(())
    }
}

/// The events in a frame of the log's own stream. Skips those that cannot be decoded: verifying the log reports them.
pub(crate) fn events_of(frame: &StoredFrame) -> Vec<LogEvent> {
    let mut records = Vec::new();
    if frame.records_into(&mut records, 0).is_err() {
        return Vec::new();
    }
    let bodies = records.iter().filter_map(|record| record.body.bytes());
    bodies.filter_map(|body| LogEvent::decode(body).ok()).collect()
}

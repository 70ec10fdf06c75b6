//! The state of a stream in the index.

use std::sync::Arc;

use bincode::{Decode, Encode};

use crate::layout::frame::{FrameHeader, FrameOrigin, ListingChange};
use crate::layout::segment::Place;
use crate::log::{ListingKey, StreamEntry};
use crate::record::{Hash, StreamId, StreamKind, Timestamp};
use crate::segments::Span;

/// The place of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    pub(crate) first_seq: u64,
    pub(crate) span: Span,
}

/// The place of a frame relative to the previous one in its stream, so that most numbers take one or two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FrameDelta {
    seqs: u64,
    segments: u32,
    /// Relative to the start of the previous frame, or to the start of the segment if that frame is in another one.
    offset: u32,
    length: u32,
}

/// The entry of a stream in sled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct StoredStream {
    pub(super) state: StreamState,
    /// Its newest frames, fewer than a full entry of frames.
    pub(super) newest: Vec<FrameDelta>,
}

/// Encodes the places of frames of one stream, in order.
pub(super) fn deltas(frames: &[FrameAt]) -> Vec<FrameDelta> {
    let (mut seq, mut place) = (0, Place::default());
    let delta = |frame: &FrameAt| {
        let FrameAt { first_seq, span: Span { place: at, length } } = *frame;
        let base = if at.segment == place.segment { place.offset } else { 0 };
        let delta = FrameDelta {
            seqs: first_seq.wrapping_sub(seq),
            segments: at.segment.wrapping_sub(place.segment),
            offset: at.offset.wrapping_sub(base),
            length,
        };
        (seq, place) = (first_seq, at);
        delta
    };
    frames.iter().map(delta).collect()
}

/// Decodes what [`deltas`] encoded.
pub(super) fn frames(deltas: &[FrameDelta]) -> impl Iterator<Item = FrameAt> {
    let (mut first_seq, mut place) = (0_u64, Place::default());
    deltas.iter().map(move |delta| {
        let base = if delta.segments == 0 { place.offset } else { 0 };
        first_seq = first_seq.wrapping_add(delta.seqs);
        place.segment = place.segment.wrapping_add(delta.segments);
        place.offset = base.wrapping_add(delta.offset);
        FrameAt { first_seq, span: Span { place, length: delta.length } }
    })
}

/// The state of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StreamState {
    pub(crate) kind: StreamKind,
    pub(crate) open: bool,
    /// Whether its records were pruned.
    pub(crate) pruned: bool,
    pub(crate) started: Timestamp,
    pub(crate) last: Timestamp,
    /// The number of records, which is the `seq` of the next one.
    pub(crate) records: u64,
    /// The total size of all bodies in bytes.
    pub(crate) bytes: u64,
    /// The hash of its last record.
    pub(crate) head: Hash,
    /// The position after the last change of the stream in this log.
    pub(crate) end: u64,
    pub(crate) label: Arc<[u8]>,
}

impl StreamState {
    /// The state after a frame that is in the log before position `end`.
    pub(crate) fn after(before: Option<&Self>, frame: &FrameHeader, label: &[u8], end: u64) -> Self {
        // A stream that was pruned and then imported starts over.
        let before = before.filter(|before| !(before.pruned && frame.origin == FrameOrigin::Imported));
        let open = match frame.listing {
            ListingChange::Keep => before.is_none_or(|before| before.open),
            ListingChange::Open => true,
            ListingChange::Closed => false,
        };
        let label = match (frame.listing, before) {
            (ListingChange::Keep, Some(before)) => Arc::clone(&before.label),
            _ => label.into(),
        };
        Self {
            kind: frame.kind,
            open,
            pruned: false,
            started: before.map_or(frame.time, |before| before.started),
            last: frame.time,
            records: frame.next_seq(),
            bytes: frame.bytes,
            head: frame.head,
            end,
            label,
        }
    }

    /// Its sort key in the listing.
    pub(crate) fn key(&self, stream: StreamId) -> ListingKey {
        ListingKey { started: self.started, stream }
    }

    /// Its entry in the listing.
    pub(crate) fn entry(&self, stream: StreamId) -> StreamEntry {
        StreamEntry {
            stream,
            kind: self.kind,
            open: self.open,
            started: self.started,
            last: self.last,
            records: self.records,
            bytes: self.bytes,
            head: self.head,
            label: self.label.to_vec(),
        }
    }
}

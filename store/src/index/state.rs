//! What the index knows of a stream.

use std::sync::Arc;

use bincode::{Decode, Encode};

use crate::layout::frame::{FrameHeader, ListingChange, Standing};
use crate::layout::segment::Place;
use crate::log::{ListingKey, StreamEntry};
use crate::record::{Hash, StreamId, StreamKind, Timestamp};
use crate::segments::Span;

/// A frame of a stream, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    pub(crate) first_seq: u64,
    pub(crate) span: Span,
}

/// A frame relative to the one before it in its stream, so that most numbers take a byte or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FrameDelta {
    seqs: u64,
    segments: u32,
    /// From where the frame before begins; from the beginning of the segment where that is another one.
    offset: u32,
    length: u32,
}

/// What the index in sled has under a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct StoredStream {
    pub(super) state: StreamState,
    /// Its newest frames: those that do not have an entry of their own.
    pub(super) newest: Vec<FrameDelta>,
}

/// Encodes frames of one stream, in their order.
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

/// The frames that were encoded so.
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

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StreamState {
    pub(crate) kind: StreamKind,
    pub(crate) open: bool,
    /// Whether its records were dropped.
    pub(crate) pruned: bool,
    pub(crate) started: Timestamp,
    pub(crate) last: Timestamp,
    /// How many records it has: the `seq` that the next one gets.
    pub(crate) records: u64,
    /// The bytes of all its bodies.
    pub(crate) bytes: u64,
    /// The hash of its last record.
    pub(crate) head: Hash,
    /// The position of this log after which nothing was written to it.
    pub(crate) end: u64,
    pub(crate) label: Arc<[u8]>,
}

impl StreamState {
    /// What is known of a stream once a frame was written to it, which stands in the log before a position.
    pub(crate) fn after(before: Option<&Self>, frame: &FrameHeader, label: &[u8], end: u64) -> Self {
        // What was pruned and is taken over from an archive begins anew.
        let before = before.filter(|before| !(before.pruned && frame.standing == Standing::Imported));
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

    /// Its place in the listing.
    pub(crate) fn key(&self, stream: StreamId) -> ListingKey {
        ListingKey { started: self.started, stream }
    }

    /// What the listing shows of it.
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

//! The index of a part of the log, in memory: of what was written last, or of all of it where nobody keeps the index elsewhere.

use std::collections::BTreeSet;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::state::{FrameAt, StreamState};
use crate::layout::segment::Place;
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::Span;

/// A group is noted for so many bytes of a segment: whoever looks for a position passes as many at the most.
const GROUP_EVERY: u32 = 64 * 1024;

/// About what a stream, a frame and a definition take in memory.
const STREAM: usize = 320;
const FRAME: usize = 32;
const DEFINITION: usize = 80;

/// A stream that was written to in this part.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    pub(crate) state: StreamState,
    /// The frames of this part.
    pub(crate) frames: Vec<FrameAt>,
    /// Whether the frames of earlier parts count no more.
    pub(crate) anew: bool,
}

/// The index of a part of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) streams: FxHashMap<StreamId, Touched>,
    /// In the order of the listing; not of a part that is only made to be appended to another one.
    order: BTreeSet<(StreamKind, ListingKey)>,
    is_small: bool,
    pub(crate) definitions: FxHashMap<Hash, Span>,
    /// Some groups, each with its first position.
    pub(crate) groups: Vec<(u64, Place)>,
    size: usize,
}

impl Part {
    /// One that is made to be appended to another one.
    pub(crate) fn small() -> Self {
        Self { is_small: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.definitions.is_empty() && self.groups.is_empty()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Notes that a stream is so now, and a frame that was written to it.
    pub(crate) fn add(&mut self, stream: StreamId, state: StreamState, frame: FrameAt, anew: bool) {
        self.size += FRAME;
        let touched = self.touch(stream, state);
        if anew {
            touched.anew = true;
            touched.frames.clear();
        }
        touched.frames.push(frame);
    }

    /// Notes that a stream was pruned.
    pub(crate) fn prune(&mut self, stream: StreamId, state: StreamState) {
        let touched = self.touch(stream, StreamState { pruned: true, open: false, ..state });
        touched.anew = true;
        touched.frames.clear();
    }

    fn touch(&mut self, stream: StreamId, state: StreamState) -> &mut Touched {
        let place = (state.kind, state.key(stream));
        match self.streams.entry(stream) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let touched = known.into_mut();
                let before = (touched.state.kind, touched.state.key(stream));
                if before != place && !self.is_small {
                    self.order.remove(&before);
                    self.order.insert(place);
                }
                touched.state = state;
                touched
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                self.size += STREAM + state.label.len();
                if !self.is_small {
                    self.order.insert(place);
                }
                new.insert(Touched { state, frames: Vec::new(), anew: false })
            }
        }
    }

    pub(crate) fn define(&mut self, fingerprint: Hash, span: Span) {
        self.size += DEFINITION;
        self.definitions.insert(fingerprint, span);
    }

    /// Notes where a group begins, if that of an earlier one does not do.
    pub(crate) fn note_group(&mut self, first: u64, place: Place) {
        let is_near = self.groups.last().is_some_and(|(_, last)| {
            last.segment == place.segment && place.offset.saturating_sub(last.offset) < GROUP_EVERY
        });
        if !is_near {
            self.size += 16;
            self.groups.push((first, place));
        }
    }

    /// Adds what was written behind this part.
    pub(crate) fn append(&mut self, next: Self) {
        for (stream, Touched { state, frames, anew }) in next.streams {
            self.size += FRAME * frames.len();
            let touched = self.touch(stream, state);
            if anew {
                touched.anew = true;
                touched.frames.clear();
            }
            touched.frames.extend(frames);
        }
        next.definitions.into_iter().for_each(|(fingerprint, span)| self.define(fingerprint, span));
        next.groups.into_iter().for_each(|(first, place)| self.note_group(first, place));
    }

    /// The streams of a kind that started before a place in the listing, newest first.
    pub(crate) fn before(
        &self,
        kind: StreamKind,
        before: Option<ListingKey>,
    ) -> impl Iterator<Item = ListingKey> + '_ {
        let below = before.map_or(Bound::Included((kind, ListingKey::LAST)), |before| Bound::Excluded((kind, before)));
        self.order.range((Bound::Included((kind, ListingKey::FIRST)), below)).rev().map(|(_, key)| *key)
    }

    /// Where a group begins at or before a position, if that is known.
    pub(crate) fn group_before(&self, position: u64) -> Option<Place> {
        let after = self.groups.partition_point(|(first, _)| *first <= position);
        Some(self.groups[after.checked_sub(1)?].1)
    }
}

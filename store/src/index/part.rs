//! The in-memory index of a part of the log: the recent part, or all of it if there is no sled.

use std::collections::BTreeSet;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::state::{FrameAt, StreamState};
use crate::layout::segment::Place;
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::Span;

/// The distance between indexed groups in a segment, in bytes: a lookup of a position scans at most as many.
const GROUP_EVERY: u32 = 64 * 1024;

/// The approximate size in memory of a stream, a frame and a definition.
const STREAM: usize = 320;
const FRAME: usize = 32;
const DEFINITION: usize = 80;

/// A stream that was appended to in this part.
#[derive(Clone, Debug)]
pub(crate) struct StreamDelta {
    pub(crate) state: StreamState,
    /// The frames in this part.
    pub(crate) frames: Vec<FrameAt>,
    /// Whether frames in earlier parts are obsolete.
    pub(crate) is_reset: bool,
}

/// The index of a part of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) streams: FxHashMap<StreamId, StreamDelta>,
    /// The sort order of the listing. Not maintained in a part that is only appended to another one.
    order: BTreeSet<(StreamKind, ListingKey)>,
    is_unordered: bool,
    pub(crate) definitions: FxHashMap<Hash, Span>,
    /// Some of the groups, each with its first position.
    pub(crate) groups: Vec<(u64, Place)>,
    size: usize,
}

impl Part {
    /// A part that is only appended to another one.
    pub(crate) fn unordered() -> Self {
        Self { is_unordered: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.definitions.is_empty() && self.groups.is_empty()
    }

    /// The approximate size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Sets the state of a stream and adds a frame. `is_reset` makes earlier frames obsolete.
    pub(crate) fn add(&mut self, stream: StreamId, state: StreamState, frame: FrameAt, is_reset: bool) {
        self.size += FRAME;
        let delta = self.set_state(stream, state);
        if is_reset {
            delta.is_reset = true;
            delta.frames.clear();
        }
        delta.frames.push(frame);
    }

    /// Marks a stream as pruned.
    pub(crate) fn prune(&mut self, stream: StreamId, state: StreamState) {
        let delta = self.set_state(stream, StreamState { pruned: true, open: false, ..state });
        delta.is_reset = true;
        delta.frames.clear();
    }

    fn set_state(&mut self, stream: StreamId, state: StreamState) -> &mut StreamDelta {
        let place = (state.kind, state.key(stream));
        match self.streams.entry(stream) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let delta = known.into_mut();
                let before = (delta.state.kind, delta.state.key(stream));
                if before != place && !self.is_unordered {
                    self.order.remove(&before);
                    self.order.insert(place);
                }
                delta.state = state;
                delta
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                self.size += STREAM + state.label.len();
                if !self.is_unordered {
                    self.order.insert(place);
                }
                new.insert(StreamDelta { state, frames: Vec::new(), is_reset: false })
            }
        }
    }

    pub(crate) fn define(&mut self, fingerprint: Hash, span: Span) {
        self.size += DEFINITION;
        self.definitions.insert(fingerprint, span);
    }

    /// Adds the place of a group, unless the previous indexed group is close enough.
    pub(crate) fn note_group(&mut self, first: u64, place: Place) {
        let is_near = self.groups.last().is_some_and(|(_, last)| {
            last.segment == place.segment && place.offset.saturating_sub(last.offset) < GROUP_EVERY
        });
        if is_near {
            return;
        }
        // If several groups have the same first position, only the last one contains the record there.
        if let Some(last) = self.groups.last_mut().filter(|(last, _)| *last == first) {
            last.1 = place;
            return;
        }
        self.size += 16;
        self.groups.push((first, place));
    }

    /// Appends the entries of the following part of the log.
    pub(crate) fn append(&mut self, next: Self) {
        for (stream, StreamDelta { state, frames, is_reset }) in next.streams {
            self.size += FRAME * frames.len();
            let delta = self.set_state(stream, state);
            if is_reset {
                delta.is_reset = true;
                delta.frames.clear();
            }
            delta.frames.extend(frames);
        }
        next.definitions.into_iter().for_each(|(fingerprint, span)| self.define(fingerprint, span));
        next.groups.into_iter().for_each(|(first, place)| self.note_group(first, place));
    }

    /// The keys of streams of a kind that started before a key, newest first.
    pub(crate) fn keys_before(
        &self,
        kind: StreamKind,
        before: Option<ListingKey>,
    ) -> impl Iterator<Item = ListingKey> + '_ {
        let below = before.map_or(Bound::Included((kind, ListingKey::LAST)), |before| Bound::Excluded((kind, before)));
        self.order.range((Bound::Included((kind, ListingKey::FIRST)), below)).rev().map(|(_, key)| *key)
    }

    /// The place of the last indexed group at or before a position.
    pub(crate) fn group_before(&self, position: u64) -> Option<Place> {
        let after = self.groups.partition_point(|(first, _)| *first <= position);
        Some(self.groups[after.checked_sub(1)?].1)
    }
}

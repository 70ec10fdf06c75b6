//! A group in the making: what is appended with one flush.

use std::collections::HashMap;

use super::{Hidden, Listed};
use crate::backend::Changes;
use crate::bytes::Malformed;
use crate::layout::frame::{self, FrameHeader, Place};
use crate::layout::group::{FramePlace, GroupEntry, MAX_FRAMES};
use crate::layout::head::Tip;
use crate::layout::listing::ListingEntry;
use crate::layout::{chunks, definition, keys};
use crate::log::{Definition, Frame, Listing};
use crate::record::{Hash, StreamId, StreamKind, Timestamp};
use crate::seal::SALT_LENGTH;

/// What the writer knows of a stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamState {
    pub(crate) kind: StreamKind,
    pub(crate) next_seq: u64,
    pub(crate) head: Hash,
    pub(crate) bytes: u64,
    pub(crate) listed: Listed,
}

/// Everything that one flush makes durable.
pub(crate) struct Group {
    changes: Changes,
    hidden: Hidden,
    /// The frames since the last commit entry, with the hashes of their last records.
    places: Vec<(FramePlace, Hash)>,
    places_from: u64,
    tip: Tip,
}

/// A finished group.
pub(crate) struct Sealed {
    pub(crate) changes: Changes,
    pub(crate) hidden: Hidden,
    pub(crate) tip: Tip,
}

impl Group {
    pub(crate) fn new(tip: Tip) -> Self {
        Self {
            changes: Changes::default(),
            hidden: Hidden::default(),
            places: Vec::new(),
            places_from: tip.position,
            tip,
        }
    }

    /// The position that the next record gets.
    pub(crate) fn position(&self) -> u64 {
        self.tip.position
    }

    /// Stores a definition that the log does not have.
    pub(crate) fn add_definition(&mut self, definition: &Definition) -> Result<(), Malformed> {
        let bytes = definition::encode(&definition.bytes)?;
        for (chunk, part) in chunks(&bytes) {
            self.changes.put(keys::definition(definition.fingerprint, chunk), part.to_vec());
        }
        self.hidden.definitions.insert(definition.fingerprint);
        Ok(())
    }

    /// Seals a frame that was found to be in order, and keeps the stream's state up to date.
    pub(crate) fn add_frame(
        &mut self,
        frame: &Frame,
        streams: &mut HashMap<StreamId, StreamState>,
        salt: impl FnMut() -> [u8; SALT_LENGTH],
    ) -> Result<(), Malformed> {
        let old = streams.get(&frame.stream);
        // What was imported may be of a log whose clock was ahead.
        let time = frame.time.max(self.tip.time).max(old.map_or(Timestamp(i64::MIN), |old| old.listed.entry.last));
        let place = Place {
            stream: frame.stream,
            kind: frame.kind,
            first_seq: frame.expected_seq,
            first_position: self.tip.position,
            time,
            previous: old.map_or(Hash::ZERO, |old| old.head),
            bytes: old.map_or(0, |old| old.bytes),
        };
        let (bytes, header) = frame::seal(&place, &frame.bodies, salt)?;
        self.put_frame(place.stream, place.first_seq, bytes);
        let next_seq = place.first_seq + u64::from(header.count);
        let listed = self.list(frame, old.map(|old| &old.listed), &header, next_seq);
        streams.insert(
            frame.stream,
            StreamState { kind: frame.kind, next_seq, head: header.head, bytes: header.bytes, listed },
        );
        self.tip.position += u64::from(header.count);
        self.tip.time = time;
        let named =
            FramePlace { stream: frame.stream, kind: frame.kind, first_seq: place.first_seq, count: header.count };
        self.places.push((named, header.head));
        if self.places.len() == MAX_FRAMES {
            self.seal_places();
        }
        Ok(())
    }

    /// Stores a frame's bytes in its place.
    pub(crate) fn put_frame(&mut self, stream: StreamId, first_seq: u64, bytes: Vec<u8>) {
        if bytes.len() <= crate::layout::MAX_VALUE {
            self.changes.put(keys::frame(stream, first_seq, 0), bytes);
            return;
        }
        for (chunk, part) in chunks(&bytes) {
            self.changes.put(keys::frame(stream, first_seq, chunk), part.to_vec());
        }
    }

    /// Puts a value under a key, or deletes the key.
    pub(crate) fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.changes.put(key, value),
            None => self.changes.delete(key),
        }
    }

    /// Hides a stream that is being imported until it is durable.
    pub(crate) fn hide_imported(&mut self, stream: StreamId) {
        self.hidden.imported = Some(stream);
        self.hidden.listings.insert(stream, None);
    }

    /// Writes the stream's entry in the listing, where the frame changes it.
    fn list(&mut self, frame: &Frame, old: Option<&Listed>, header: &FrameHeader, records: u64) -> Listed {
        let (open, label) = match (&frame.listing, old) {
            (Listing::Open(label), _) => (true, label.clone()),
            (Listing::Closed(label), _) => (false, label.clone()),
            (Listing::Keep, Some(old)) => (old.open, old.entry.label.clone()),
            (Listing::Keep, None) => (true, Vec::new()),
        };
        let listed = Listed {
            stream: frame.stream,
            kind: frame.kind,
            open,
            entry: ListingEntry {
                started: old.map_or(header.time, |old| old.entry.started),
                last: header.time,
                records,
                bytes: header.bytes,
                head: header.head,
                label,
            },
        };
        // The end of an open stream is read from its last frame: no need to write it down with each.
        if let (Listing::Keep, Some(Listed { open: true, .. })) = (&frame.listing, old) {
            return listed;
        }
        let key = keys::listing(open, frame.kind, frame.stream);
        self.changes.put(key.clone(), listed.entry.encode(&key));
        if let Some(old) = old.filter(|old| old.open != open) {
            self.changes.delete(keys::listing(old.open, frame.kind, frame.stream));
        }
        self.hidden.listings.entry(frame.stream).or_insert_with(|| old.cloned());
        listed
    }

    /// Writes the commit entry for the frames since the last one.
    fn seal_places(&mut self) {
        let entry = GroupEntry::seal(self.places_from, &self.tip.hash, &self.places);
        self.changes.put(keys::group(self.places_from), entry.encode());
        self.tip.hash = entry.hash;
        self.places_from = self.tip.position;
        self.places.clear();
    }

    /// The whole group, `None` if nothing is in it.
    pub(crate) fn finish(mut self) -> Option<Sealed> {
        if !self.places.is_empty() {
            self.seal_places();
        }
        let Self { changes, hidden, tip, .. } = self;
        (!changes.is_empty()).then_some(Sealed { changes, hidden, tip })
    }
}

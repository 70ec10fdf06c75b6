//! A group in the making: what is appended with one flush.

use std::collections::HashMap;

use ::bytes::Bytes;

use super::ready::ReadyFrame;
use super::recent::{Written, WrittenFrame};
use super::{Hidden, Listed};
use crate::backend::Changes;
use crate::bytes::Malformed;
use crate::layout::encoded::EncodedFrame;
use crate::layout::frame::{FrameHeader, Place};
use crate::layout::group::{FramePlace, GroupEntry, MAX_FRAMES};
use crate::layout::head::Tip;
use crate::layout::listing::{ListingEntry, started_value};
use crate::layout::{chunks, definition, keys};
use crate::log::{Definition, Listing};
use crate::record::{Hash, StreamId, StreamKind, Timestamp};

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
    /// The position that it begins at.
    from: u64,
    /// Whether it has a commit entry already.
    continues: bool,
    /// Whether it changes what was written before it.
    rewriting: bool,
    written: Written,
    tip: Tip,
}

/// A finished group.
pub(crate) struct Sealed {
    pub(crate) changes: Changes,
    pub(crate) hidden: Hidden,
    /// Whether it changes what was written before it.
    pub(crate) rewriting: bool,
    /// The frames that it appends.
    pub(crate) written: Written,
    pub(crate) tip: Tip,
}

impl Group {
    pub(crate) fn new(tip: Tip) -> Self {
        Self {
            changes: Changes::default(),
            hidden: Hidden::default(),
            places: Vec::new(),
            places_from: tip.position,
            from: tip.position,
            continues: false,
            rewriting: false,
            written: Written::default(),
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
        frame: ReadyFrame,
        streams: &mut HashMap<StreamId, StreamState>,
    ) -> Result<(), Malformed> {
        let ReadyFrame { stream, kind, expected_seq, time, content, listing } = frame;
        let old = streams.get_mut(&stream);
        // What was imported may be of a log whose clock was ahead.
        let time = time.max(self.tip.time).max(old.as_ref().map_or(Timestamp(i64::MIN), |old| old.listed.entry.last));
        let place = Place {
            stream,
            kind,
            first_seq: expected_seq,
            first_position: self.tip.position,
            time,
            previous: old.as_ref().map_or(Hash::ZERO, |old| old.head),
            bytes: old.as_ref().map_or(0, |old| old.bytes),
        };
        let (bytes, header) = content?.seal(&place)?;
        self.put_frame(bytes.into(), &header, &place);
        let next_seq = expected_seq + u64::from(header.count);
        match old {
            Some(state) => {
                self.list(listing, &mut state.listed, &header, next_seq);
                (state.next_seq, state.head, state.bytes) = (next_seq, header.head, header.bytes);
            }
            None => {
                let listed = self.list_new(stream, listing, &header);
                let state = StreamState { kind, next_seq, head: header.head, bytes: header.bytes, listed };
                streams.insert(stream, state);
            }
        }
        self.tip.position += u64::from(header.count);
        self.tip.time = time;
        self.places.push((FramePlace { stream, kind, first_seq: expected_seq, count: header.count }, header.head));
        if self.places.len() == MAX_FRAMES {
            self.seal_places();
        }
        Ok(())
    }

    /// Stores a frame's bytes in its place.
    fn put_frame(&mut self, bytes: Bytes, header: &FrameHeader, place: &Place) {
        let Place { stream, first_seq, previous, .. } = *place;
        for (chunk, part) in chunks(&bytes) {
            self.changes.put(keys::frame(stream, first_seq, chunk), bytes.slice_ref(part));
        }
        self.written
            .add(WrittenFrame { encoded: EncodedFrame { stream, first_seq, previous, bytes }, header: header.clone() });
    }

    /// Puts a value under a key that was written before, or deletes it.
    pub(crate) fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.rewriting = true;
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

    /// Writes the entry of a new stream in the listing.
    fn list_new(&mut self, stream: StreamId, listing: Listing, header: &FrameHeader) -> Listed {
        let (open, label) = match listing {
            Listing::Open(label) => (true, label),
            Listing::Closed(label) => (false, label),
            Listing::Keep => (true, Vec::new()),
        };
        let entry = ListingEntry {
            started: header.time,
            last: header.time,
            records: u64::from(header.count),
            bytes: header.bytes,
            head: header.head,
            label,
        };
        let listed = Listed { stream, kind: header.kind, open, entry };
        self.put_listed(&listed);
        self.changes.put(keys::started(listed.kind, listed.key()), started_value());
        self.hidden.listings.entry(stream).or_insert(None);
        listed
    }

    /// Keeps a stream's entry up to date, and writes it where the frame changes it. The end of an open stream is read from
    /// its last frame: no need to write it down with each.
    fn list(&mut self, listing: Listing, listed: &mut Listed, header: &FrameHeader, records: u64) {
        let is_written = listing != Listing::Keep || !listed.open;
        if is_written {
            self.hidden.listings.entry(listed.stream).or_insert_with(|| Some(listed.clone()));
        }
        let was_open = listed.open;
        match listing {
            Listing::Open(label) => (listed.open, listed.entry.label) = (true, label),
            Listing::Closed(label) => (listed.open, listed.entry.label) = (false, label),
            Listing::Keep => {}
        }
        let entry = &mut listed.entry;
        (entry.last, entry.records, entry.bytes, entry.head) = (header.time, records, header.bytes, header.head);
        if is_written {
            self.put_listed(listed);
            if was_open != listed.open {
                self.changes.delete(keys::listing(was_open, listed.kind, listed.stream));
            }
        }
    }

    fn put_listed(&mut self, listed: &Listed) {
        let key = keys::listing(listed.open, listed.kind, listed.stream);
        let entry = listed.entry.encode(&key);
        self.changes.put(key, entry);
    }

    /// Writes the commit entry for the frames since the last one.
    fn seal_places(&mut self) {
        let entry = GroupEntry::seal(self.continues, self.places_from, &self.tip.hash, &self.places);
        self.changes.put(keys::group(self.places_from), entry.encode());
        self.tip.hash = entry.hash;
        self.places_from = self.tip.position;
        self.continues = true;
        self.places.clear();
    }

    /// The whole group, `None` if nothing is in it.
    pub(crate) fn finish(mut self) -> Option<Sealed> {
        if !self.places.is_empty() {
            self.seal_places();
        }
        let Self { mut changes, hidden, rewriting, written, tip, from, .. } = self;
        changes.append(from..tip.position);
        (!changes.is_empty()).then_some(Sealed { changes, hidden, rewriting, written, tip })
    }
}

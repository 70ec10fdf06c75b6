//! A group under construction: the unit of one write and one sync.

use super::Core;
use super::fold::Fold;
use super::prepared::PreparedFrame;
use crate::bytes::Malformed;
use crate::index::{IndexError, Part, StreamState};
use crate::layout::definition;
use crate::layout::frame::{FrameHeader, FramePlace};
use crate::layout::group::{GroupHeader, HEADER};
use crate::layout::head::{LogId, Tip};
use crate::layout::segment::Place;
use crate::log::Definition;
use crate::log_event::LogEvent;
use crate::merkle::Tree;
use crate::record::{Hash, StreamId, Timestamp};
use crate::segments::Span;

/// Looks up streams that the group has not written to.
type Known<'a> = Box<dyn Fn(StreamId) -> Result<Option<StreamState>, IndexError> + 'a>;

/// A group that collects batches.
pub(crate) struct Group<'a> {
    bytes: Vec<u8>,
    items: u32,
    fold: Fold<Known<'a>>,
    log: LogId,
    place: Place,
    before: Tip,
    tip: Tip,
    tree: Tree,
}

/// A completed group.
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) part: Part,
    pub(crate) tip: Tip,
    pub(crate) tree: Tree,
}

impl<'a> Group<'a> {
    /// An empty group to be written at `place`, after the log that the index covers.
    pub(crate) fn new(core: &'a Core, place: Place, tree: &Tree) -> Self {
        let tip = core.tip();
        let known: Known<'a> =
            Box::new(|stream| core.query(|index| index.stream(stream)).map_err(|error| IndexError(error.to_string())));
        Self {
            bytes: vec![0; HEADER],
            items: 0,
            fold: Fold::unordered(known),
            log: core.segments.log,
            place,
            before: tip,
            tip,
            tree: tree.clone(),
        }
    }

    /// The position of the next record.
    pub(crate) fn position(&self) -> u64 {
        self.tip.position
    }

    /// The state of a stream, including the writes of this group.
    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, IndexError> {
        self.fold.stream(stream)
    }

    /// Whether this group has written to a stream.
    pub(crate) fn has_written(&self, stream: StreamId) -> bool {
        self.fold.part.streams.contains_key(&stream)
    }

    pub(crate) fn has_definition(&self, fingerprint: Hash) -> bool {
        self.fold.part.definitions.contains_key(&fingerprint)
    }

    /// Appends an item.
    fn put(&mut self, item: &[u8]) -> Result<Span, Malformed> {
        let malformed = || Malformed::new("a group is too long");
        let offset = u32::try_from(self.bytes.len()).ok().and_then(|at| self.place.offset.checked_add(at));
        let place = Place { offset: offset.ok_or_else(malformed)?, ..self.place };
        let length = u32::try_from(item.len()).map_err(|_| malformed())?;
        place.offset.checked_add(length).ok_or_else(malformed)?;
        self.bytes.extend_from_slice(item);
        self.items += 1;
        Ok(Span { place, length })
    }

    /// Adds a definition that is not in the log yet.
    pub(crate) fn add_definition(&mut self, definition: &Definition) -> Result<(), Malformed> {
        let mut item = Vec::with_capacity(definition::HEADER + definition.bytes.len());
        definition::put(&mut item, definition.fingerprint, &definition.bytes);
        let span = self.put(&item)?;
        self.fold.part.define(definition.fingerprint, span);
        Ok(())
    }

    /// Seals a frame that was checked before.
    pub(crate) fn add_frame(&mut self, frame: PreparedFrame) -> Result<(), Malformed> {
        let PreparedFrame { stream, kind, expected_seq, time, content } = frame;
        let content = content?;
        let label = content.label().to_vec();
        let before = self.fold.stream(stream).map_err(|IndexError(why)| Malformed(why))?;
        // Imported records may come from a log whose clock was ahead.
        let last = before.as_ref().map_or(Timestamp(i64::MIN), |before| before.last);
        let time = time.max(self.tip.time).max(last);
        let place = FramePlace {
            stream,
            kind,
            first_seq: expected_seq,
            first_position: self.tip.position,
            time,
            previous: before.as_ref().map_or(Hash::ZERO, |before| before.head),
            bytes: before.as_ref().map_or(0, |before| before.bytes),
        };
        let tree = &mut self.tree;
        let (bytes, header) = content.seal(&place, |hash| tree.push(hash))?;
        let span = self.put(&bytes)?;
        let end = header.end();
        self.fold.frame(&header, &label, span, end).map_err(|IndexError(why)| Malformed(why))?;
        (self.tip.position, self.tip.time) = (end, time);
        Ok(())
    }

    /// Adds a frame of records that were sealed in another log.
    pub(crate) fn add_imported(&mut self, bytes: &[u8], label: &[u8]) -> Result<(), Malformed> {
        let header = FrameHeader::decode(bytes)?;
        let span = self.put(bytes)?;
        let end = self.tip.position;
        self.fold.frame(&header, label, span, end).map_err(|IndexError(why)| Malformed(why))
    }

    /// Adds what an event of the log's own stream says about other streams.
    pub(crate) fn note_event(&mut self, event: &LogEvent) {
        let end = self.tip.position;
        self.fold.event(event, end);
    }

    /// Completes the group; `None` if it is empty.
    pub(crate) fn finish(self, synced: Place) -> Option<Sealed> {
        let Self { mut bytes, items, mut fold, log, place, before, mut tip, tree } = self;
        if items == 0 {
            return None;
        }
        tip.hash = tree.root();
        let header = GroupHeader {
            length: bytes.len(),
            items,
            first: before.position,
            end: tip.position,
            time: tip.time,
            synced,
            before: before.hash,
            after: tip.hash,
        };
        header.write(&mut bytes, log, place);
        fold.part.note_group(before.position, place);
        Some(Sealed { bytes, part: fold.part, tip, tree })
    }
}

//! A group in the making: what is appended with one write and one sync.

use super::Core;
use super::fold::Fold;
use super::ready::ReadyFrame;
use crate::bytes::Malformed;
use crate::index::{Lost, Part, StreamState};
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

/// Where the index is asked for what the group does not know.
type Known<'a> = Box<dyn Fn(StreamId) -> Result<Option<StreamState>, Lost> + 'a>;

/// Everything that one sync makes durable.
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

/// A finished group.
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) part: Part,
    pub(crate) tip: Tip,
    pub(crate) tree: Tree,
}

impl<'a> Group<'a> {
    /// One that comes to stand at a place, behind the log as the index knows it.
    pub(crate) fn new(core: &'a Core, place: Place, tree: &Tree) -> Self {
        let tip = core.tip();
        let known: Known<'a> =
            Box::new(|stream| core.ask(|index| index.stream(stream)).map_err(|error| Lost(error.to_string())));
        Self {
            bytes: vec![0; HEADER],
            items: 0,
            fold: Fold::small(known),
            log: core.segments.log,
            place,
            before: tip,
            tip,
            tree: tree.clone(),
        }
    }

    /// The position that the next record gets.
    pub(crate) fn position(&self) -> u64 {
        self.tip.position
    }

    /// What is known of a stream, with what the group writes to it.
    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, Lost> {
        self.fold.stream(stream)
    }

    /// Whether the group itself has written to a stream.
    pub(crate) fn has_written(&self, stream: StreamId) -> bool {
        self.fold.part.streams.contains_key(&stream)
    }

    pub(crate) fn has_definition(&self, fingerprint: Hash) -> bool {
        self.fold.part.definitions.contains_key(&fingerprint)
    }

    /// Puts something behind what is there.
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

    /// Stores a definition that the log does not have.
    pub(crate) fn add_definition(&mut self, definition: &Definition) -> Result<(), Malformed> {
        let mut item = Vec::with_capacity(definition::HEADER + definition.bytes.len());
        definition::put(&mut item, definition.fingerprint, &definition.bytes);
        let span = self.put(&item)?;
        self.fold.part.define(definition.fingerprint, span);
        Ok(())
    }

    /// Seals a frame that was found to be in order.
    pub(crate) fn add_frame(&mut self, frame: ReadyFrame) -> Result<(), Malformed> {
        let ReadyFrame { stream, kind, expected_seq, time, content } = frame;
        let content = content?;
        let label = content.label().to_vec();
        let before = self.fold.stream(stream).map_err(|Lost(why)| Malformed(why))?;
        // What was imported may be of a log whose clock was ahead.
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
        self.fold.frame(&header, &label, span, end).map_err(|Lost(why)| Malformed(why))?;
        (self.tip.position, self.tip.time) = (end, time);
        Ok(())
    }

    /// Adds a frame of records that were sealed elsewhere.
    pub(crate) fn add_imported(&mut self, bytes: &[u8], label: &[u8]) -> Result<(), Malformed> {
        let header = FrameHeader::decode(bytes)?;
        let span = self.put(bytes)?;
        let end = self.tip.position;
        self.fold.frame(&header, label, span, end).map_err(|Lost(why)| Malformed(why))
    }

    /// What an event of the log's own stream says of others.
    pub(crate) fn note_event(&mut self, event: &LogEvent) {
        let end = self.tip.position;
        self.fold.event(event, end);
    }

    /// The whole group, `None` if nothing is in it.
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

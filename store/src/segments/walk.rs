//! Walking through the segments, group by group.

use ::bytes::Bytes;

use super::{SegmentError, Segments, damaged_at};
use crate::bytes::Malformed;
use crate::layout::definition;
use crate::layout::frame::{self, FrameHeader, StoredFrame};
use crate::layout::gap::{self, Gap};
use crate::layout::group::{self, GroupHeader};
use crate::layout::head::Tip;
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::layout::{check_sum, peek_item};
use crate::record::Hash;

/// The size of a read, unless more is needed. Larger reads are slower, because such memory is requested from the system
/// each time.
const READ_SIZE: usize = 64 * 1024;

/// The number of bytes that determine the length of an item.
const ITEM_HEADER: usize = 8;

/// A group in a segment.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) place: Place,
    pub(crate) header: GroupHeader,
    bytes: Bytes,
}

/// The type of an item in a group.
pub(crate) enum Item {
    Frame(FrameHeader),
    Definition,
    Gap(u64, u64),
}

/// An item in a group, and its place.
pub(crate) struct LocatedItem {
    pub(crate) item: Item,
    pub(crate) place: Place,
    pub(crate) bytes: Bytes,
}

impl LocatedItem {
    /// The frame, not verified; `None` if the item is not a frame.
    pub(crate) fn frame(&self) -> Option<StoredFrame> {
        match &self.item {
            Item::Frame(header) => Some(StoredFrame::new(header.clone(), self.bytes.clone())),
            Item::Definition | Item::Gap(..) => None,
        }
    }

    /// The same, consuming the item.
    pub(crate) fn into_frame(self) -> Option<StoredFrame> {
        match self.item {
            Item::Frame(header) => Some(StoredFrame::new(header, self.bytes)),
            Item::Definition | Item::Gap(..) => None,
        }
    }

    /// The hashes of a frame's records; empty if the item is not a frame.
    pub(crate) fn hashes(&self) -> Result<Vec<Hash>, SegmentError> {
        let hashes = self.frame().map(|frame| frame.hashes()).transpose();
        Ok(hashes.map_err(|Malformed(why)| damaged_at(self.place, &why))?.unwrap_or_default())
    }

    /// Decodes a gap.
    pub(crate) fn gap(&self) -> Result<Gap, SegmentError> {
        Gap::decode(&self.bytes).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }

    pub(crate) fn check(&self) -> Result<(), SegmentError> {
        check_sum(&self.bytes, &[]).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }
}

impl Group {
    /// The place after this group.
    pub(crate) fn end(&self) -> Place {
        after(self.place, self.header.length)
    }

    /// The end of the log after this group.
    pub(crate) fn tip(&self) -> Tip {
        Tip { position: self.header.end, time: self.header.time, hash: self.header.after }
    }

    /// The items, up to the first unreadable one.
    pub(crate) fn items(&self) -> impl Iterator<Item = Result<LocatedItem, SegmentError>> + '_ {
        let (mut at, mut left, mut failed) = (group::HEADER, self.header.items, false);
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let place = after(self.place, at);
            if left == 0 {
                failed = true;
                return (at != self.bytes.len())
                    .then(|| Err(damaged_at(place, "there is data after the items of a group")));
            }
            let found = self.item(at, place);
            match &found {
                Ok(found) => {
                    at += found.bytes.len();
                    left -= 1;
                }
                Err(_) => failed = true,
            }
            Some(found)
        })
    }

    fn item(&self, at: usize, place: Place) -> Result<LocatedItem, SegmentError> {
        let rest = self.bytes.slice(at..);
        let (_, length) = peek_item(&rest).map_err(|Malformed(why)| damaged_at(place, &why))?;
        if length > rest.len() || length == 0 {
            return Err(damaged_at(place, "an item is longer than its group"));
        }
        LocatedItem::at(place, rest.slice(..length))
    }

    /// Verifies the checksums of all items.
    pub(crate) fn check(&self) -> Result<(), SegmentError> {
        self.items().try_for_each(|found| found?.check())
    }
}

impl LocatedItem {
    /// Decodes an item that has exactly these bytes.
    fn at(place: Place, bytes: Bytes) -> Result<Self, SegmentError> {
        let damaged = |Malformed(why)| damaged_at(place, &why);
        let (magic, _) = peek_item(&bytes).map_err(damaged)?;
        let item = match magic {
            frame::MAGIC => Item::Frame(FrameHeader::decode(&bytes).map_err(damaged)?),
            gap::MAGIC => {
                let (first, end) = Gap::positions(&bytes).map_err(damaged)?;
                Item::Gap(first, end)
            }
            _ => {
                definition::fingerprint_of(&bytes).map_err(damaged)?;
                Item::Definition
            }
        };
        Ok(Self { item, place, bytes })
    }
}

fn after(place: Place, length: usize) -> Place {
    Place { offset: place.offset.saturating_add(u32::try_from(length).unwrap_or(u32::MAX)), ..place }
}

/// The result of a step.
pub(crate) enum WalkStep {
    Group(Group),
    /// The end of the segment, or zeros.
    End,
    /// Invalid or incomplete data.
    Invalid(SegmentError),
}

/// A walk through the segments of a log.
pub(crate) struct Walk<'a> {
    segments: &'a Segments,
    /// The place of the next step.
    pub(crate) place: Place,
    window: Bytes,
    window_at: Place,
}

impl<'a> Walk<'a> {
    /// Starts at a place, which is the beginning of a group.
    pub(crate) fn new(segments: &'a Segments, place: Place) -> Self {
        Self { segments, place, window: Bytes::new(), window_at: place }
    }

    /// The bytes at the current place: at least `wanted`, or up to the end of the segment.
    fn peek(&mut self, wanted: usize) -> Result<Bytes, SegmentError> {
        let (from, at) = (u64::from(self.place.offset), u64::from(self.window_at.offset));
        let is_inside = self.place.segment == self.window_at.segment && from >= at;
        let passed = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
        if is_inside && passed.saturating_add(wanted) <= self.window.len() {
            return Ok(self.window.slice(passed..));
        }
        self.window = self.segments.read_up_to(self.place, wanted.max(READ_SIZE))?;
        self.window_at = self.place;
        Ok(self.window.clone())
    }

    /// The next group. Its items are not checked.
    pub(crate) fn step(&mut self) -> WalkStep {
        match self.group() {
            Ok(Some(group)) => {
                self.place = group.end();
                WalkStep::Group(group)
            }
            Ok(None) => WalkStep::End,
            Err(error) => WalkStep::Invalid(error),
        }
    }

    fn group(&mut self) -> Result<Option<Group>, SegmentError> {
        let place = self.place;
        let Some(header) = self.header()? else { return Ok(None) };
        let bytes = self.peek(header.length)?;
        if bytes.len() < header.length {
            return Err(damaged_at(place, "the segment ends in the middle of a group"));
        }
        Ok(Some(Group { place, header, bytes: bytes.slice(..header.length) }))
    }

    fn header(&mut self) -> Result<Option<GroupHeader>, SegmentError> {
        let bytes = self.peek(group::HEADER)?;
        if bytes.iter().take(group::HEADER).all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = GroupHeader::decode(&bytes, self.segments.log, self.place);
        header.map(Some).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }

    /// Enters the next group, if there is one: continues at its first item, and returns its header and end.
    pub(crate) fn enter(&mut self) -> Result<Option<(GroupHeader, Place)>, SegmentError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let end = after(self.place, header.length);
        self.place = after(self.place, group::HEADER);
        Ok(Some((header, end)))
    }

    /// Returns the next item of a group that ends at `end`, and continues after it; `None` at the end.
    pub(crate) fn item(&mut self, end: Place) -> Result<Option<LocatedItem>, SegmentError> {
        let place = self.place;
        if place >= end {
            return Ok(None);
        }
        let (_, length) = peek_item(&self.peek(ITEM_HEADER)?).map_err(|Malformed(why)| damaged_at(place, &why))?;
        let bytes = self.peek(length)?;
        if length == 0 || length > bytes.len() {
            return Err(damaged_at(place, "an item is longer than its segment"));
        }
        self.place = after(place, length);
        LocatedItem::at(place, bytes.slice(..length)).map(Some)
    }

    /// Continues in the next segment, if there is one, and returns its header.
    pub(crate) fn next_segment(&mut self, numbers: &[u32]) -> Option<Result<SegmentHeader, SegmentError>> {
        let next = self.place.segment.checked_add(1).filter(|next| numbers.contains(next))?;
        self.place = Place { segment: next, offset: HEADER as u32 };
        Some(self.segments.header(next))
    }

    /// Continues at the next valid group header in this segment, after invalid data. Returns the header, if there is
    /// one.
    pub(crate) fn search(&mut self) -> Result<Option<GroupHeader>, SegmentError> {
        loop {
            self.place = after(self.place, 1);
            let bytes = self.peek(group::HEADER)?;
            if bytes.len() < group::HEADER {
                return Ok(None);
            }
            let candidates = bytes.len() - group::HEADER + 1;
            match bytes[..candidates].iter().position(|byte| *byte == group::MAGIC) {
                Some(at) => {
                    self.place = after(self.place, at);
                    if let Ok(header) = GroupHeader::decode(&bytes[at..], self.segments.log, self.place) {
                        return Ok(Some(header));
                    }
                }
                None => self.place = after(self.place, candidates - 1),
            }
        }
    }
}

//! Going through the segments, group by group.

use ::bytes::Bytes;

use super::{Segments, Unread, damaged_at};
use crate::bytes::Malformed;
use crate::layout::definition;
use crate::layout::frame::{self, FrameHeader, StoredFrame};
use crate::layout::gap::{self, Gap};
use crate::layout::group::{self, GroupHeader};
use crate::layout::head::Tip;
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::layout::{check_sum, peek_item};
use crate::record::Hash;

/// How much is read at once, where what is wanted is not longer. More takes longer: such memory is asked of the system each time.
const AT_ONCE: usize = 64 * 1024;

/// What tells how long an item is.
const ITEM: usize = 8;

/// A group that was found.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) place: Place,
    pub(crate) header: GroupHeader,
    bytes: Bytes,
}

/// Something in a group.
pub(crate) enum Item {
    Frame(FrameHeader),
    Definition,
    Gap(u64, u64),
}

/// Something in a group, and where it stands.
pub(crate) struct Found {
    pub(crate) item: Item,
    pub(crate) place: Place,
    pub(crate) bytes: Bytes,
}

impl Found {
    /// The whole frame, unchecked; `None` of what is none.
    pub(crate) fn frame(&self) -> Option<StoredFrame> {
        match &self.item {
            Item::Frame(header) => Some(StoredFrame::new(header.clone(), self.bytes.clone())),
            Item::Definition | Item::Gap(..) => None,
        }
    }

    /// The same, without what else is known of it.
    pub(crate) fn into_frame(self) -> Option<StoredFrame> {
        match self.item {
            Item::Frame(header) => Some(StoredFrame::new(header, self.bytes)),
            Item::Definition | Item::Gap(..) => None,
        }
    }

    /// The hashes of a frame's records; none of what is none.
    pub(crate) fn hashes(&self) -> Result<Vec<Hash>, Unread> {
        let hashes = self.frame().map(|frame| frame.hashes()).transpose();
        Ok(hashes.map_err(|Malformed(why)| damaged_at(self.place, &why))?.unwrap_or_default())
    }

    /// What is left of records.
    pub(crate) fn gap(&self) -> Result<Gap, Unread> {
        Gap::decode(&self.bytes).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }

    pub(crate) fn check(&self) -> Result<(), Unread> {
        check_sum(&self.bytes, &[]).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }
}

impl Group {
    /// Where the next one stands, if it is in the same segment.
    pub(crate) fn end(&self) -> Place {
        after(self.place, self.header.length)
    }

    /// Where the log ends with it.
    pub(crate) fn tip(&self) -> Tip {
        Tip { position: self.header.end, time: self.header.time, hash: self.header.after }
    }

    /// What it has, up to the first thing that cannot be told.
    pub(crate) fn items(&self) -> impl Iterator<Item = Result<Found, Unread>> + '_ {
        let (mut at, mut left, mut failed) = (group::HEADER, self.header.items, false);
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let place = after(self.place, at);
            if left == 0 {
                failed = true;
                return (at != self.bytes.len())
                    .then(|| Err(damaged_at(place, "there is something behind the items of a group")));
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

    fn item(&self, at: usize, place: Place) -> Result<Found, Unread> {
        let rest = self.bytes.slice(at..);
        let (_, length) = peek_item(&rest).map_err(|Malformed(why)| damaged_at(place, &why))?;
        if length > rest.len() || length == 0 {
            return Err(damaged_at(place, "an item is longer than its group"));
        }
        Found::at(place, rest.slice(..length))
    }

    /// That everything in it is as it was written, by its checksums.
    pub(crate) fn check(&self) -> Result<(), Unread> {
        self.items().try_for_each(|found| found?.check())
    }
}

impl Found {
    /// What the bytes at a place are, all of which belong to one item.
    fn at(place: Place, bytes: Bytes) -> Result<Self, Unread> {
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

/// What comes next.
pub(crate) enum Step {
    Group(Group),
    /// Nothing: the segments end, or there are zeros.
    End,
    /// Something that is no whole group.
    Unfit(Unread),
}

/// On the way through the segments of a log.
pub(crate) struct Walk<'a> {
    segments: &'a Segments,
    /// Where it goes on.
    pub(crate) place: Place,
    window: Bytes,
    window_at: Place,
}

impl<'a> Walk<'a> {
    /// From a place on, which is the beginning of a group.
    pub(crate) fn new(segments: &'a Segments, place: Place) -> Self {
        Self { segments, place, window: Bytes::new(), window_at: place }
    }

    /// The bytes from where it goes on, so many if they are there, at the least.
    fn look(&mut self, wanted: usize) -> Result<Bytes, Unread> {
        let (from, at) = (u64::from(self.place.offset), u64::from(self.window_at.offset));
        let is_inside = self.place.segment == self.window_at.segment && from >= at;
        let passed = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
        if is_inside && passed.saturating_add(wanted) <= self.window.len() {
            return Ok(self.window.slice(passed..));
        }
        self.window = self.segments.read_up_to(self.place, wanted.max(AT_ONCE))?;
        self.window_at = self.place;
        Ok(self.window.clone())
    }

    /// The next group, whole or not as far as its items go.
    pub(crate) fn step(&mut self) -> Step {
        match self.group() {
            Ok(Some(group)) => {
                self.place = group.end();
                Step::Group(group)
            }
            Ok(None) => Step::End,
            Err(unread) => Step::Unfit(unread),
        }
    }

    fn group(&mut self) -> Result<Option<Group>, Unread> {
        let place = self.place;
        let Some(header) = self.header()? else { return Ok(None) };
        let bytes = self.look(header.length)?;
        if bytes.len() < header.length {
            return Err(damaged_at(place, "the segment ends in the middle of a group"));
        }
        Ok(Some(Group { place, header, bytes: bytes.slice(..header.length) }))
    }

    fn header(&mut self) -> Result<Option<GroupHeader>, Unread> {
        let bytes = self.look(group::HEADER)?;
        if bytes.iter().take(group::HEADER).all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = GroupHeader::decode(&bytes, self.segments.log, self.place);
        header.map(Some).map_err(|Malformed(why)| damaged_at(self.place, &why))
    }

    /// Goes on with the first item of the next group, if there is one; says what the group is, and where it ends.
    pub(crate) fn enter(&mut self) -> Result<Option<(GroupHeader, Place)>, Unread> {
        let Some(header) = self.header()? else { return Ok(None) };
        let end = after(self.place, header.length);
        self.place = after(self.place, group::HEADER);
        Ok(Some((header, end)))
    }

    /// Goes on behind the next item of a group that ends at a place; `None` where that is reached.
    pub(crate) fn item(&mut self, end: Place) -> Result<Option<Found>, Unread> {
        let place = self.place;
        if place >= end {
            return Ok(None);
        }
        let (_, length) = peek_item(&self.look(ITEM)?).map_err(|Malformed(why)| damaged_at(place, &why))?;
        let bytes = self.look(length)?;
        if length == 0 || length > bytes.len() {
            return Err(damaged_at(place, "an item is longer than its segment"));
        }
        self.place = after(place, length);
        Found::at(place, bytes.slice(..length)).map(Some)
    }

    /// Goes on with the next segment, if there is one, and says what stands at its beginning.
    pub(crate) fn next_segment(&mut self, numbers: &[u32]) -> Option<Result<SegmentHeader, Unread>> {
        let next = self.place.segment.checked_add(1).filter(|next| numbers.contains(next))?;
        self.place = Place { segment: next, offset: HEADER as u32 };
        Some(self.segments.header(next))
    }

    /// Goes on behind a place that is no group, with the next header of a group in the same segment; returns whether there is one.
    pub(crate) fn search(&mut self) -> Result<Option<GroupHeader>, Unread> {
        loop {
            self.place = after(self.place, 1);
            let bytes = self.look(group::HEADER)?;
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

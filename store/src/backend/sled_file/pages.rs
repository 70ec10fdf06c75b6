//! Where each page is: sled's snapshot of it, and what was written behind the snapshot.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::message::{Data, Kind, LONGEST_HEADER, Message, SEGMENT_HEADER};
use super::scalars::{lsn, number};
use super::{Unreadable, failed};
use crate::bytes::{Cursor, Malformed};
use crate::directory::{files, is_snapshot};

/// A page is made of no more messages: a snapshot counts them in a byte.
const MOST_MESSAGES: usize = 255;

/// Where a message about a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) lsn: u64,
    pub(super) offset: u64,
    /// How many bytes it has, its header included.
    pub(super) length: u64,
}

/// Of each page that is in use the messages that make it: the page as a whole, then its changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Vec<Place>>,
    /// The place in the log of pages that all this is the state at.
    at: u64,
}

impl Pages {
    /// Finds the pages of a database that nobody writes to.
    pub(super) fn find(directory: &Path, data: &Data) -> Result<Self, Unreadable> {
        let mut pages = Self::snapshot(directory)?;
        pages.follow(data)?;
        Ok(pages)
    }

    /// The messages that make a page; none if it is not in use.
    pub(super) fn of(&self, page: u64) -> &[Place] {
        self.pages.get(&page).map_or(&[], Vec::as_slice)
    }

    /// Where messages are in the segment that begins at an offset, counted from there.
    pub(super) fn within(&self, offset: u64, segment: u64) -> impl Iterator<Item = u64> {
        let places = self.pages.values().flatten().map(|place| place.offset);
        places.filter_map(move |at| at.checked_sub(offset).filter(|at| *at < segment))
    }

    /// The newest snapshot, or nothing if there is none.
    pub(super) fn snapshot(directory: &Path) -> Result<Self, Unreadable> {
        let reading = |error| failed("reading a snapshot of sled", &error);
        let mut newest = None;
        for entry in fs::read_dir(directory).map_err(reading)? {
            let name = entry.map_err(reading)?.file_name();
            // An unfinished one has a longer name, and is no snapshot yet.
            if is_snapshot(&name) && !name.to_string_lossy().ends_with(".generating") {
                newest = newest.max(Some(name));
            }
        }
        match newest {
            None => Ok(Self::default()),
            Some(name) => Ok(Self::read(&files::content(&directory.join(name)).map_err(reading)?)?),
        }
    }

    fn read(file: &[u8]) -> Result<Self, Malformed> {
        let content = file.len().checked_sub(12).map(|end| file.split_at(end));
        let (content, end) = content.ok_or_else(|| Malformed::new("sled's snapshot is cut"))?;
        if crc32fast::hash(content).to_le_bytes() != end[8..] {
            return Err(Malformed::new("the checksum of sled's snapshot does not fit"));
        }
        let mut cursor = Cursor::new(content);
        // One more than the place; 0 for none.
        let at = lsn(&mut cursor)?.saturating_sub(1);
        number(&mut cursor)?;
        let mut pages = BTreeMap::new();
        for page in 0.. {
            if cursor.remaining() == 0 {
                break;
            }
            let count = cursor.u8()?;
            if count == 0 {
                lsn(&mut cursor)?;
                offset(&mut cursor)?;
                continue;
            }
            let place =
                |_| Ok(Place { lsn: lsn(&mut cursor)?, offset: offset(&mut cursor)?, length: number(&mut cursor)? });
            pages.insert(page, (0..count).map(place).collect::<Result<_, Malformed>>()?);
        }
        Ok(Self { pages, at })
    }

    /// Takes in what was written behind the snapshot. Of a database that was closed in order this is little or nothing,
    /// and it is whole: where it is not, this is no such database.
    fn follow(&mut self, data: &Data) -> Result<(), Unreadable> {
        let from = self.at / data.segment * data.segment;
        let mut segments: Vec<(u64, u64)> = Vec::new();
        for (offset, start) in data.starts().map_err(|error| failed("reading its database", &error))? {
            match start {
                Some(start) if start >= from => segments.push((start, offset)),
                _ => {}
            }
        }
        segments.sort_unstable();
        let mut bytes = Vec::new();
        let mut end = self.at;
        let mut promised = 0;
        for (number, &(start, offset)) in segments.iter().enumerate() {
            data.read_segment(offset, &mut bytes).map_err(|error| failed("reading its database", &error))?;
            let last = number + 1 == segments.len();
            let went = self.follow_segment(&bytes, start, offset, data.segment, &mut promised)?;
            end = end.max(went.end);
            if !went.capped && !last {
                return Err(Malformed::new(format!("sled's log of pages has a tear at {}", went.end)).into());
            }
        }
        if promised > end {
            return Err(Malformed::new(format!("sled's log of pages ends at {end} within a batch")).into());
        }
        self.at = end;
        Ok(())
    }

    fn follow_segment(
        &mut self,
        bytes: &[u8],
        start: u64,
        offset: u64,
        segment: u64,
        promised: &mut u64,
    ) -> Result<Went, Unreadable> {
        let mut at = SEGMENT_HEADER;
        loop {
            let place = start + at as u64;
            let full = at as u64 + LONGEST_HEADER as u64 > segment;
            let message = bytes.get(at..).filter(|_| !full).map(Message::read);
            let Some(Ok(message)) = message else {
                return Ok(Went { end: place, capped: full });
            };
            if message.segment_number != start / segment {
                return Ok(Went { end: place, capped: false });
            }
            let length = message.content.end as u64;
            if message.kind == Kind::Cap {
                return Ok(Went { end: place + length, capped: true });
            }
            if place >= self.at {
                let content = &bytes[at..][message.content.clone()];
                if message.kind == Kind::Batch {
                    *promised = (*promised).max(lsn(&mut Cursor::new(content))?);
                }
                self.apply(&message, Place { lsn: place, offset: offset + at as u64, length })?;
            }
            at += message.content.end;
        }
    }

    fn apply(&mut self, message: &Message, place: Place) -> Result<(), Malformed> {
        if matches!(message.kind, Kind::Batch | Kind::Canceled | Kind::Cap) {
            return Ok(());
        }
        if message.kind == Kind::Free {
            self.pages.remove(&message.page);
            return Ok(());
        }
        let places = self.pages.entry(message.page).or_default();
        match message.kind {
            Kind::Link if places.len() >= MOST_MESSAGES => {
                return Err(Malformed::new(format!("page {} has more changes than sled counts", message.page)));
            }
            Kind::Link if places.last().is_some_and(|last| last.lsn < place.lsn) => places.push(place),
            Kind::Link => {}
            _ => *places = vec![place],
        }
        Ok(())
    }
}

/// How far a segment could be followed.
struct Went {
    end: u64,
    /// Whether it has no more messages, rather than none that is whole.
    capped: bool,
}

/// Where something is in the data file. What is in a file of its own is not read here: this log never writes such values.
fn offset(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    match cursor.u8()? {
        0 => number(cursor),
        other => Err(Malformed::new(format!("a place of kind {other} in sled's snapshot"))),
    }
}

//! The segments: append-only files of groups.
//!
//! The order of the log is the order of the files. An incomplete group can only be the unfinished end of the log. See
//! [`walk`] for reading them, [`appender`] for writing.

pub(crate) mod appender;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, RwLock};

use ::bytes::Bytes;

use crate::bytes::Malformed;
use crate::disk::{Disk, DiskFile};
use crate::layout::frame::StoredFrame;
use crate::layout::head::LogId;
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::sync::{read_lock, write_lock};

/// The maximum size of a read before the length is checked against the file.
const LARGE: usize = 1024 * 1024;

/// The directory of the segments, in that of a log.
pub(crate) const DIRECTORY: &str = "segments";

/// The file name of a segment.
pub(crate) fn name_of(number: u32) -> String {
    format!("{DIRECTORY}/{number:010}")
}

/// The numbers of the existing segments, in order. Ignores files with other names.
pub(crate) fn numbers(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let parse = |name: &String| name.parse().ok().filter(|number: &u32| format!("{number:010}") == *name);
    let mut numbers: Vec<u32> = disk.names(DIRECTORY)?.iter().filter_map(parse).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The place and length of a frame or a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Span {
    pub(crate) place: Place,
    pub(crate) length: u32,
}

/// A segment could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentError {
    /// The segment is damaged.
    Damaged(String),
    /// An operating system call failed.
    Failed(String),
}

/// The segments of a log, for reading. Files are opened on demand and stay open: there are few of them.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    pub(crate) log: LogId,
    open: RwLock<BTreeMap<u32, Arc<dyn DiskFile>>>,
}

impl Segments {
    pub(crate) fn new(disk: Arc<dyn Disk>, log: LogId) -> Self {
        Self { disk, log, open: RwLock::default() }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Opens all segments, so that they stay readable if they are renamed or removed.
    pub(crate) fn open_all(&self) -> io::Result<Vec<u32>> {
        let numbers = numbers(&*self.disk)?;
        for number in &numbers {
            if let Err(SegmentError::Failed(why)) = self.file(*number) {
                return Err(io::Error::other(why));
            }
        }
        Ok(numbers)
    }

    /// The file of a segment.
    pub(crate) fn file(&self, number: u32) -> Result<Arc<dyn DiskFile>, SegmentError> {
        if let Some(file) = read_lock(&self.open).get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&name_of(number)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                SegmentError::Damaged(format!("segment {number} (the file {}) is missing", name_of(number)))
            }
            _ => SegmentError::Failed(format!("segment {number}: {error}")),
        })?;
        write_lock(&self.open).insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Reads the header of a segment, and checks that it belongs to this log.
    pub(crate) fn header(&self, number: u32) -> Result<SegmentHeader, SegmentError> {
        let bytes = self.read(Place { segment: number, offset: 0 }, HEADER)?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(|Malformed(why)| SegmentError::Damaged(format!("the header of segment {number}: {why}")))?;
        if header.number != number {
            return Err(SegmentError::Damaged(format!(
                "the file of segment {number} contains segment {}",
                header.number
            )));
        }
        if header.log != self.log {
            return Err(SegmentError::Damaged(format!("segment {number} belongs to another log")));
        }
        Ok(header)
    }

    /// Reads up to `length` bytes, fewer at the end of the segment.
    pub(crate) fn read_up_to(&self, place: Place, length: usize) -> Result<Bytes, SegmentError> {
        let failed = |error: io::Error| {
            SegmentError::Failed(format!("segment {} at byte {}: {error}", place.segment, place.offset))
        };
        let file = self.file(place.segment)?;
        // Allocate for the bytes that exist, not for a length that may be wrong.
        let length = if length > LARGE {
            let left = file.length().map_err(failed)?.saturating_sub(place.offset.into());
            length.min(usize::try_from(left).unwrap_or(usize::MAX))
        } else {
            length
        };
        let mut bytes = vec![0; length];
        let read = file.read_at(&mut bytes, place.offset.into()).map_err(failed)?;
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// Reads exactly `length` bytes.
    pub(crate) fn read(&self, place: Place, length: usize) -> Result<Bytes, SegmentError> {
        let bytes = self.read_up_to(place, length)?;
        if bytes.len() == length {
            return Ok(bytes);
        }
        let end = u64::from(place.offset) + length as u64;
        Err(SegmentError::Damaged(format!("segment {} ends before byte {end}", place.segment)))
    }

    /// Reads a frame.
    pub(crate) fn frame(&self, span: Span) -> Result<StoredFrame, SegmentError> {
        let bytes = self.read(span.place, crate::bytes::usize_of(span.length))?;
        StoredFrame::decode(bytes).map_err(|Malformed(why)| damaged_at(span.place, &why))
    }
}

pub(crate) fn damaged_at(place: Place, why: &str) -> SegmentError {
    SegmentError::Damaged(format!("segment {} at byte {}: {why}", place.segment, place.offset))
}

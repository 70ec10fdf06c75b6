//! The end of the newest segment, used by the writer.

use std::io;
use std::sync::Arc;

use super::name_of;
use crate::disk::{Disk, DiskFile};
use crate::layout::segment::{HEADER, Place, SegmentHeader};

/// The length at which a segment is full.
pub(crate) const MAX_SEGMENT: u32 = 256 * 1024 * 1024;

/// The number of zeros written ahead. Syncing a growing file takes a third longer than syncing one with allocated
/// blocks, which costs more than writing these zeros. A group that is longer than `LARGE` takes longer by itself.
const PREALLOCATED: u64 = 256 * 1024;
const LARGE: usize = 64 * 1024;

/// Appends groups to the segments.
pub(crate) struct Appender {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    number: u32,
    offset: u32,
    /// The end of the zeros in the file.
    zeros: u64,
    longest: u32,
}

impl Appender {
    /// Starts a segment durably.
    pub(crate) fn begin(disk: Arc<dyn Disk>, header: &SegmentHeader, longest: u32) -> io::Result<Self> {
        let file = disk.create(&name_of(header.number))?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        let offset = HEADER as u32;
        Ok(Self { disk, file, number: header.number, offset, zeros: offset.into(), longest })
    }

    /// Continues at a place. Cuts off whatever is after it.
    pub(crate) fn resume(disk: Arc<dyn Disk>, end: Place, longest: u32) -> io::Result<Self> {
        let file = disk.open_to_write(&name_of(end.segment))?;
        let zeros = end.offset.into();
        if file.length()? != zeros {
            file.set_length(zeros)?;
            file.sync()?;
        }
        Ok(Self { disk, file, number: end.segment, offset: end.offset, zeros, longest })
    }

    /// The place of the next group.
    pub(crate) fn end(&self) -> Place {
        Place { segment: self.number, offset: self.offset }
    }

    /// Whether the next group belongs in a new segment.
    pub(crate) fn is_full(&self) -> bool {
        self.offset >= self.longest
    }

    /// Finishes this segment, and starts the next one.
    pub(crate) fn roll(&mut self, header: &SegmentHeader) -> io::Result<()> {
        self.finish()?;
        *self = Self::begin(Arc::clone(&self.disk), header, self.longest)?;
        Ok(())
    }

    /// Writes a group, without waiting for the disk.
    pub(crate) fn write(&mut self, group: &[u8]) -> io::Result<()> {
        let end = u64::from(self.offset) + group.len() as u64;
        let after = u32::try_from(end).map_err(|_| io::Error::other("a segment is too long"))?;
        if end > self.zeros && group.len() < LARGE && !self.is_full() {
            let from = self.zeros.max(end);
            // There may be room for the group only, so a failure is no error.
            if self.file.write_at(&vec![0; PREALLOCATED as usize], from).is_ok() {
                self.zeros = from + PREALLOCATED;
            }
        }
        self.file.write_at(group, self.offset.into())?;
        self.offset = after;
        self.zeros = self.zeros.max(end);
        Ok(())
    }

    /// Waits until all writes are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Cuts off the zeros that were written ahead, and waits for the disk.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.zeros = self.offset.into();
        self.file.set_length(self.zeros)?;
        self.file.sync()
    }

    /// Overwrites data of the same length in place, and waits for the disk.
    pub(crate) fn overwrite(disk: &dyn Disk, changes: &[(Place, Vec<u8>)]) -> io::Result<()> {
        let mut changes: Vec<_> = changes.iter().collect();
        changes.sort_unstable_by_key(|(place, _)| *place);
        for together in changes.chunk_by(|(one, _), (other, _)| one.segment == other.segment) {
            let file = disk.open_to_write(&name_of(together[0].0.segment))?;
            for (place, bytes) in together {
                file.write_at(bytes, place.offset.into())?;
            }
            file.sync()?;
        }
        Ok(())
    }
}

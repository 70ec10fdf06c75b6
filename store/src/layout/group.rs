//! A group: the data that one write and one sync made durable, atomically.
//!
//! ```text
//! 'G' packing format 0 | length of all u32 | checksum u32 | items u32 | first position u64 | end u64 | time i64
//!                      | synced u32 segment, u32 offset | hash of the log before it 32, and after it 32 | the items
//! ```
//! The checksum covers the header, the id of the log and the place of the group, so that data that only looks like a
//! group is not mistaken for one; each item has its own checksum. `synced` is the place up to which the log was on the
//! disk when the group was written: incomplete data before it was lost, incomplete data after it was never finished.

use super::head::LogId;
use super::segment::Place;
use super::{begin, check_sum, expect_only, put_checksum};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::record::{Hash, Timestamp};

pub(crate) const MAGIC: u8 = b'G';
pub(crate) const HEADER: usize = 4 + 4 + 4 + 4 + 8 + 8 + 8 + 8 + 32 + 32;

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// The length of the group.
    pub(crate) length: usize,
    pub(crate) items: u32,
    /// The position of its first record, and the one after its last. It may have no records.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// The time of the last record before its end.
    pub(crate) time: Timestamp,
    /// The log was on the disk up to here when the group was written.
    pub(crate) synced: Place,
    pub(crate) before: Hash,
    pub(crate) after: Hash,
}

impl GroupHeader {
    /// Writes the header to the beginning of a group.
    pub(crate) fn write(&self, group: &mut [u8], log: LogId, place: Place) {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.put(&begin(MAGIC, 0));
        bytes.put_u32(u32::try_from(self.length).unwrap_or(u32::MAX));
        bytes.put_u32(0);
        bytes.put_u32(self.items);
        bytes.put_u64(self.first);
        bytes.put_u64(self.end);
        bytes.put_time(self.time);
        bytes.put_u32(self.synced.segment);
        bytes.put_u32(self.synced.offset);
        bytes.put(&self.before.0);
        bytes.put(&self.after.0);
        put_checksum(&mut bytes, &place_of(log, place));
        group[..HEADER].copy_from_slice(&bytes);
    }

    pub(crate) fn decode(bytes: &[u8], log: LogId, place: Place) -> Result<Self, Malformed> {
        let bytes = bytes
            .get(..HEADER)
            .ok_or_else(|| Malformed(format!("expected {HEADER} bytes, {} are left", bytes.len())))?;
        let mut cursor = Cursor::new(bytes);
        expect_only(&mut cursor, MAGIC)?;
        let length = usize_of(cursor.u32()?);
        cursor.u32()?;
        check_sum(bytes, &place_of(log, place))?;
        let header = Self {
            length,
            items: cursor.u32()?,
            first: cursor.u64()?,
            end: cursor.u64()?,
            time: cursor.time()?,
            synced: Place { segment: cursor.u32()?, offset: cursor.u32()? },
            before: cursor.hash()?,
            after: cursor.hash()?,
        };
        if header.length < HEADER || header.first > header.end {
            return Err(Malformed::new("its length or its positions are out of range"));
        }
        Ok(header)
    }
}

fn place_of(log: LogId, place: Place) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&log.0);
    bytes[16..20].copy_from_slice(&place.segment.to_be_bytes());
    bytes[20..].copy_from_slice(&place.offset.to_be_bytes());
    bytes
}

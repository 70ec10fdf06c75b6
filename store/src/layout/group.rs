//! A group: what one write and one sync have made durable, all of it or nothing.
//!
//! ```text
//! 'G' packing format 0 | length of all u32 | checksum u32 | items u32 | first position u64 | end u64 | time i64
//!                      | synced u32 segment, u32 offset | hash of the log before it 32, and after it 32 | the items
//! ```
//! The checksum is over the header, the id of the log and the place; each item has one of its own. So content that only looks like a
//! group is not taken for one. `synced` is up to where the log was known to be on the disk when the group was written: what is not
//! whole before that was lost, what is not whole behind it was never finished.

use super::head::LogId;
use super::segment::Place;
use super::{begin, check_sum, expect_only, put_checksum};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::record::{Hash, Timestamp};

pub(crate) const MAGIC: u8 = b'G';
pub(crate) const HEADER: usize = 4 + 4 + 4 + 4 + 8 + 8 + 8 + 8 + 32 + 32;

/// What stands before the items of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// The length of the whole group.
    pub(crate) length: usize,
    pub(crate) items: u32,
    /// The position of its first record, and the one after its last. It may have none.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// The time of the last record up to its end.
    pub(crate) time: Timestamp,
    /// Where the log was known to be on the disk when this was written.
    pub(crate) synced: Place,
    pub(crate) before: Hash,
    pub(crate) after: Hash,
}

impl GroupHeader {
    /// Writes it at the beginning of a group.
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
            .ok_or_else(|| Malformed(format!("{HEADER} bytes are needed, {} are left", bytes.len())))?;
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
            return Err(Malformed::new("a group cannot be like this"));
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

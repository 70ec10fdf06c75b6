//! A segment: a file of the log. Its header, and places in it.
//!
//! ```text
//! 'S' packing format 0 | number u32 | checksum u32 | id of the log 16 | first position u64 | time i64 | hash of the log 32
//!                                               | length of the segment before u32
//! ```
//! The position, the time and the hash are those of the log before the segment.

use super::head::{LogId, Tip};
use super::{begin, check_sum, expect_only, put_checksum};
use crate::bytes::{Cursor, Malformed, Put};

const MAGIC: u8 = b'S';

/// The length of the header.
pub(crate) const HEADER: usize = 4 + 4 + 4 + 16 + 8 + 8 + 32 + 4;

/// A place in the segments of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) log: LogId,
    /// The end of the log before the segment.
    pub(crate) before: Tip,
    /// The length of the segment before it; 0 for the first one.
    pub(crate) length_before: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.put(&begin(MAGIC, 0));
        bytes.put_u32(self.number);
        bytes.put_u32(0);
        bytes.put(&self.log.0);
        bytes.put_u64(self.before.position);
        bytes.put_time(self.before.time);
        bytes.put(&self.before.hash.0);
        bytes.put_u32(self.length_before);
        put_checksum(&mut bytes, &[]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes = bytes
            .get(..HEADER)
            .ok_or_else(|| Malformed(format!("expected {HEADER} bytes, {} are left", bytes.len())))?;
        let mut cursor = Cursor::new(bytes);
        expect_only(&mut cursor, MAGIC)?;
        let number = cursor.u32()?;
        cursor.u32()?;
        check_sum(bytes, &[])?;
        let log = LogId(cursor.array()?);
        let before = Tip { position: cursor.u64()?, time: cursor.time()?, hash: cursor.hash()? };
        Ok(Self { number, log, before, length_before: cursor.u32()? })
    }
}

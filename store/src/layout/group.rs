//! A commit entry: what one group (or a part of a large one) appended, in the order of positions.
//!
//! ```text
//! 'C' or 'c', packing format 0 | log hash 32 | frames u16 | for each frame: stream 16, kind u8, first seq u64, records u32
//! ```
//! Its first position is in the key. The first entry of a group begins with `C`, another one of the same group with `c`.

use super::{MAX_VALUE, expect_header, header};
use crate::bytes::{Cursor, Malformed, Put};
use crate::record::{Hash, StreamId, StreamKind};
use crate::seal;

const FIRST: u8 = b'C';
const CONTINUES: u8 = b'c';
const HEADER_LENGTH: usize = 4 + 32 + 2;
const PLACE_LENGTH: usize = 16 + 1 + 8 + 4;

/// How many frames fit one commit entry.
pub(crate) const MAX_FRAMES: usize = (MAX_VALUE - HEADER_LENGTH) / PLACE_LENGTH;

/// Where a frame of the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) stream: StreamId,
    pub(crate) kind: StreamKind,
    pub(crate) first_seq: u64,
    /// How many records it has.
    pub(crate) count: u32,
}

/// A commit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    /// Whether another entry of the same group stands before it.
    pub(crate) continues: bool,
    /// The log-wide hash after it.
    pub(crate) hash: Hash,
    pub(crate) frames: Vec<FramePlace>,
}

impl GroupEntry {
    /// The entry for frames (and the hashes of their last records) that stand from a position on, at most
    /// [`MAX_FRAMES`] of them.
    pub(crate) fn seal(continues: bool, first_position: u64, previous: &Hash, frames: &[(FramePlace, Hash)]) -> Self {
        let pairs = frames.iter().map(|(place, head)| (place, head));
        Self {
            continues,
            hash: seal::group_hash(first_position, previous, count_of(frames.len()), pairs),
            frames: frames.iter().map(|(place, _)| *place).collect(),
        }
    }

    /// The hash that its frames give, with the hashes of their last records.
    pub(crate) fn expected_hash(&self, first_position: u64, previous: &Hash, heads: &[Hash]) -> Hash {
        let pairs = self.frames.iter().zip(heads);
        seal::group_hash(first_position, previous, count_of(self.frames.len()), pairs)
    }

    /// How many records it has.
    pub(crate) fn records(&self) -> u64 {
        self.frames.iter().map(|place| u64::from(place.count)).sum()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + self.frames.len() * PLACE_LENGTH);
        bytes.put(&header(if self.continues { CONTINUES } else { FIRST }));
        bytes.put(&self.hash.0);
        bytes.put_u16(count_of(self.frames.len()));
        for place in &self.frames {
            bytes.put(place.stream.as_bytes());
            bytes.push(place.kind.number());
            bytes.put_u64(place.first_seq);
            bytes.put_u32(place.count);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let continues = cursor.peek() == Some(CONTINUES);
        expect_header(&mut cursor, if continues { CONTINUES } else { FIRST })?;
        let hash = cursor.hash()?;
        let count = usize::from(cursor.u16()?);
        if count == 0 || count > MAX_FRAMES {
            return Err(Malformed(format!("a commit entry cannot have {count} frames")));
        }
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push(FramePlace {
                stream: cursor.stream()?,
                kind: cursor.kind()?,
                first_seq: cursor.u64()?,
                count: cursor.u32()?,
            });
        }
        cursor.end()?;
        Ok(Self { continues, hash, frames })
    }
}

/// Never more than [`MAX_FRAMES`], which fits.
fn count_of(frames: usize) -> u16 {
    u16::try_from(frames).unwrap_or(u16::MAX)
}

//! A sector of the journal: what a disk writes whole or not at all, so that it carries a checksum and says by itself what it
//! belongs to.
//!
//! ```text
//! crc32 u32 | 'J' packing format kind (1 begins an entry, 0 goes on with it) | start u64 | left u32 | content 492
//! ```
//! `start` is the first position of the entry's group, `left` how many bytes of the entry are in this sector and those behind
//! it. The checksum is over the number of the sector in the file (8 bytes) and all that stands behind it. A sector of zeros
//! is empty.

use crate::bytes::{Cursor, Malformed, usize_of};
use crate::layout::{FORMAT, PACKING};

pub(super) const SECTOR: usize = 512;
const HEADER: usize = 4 + 4 + 8 + 4;
/// How many bytes of an entry a sector has.
pub(super) const CONTENT: usize = SECTOR - HEADER;
const MAGIC: u8 = b'J';
/// A sector that nothing was ever written to, or that was written over.
pub(super) const EMPTY: [u8; SECTOR] = [0; SECTOR];

/// How many sectors an entry takes.
pub(super) fn count_for(length: usize) -> usize {
    length.div_ceil(CONTENT)
}

/// What a sector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector<'a> {
    /// Nothing was ever written to it, or it was written over with zeros.
    Empty,
    Part(Part<'a>),
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) begins: bool,
    pub(super) start: u64,
    pub(super) left: u32,
    content: &'a [u8],
}

impl<'a> Part<'a> {
    /// The bytes of the entry that are in it.
    pub(super) fn bytes(&self) -> &'a [u8] {
        &self.content[..self.content.len().min(usize_of(self.left))]
    }
}

/// Reads the sector with a number.
pub(super) fn read(number: u64, bytes: &[u8]) -> Result<Sector<'_>, Malformed> {
    if bytes == EMPTY {
        return Ok(Sector::Empty);
    }
    let mut cursor = Cursor::new(bytes);
    let checksum = cursor.u32()?;
    if bytes.len() != SECTOR || checksum != checksum_of(number, &bytes[4..]) {
        return Err(Malformed::new("its checksum does not fit its content"));
    }
    let [magic, packing, format, kind] = cursor.array()?;
    if format > FORMAT {
        return Err(Malformed(format!(
            "it has format {format}, this version reads up to {FORMAT}; upgrade to read it"
        )));
    }
    if (magic, packing, format) != (MAGIC, PACKING, FORMAT) || kind > 1 {
        return Err(Malformed::new("it is not one of a journal"));
    }
    let (start, left) = (cursor.u64()?, cursor.u32()?);
    if left == 0 {
        return Err(Malformed::new("it has nothing of its entry"));
    }
    Ok(Sector::Part(Part { begins: kind == 1, start, left, content: cursor.all() }))
}

/// Cuts an entry into sectors, the first of which has a number, behind what is in `into`.
pub(super) fn write(first: u64, start: u64, entry: &[u8], into: &mut Vec<u8>) {
    into.reserve(count_for(entry.len()) * SECTOR);
    let mut left = entry.len();
    for (number, content) in (first..).zip(entry.chunks(CONTENT)) {
        let at = into.len();
        let begins = u8::from(number == first);
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&[MAGIC, PACKING, FORMAT, begins]);
        into.extend_from_slice(&start.to_be_bytes());
        // A half of the journal is far below what does not fit.
        into.extend_from_slice(&u32::try_from(left).unwrap_or(u32::MAX).to_be_bytes());
        into.extend_from_slice(content);
        into.resize(at + SECTOR, 0);
        let checksum = checksum_of(number, &into[at + 4..]);
        into[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        left -= content.len();
    }
}

pub(super) fn checksum_of(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

//! What stands where in the store: keys, and the layout of the values under them. `FORMAT.md` says the same in words.
//!
//! All of a log is one tree, whose keys are told apart by their first byte. A value is never longer than
//! [`MAX_VALUE`]; what is longer is cut into chunks under consecutive keys, written in the same atomic batch.

pub(crate) mod definition;
pub(crate) mod encoded;
pub(crate) mod frame;
pub(crate) mod group;
pub(crate) mod head;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod run;
pub(crate) mod segment;

use crate::bytes::{Cursor, Malformed};
pub(crate) use crate::seal::FORMAT;

/// The longest value that may be stored. Above some 128 KB sled moves a leaf (up to 16 values) into a file that it
/// never syncs; 16 values of this length stay well below.
pub(crate) const MAX_VALUE: usize = 4096;

/// The longest thing that can be cut into chunks: a little less than 65,536 of them.
pub(crate) const MAX_CHUNKED: usize = 255 * 1024 * 1024;

/// Values are stored as they are. A later version may compress them, under another number.
pub(crate) const PACKING: u8 = 0;

/// The four bytes that every value begins with: what it is, how it is packed, its format, and a spare one.
fn header(magic: u8) -> [u8; 4] {
    [magic, PACKING, FORMAT, 0]
}

/// Checks the four bytes.
fn expect_header(cursor: &mut Cursor<'_>, magic: u8) -> Result<(), Malformed> {
    let found: [u8; 4] = cursor.array()?;
    if found == header(magic) {
        return Ok(());
    }
    let [found_magic, packing, format, _] = found;
    if found_magic == magic && packing == PACKING && format > FORMAT {
        return Err(Malformed(format!(
            "it has format {format}, this version reads up to {FORMAT}; upgrade to read it"
        )));
    }
    Err(Malformed(format!("it begins with {found:02x?}, expected {:02x?}", header(magic))))
}

/// Cuts bytes into values.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    (0..=u16::MAX).zip(bytes.chunks(MAX_VALUE))
}

/// How many values some bytes are cut into, if they can be.
pub(crate) fn chunk_count(length: usize) -> Result<u16, Malformed> {
    let count = length.div_ceil(MAX_VALUE);
    u16::try_from(count).map_err(|_| Malformed(format!("{length} bytes are more than can be stored")))
}

#[cfg(test)]
mod tests;

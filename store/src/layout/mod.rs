//! The layouts of all files of a log. `FORMAT.md` describes them in prose.
//!
//! A [segment](segment) begins with a header, followed by [groups](group). A group contains [frames](frame),
//! [definitions](definition) and [gaps](gap). The [head](head) records how far the log is known to go.

pub(crate) mod definition;
pub(crate) mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod gap;
pub(crate) mod group;
pub(crate) mod head;
pub(crate) mod segment;

use crate::bytes::{Cursor, Malformed};
pub(crate) use crate::seal::FORMAT;

/// The maximum length of a frame or definition.
pub(crate) const MAX_ITEM: usize = 255 * 1024 * 1024;

/// The maximum length of a stream's label in bytes.
pub const MAX_LABEL: usize = 3 * 1024;

/// The content is not compressed. A later version may compress it, with another number.
pub(crate) const PACKING: u8 = 0;

/// The first four bytes of every layout: what it is, its packing, its format, and its sort.
pub(crate) fn begin(magic: u8, sort: u8) -> [u8; 4] {
    [magic, PACKING, FORMAT, sort]
}

/// Checks the first four bytes and returns the sort.
pub(crate) fn expect(cursor: &mut Cursor<'_>, magic: u8) -> Result<u8, Malformed> {
    let found: [u8; 4] = cursor.array()?;
    let [found_magic, packing, format, sort] = found;
    if [found_magic, packing, format] == [magic, PACKING, FORMAT] {
        return Ok(sort);
    }
    if found_magic == magic && packing == PACKING && format > FORMAT {
        return Err(Malformed(format!(
            "it has format {format}, this version reads up to {FORMAT}; upgrade to read it"
        )));
    }
    Err(Malformed(format!("it begins with {found:02x?}, expected {:02x?}", begin(magic, 0))))
}

/// The same for layouts with only one sort.
pub(crate) fn expect_only(cursor: &mut Cursor<'_>, magic: u8) -> Result<(), Malformed> {
    match expect(cursor, magic)? {
        0 => Ok(()),
        sort => Err(Malformed(format!("its sort is {sort}, this version reads 0"))),
    }
}

/// The offset of the checksum in an item, a group or the header of a segment: after the length.
pub(crate) const CHECKSUM_AT: usize = 8;

/// The checksum of everything but its own four bytes, and of the place, if any.
pub(crate) fn checksum(bytes: &[u8], place: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(&bytes[..CHECKSUM_AT]);
    hasher.update(&bytes[CHECKSUM_AT + 4..]);
    hasher.finalize()
}

/// Writes the checksum.
pub(crate) fn put_checksum(bytes: &mut [u8], place: &[u8]) {
    let sum = checksum(bytes, place);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_be_bytes());
}

/// Verifies the checksum.
pub(crate) fn check_sum(bytes: &[u8], place: &[u8]) -> Result<(), Malformed> {
    let found = bytes.get(CHECKSUM_AT..CHECKSUM_AT + 4);
    if found == Some(&checksum(bytes, place).to_be_bytes()[..]) {
        Ok(())
    } else {
        Err(Malformed::new("its checksum does not match its content"))
    }
}

/// The type and length of the next item, from its first bytes.
pub(crate) fn peek_item(bytes: &[u8]) -> Result<(u8, usize), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.peek().unwrap_or_default();
    if ![frame::MAGIC, definition::MAGIC, gap::MAGIC].contains(&magic) {
        return Err(Malformed(format!("there is no item: it begins with byte {magic:#04x}")));
    }
    expect(&mut cursor, magic)?;
    let length = crate::bytes::usize_of(cursor.u32()?);
    if length > MAX_ITEM {
        return Err(Malformed(format!("an item of {length} bytes is longer than {MAX_ITEM}")));
    }
    Ok((magic, length))
}

#[cfg(test)]
mod tests;

//! What each byte of a log's files means. `FORMAT.md` says the same in words.
//!
//! A [segment](segment) begins with a header and holds [groups](group), one behind the other. A group has [frames](frame),
//! [definitions](definition) and [gaps](gap). The [head](head) says how far all of that is known to go.

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

/// The longest frame or definition.
pub(crate) const LONGEST_ITEM: usize = 255 * 1024 * 1024;

/// The longest label that a stream can have.
pub const MAX_LABEL: usize = 3 * 1024;

/// Content is stored as it is. A later version may compress it, under another number.
pub(crate) const PACKING: u8 = 0;

/// The four bytes that everything begins with: what it is, how it is packed, its format, and which of its sorts it is.
pub(crate) fn begin(magic: u8, sort: u8) -> [u8; 4] {
    [magic, PACKING, FORMAT, sort]
}

/// Checks the four bytes, and gives the sort.
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

/// The same of what has one sort only.
pub(crate) fn expect_only(cursor: &mut Cursor<'_>, magic: u8) -> Result<(), Malformed> {
    match expect(cursor, magic)? {
        0 => Ok(()),
        sort => Err(Malformed(format!("its sort is {sort}, this version knows 0"))),
    }
}

/// Where the checksum of an item, a group or a segment's header stands: behind its length.
pub(crate) const CHECKSUM_AT: usize = 8;

/// The checksum over something that has it behind its length: over all but those four bytes, and over what says where it stands.
pub(crate) fn checksum(bytes: &[u8], place: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(&bytes[..CHECKSUM_AT]);
    hasher.update(&bytes[CHECKSUM_AT + 4..]);
    hasher.finalize()
}

/// Writes the checksum in its place.
pub(crate) fn put_checksum(bytes: &mut [u8], place: &[u8]) {
    let sum = checksum(bytes, place);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_be_bytes());
}

/// That the checksum in its place fits.
pub(crate) fn check_sum(bytes: &[u8], place: &[u8]) -> Result<(), Malformed> {
    let found = bytes.get(CHECKSUM_AT..CHECKSUM_AT + 4);
    if found == Some(&checksum(bytes, place).to_be_bytes()[..]) {
        Ok(())
    } else {
        Err(Malformed::new("its checksum does not fit its content"))
    }
}

/// What the next item is and how long, by its first bytes.
pub(crate) fn peek_item(bytes: &[u8]) -> Result<(u8, usize), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.peek().unwrap_or_default();
    if ![frame::MAGIC, definition::MAGIC, gap::MAGIC].contains(&magic) {
        return Err(Malformed(format!("there is no item: it begins with byte {magic:#04x}")));
    }
    expect(&mut cursor, magic)?;
    let length = crate::bytes::usize_of(cursor.u32()?);
    if length > LONGEST_ITEM {
        return Err(Malformed(format!("an item of {length} bytes is longer than {LONGEST_ITEM}")));
    }
    Ok((magic, length))
}

#[cfg(test)]
mod tests;

//! A definition: `'D' packing format 0 | length of all u32 | checksum u32 | fingerprint 32 | the text`.

use ::bytes::Bytes;

use super::{MAX_ITEM, begin, check_sum, expect_only, put_checksum};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::record::Hash;

pub(crate) const MAGIC: u8 = b'D';
pub(crate) const HEADER: usize = 4 + 4 + 4 + 32;

/// Whether a definition is within the length limit.
pub(crate) fn fits(text: &[u8]) -> bool {
    text.len() <= MAX_ITEM - HEADER
}

/// Appends an encoded definition, which must be within the length limit.
pub(crate) fn put(into: &mut Vec<u8>, fingerprint: Hash, text: &[u8]) {
    let start = into.len();
    into.put(&begin(MAGIC, 0));
    into.put_u32(u32::try_from(HEADER + text.len()).unwrap_or(u32::MAX));
    into.put_u32(0);
    into.put(&fingerprint.0);
    into.put(text);
    put_checksum(&mut into[start..], &[]);
}

/// Decodes only the fingerprint, from the beginning of a definition.
pub(crate) fn fingerprint_of(bytes: &[u8]) -> Result<Hash, Malformed> {
    let mut cursor = Cursor::new(bytes);
    expect_only(&mut cursor, MAGIC)?;
    cursor.take(8)?;
    cursor.hash()
}

/// Decodes the fingerprint and the text.
pub(crate) fn decode(bytes: &Bytes) -> Result<(Hash, Bytes), Malformed> {
    let mut cursor = Cursor::new(bytes);
    expect_only(&mut cursor, MAGIC)?;
    let length = usize_of(cursor.u32()?);
    if length != bytes.len() {
        return Err(Malformed(format!("the length in the definition is {length}, but it has {} bytes", bytes.len())));
    }
    cursor.u32()?;
    let fingerprint = cursor.hash()?;
    let text = bytes.slice_ref(cursor.all());
    check_sum(bytes, &[])?;
    Ok((fingerprint, text))
}

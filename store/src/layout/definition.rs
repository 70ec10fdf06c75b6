//! A definition: `'D' packing format 0 | length u32 | bytes`, in chunks. Its fingerprint is in the key and checks it.

use super::{MAX_CHUNKED, expect_header, header};
use crate::bytes::{Cursor, Malformed, Put, usize_of};

const MAGIC: u8 = b'D';
const HEADER_LENGTH: usize = 4 + 4;

pub(crate) fn encode(definition: &[u8]) -> Result<Vec<u8>, Malformed> {
    let length = definition.len();
    if length > MAX_CHUNKED - HEADER_LENGTH {
        return Err(Malformed(format!("a definition of {length} bytes is longer than {MAX_CHUNKED}")));
    }
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + length);
    bytes.put(&header(MAGIC));
    bytes.put_counted(definition);
    Ok(bytes)
}

/// How long the stored definition is, all chunks, by its first one.
pub(crate) fn stored_length(first_chunk: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor::new(first_chunk);
    expect_header(&mut cursor, MAGIC)?;
    let length = usize_of(cursor.u32()?);
    if length > MAX_CHUNKED - HEADER_LENGTH {
        return Err(Malformed(format!("a definition of {length} bytes is longer than {MAX_CHUNKED}")));
    }
    Ok(HEADER_LENGTH + length)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor::new(bytes);
    expect_header(&mut cursor, MAGIC)?;
    let definition = cursor.counted()?;
    cursor.end()?;
    Ok(definition)
}

/// Whether a definition is short enough.
pub(crate) fn fits(definition: &[u8]) -> bool {
    definition.len() <= MAX_CHUNKED - HEADER_LENGTH
}

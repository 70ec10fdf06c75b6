//! Encodings shared by the socket protocol and archives.

use ::bytes::Bytes;

use crate::bytes::{Cursor, Malformed, Put};
use crate::log::StreamEntry;
use crate::record::Body;

/// Writes a body: a flag, then salt and bytes, or what an erasure left of it.
pub(crate) fn put_body(bytes: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Present { salt, bytes: body } => {
            bytes.push(0);
            bytes.put(salt);
            bytes.put_counted(body);
        }
        Body::Erased { commitment, length } => {
            bytes.push(1);
            bytes.put(&commitment.0);
            bytes.put_u32(*length);
        }
    }
}

/// Reads a body. `keep` converts its bytes.
pub(crate) fn take_body<'a>(cursor: &mut Cursor<'a>, keep: impl Fn(&'a [u8]) -> Bytes) -> Result<Body, Malformed> {
    Ok(if cursor.flag()? {
        Body::Erased { commitment: cursor.hash()?, length: cursor.u32()? }
    } else {
        Body::Present { salt: cursor.array()?, bytes: keep(cursor.counted()?) }
    })
}

/// Writes a stream's entry.
pub(crate) fn put_entry(bytes: &mut Vec<u8>, entry: &StreamEntry) {
    bytes.put(entry.stream.as_bytes());
    bytes.push(entry.kind.number());
    bytes.push(u8::from(entry.open));
    bytes.put_time(entry.started);
    bytes.put_time(entry.last);
    bytes.put_u64(entry.records);
    bytes.put_u64(entry.bytes);
    bytes.put(&entry.head.0);
    bytes.put_counted(&entry.label);
}

pub(crate) fn take_entry(cursor: &mut Cursor<'_>) -> Result<StreamEntry, Malformed> {
    Ok(StreamEntry {
        stream: cursor.stream()?,
        kind: cursor.kind()?,
        open: cursor.flag()?,
        started: cursor.time()?,
        last: cursor.time()?,
        records: cursor.u64()?,
        bytes: cursor.u64()?,
        head: cursor.hash()?,
        label: cursor.counted()?.to_vec(),
    })
}

pub(crate) fn take_text(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let text = String::from_utf8(cursor.counted()?.to_vec());
    text.map_err(|_| Malformed::new("a text is not UTF-8"))
}

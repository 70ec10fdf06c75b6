//! Keys. Numbers in them are big-endian, so that they sort by value.

use crate::bytes::{Cursor, Malformed};
use crate::record::{Hash, StreamId, StreamKind};

const FRAME: u8 = b'F';
const GROUP: u8 = b'C';
const DEFINITION: u8 = b'D';
const OPEN: u8 = b'O';
const CLOSED: u8 = b'X';

/// All keys from `from` on and below `below`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that can be in it.
    pub from: Vec<u8>,
    /// The first key after it.
    pub below: Vec<u8>,
}

/// Whether some bytes have the form of a key.
pub(crate) fn is_key(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&FRAME) => parse_frame(bytes).is_ok(),
        Some(&GROUP) => parse_group(bytes).is_ok(),
        Some(&DEFINITION) => parse_definition(bytes).is_ok(),
        Some(&(OPEN | CLOSED)) => parse_listing(bytes).is_ok(),
        _ => false,
    }
}

/// A chunk of a frame: `F`, stream, the frame's first `seq`, chunk.
pub(crate) fn frame(stream: StreamId, first_seq: u64, chunk: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(27);
    key.push(FRAME);
    key.extend_from_slice(stream.as_bytes());
    key.extend_from_slice(&first_seq.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The stream, first `seq` and chunk in a key that [`frame`] made.
pub(crate) fn parse_frame(key: &[u8]) -> Result<(StreamId, u64, u16), Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(1)?;
    let parts = (cursor.stream()?, cursor.u64()?, cursor.u16()?);
    cursor.end()?;
    Ok(parts)
}

/// Every chunk of the stream's frames that begin at `from` or later and below `below`.
pub(crate) fn frames(stream: StreamId, from: u64, below: Option<u64>) -> KeyRange {
    let below = below.map_or_else(|| frames_end(stream), |below| frame(stream, below, 0));
    KeyRange { from: frame(stream, from, 0), below }
}

fn frames_end(stream: StreamId) -> Vec<u8> {
    // Longer than any key of the stream that begins like it.
    let mut key = frame(stream, u64::MAX, u16::MAX);
    key.push(0);
    key
}

/// Every chunk of every frame after those of a stream (`None`: from the first).
pub(crate) fn frames_after(stream: Option<StreamId>) -> KeyRange {
    KeyRange { from: stream.map_or_else(|| vec![FRAME], frames_end), below: vec![FRAME + 1] }
}

/// The commit entry that begins at a position.
pub(crate) fn group(first_position: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(GROUP);
    key.extend_from_slice(&first_position.to_be_bytes());
    key
}

/// The position in a key that [`group`] made.
pub(crate) fn parse_group(key: &[u8]) -> Result<u64, Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(1)?;
    let position = cursor.u64()?;
    cursor.end()?;
    Ok(position)
}

/// The position, if some bytes are a key that [`group`] made.
pub(crate) fn group_position(bytes: &[u8]) -> Option<u64> {
    bytes.starts_with(&[GROUP]).then(|| parse_group(bytes).ok()).flatten()
}

/// The commit entries that begin at `from` or later and below `below` (`None`: to the last).
pub(crate) fn groups(from: u64, below: Option<u64>) -> KeyRange {
    KeyRange { from: group(from), below: below.map_or_else(|| vec![GROUP + 1], group) }
}

/// A chunk of a definition.
pub(crate) fn definition(fingerprint: Hash, chunk: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(35);
    key.push(DEFINITION);
    key.extend_from_slice(&fingerprint.0);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The fingerprint in a key that [`definition`] made.
pub(crate) fn parse_definition(key: &[u8]) -> Result<Hash, Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(1)?;
    let fingerprint = cursor.hash()?;
    cursor.u16()?;
    cursor.end()?;
    Ok(fingerprint)
}

/// Every definition after the one with this fingerprint (`None`: from the first).
pub(crate) fn definitions_after(fingerprint: Option<Hash>) -> KeyRange {
    let from = fingerprint.map_or_else(
        || vec![DEFINITION],
        |fingerprint| {
            let mut key = definition(fingerprint, u16::MAX);
            key.push(0);
            key
        },
    );
    KeyRange { from, below: vec![DEFINITION + 1] }
}

/// A stream in the listing of the open or of the closed ones.
pub(crate) fn listing(open: bool, kind: StreamKind, stream: StreamId) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.push(if open { OPEN } else { CLOSED });
    key.push(kind.number());
    key.extend_from_slice(stream.as_bytes());
    key
}

/// The stream in a key that [`listing`] made.
pub(crate) fn parse_listing(key: &[u8]) -> Result<(bool, StreamKind, StreamId), Malformed> {
    let mut cursor = Cursor::new(key);
    let open = cursor.u8()? == OPEN;
    let parts = (open, cursor.kind()?, cursor.stream()?);
    cursor.end()?;
    Ok(parts)
}

/// The open or the closed streams of a kind with an id below `before` (`None`: all).
pub(crate) fn listings(open: bool, kind: StreamKind, before: Option<StreamId>) -> KeyRange {
    let prefix = if open { OPEN } else { CLOSED };
    KeyRange {
        from: vec![prefix, kind.number()],
        below: before.map_or_else(|| vec![prefix, kind.number() + 1], |before| listing(open, kind, before)),
    }
}

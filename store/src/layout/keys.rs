//! Keys. Numbers in them are big-endian, so that they sort by value.

use ::bytes::Bytes;

use super::group::FramePlace;
use crate::bytes::{Cursor, Malformed};
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind, Timestamp};

const FRAME: u8 = b'F';
/// How long the key of a chunk of a frame is.
const FRAME_KEY: usize = 1 + 16 + 8 + 2;
const GROUP: u8 = b'C';
const DEFINITION: u8 = b'D';
const OPEN: u8 = b'O';
const CLOSED: u8 = b'X';
const STARTED: u8 = b'T';
/// Where the index says how far the segments are in it.
pub(crate) const INDEXED: &[u8] = b"e";
const WASTE: u8 = b'w';
/// The first bytes of all keys of the index are above this, those of all other keys below.
const INDEX: u8 = b'a';

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
        Some(&STARTED) => parse_started(bytes).is_ok(),
        _ => false,
    }
}

/// How the values under some keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In the tree.
    Here,
    /// In a segment; the tree has its place. So many bytes of a key are also those of its neighbours in the index.
    Placed { shared: usize },
}

impl Kept {
    /// How what has this key is kept.
    pub(crate) fn of(key: &[u8]) -> Self {
        match key.first() {
            Some(&FRAME) => Self::Placed { shared: 1 + 16 },
            Some(&GROUP) => Self::Placed { shared: 1 },
            _ => Self::Here,
        }
    }
}

/// Cuts a range where its values are kept otherwise, in order; keys of the index are left out.
pub(crate) fn parts(range: &KeyRange) -> Vec<(Kept, KeyRange)> {
    let kept_alike = [0, GROUP, GROUP + 1, FRAME, FRAME + 1, INDEX];
    let part = |bounds: &[u8]| {
        let from = range.from.clone().max(vec![bounds[0]]);
        let below = range.below.clone().min(vec![bounds[1]]);
        (from < below).then(|| (Kept::of(&bounds[..1]), KeyRange { from, below }))
    };
    kept_alike.windows(2).filter_map(part).collect()
}

/// The key of the entry of the index that begins with the place of what has this key.
pub(crate) fn run(key: &[u8]) -> Vec<u8> {
    let mut run = key.to_vec();
    if let Some(first) = run.first_mut() {
        first.make_ascii_lowercase();
    }
    run
}

/// What the keys of all frames begin with of the stream that the entry of the index with this key is about, if it is about one.
pub(crate) fn stream_of_run(run: &[u8]) -> Option<Vec<u8>> {
    let key = first_of_run(run.get(..1 + 16)?);
    (is_frame(&key) && run[0].is_ascii_lowercase()).then_some(key)
}

/// What has its place first in the entry of the index with this key.
pub(crate) fn first_of_run(run: &[u8]) -> Vec<u8> {
    let mut key = run.to_vec();
    if let Some(first) = key.first_mut() {
        first.make_ascii_uppercase();
    }
    key
}

/// A value in a segment that was replaced, and is to be wiped.
pub(crate) fn waste(segment: u32, offset: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(WASTE);
    key.extend_from_slice(&segment.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// The segment and the place in it in a key that [`waste`] made.
pub(crate) fn parse_waste(key: &[u8]) -> Result<(u32, u32), Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(1)?;
    let parts = (cursor.u32()?, cursor.u32()?);
    cursor.end()?;
    Ok(parts)
}

/// All that is to be wiped.
pub(crate) fn wastes() -> KeyRange {
    KeyRange { from: vec![WASTE], below: vec![WASTE + 1] }
}

/// Whether a key is one of a frame.
pub(crate) fn is_frame(key: &[u8]) -> bool {
    key.first() == Some(&FRAME)
}

/// A chunk of a frame: `F`, stream, the frame's first `seq`, chunk.
pub(crate) fn frame(stream: StreamId, first_seq: u64, chunk: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(FRAME_KEY);
    key.push(FRAME);
    key.extend_from_slice(stream.as_bytes());
    key.extend_from_slice(&first_seq.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The keys of the first chunks of frames, which share their memory.
pub(crate) fn first_chunks<'a>(places: impl ExactSizeIterator<Item = &'a FramePlace>) -> Vec<Bytes> {
    let mut keys = Vec::with_capacity(places.len() * FRAME_KEY);
    for place in places {
        keys.extend_from_slice(&frame(place.stream, place.first_seq, 0));
    }
    let keys = Bytes::from(keys);
    (0..keys.len()).step_by(FRAME_KEY).map(|at| keys.slice(at..at + FRAME_KEY)).collect()
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

/// A stream in the order in which streams started: `T`, kind, time, stream.
pub(crate) fn started(kind: StreamKind, key: ListingKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(26);
    bytes.push(STARTED);
    bytes.push(kind.number());
    // Times before 1970 come first, too.
    bytes.extend_from_slice(&(key.started.0 ^ i64::MIN).to_be_bytes());
    bytes.extend_from_slice(key.stream.as_bytes());
    bytes
}

/// The kind and the stream in a key that [`started`] made.
pub(crate) fn parse_started(key: &[u8]) -> Result<(StreamKind, ListingKey), Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(1)?;
    let kind = cursor.kind()?;
    let started = Timestamp(cursor.time()?.0 ^ i64::MIN);
    let stream = cursor.stream()?;
    cursor.end()?;
    Ok((kind, ListingKey { started, stream }))
}

/// The streams of a kind that started before a place in the listing (`None`: all).
pub(crate) fn started_before(kind: StreamKind, before: Option<ListingKey>) -> KeyRange {
    KeyRange {
        from: vec![STARTED, kind.number()],
        below: before.map_or_else(|| vec![STARTED, kind.number() + 1], |before| started(kind, before)),
    }
}

//! The entries of the index in sled: keys with big-endian numbers, so that they sort by value, and values with a
//! checksum.
//!
//! ```text
//! 's' stream                     the state of a stream, and the places of its newest frames
//! 'p' stream, first seq          the places of 64 of its older frames
//! 'o' kind, start, stream        an unfinished stream in the listing
//! 't' kind, start, stream        a finished stream in the listing
//! 'd' fingerprint                the place of a definition
//! 'g' position                   the place of a group
//! 'e'                            the end of the indexed log, the number of entries, and their sum
//! ```

use bincode::config::{BigEndian, Configuration, Limit, Varint};
use bincode::{Decode, Encode};

use crate::bytes::{Cursor, Malformed};
use crate::layout::head::{LogId, Tip};
use crate::layout::segment::Place;
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind, Timestamp};

/// The maximum size of an entry.
const LIMIT: usize = 64 * 1024;
type Config = Configuration<BigEndian, Varint, Limit<LIMIT>>;
const CONFIG: Config = bincode::config::standard().with_big_endian().with_limit::<LIMIT>();

/// The end of the indexed log, and a summary of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct End {
    pub(crate) log: LogId,
    pub(crate) tip: Tip,
    pub(crate) place: Place,
    pub(crate) entries: u64,
    /// An order-independent sum over all entries except this one.
    pub(crate) sum: u64,
}

pub(crate) const END: &[u8] = b"e";

pub(crate) fn stream(stream: StreamId) -> Vec<u8> {
    [b"s", &stream.as_bytes()[..]].concat()
}

pub(crate) fn frames(stream: StreamId, first_seq: u64) -> Vec<u8> {
    [b"p", &stream.as_bytes()[..], &first_seq.to_be_bytes()].concat()
}

/// Sorts after the keys of all frames of a stream.
pub(crate) fn frames_end(stream: StreamId) -> Vec<u8> {
    [b"p", &stream.as_bytes()[..], &[u8::MAX; 9]].concat()
}

/// The key in the listing of unfinished streams, or in that of finished ones.
pub(crate) fn listed(open: bool, kind: StreamKind, key: ListingKey) -> Vec<u8> {
    // Flips the sign bit, so that times before 1970 sort first.
    let started = (key.started.0 ^ i64::MIN).to_be_bytes();
    [&[if open { b'o' } else { b't' }, kind.number()], &started[..], &key.stream.as_bytes()[..]].concat()
}

pub(crate) fn parse_listed(key: &[u8]) -> Result<ListingKey, Malformed> {
    let mut cursor = Cursor::new(key);
    cursor.take(2)?;
    let started = Timestamp(cursor.time()?.0 ^ i64::MIN);
    let stream = cursor.stream()?;
    cursor.end()?;
    Ok(ListingKey { started, stream })
}

pub(crate) fn definition(fingerprint: Hash) -> Vec<u8> {
    [b"d", &fingerprint.0[..]].concat()
}

pub(crate) fn group(position: u64) -> Vec<u8> {
    [b"g", &position.to_be_bytes()[..]].concat()
}

/// Encodes a value after its checksum.
pub(crate) fn encode(key: &[u8], value: &impl Encode) -> Result<Vec<u8>, Malformed> {
    let content = bincode::encode_to_vec(value, CONFIG).map_err(|error| Malformed(error.to_string()))?;
    Ok(checked(key, &content))
}

/// Prepends the checksum to the content of a value.
pub(super) fn checked(key: &[u8], content: &[u8]) -> Vec<u8> {
    [&checksum(key, content).to_be_bytes()[..], content].concat()
}

/// Decodes a value and verifies its checksum.
pub(crate) fn decode<Value: Decode<()>>(key: &[u8], bytes: &[u8]) -> Result<Value, Malformed> {
    let Some((found, content)) = bytes.split_first_chunk::<4>() else {
        return Err(Malformed(format!("{} bytes are too few", bytes.len())));
    };
    if *found != checksum(key, content).to_be_bytes() {
        return Err(Malformed::new("a checksum does not match"));
    }
    let (value, used) = bincode::decode_from_slice(content, CONFIG).map_err(|error| Malformed(error.to_string()))?;
    if used == content.len() {
        Ok(value)
    } else {
        Err(Malformed(format!("{} bytes are left over", content.len() - used)))
    }
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

/// What an entry contributes to the sum.
pub(crate) fn weight(key: &[u8], value: &[u8]) -> u64 {
    let half = |first: &[u8], second: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(first);
        hasher.update(second);
        u64::from(hasher.finalize())
    };
    half(key, value) << 32 | half(value, key)
}

//! The entries of the index in sled: keys whose numbers are big-endian, so that they sort by value, and values behind a checksum.
//!
//! ```text
//! 's' stream                     what is known of it
//! 'p' stream, first seq          where some of its frames stand
//! 'o' kind, start, stream        it is in the listing, and unfinished
//! 't' kind, start, stream        it is in the listing, and has ended
//! 'd' fingerprint                where a definition stands
//! 'g' position                   where a group begins
//! 'e'                            how far all of that reaches, how many entries there are, and their sum
//! ```

use bincode::config::{BigEndian, Configuration, Limit, Varint};
use bincode::{Decode, Encode};

use crate::bytes::{Cursor, Malformed};
use crate::layout::head::{LogId, Tip};
use crate::layout::segment::Place;
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind, Timestamp};

/// More than any entry has.
const LIMIT: usize = 64 * 1024;
type Config = Configuration<BigEndian, Varint, Limit<LIMIT>>;
const CONFIG: Config = bincode::config::standard().with_big_endian().with_limit::<LIMIT>();

/// Up to where the index reaches, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct End {
    pub(crate) log: LogId,
    pub(crate) tip: Tip,
    pub(crate) place: Place,
    pub(crate) entries: u64,
    /// Of all entries but this one: the same in whatever order they were put.
    pub(crate) sum: u64,
}

pub(crate) const END: &[u8] = b"e";

pub(crate) fn stream(stream: StreamId) -> Vec<u8> {
    [b"s", &stream.as_bytes()[..]].concat()
}

pub(crate) fn frames(stream: StreamId, first_seq: u64) -> Vec<u8> {
    [b"p", &stream.as_bytes()[..], &first_seq.to_be_bytes()].concat()
}

/// Above the keys of all frames of a stream.
pub(crate) fn frames_end(stream: StreamId) -> Vec<u8> {
    [b"p", &stream.as_bytes()[..], &[u8::MAX; 9]].concat()
}

/// In the listing of the unfinished streams, or in that of those that have ended.
pub(crate) fn listed(open: bool, kind: StreamKind, key: ListingKey) -> Vec<u8> {
    // Times before 1970 come first, too.
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

/// A value, behind its checksum.
pub(crate) fn encode(key: &[u8], value: &impl Encode) -> Result<Vec<u8>, Malformed> {
    let content = bincode::encode_to_vec(value, CONFIG).map_err(|error| Malformed(error.to_string()))?;
    Ok(checked(key, &content))
}

/// The content of a value, behind its checksum.
pub(super) fn checked(key: &[u8], content: &[u8]) -> Vec<u8> {
    [&checksum(key, content).to_be_bytes()[..], content].concat()
}

/// Reads a value, whose checksum must fit.
pub(crate) fn decode<Value: Decode<()>>(key: &[u8], bytes: &[u8]) -> Result<Value, Malformed> {
    let Some((found, content)) = bytes.split_first_chunk::<4>() else {
        return Err(Malformed(format!("{} bytes are too few", bytes.len())));
    };
    if *found != checksum(key, content).to_be_bytes() {
        return Err(Malformed::new("a checksum does not fit"));
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

/// What an entry adds to the sum of all.
pub(crate) fn weight(key: &[u8], value: &[u8]) -> u64 {
    let half = |first: &[u8], second: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(first);
        hasher.update(second);
        u64::from(hasher.finalize())
    };
    half(key, value) << 32 | half(value, key)
}

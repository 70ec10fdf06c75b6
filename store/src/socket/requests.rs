//! What a client can ask, as bytes: the protocol's version, the request's number, its fields.

use crate::bytes::{Cursor, Malformed, Put};
use crate::log::StreamFilter;
use crate::record::{Hash, StreamId};

/// The version of requests and answers. Both sides must speak the same.
pub(super) const VERSION: u8 = 1;

/// More than any request needs.
pub(super) const LONGEST: usize = 128;

/// A request. Limits are the client's wish; a server answers in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read { stream: StreamId, from: u64, limit: u32 },
    Stream { stream: StreamId },
    Streams { filter: StreamFilter },
    Tail { from: u64, limit: u32 },
    Definition { fingerprint: Hash },
    Head,
    Verify,
}

/// Numbers of requests: never used twice.
mod number {
    pub(super) const READ: u8 = 1;
    pub(super) const STREAM: u8 = 2;
    pub(super) const STREAMS: u8 = 3;
    pub(super) const TAIL: u8 = 4;
    pub(super) const DEFINITION: u8 = 5;
    pub(super) const HEAD: u8 = 6;
    pub(super) const VERIFY: u8 = 7;
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Read { stream, from, limit } => {
                bytes.push(number::READ);
                bytes.put(stream.as_bytes());
                bytes.put_u64(*from);
                bytes.put_u32(*limit);
            }
            Self::Stream { stream } => {
                bytes.push(number::STREAM);
                bytes.put(stream.as_bytes());
            }
            Self::Streams { filter } => {
                bytes.push(number::STREAMS);
                put_filter(&mut bytes, filter);
            }
            Self::Tail { from, limit } => {
                bytes.push(number::TAIL);
                bytes.put_u64(*from);
                bytes.put_u32(*limit);
            }
            Self::Definition { fingerprint } => {
                bytes.push(number::DEFINITION);
                bytes.put(&fingerprint.0);
            }
            Self::Head => bytes.push(number::HEAD),
            Self::Verify => bytes.push(number::VERIFY),
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(Malformed(format!(
                "the request has version {version}, the process that has the log speaks {VERSION}; use the same version of both"
            )));
        }
        let request = match cursor.u8()? {
            number::READ => Self::Read { stream: cursor.stream()?, from: cursor.u64()?, limit: cursor.u32()? },
            number::STREAM => Self::Stream { stream: cursor.stream()? },
            number::STREAMS => Self::Streams { filter: take_filter(&mut cursor)? },
            number::TAIL => Self::Tail { from: cursor.u64()?, limit: cursor.u32()? },
            number::DEFINITION => Self::Definition { fingerprint: cursor.hash()? },
            number::HEAD => Self::Head,
            number::VERIFY => Self::Verify,
            other => return Err(Malformed(format!("no request has the number {other}"))),
        };
        cursor.end()?;
        Ok(request)
    }
}

fn put_filter(bytes: &mut Vec<u8>, filter: &StreamFilter) {
    bytes.push(u8::from(filter.kind.is_some()));
    bytes.push(filter.kind.map_or(0, |kind| kind.number()));
    bytes.push(u8::from(filter.open_only));
    bytes.push(u8::from(filter.before.is_some()));
    bytes.put(filter.before.unwrap_or(StreamId::LOG).as_bytes());
    bytes.put_u32(u32::try_from(filter.limit).unwrap_or(u32::MAX));
}

fn take_filter(cursor: &mut Cursor<'_>) -> Result<StreamFilter, Malformed> {
    let has_kind = cursor.flag()?;
    let kind = cursor.kind()?;
    let open_only = cursor.flag()?;
    let has_before = cursor.flag()?;
    let before = cursor.stream()?;
    let limit = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
    Ok(StreamFilter { kind: has_kind.then_some(kind), open_only, before: has_before.then_some(before), limit })
}

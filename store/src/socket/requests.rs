//! What a client can ask, as bytes: the protocol's version, the request's number, its fields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::bytes::{Cursor, Malformed, Put};
use crate::keeper::{Change, Erase, Import, Prune};
use crate::log::{ListingKey, StreamFilter};
use crate::log_event::Checkpoint;
use crate::parts::{put_list, take_list, take_text};
use crate::record::{Hash, StreamId, Timestamp};

/// The version of requests and answers. Both sides must speak the same.
pub(super) const VERSION: u8 = 3;

/// More than any request needs: what can be erased at once is the most, and fits one event of the log.
pub(super) const LONGEST: usize = 128 * 1024;

/// A request. Limits are the client's wish; a server answers in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read {
        stream: StreamId,
        from: u64,
        limit: u32,
    },
    Stream {
        stream: StreamId,
    },
    Streams {
        filter: StreamFilter,
    },
    Tail {
        from: u64,
        limit: u32,
    },
    Definition {
        fingerprint: Hash,
    },
    Head,
    /// The head, once the log has more than so many records, at the latest after so many milliseconds.
    Wait {
        after: u64,
        milliseconds: u32,
    },
    Verify,
    Hashes {
        from: u64,
        limit: u32,
    },
    StreamsSince {
        from: u64,
        limit: u32,
    },
    /// What the process that has the log says of streams.
    Notices,
    Change(Change),
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
    pub(super) const HASHES: u8 = 8;
    pub(super) const ERASE: u8 = 9;
    pub(super) const PRUNE: u8 = 10;
    pub(super) const IMPORT: u8 = 11;
    pub(super) const SIGN: u8 = 12;
    pub(super) const WAIT: u8 = 13;
    pub(super) const STREAMS_SINCE: u8 = 14;
    pub(super) const NOTICES: u8 = 15;
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
            Self::Wait { after, milliseconds } => {
                bytes.push(number::WAIT);
                bytes.put_u64(*after);
                bytes.put_u32(*milliseconds);
            }
            Self::Verify => bytes.push(number::VERIFY),
            Self::Hashes { from, limit } => {
                bytes.push(number::HASHES);
                bytes.put_u64(*from);
                bytes.put_u32(*limit);
            }
            Self::StreamsSince { from, limit } => {
                bytes.push(number::STREAMS_SINCE);
                bytes.put_u64(*from);
                bytes.put_u32(*limit);
            }
            Self::Notices => bytes.push(number::NOTICES),
            Self::Change(change) => put_change(&mut bytes, change),
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
            number::WAIT => Self::Wait { after: cursor.u64()?, milliseconds: cursor.u32()? },
            number::VERIFY => Self::Verify,
            number::HASHES => Self::Hashes { from: cursor.u64()?, limit: cursor.u32()? },
            number::STREAMS_SINCE => Self::StreamsSince { from: cursor.u64()?, limit: cursor.u32()? },
            number::NOTICES => Self::Notices,
            number::ERASE => Self::Change(Change::Erase(take_erase(&mut cursor)?)),
            number::PRUNE => Self::Change(Change::Prune(take_prune(&mut cursor)?)),
            number::IMPORT => Self::Change(Change::Import(take_import(&mut cursor)?)),
            number::SIGN => Self::Change(Change::Sign(take_checkpoint(&mut cursor)?)),
            other => return Err(Malformed(format!("no request has the number {other}"))),
        };
        cursor.end()?;
        Ok(request)
    }
}

fn put_change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Erase(Erase { stream, records, reason, by }) => {
            bytes.push(number::ERASE);
            bytes.put(stream.as_bytes());
            put_list(bytes, records, |bytes, (seq, note)| {
                bytes.put_u64(*seq);
                bytes.put_counted(note);
            });
            bytes.put_counted(reason.as_bytes());
            bytes.put_counted(by.as_bytes());
        }
        Change::Prune(Prune { stream, head, archive, reason, by }) => {
            bytes.push(number::PRUNE);
            bytes.put(stream.as_bytes());
            bytes.put(&head.0);
            bytes.push(u8::from(archive.is_some()));
            bytes.put(&archive.unwrap_or(Hash::ZERO).0);
            bytes.put_counted(reason.as_bytes());
            bytes.put_counted(by.as_bytes());
        }
        Change::Import(Import { archive, digest }) => {
            bytes.push(number::IMPORT);
            bytes.put(&digest.0);
            bytes.put_counted(archive.as_os_str().as_bytes());
        }
        Change::Sign(checkpoint) => {
            bytes.push(number::SIGN);
            bytes.put(&checkpoint.origin.0);
            bytes.put_u64(checkpoint.size);
            bytes.put(&checkpoint.root.0);
            put_list(bytes, &checkpoint.peaks, |bytes, peak| bytes.put(&peak.0));
            bytes.put_time(checkpoint.time);
            bytes.put(&checkpoint.key);
            bytes.put(&checkpoint.signature);
        }
    }
}

fn take_erase(cursor: &mut Cursor<'_>) -> Result<Erase, Malformed> {
    Ok(Erase {
        stream: cursor.stream()?,
        records: take_list(cursor, |cursor| Ok((cursor.u64()?, cursor.counted()?.to_vec())))?,
        reason: take_text(cursor)?,
        by: take_text(cursor)?,
    })
}

fn take_prune(cursor: &mut Cursor<'_>) -> Result<Prune, Malformed> {
    let (stream, head, has_archive, archive) = (cursor.stream()?, cursor.hash()?, cursor.flag()?, cursor.hash()?);
    let archive = has_archive.then_some(archive);
    Ok(Prune { stream, head, archive, reason: take_text(cursor)?, by: take_text(cursor)? })
}

fn take_import(cursor: &mut Cursor<'_>) -> Result<Import, Malformed> {
    let digest = cursor.hash()?;
    Ok(Import { archive: OsStr::from_bytes(cursor.counted()?).into(), digest })
}

fn take_checkpoint(cursor: &mut Cursor<'_>) -> Result<Checkpoint, Malformed> {
    Ok(Checkpoint {
        origin: cursor.hash()?,
        size: cursor.u64()?,
        root: cursor.hash()?,
        peaks: take_list(cursor, |cursor| cursor.hash())?,
        time: cursor.time()?,
        key: cursor.array()?,
        signature: cursor.array()?,
    })
}

fn put_filter(bytes: &mut Vec<u8>, filter: &StreamFilter) {
    bytes.push(u8::from(filter.kind.is_some()));
    bytes.push(filter.kind.map_or(0, |kind| kind.number()));
    bytes.push(u8::from(filter.open_only));
    bytes.push(u8::from(filter.before.is_some()));
    let before = filter.before.unwrap_or(ListingKey { started: Timestamp(0), stream: StreamId::LOG });
    bytes.put_time(before.started);
    bytes.put(before.stream.as_bytes());
    bytes.put_u32(u32::try_from(filter.limit).unwrap_or(u32::MAX));
}

fn take_filter(cursor: &mut Cursor<'_>) -> Result<StreamFilter, Malformed> {
    let has_kind = cursor.flag()?;
    let kind = cursor.kind()?;
    let open_only = cursor.flag()?;
    let has_before = cursor.flag()?;
    let before = ListingKey { started: cursor.time()?, stream: cursor.stream()? };
    let limit = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
    Ok(StreamFilter { kind: has_kind.then_some(kind), open_only, before: has_before.then_some(before), limit })
}

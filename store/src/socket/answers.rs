//! What a server answers, as bytes.

use std::sync::Arc;

use ::bytes::Bytes;

use super::requests::VERSION;
use crate::bytes::{Cursor, Malformed, Put};
use crate::core::verify::Verified;
use crate::keeper::{ChangeError, Changed};
use crate::layout::MAX_CHUNKED;
use crate::layout::encoded::EncodedFrame;
use crate::log::{Durability, LogHead, Notices, ReadError, StreamEntry, StreamsSince};
use crate::parts::{put_body, put_entry, put_list, take_body, take_entry, take_list, take_text};
use crate::record::{Hash, Record};

/// The longest answer: a frame as long as can be (it is read as a whole), and its records' envelopes.
pub(super) const LONGEST: usize = 2 * MAX_CHUNKED;

/// More than a record takes besides its body, and a frame besides its bytes.
const ENVELOPE: usize = 192;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Records(Vec<Record>),
    /// Frames from memory, as they were written: nobody needs to check their records. The first may begin before what was asked for.
    Frames(Vec<EncodedFrame>),
    Streams(Vec<StreamEntry>),
    Definition(Option<Arc<[u8]>>),
    Head(LogHead),
    Verified(Verified),
    Error(ReadError),
    Hashes(Vec<Hash>),
    StreamsSince(StreamsSince),
    Notices(Notices),
    Changed(Result<Changed, ChangeError>),
}

/// Numbers of answers and of errors: never used twice.
mod number {
    pub(super) const RECORDS: u8 = 1;
    pub(super) const STREAMS: u8 = 2;
    pub(super) const DEFINITION: u8 = 3;
    pub(super) const HEAD: u8 = 4;
    pub(super) const VERIFIED: u8 = 5;
    pub(super) const ERROR: u8 = 6;
    pub(super) const HASHES: u8 = 7;
    pub(super) const CHANGED: u8 = 8;
    pub(super) const UNCHANGED: u8 = 9;
    pub(super) const STREAMS_SINCE: u8 = 10;
    pub(super) const FRAMES: u8 = 11;
    pub(super) const NOTICES: u8 = 12;

    pub(super) const NO_STREAM: u8 = 1;
    pub(super) const DAMAGED: u8 = 2;
    pub(super) const DAMAGED_LOG: u8 = 3;
    pub(super) const TAIL_CUT: u8 = 4;
    pub(super) const GONE: u8 = 5;
    pub(super) const IO: u8 = 6;
    pub(super) const PRUNED: u8 = 7;

    pub(super) const UNREADABLE: u8 = 1;
    pub(super) const OPEN: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const FAILED: u8 = 4;
    pub(super) const CLOSED: u8 = 5;
    pub(super) const UNREACHABLE: u8 = 6;
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Records(records) => {
                // Once for all of them: to grow would copy a page several times.
                let length = |record: &Record| ENVELOPE + record.body.bytes().map_or(0, <[u8]>::len);
                bytes.reserve(records.iter().map(length).sum());
                bytes.push(number::RECORDS);
                put_list(&mut bytes, records, put_record);
            }
            Self::Frames(frames) => {
                bytes.reserve(frames.iter().map(|frame| ENVELOPE + frame.bytes.len()).sum());
                bytes.push(number::FRAMES);
                put_list(&mut bytes, frames, put_frame);
            }
            Self::Streams(entries) => {
                bytes.push(number::STREAMS);
                put_list(&mut bytes, entries, put_entry);
            }
            Self::Definition(definition) => {
                bytes.push(number::DEFINITION);
                bytes.push(u8::from(definition.is_some()));
                bytes.put(definition.as_deref().unwrap_or_default());
            }
            Self::Head(head) => {
                bytes.push(number::HEAD);
                put_head(&mut bytes, head);
            }
            Self::Verified(verified) => {
                bytes.push(number::VERIFIED);
                bytes.put_u64(verified.records);
                bytes.put_u64(verified.streams);
                put_list(&mut bytes, &verified.findings, put_error);
            }
            Self::Error(error) => {
                bytes.push(number::ERROR);
                put_error(&mut bytes, error);
            }
            Self::Hashes(hashes) => {
                bytes.push(number::HASHES);
                put_list(&mut bytes, hashes, |bytes, hash| bytes.put(&hash.0));
            }
            Self::StreamsSince(since) => {
                bytes.push(number::STREAMS_SINCE);
                bytes.put_u64(since.next);
                put_list(&mut bytes, &since.streams, put_entry);
            }
            Self::Notices(notices) => {
                bytes.push(number::NOTICES);
                let notices: Vec<_> = notices.iter().collect();
                put_list(&mut bytes, &notices, |bytes, (stream, notice)| {
                    bytes.put(stream.as_bytes());
                    bytes.put_counted(notice);
                });
            }
            Self::Changed(Ok(changed)) => {
                bytes.push(number::CHANGED);
                bytes.put_u64(changed.streams);
                bytes.put_u64(changed.records);
                bytes.put_u64(changed.already);
            }
            Self::Changed(Err(error)) => {
                bytes.push(number::UNCHANGED);
                put_change_error(&mut bytes, error);
            }
        }
        bytes
    }

    /// Reads an answer. The bodies of records are slices of it, which stays in memory as long as one of them.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(Malformed(format!(
                "the process that has the log answers in version {version}, this one speaks {VERSION}; use the same version of both"
            )));
        }
        let answer = match cursor.u8()? {
            number::RECORDS => Self::Records(take_list(&mut cursor, |cursor| take_record(cursor, bytes))?),
            number::FRAMES => Self::Frames(take_list(&mut cursor, |cursor| take_frame(cursor, bytes))?),
            number::STREAMS => Self::Streams(take_list(&mut cursor, take_entry)?),
            number::DEFINITION => {
                let is_there = cursor.flag()?;
                Self::Definition(is_there.then(|| cursor.all().into()))
            }
            number::HEAD => Self::Head(take_head(&mut cursor)?),
            number::VERIFIED => Self::Verified(Verified {
                records: cursor.u64()?,
                streams: cursor.u64()?,
                findings: take_list(&mut cursor, take_error)?,
            }),
            number::ERROR => Self::Error(take_error(&mut cursor)?),
            number::HASHES => Self::Hashes(take_list(&mut cursor, |cursor| cursor.hash())?),
            number::STREAMS_SINCE => {
                let next = cursor.u64()?;
                Self::StreamsSince(StreamsSince { streams: take_list(&mut cursor, take_entry)?, next })
            }
            number::NOTICES => {
                let notices = take_list(&mut cursor, |cursor| Ok((cursor.stream()?, Arc::from(cursor.counted()?))))?;
                Self::Notices(notices.into_iter().collect())
            }
            number::CHANGED => {
                Self::Changed(Ok(Changed { streams: cursor.u64()?, records: cursor.u64()?, already: cursor.u64()? }))
            }
            number::UNCHANGED => Self::Changed(Err(take_change_error(&mut cursor)?)),
            other => return Err(Malformed(format!("no answer has the number {other}"))),
        };
        cursor.end()?;
        Ok(answer)
    }
}

fn put_record(bytes: &mut Vec<u8>, record: &Record) {
    bytes.put(record.stream.as_bytes());
    bytes.push(record.kind.number());
    bytes.put_u64(record.seq);
    bytes.put_u64(record.position);
    bytes.put_time(record.time);
    bytes.put(&record.previous.0);
    bytes.put(&record.hash.0);
    put_body(bytes, &record.body);
}

fn take_record<'a>(cursor: &mut Cursor<'a>, answer: &'a Bytes) -> Result<Record, Malformed> {
    Ok(Record {
        stream: cursor.stream()?,
        kind: cursor.kind()?,
        seq: cursor.u64()?,
        position: cursor.u64()?,
        time: cursor.time()?,
        previous: cursor.hash()?,
        hash: cursor.hash()?,
        body: take_body(cursor, |body| answer.slice_ref(body))?,
    })
}

fn put_frame(bytes: &mut Vec<u8>, frame: &EncodedFrame) {
    bytes.put(frame.stream.as_bytes());
    bytes.put_u64(frame.first_seq);
    bytes.put(&frame.previous.0);
    bytes.put_counted(&frame.bytes);
}

fn take_frame<'a>(cursor: &mut Cursor<'a>, answer: &'a Bytes) -> Result<EncodedFrame, Malformed> {
    Ok(EncodedFrame {
        stream: cursor.stream()?,
        first_seq: cursor.u64()?,
        previous: cursor.hash()?,
        bytes: answer.slice_ref(cursor.counted()?),
    })
}

fn put_head(bytes: &mut Vec<u8>, head: &LogHead) {
    bytes.put_u64(head.position);
    bytes.put(&head.hash.0);
    bytes.put_time(head.time);
    let (number, interval) = match head.durability {
        None => (0, 0),
        Some(Durability::Sync) => (1, 0),
        Some(Durability::Interval(milliseconds)) => (2, milliseconds),
        Some(Durability::Os) => (3, 0),
    };
    bytes.push(number);
    bytes.put_u64(interval);
}

fn take_head(cursor: &mut Cursor<'_>) -> Result<LogHead, Malformed> {
    let (position, hash, time) = (cursor.u64()?, cursor.hash()?, cursor.time()?);
    let durability = match (cursor.u8()?, cursor.u64()?) {
        (0, _) => None,
        (1, _) => Some(Durability::Sync),
        (2, milliseconds) => Some(Durability::Interval(milliseconds)),
        (3, _) => Some(Durability::Os),
        (other, _) => return Err(Malformed(format!("no durability has the number {other}"))),
    };
    Ok(LogHead { position, hash, time, durability })
}

fn put_error(bytes: &mut Vec<u8>, error: &ReadError) {
    match error {
        ReadError::NoStream(stream) => {
            bytes.push(number::NO_STREAM);
            bytes.put(stream.as_bytes());
        }
        ReadError::Damaged { stream, seq, what } => {
            bytes.push(number::DAMAGED);
            bytes.put(stream.as_bytes());
            bytes.put_u64(*seq);
            bytes.put_counted(what.as_bytes());
        }
        ReadError::DamagedLog(what) => {
            bytes.push(number::DAMAGED_LOG);
            bytes.put_counted(what.as_bytes());
        }
        ReadError::TailCut { stream, head, found } => {
            bytes.push(number::TAIL_CUT);
            bytes.put(stream.as_bytes());
            bytes.put_u64(*head);
            bytes.put_u64(*found);
        }
        ReadError::Pruned { stream, records } => {
            bytes.push(number::PRUNED);
            bytes.put(stream.as_bytes());
            bytes.put_u64(*records);
        }
        ReadError::Gone => bytes.push(number::GONE),
        ReadError::Io(what) => {
            bytes.push(number::IO);
            bytes.put_counted(what.as_bytes());
        }
    }
}

fn take_error(cursor: &mut Cursor<'_>) -> Result<ReadError, Malformed> {
    Ok(match cursor.u8()? {
        number::NO_STREAM => ReadError::NoStream(cursor.stream()?),
        number::DAMAGED => {
            ReadError::Damaged { stream: cursor.stream()?, seq: cursor.u64()?, what: take_text(cursor)? }
        }
        number::DAMAGED_LOG => ReadError::DamagedLog(take_text(cursor)?),
        number::TAIL_CUT => ReadError::TailCut { stream: cursor.stream()?, head: cursor.u64()?, found: cursor.u64()? },
        number::PRUNED => ReadError::Pruned { stream: cursor.stream()?, records: cursor.u64()? },
        number::GONE => ReadError::Gone,
        number::IO => ReadError::Io(take_text(cursor)?),
        other => return Err(Malformed(format!("no error has the number {other}"))),
    })
}

fn put_change_error(bytes: &mut Vec<u8>, error: &ChangeError) {
    let (number, text) = match error {
        ChangeError::Read(error) => {
            bytes.push(number::UNREADABLE);
            return put_error(bytes, error);
        }
        ChangeError::Open(stream) => {
            bytes.push(number::OPEN);
            return bytes.put(stream.as_bytes());
        }
        ChangeError::Refused(text) => (number::REFUSED, text.as_str()),
        ChangeError::Failed(text) => (number::FAILED, text.as_str()),
        ChangeError::Closed => (number::CLOSED, ""),
        ChangeError::Unreachable(text) => (number::UNREACHABLE, text.as_str()),
    };
    bytes.push(number);
    bytes.put_counted(text.as_bytes());
}

fn take_change_error(cursor: &mut Cursor<'_>) -> Result<ChangeError, Malformed> {
    let number = cursor.u8()?;
    match number {
        number::UNREADABLE => return take_error(cursor).map(ChangeError::Read),
        number::OPEN => return cursor.stream().map(ChangeError::Open),
        _ => {}
    }
    let text = take_text(cursor)?;
    Ok(match number {
        number::REFUSED => ChangeError::Refused(text),
        number::FAILED => ChangeError::Failed(text),
        number::CLOSED => ChangeError::Closed,
        number::UNREACHABLE => ChangeError::Unreachable(text),
        other => return Err(Malformed(format!("no refusal has the number {other}"))),
    })
}

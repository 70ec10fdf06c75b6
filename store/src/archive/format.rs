//! The layout of an archive: a line of text, then sections.
//!
//! ```text
//! "cloacina-archive 1\n"
//! section: tag u8 | length u32 | that many bytes
//!   'H' made i64 | position u64 | log hash 32 | origin counted | version counted     once, first
//!   'D' fingerprint 32 | the definition
//!   'S' a stream's entry                                                            then its 'E' and 'R'
//!   'E' seq u64 | erased i64 | reason counted | by counted | note counted
//!   'R' first seq u64 | records u32, and for each: position u64 | time i64 | hash 32 | body
//!   'Z' streams u32 | records u64 | SHA-256 of everything before it 32               once, last
//! ```

use ::bytes::Bytes;

use crate::bytes::{Cursor, Malformed, Put};
use crate::encoding::{put_body, put_entry, take_body, take_entry, take_text};
use crate::log::{Erasure, StreamEntry};
use crate::record::{Hash, Record, StreamId, StreamKind, Timestamp};
use crate::seal;

/// The first bytes of archives of all versions.
pub(super) const BEGINNING: &[u8; 17] = b"cloacina-archive ";

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

/// The first line of a file.
pub(super) const LINE: &[u8; 19] = b"cloacina-archive 1\n";

/// The maximum length of a section, which fits the longest possible record.
pub(super) const MAX_LENGTH: u32 = 256 * 1024 * 1024;

pub(super) const HEADER: u8 = b'H';
pub(super) const DEFINITION: u8 = b'D';
pub(super) const STREAM: u8 = b'S';
pub(super) const ERASURE: u8 = b'E';
pub(super) const RECORDS: u8 = b'R';
pub(super) const END: u8 = b'Z';

/// The origin of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) made: Timestamp,
    /// The end of the log when the archive was made, and its hash there.
    pub(super) position: u64,
    pub(super) hash: Hash,
    pub(super) origin: String,
    pub(super) version: String,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_time(self.made);
        bytes.put_u64(self.position);
        bytes.put(&self.hash.0);
        bytes.put_counted(self.origin.as_bytes());
        bytes.put_counted(self.version.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let header = Self {
            made: cursor.time()?,
            position: cursor.u64()?,
            hash: cursor.hash()?,
            origin: take_text(&mut cursor)?,
            version: take_text(&mut cursor)?,
        };
        cursor.end()?;
        Ok(header)
    }
}

/// The last section, except for the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) streams: u32,
    pub(super) records: u64,
}

impl Counts {
    pub(super) const LENGTH: usize = 4 + 8;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.put_u32(self.streams);
        bytes.put_u64(self.records);
        bytes
    }

    /// Decodes the counts and the digest.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Hash), Malformed> {
        let mut cursor = Cursor::new(bytes);
        let counts = Self { streams: cursor.u32()?, records: cursor.u64()? };
        let digest = cursor.hash()?;
        cursor.end()?;
        Ok((counts, digest))
    }
}

pub(super) fn encode_stream(entry: &StreamEntry) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_entry(&mut bytes, entry);
    bytes
}

pub(super) fn decode_stream(bytes: &[u8]) -> Result<StreamEntry, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let entry = take_entry(&mut cursor)?;
    cursor.end()?;
    if entry.label.len() > crate::MAX_LABEL {
        return Err(Malformed(format!("a label of {} bytes is longer than {}", entry.label.len(), crate::MAX_LABEL)));
    }
    Ok(entry)
}

pub(super) fn encode_erasure(erasure: &Erasure) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u64(erasure.seq);
    bytes.put_time(erasure.time);
    bytes.put_counted(erasure.reason.as_bytes());
    bytes.put_counted(erasure.by.as_bytes());
    bytes.put_counted(&erasure.note);
    bytes
}

pub(super) fn decode_erasure(bytes: &[u8]) -> Result<Erasure, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let erasure = Erasure {
        seq: cursor.u64()?,
        time: cursor.time()?,
        reason: take_text(&mut cursor)?,
        by: take_text(&mut cursor)?,
        note: cursor.counted()?.to_vec(),
    };
    cursor.end()?;
    Ok(erasure)
}

/// Encodes at least one record; the records are consecutive in a stream.
pub(super) fn encode_records(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u64(records.first().map_or(0, |record| record.seq));
    bytes.put_u32(u32::try_from(records.len()).unwrap_or(u32::MAX));
    for record in records {
        bytes.put_u64(record.position);
        bytes.put_time(record.time);
        bytes.put(&record.hash.0);
        put_body(&mut bytes, &record.body);
    }
    bytes
}

/// The state of a stream before the records of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) stream: StreamId,
    pub(super) kind: StreamKind,
    pub(super) seq: u64,
    pub(super) previous: Hash,
}

/// Decodes the records of a section, and verifies each against its hash and the previous one.
pub(super) fn decode_records(bytes: &[u8], start: Start) -> Result<Vec<Record>, Malformed> {
    let Start { stream, kind, mut seq, mut previous } = start;
    let mut cursor = Cursor::new(bytes);
    let first_seq = cursor.u64()?;
    if first_seq != seq {
        return Err(Malformed(format!("{stream}: the section begins at seq {first_seq}, expected {seq}")));
    }
    let count = cursor.u32()?;
    // Not preallocated: the count is not trusted until all records were read.
    let mut records: Vec<Record> = Vec::new();
    for _ in 0..count {
        let (position, time, hash) = (cursor.u64()?, cursor.time()?, cursor.hash()?);
        let record = Record {
            stream,
            kind,
            seq,
            position,
            time,
            previous,
            hash,
            body: take_body(&mut cursor, Bytes::copy_from_slice)?,
        };
        if let Err(computed) = seal::check(&record) {
            return Err(Malformed(format!(
                "{stream}: the record at seq {seq} has hash {hash}, its content gives {computed}"
            )));
        }
        previous = hash;
        seq = seq.checked_add(1).ok_or_else(|| Malformed::new("a seq is out of range"))?;
        records.push(record);
    }
    cursor.end()?;
    if records.is_empty() {
        return Err(Malformed(format!("{stream}: a section without records")));
    }
    Ok(records)
}

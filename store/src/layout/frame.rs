//! A frame: the sealed records of one decision in one stream.
//!
//! ```text
//! 'F' packing format 0 | length of all u32 | first position u64 | time i64 | records u32 | bytes so far u64 | head 32
//! for each record:  hash 32 (not of the last: that is the head) | erased u8 | body length u32
//!                   | salt 16, body    or, erased:  commitment 32
//! ```
//! The stream and the first `seq` are in the key, and in every hash. A frame that was taken over from an archive begins with
//! `I`: its positions and times are those of the log that it was sealed in. Of a pruned one, which begins with `P`, the
//! header and the hashes of its records are left.

use ::bytes::Bytes;

use super::{MAX_CHUNKED, expect_header, header};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::seal::{self, Header, SALT_LENGTH};

const OWN: u8 = b'F';
const IMPORTED: u8 = b'I';
const PRUNED: u8 = b'P';

/// The length of what stands before the records.
const HEADER_LENGTH: usize = 4 + 1 + 4 + 8 + 8 + 4 + 8 + 32;

/// What a record takes besides its body: hash, flag, length, salt.
const RECORD_OVERHEAD: usize = 32 + 1 + 4 + SALT_LENGTH;

/// The least that a record takes: the last one, with an empty body.
const LEAST_RECORD: usize = 1 + 4 + SALT_LENGTH;

/// What a frame is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was appended.
    Own,
    /// It was taken over from an archive. No commit entry names it.
    Imported,
    /// It was appended, and its records were dropped.
    Pruned,
}

impl Standing {
    const fn magic(self) -> u8 {
        match self {
            Self::Own => OWN,
            Self::Imported => IMPORTED,
            Self::Pruned => PRUNED,
        }
    }
}

/// What is known of a frame without looking at its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) standing: Standing,
    /// The length of the whole frame, all chunks.
    pub(crate) length: usize,
    pub(crate) kind: StreamKind,
    pub(crate) first_position: u64,
    pub(crate) time: Timestamp,
    pub(crate) count: u32,
    /// The bytes of all bodies of the stream up to and with this frame.
    pub(crate) bytes: u64,
    /// The hash of the last record.
    pub(crate) head: Hash,
}

impl FrameHeader {
    /// Whether it is there for those who see the log up to a position. An imported frame has no position of this log.
    pub(crate) fn is_before(&self, position: u64) -> bool {
        self.standing == Standing::Imported || self.first_position < position
    }
}

/// A frame as it is stored. Nothing of it is checked against its hashes yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredFrame {
    pub(crate) header: FrameHeader,
    /// None of a pruned one.
    pub(crate) records: Vec<StoredRecord>,
    /// The hashes of the records of a pruned one.
    pub(crate) pruned: Vec<Hash>,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub(crate) hash: Hash,
    pub(crate) body: Body,
}

/// Where a frame comes to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) stream: StreamId,
    pub(crate) kind: StreamKind,
    pub(crate) first_seq: u64,
    pub(crate) first_position: u64,
    pub(crate) time: Timestamp,
    /// The hash of the stream's last record before.
    pub(crate) previous: Hash,
    /// The bytes of the stream's bodies before.
    pub(crate) bytes: u64,
}

/// How long a frame with these bodies is, if it is not too long.
pub(crate) fn encoded_length(bodies: &[Vec<u8>]) -> Result<usize, Malformed> {
    let length =
        bodies.iter().fold(HEADER_LENGTH, |sum, body| sum.saturating_add(body.len()).saturating_add(RECORD_OVERHEAD));
    if length > MAX_CHUNKED {
        return Err(Malformed(format!(
            "a frame of {length} bytes is longer than {MAX_CHUNKED}; keep large values outside of the log and record where they are"
        )));
    }
    Ok(length)
}

/// Bodies on their way into a frame: all that can be made before it is known where the frame comes to stand. Whoever appends
/// makes it, so that the one thread that writes has less to do.
#[derive(Debug)]
pub(crate) struct Content {
    /// The frame's bytes. Nothing stands yet where its header and the hashes of its records belong.
    bytes: Vec<u8>,
    commitments: Vec<Hash>,
    /// Where the records begin, but for the last, whose hash stands in the header.
    starts: Vec<usize>,
    body_bytes: u64,
}

impl Content {
    /// Commits to bodies, each with a salt of its own.
    pub(crate) fn new(bodies: &[Vec<u8>], mut salt: impl FnMut() -> [u8; SALT_LENGTH]) -> Result<Self, Malformed> {
        let length = encoded_length(bodies)?.saturating_sub(32);
        let mut content = Self {
            bytes: Vec::with_capacity(length),
            commitments: Vec::with_capacity(bodies.len()),
            starts: Vec::with_capacity(bodies.len()),
            body_bytes: bodies.iter().map(|body| body.len() as u64).sum(),
        };
        content.bytes.resize(HEADER_LENGTH, 0);
        for (index, body) in bodies.iter().enumerate() {
            let salt = salt();
            if index + 1 < bodies.len() {
                content.starts.push(content.bytes.len());
                content.bytes.put(&Hash::ZERO.0);
            }
            put_body(&mut content.bytes, &salt, body)?;
            content.commitments.push(seal::commitment(&salt, body));
        }
        Ok(content)
    }

    /// How many bodies there are.
    pub(crate) fn count(&self) -> usize {
        self.commitments.len()
    }

    /// How many bytes the frame has.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Seals the bodies in their place: the frame's bytes, and what its header says.
    pub(crate) fn seal(self, place: &Place) -> Result<(Vec<u8>, FrameHeader), Malformed> {
        let Self { mut bytes, commitments, starts, body_bytes } = self;
        let count = u32::try_from(commitments.len()).map_err(|_| Malformed::new("too many records in a frame"))?;
        let mut sealed = Header {
            stream: place.stream,
            kind: place.kind,
            seq: place.first_seq,
            position: place.first_position,
            time: place.time,
        };
        let mut head = place.previous;
        let mut starts = starts.into_iter();
        for commitment in &commitments {
            head = seal::record_hash(&sealed, &head, commitment);
            if let Some(start) = starts.next() {
                bytes[start..start + 32].copy_from_slice(&head.0);
            }
            sealed.seq += 1;
            sealed.position += 1;
        }
        let header = FrameHeader {
            standing: Standing::Own,
            length: bytes.len(),
            kind: place.kind,
            first_position: place.first_position,
            time: place.time,
            count,
            bytes: place.bytes.saturating_add(body_bytes),
            head,
        };
        let mut encoded = Vec::with_capacity(HEADER_LENGTH);
        put_header(&mut encoded, &header)?;
        bytes[..HEADER_LENGTH].copy_from_slice(&encoded);
        Ok((bytes, header))
    }
}

fn put_body(bytes: &mut Vec<u8>, salt: &[u8; SALT_LENGTH], body: &[u8]) -> Result<(), Malformed> {
    bytes.push(0);
    bytes.put_u32(u32::try_from(body.len()).map_err(|_| Malformed::new("a body is too long"))?);
    bytes.put(salt);
    bytes.put(body);
    Ok(())
}

/// A frame as it is stored, with bodies as they are now, and the header that goes with it.
pub(crate) fn encode(frame: &StoredFrame) -> Result<(Vec<u8>, FrameHeader), Malformed> {
    let mut content = Vec::new();
    for (index, StoredRecord { hash, body }) in frame.records.iter().enumerate() {
        if index + 1 < frame.records.len() {
            content.put(&hash.0);
        }
        match body {
            Body::Present { salt, bytes } => put_body(&mut content, salt, bytes)?,
            Body::Erased { commitment, length } => {
                content.push(1);
                content.put_u32(*length);
                content.put(&commitment.0);
            }
        }
    }
    content.put(
        &frame.pruned.iter().take(frame.pruned.len().saturating_sub(1)).map(|hash| hash.0).collect::<Vec<_>>().concat(),
    );
    let header = FrameHeader { length: HEADER_LENGTH + content.len(), ..frame.header.clone() };
    if header.length > MAX_CHUNKED {
        return Err(Malformed(format!("a frame of {} bytes is longer than {MAX_CHUNKED}", header.length)));
    }
    let mut bytes = Vec::with_capacity(header.length);
    put_header(&mut bytes, &header)?;
    bytes.put(&content);
    Ok((bytes, header))
}

fn put_header(bytes: &mut Vec<u8>, frame: &FrameHeader) -> Result<(), Malformed> {
    bytes.put(&header(frame.standing.magic()));
    bytes.push(frame.kind.number());
    bytes.put_u32(u32::try_from(frame.length).map_err(|_| Malformed::new("a frame is too long"))?);
    bytes.put_u64(frame.first_position);
    bytes.put_time(frame.time);
    bytes.put_u32(frame.count);
    bytes.put_u64(frame.bytes);
    bytes.put(&frame.head.0);
    Ok(())
}

/// Reads the header at the beginning of a frame's first chunk.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<FrameHeader, Malformed> {
    take_header(&mut Cursor::new(bytes))
}

fn take_header(cursor: &mut Cursor<'_>) -> Result<FrameHeader, Malformed> {
    let standing = match cursor.peek() {
        Some(IMPORTED) => Standing::Imported,
        Some(PRUNED) => Standing::Pruned,
        _ => Standing::Own,
    };
    expect_header(cursor, standing.magic())?;
    let frame = FrameHeader {
        standing,
        kind: cursor.kind()?,
        length: usize_of(cursor.u32()?),
        first_position: cursor.u64()?,
        time: cursor.time()?,
        count: cursor.u32()?,
        bytes: cursor.u64()?,
        head: cursor.hash()?,
    };
    if frame.length > MAX_CHUNKED {
        return Err(Malformed(format!("a frame of {} bytes is longer than {MAX_CHUNKED}", frame.length)));
    }
    if frame.count == 0 {
        return Err(Malformed::new("a frame has no record"));
    }
    if frame.first_position.checked_add(u64::from(frame.count)).is_none() {
        return Err(Malformed(format!("position {} cannot be", frame.first_position)));
    }
    Ok(frame)
}

/// Reads a whole frame. Its bodies are slices of it, which stays in memory as long as one of them.
pub(crate) fn decode(bytes: &Bytes) -> Result<StoredFrame, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let header = take_header(&mut cursor)?;
    if header.length != bytes.len() {
        return Err(Malformed(format!("the frame says {} bytes, it has {}", header.length, bytes.len())));
    }
    if header.standing == Standing::Pruned {
        return decode_pruned(header, &mut cursor);
    }
    // Before anything is allocated for them: so many records must fit.
    if usize_of(header.count) > cursor.remaining() / LEAST_RECORD {
        return Err(Malformed(format!("{} records do not fit {} bytes", header.count, bytes.len())));
    }
    let mut records = Vec::with_capacity(usize_of(header.count));
    for index in 1..=header.count {
        let hash = if index == header.count { header.head } else { cursor.hash()? };
        let erased = cursor.flag()?;
        let length = cursor.u32()?;
        let body = take_body(bytes, &mut cursor, erased, length)?;
        records.push(StoredRecord { hash, body });
    }
    cursor.end()?;
    Ok(StoredFrame { header, records, pruned: Vec::new() })
}

fn decode_pruned(header: FrameHeader, cursor: &mut Cursor<'_>) -> Result<StoredFrame, Malformed> {
    if (usize_of(header.count) - 1).checked_mul(32) != Some(cursor.remaining()) {
        return Err(Malformed(format!("{} hashes do not fit {} bytes", header.count, header.length)));
    }
    let mut pruned = Vec::with_capacity(usize_of(header.count));
    while cursor.remaining() > 0 {
        pruned.push(cursor.hash()?);
    }
    pruned.push(header.head);
    Ok(StoredFrame { header, records: Vec::new(), pruned })
}

fn take_body(frame: &Bytes, cursor: &mut Cursor<'_>, erased: bool, length: u32) -> Result<Body, Malformed> {
    if erased {
        return Ok(Body::Erased { commitment: cursor.hash()?, length });
    }
    Ok(Body::Present { salt: cursor.array()?, bytes: frame.slice_ref(cursor.take(usize_of(length))?) })
}

impl StoredFrame {
    /// The bytes of the bodies of this frame alone.
    pub(crate) fn own_bytes(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.body.length())).sum()
    }

    /// The hashes of its records, also of those that were pruned.
    pub(crate) fn hashes(&self) -> Vec<Hash> {
        self.records.iter().map(|record| record.hash).chain(self.pruned.iter().copied()).collect()
    }

    /// What stays of it when its records are dropped.
    pub(crate) fn without_records(&self) -> Self {
        let header = FrameHeader { standing: Standing::Pruned, ..self.header.clone() };
        Self { header, records: Vec::new(), pruned: self.hashes() }
    }

    /// Its records, each checked against its hash; `previous` is the hash of the record before the first.
    ///
    /// # Errors
    /// The `seq` of the first one that does not fit, and what does not.
    pub(crate) fn open(self, stream: StreamId, first_seq: u64, previous: Hash) -> Result<Vec<Record>, (u64, String)> {
        let mut records = Vec::new();
        self.records_into(&mut records, stream, first_seq, previous)?;
        seal::check_all(&records).map_err(|(at, what)| (records[at].seq, what))?;
        Ok(records)
    }

    /// Its records, put behind others. Their hashes are for [`seal::check_all`] to check.
    pub(crate) fn records_into(
        self,
        records: &mut Vec<Record>,
        stream: StreamId,
        first_seq: u64,
        previous: Hash,
    ) -> Result<(), (u64, String)> {
        let mut previous = previous;
        records.reserve(self.records.len());
        for (offset, stored) in (0u64..).zip(self.records) {
            let seq = first_seq.checked_add(offset).ok_or_else(|| (first_seq, "its seq cannot be".to_owned()))?;
            let record = Record {
                stream,
                kind: self.header.kind,
                seq,
                position: self.header.first_position + offset,
                time: self.header.time,
                previous,
                hash: stored.hash,
                body: stored.body,
            };
            previous = record.hash;
            records.push(record);
        }
        Ok(())
    }
}

//! A frame: the sealed records of one decision in one stream, and a change of the stream's listing. It can be read and
//! verified on its own.
//!
//! ```text
//! 'F' packing format sort | length of all u32 | checksum u32 | kind u8 | listing u8 | label length u16 | stream 16 | first seq u64
//!                         | first position u64 | time i64 | records u32 | bytes so far u64 | previous 32 | head 32 | label
//! for each record:  hash 32 (not of the last: that is the head) | erased u8 | body length u32 | content
//! content:          salt 16, body    or, erased:  commitment 32      and zeros up to the same length, 32 bytes at the least
//! ```
//! Sorts: 0 appended, 1 imported from an archive (with the positions and times of the log in which it was sealed). In a
//! pruned frame (2 and 3), all content is zeros; its hashes remain. The length never changes: erasing and pruning
//! overwrite in place.

use ::bytes::Bytes;

use super::{MAX_ITEM, MAX_LABEL, begin, check_sum, expect, put_checksum};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::log::Listing;
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::seal::{self, Header, SALT_LENGTH};

pub(crate) const MAGIC: u8 = b'F';
/// The length of the fields before the label.
pub(crate) const HEADER: usize = 4 + 4 + 4 + 1 + 1 + 2 + 16 + 8 + 8 + 8 + 4 + 8 + 32 + 32;

/// The minimum content of a record: a commitment must fit.
const MIN_CONTENT: usize = 32;
/// The minimum length of a record: the last one, with an empty body.
const MIN_RECORD: usize = 1 + 4 + MIN_CONTENT;

/// How a frame came into its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameOrigin {
    /// Appended.
    Appended,
    /// Imported from an archive, so that its positions are not those of this log.
    Imported,
}

/// How a frame changes the listing of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListingChange {
    Keep,
    Open,
    Closed,
}

/// The header of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) origin: FrameOrigin,
    /// Whether its content was removed.
    pub(crate) pruned: bool,
    /// The length of the frame.
    pub(crate) length: usize,
    pub(crate) kind: StreamKind,
    pub(crate) listing: ListingChange,
    pub(crate) label_length: u16,
    pub(crate) stream: StreamId,
    pub(crate) first_seq: u64,
    pub(crate) first_position: u64,
    pub(crate) time: Timestamp,
    pub(crate) count: u32,
    /// The size of all bodies of the stream up to the end of this frame.
    pub(crate) bytes: u64,
    /// The hash of the stream's record before the first one.
    pub(crate) previous: Hash,
    /// The hash of the last record.
    pub(crate) head: Hash,
}

impl FrameHeader {
    /// The `seq` after the last record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    /// The position after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.first_position + u64::from(self.count)
    }

    /// Decodes the header at the beginning of a frame.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let sort = expect(&mut cursor, MAGIC)?;
        let (origin, pruned) = match sort {
            0 => (FrameOrigin::Appended, false),
            1 => (FrameOrigin::Imported, false),
            2 => (FrameOrigin::Appended, true),
            3 => (FrameOrigin::Imported, true),
            other => return Err(Malformed(format!("its sort is {other}, this version reads 0 to 3"))),
        };
        let length = usize_of(cursor.u32()?);
        cursor.u32()?;
        let kind = cursor.kind()?;
        let listing = match cursor.u8()? {
            0 => ListingChange::Keep,
            1 => ListingChange::Open,
            2 => ListingChange::Closed,
            other => return Err(Malformed(format!("unknown listing change: {other}"))),
        };
        let frame = Self {
            origin,
            pruned,
            length,
            kind,
            listing,
            label_length: cursor.u16()?,
            stream: cursor.stream()?,
            first_seq: cursor.u64()?,
            first_position: cursor.u64()?,
            time: cursor.time()?,
            count: cursor.u32()?,
            bytes: cursor.u64()?,
            previous: cursor.hash()?,
            head: cursor.hash()?,
        };
        frame.check()?;
        Ok(frame)
    }

    fn check(&self) -> Result<(), Malformed> {
        let Self { length, count, label_length, .. } = *self;
        if length > MAX_ITEM {
            return Err(Malformed(format!("a frame of {length} bytes is longer than {MAX_ITEM}")));
        }
        if count == 0 {
            return Err(Malformed::new("a frame has no records"));
        }
        if usize::from(label_length) > MAX_LABEL {
            return Err(Malformed(format!("a label of {label_length} bytes is longer than {MAX_LABEL}")));
        }
        let is_reached = |from: u64| from.checked_add(u64::from(count)).is_some();
        if !is_reached(self.first_position) || !is_reached(self.first_seq) {
            return Err(Malformed(format!(
                "position {} or seq {} is out of range",
                self.first_position, self.first_seq
            )));
        }
        // Checked before any allocation: the frame must have room for that many records.
        let room = length.saturating_sub(HEADER + usize::from(label_length));
        if usize_of(count) > room / MIN_RECORD {
            return Err(Malformed(format!("{count} records do not fit {length} bytes")));
        }
        Ok(())
    }

    fn put(&self, into: &mut [u8]) -> Result<(), Malformed> {
        let sort = u8::from(self.origin == FrameOrigin::Imported) + 2 * u8::from(self.pruned);
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.put(&begin(MAGIC, sort));
        bytes.put_u32(u32::try_from(self.length).map_err(|_| Malformed::new("a frame is too long"))?);
        bytes.put_u32(0);
        bytes.push(self.kind.number());
        bytes.push(match self.listing {
            ListingChange::Keep => 0,
            ListingChange::Open => 1,
            ListingChange::Closed => 2,
        });
        bytes.put_u16(self.label_length);
        bytes.put(self.stream.as_bytes());
        bytes.put_u64(self.first_seq);
        bytes.put_u64(self.first_position);
        bytes.put_time(self.time);
        bytes.put_u32(self.count);
        bytes.put_u64(self.bytes);
        bytes.put(&self.previous.0);
        bytes.put(&self.head.0);
        into[..HEADER].copy_from_slice(&bytes);
        Ok(())
    }
}

/// The place of a frame in its stream and its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePlace {
    pub(crate) stream: StreamId,
    pub(crate) kind: StreamKind,
    pub(crate) first_seq: u64,
    pub(crate) first_position: u64,
    pub(crate) time: Timestamp,
    /// The hash of the stream's last record before the frame.
    pub(crate) previous: Hash,
    /// The size of the stream's bodies before the frame.
    pub(crate) bytes: u64,
}

/// The length of a record's content, given the length of its body.
fn content_length(body: usize) -> usize {
    (SALT_LENGTH + body).max(MIN_CONTENT)
}

fn label_of(listing: &Listing) -> (ListingChange, &[u8]) {
    match listing {
        Listing::Keep => (ListingChange::Keep, &[]),
        Listing::Open(label) => (ListingChange::Open, label),
        Listing::Closed(label) => (ListingChange::Closed, label),
    }
}

/// Everything of a frame that can be encoded before its place is known. The caller of an append prepares it, to keep
/// work off the writer thread.
#[derive(Debug)]
pub(crate) struct Content {
    /// The bytes of the frame, with gaps for the header and the hashes of the records.
    bytes: Vec<u8>,
    commitments: Vec<Hash>,
    /// The offsets of all records but the last, whose hash is in the header.
    starts: Vec<usize>,
    body_bytes: u64,
    listing: ListingChange,
    label_length: u16,
}

impl Content {
    /// Encodes bodies and commits to them, each with its own salt.
    pub(crate) fn new(
        bodies: &[Vec<u8>],
        listing: &Listing,
        mut salt: impl FnMut() -> [u8; SALT_LENGTH],
    ) -> Result<Self, Malformed> {
        let (listing, label) = label_of(listing);
        let label_length = u16::try_from(label.len())
            .ok()
            .filter(|_| label.len() <= MAX_LABEL)
            .ok_or_else(|| Malformed(format!("a label of {} bytes is longer than {MAX_LABEL}", label.len())))?;
        let length = bodies.iter().fold(HEADER + label.len(), |sum, body| {
            sum.saturating_add(32 + 1 + 4).saturating_add(content_length(body.len()))
        });
        if length > MAX_ITEM {
            return Err(Malformed(format!(
                "a frame of {length} bytes is longer than {MAX_ITEM}; store large values outside of the log and record where they are"
            )));
        }
        let mut content = Self {
            bytes: Vec::with_capacity(length),
            commitments: Vec::with_capacity(bodies.len()),
            starts: Vec::with_capacity(bodies.len()),
            body_bytes: bodies.iter().map(|body| body.len() as u64).sum(),
            listing,
            label_length,
        };
        content.bytes.resize(HEADER, 0);
        content.bytes.put(label);
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

    /// The number of bodies.
    pub(crate) fn count(&self) -> usize {
        self.commitments.len()
    }

    /// The length of the frame in bytes.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The label.
    pub(crate) fn label(&self) -> &[u8] {
        &self.bytes[HEADER..HEADER + usize::from(self.label_length)]
    }

    /// Seals the records at a place. Calls `sealed` with the hash of each record, in order.
    pub(crate) fn seal(
        self,
        place: &FramePlace,
        mut sealed: impl FnMut(&Hash),
    ) -> Result<(Vec<u8>, FrameHeader), Malformed> {
        let Self { mut bytes, commitments, starts, body_bytes, listing, label_length } = self;
        let count = u32::try_from(commitments.len()).map_err(|_| Malformed::new("too many records in a frame"))?;
        let FramePlace { stream, kind, first_seq, first_position, time, previous, bytes: before } = *place;
        let mut record = Header { stream, kind, seq: first_seq, position: first_position, time };
        let mut head = previous;
        let mut starts = starts.into_iter();
        for commitment in &commitments {
            head = seal::record_hash(&record, &head, commitment);
            sealed(&head);
            if let Some(start) = starts.next() {
                bytes[start..start + 32].copy_from_slice(&head.0);
            }
            record.seq += 1;
            record.position += 1;
        }
        let header = FrameHeader {
            origin: FrameOrigin::Appended,
            pruned: false,
            length: bytes.len(),
            kind,
            listing,
            label_length,
            stream,
            first_seq,
            first_position,
            time,
            count,
            bytes: before.saturating_add(body_bytes),
            previous,
            head,
        };
        header.put(&mut bytes)?;
        put_checksum(&mut bytes, &[]);
        Ok((bytes, header))
    }
}

fn put_body(bytes: &mut Vec<u8>, salt: &[u8; SALT_LENGTH], body: &[u8]) -> Result<(), Malformed> {
    bytes.push(0);
    bytes.put_u32(u32::try_from(body.len()).map_err(|_| Malformed::new("a body is too long"))?);
    bytes.put(salt);
    bytes.put(body);
    bytes.resize(bytes.len() + content_length(body.len()) - SALT_LENGTH - body.len(), 0);
    Ok(())
}

/// Encodes a frame of contiguous records of one stream that were sealed in another log, with their hashes unchanged.
pub(crate) fn imported(records: &[Record], bytes_so_far: u64, listing: &Listing) -> Result<Vec<u8>, Malformed> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(Malformed::new("a frame has no records"));
    };
    let (listing, label) = label_of(listing);
    let mut bytes = vec![0; HEADER];
    bytes.put(label);
    for (index, record) in records.iter().enumerate() {
        if index + 1 < records.len() {
            bytes.put(&record.hash.0);
        }
        match &record.body {
            Body::Present { salt, bytes: body } => put_body(&mut bytes, salt, body)?,
            Body::Erased { commitment, length } => {
                bytes.push(1);
                bytes.put_u32(*length);
                bytes.put(&commitment.0);
                bytes.resize(bytes.len() + content_length(usize_of(*length)) - MIN_CONTENT, 0);
            }
        }
    }
    let header = FrameHeader {
        origin: FrameOrigin::Imported,
        pruned: false,
        length: bytes.len(),
        kind: first.kind,
        listing,
        label_length: u16::try_from(label.len()).map_err(|_| Malformed::new("a label is too long"))?,
        stream: first.stream,
        first_seq: first.seq,
        first_position: first.position,
        time: first.time,
        count: u32::try_from(records.len()).map_err(|_| Malformed::new("too many records in a frame"))?,
        bytes: bytes_so_far,
        previous: first.previous,
        head: last.hash,
    };
    header.put(&mut bytes)?;
    header.check()?;
    put_checksum(&mut bytes, &[]);
    Ok(bytes)
}

/// A record as it is stored in a frame.
#[derive(Clone, Copy, Debug)]
struct RawRecord<'a> {
    hash: Hash,
    erased: bool,
    length: u32,
    content: &'a [u8],
    /// The offset of its content in the frame; the erased flag is five bytes before it.
    at: usize,
}

/// A complete frame, not yet checked against its hashes or its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredFrame {
    pub(crate) header: FrameHeader,
    bytes: Bytes,
}

impl StoredFrame {
    /// Decodes a complete frame. Ignores the checksum, because a mismatch of the hashes is more precise.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let header = FrameHeader::decode(&bytes)?;
        if header.length != bytes.len() {
            return Err(Malformed(format!(
                "the length in the frame is {}, but it has {} bytes",
                header.length,
                bytes.len()
            )));
        }
        Ok(Self { header, bytes })
    }

    /// A frame with a decoded header.
    pub(crate) fn new(header: FrameHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// Verifies the checksum.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        check_sum(&self.bytes, &[])
    }

    /// The bytes of the frame.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The new label of the stream, if the frame changes it.
    pub(crate) fn label(&self) -> &[u8] {
        &self.bytes[HEADER..HEADER + usize::from(self.header.label_length)]
    }

    fn each(&self, mut visit: impl FnMut(RawRecord<'_>) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(&self.bytes[HEADER + usize::from(self.header.label_length)..]);
        for index in 1..=self.header.count {
            let hash = if index == self.header.count { self.header.head } else { cursor.hash()? };
            let erased = cursor.flag()?;
            let length = cursor.u32()?;
            let at = self.bytes.len() - cursor.remaining();
            let content = cursor.take(content_length(usize_of(length)))?;
            visit(RawRecord { hash, erased, length, content, at })?;
        }
        cursor.end()
    }

    /// The hashes of its records, including pruned ones.
    pub(crate) fn hashes(&self) -> Result<Vec<Hash>, Malformed> {
        let mut hashes = Vec::with_capacity(usize_of(self.header.count));
        self.each(|record| {
            hashes.push(record.hash);
            Ok(())
        })?;
        Ok(hashes)
    }

    /// Appends its records to `records`, except the first `skipped`. [`seal::check_all`] verifies their hashes. A
    /// pruned frame has none.
    pub(crate) fn records_into(&self, records: &mut Vec<Record>, skipped: u64) -> Result<(), Malformed> {
        if self.header.pruned {
            return Ok(());
        }
        let FrameHeader { stream, kind, first_seq, first_position, time, .. } = self.header;
        let (mut previous, mut offset, mut own) = (self.header.previous, 0, 0);
        records.reserve(usize_of(self.header.count));
        self.each(|record| {
            own += u64::from(record.length);
            if offset >= skipped {
                let body = self.body_of(&record)?;
                let (seq, position) = (first_seq + offset, first_position + offset);
                records.push(Record { stream, kind, seq, position, time, previous, hash: record.hash, body });
            }
            previous = record.hash;
            offset += 1;
            Ok(())
        })?;
        if own > self.header.bytes {
            return Err(Malformed(format!(
                "its bodies have {own} bytes, but all of its stream only {}",
                self.header.bytes
            )));
        }
        Ok(())
    }

    fn body_of(&self, record: &RawRecord<'_>) -> Result<Body, Malformed> {
        let mut cursor = Cursor::new(record.content);
        let (body, rest) = if record.erased {
            (Body::Erased { commitment: cursor.hash()?, length: record.length }, cursor.all())
        } else {
            let salt = cursor.array()?;
            let bytes = self.bytes.slice_ref(cursor.take(usize_of(record.length))?);
            (Body::Present { salt, bytes }, cursor.all())
        };
        match rest.iter().all(|byte| *byte == 0) {
            true => Ok(body),
            false => Err(Malformed::new("there is data after a body")),
        }
    }

    /// The size of the bodies in this frame alone.
    pub(crate) fn own_bytes(&self) -> Result<u64, Malformed> {
        let mut own = 0;
        self.each(|record| {
            own += u64::from(record.length);
            Ok(())
        })?;
        Ok(own)
    }

    /// Returns the frame with some bodies erased: those for whose `seq` `commitment_of` returns a commitment.
    pub(crate) fn erased_bytes(&self, commitment_of: impl Fn(u64) -> Option<Hash>) -> Result<Vec<u8>, Malformed> {
        let mut bytes = self.bytes.to_vec();
        let mut seq = self.header.first_seq;
        self.each(|record| {
            if let Some(commitment) = commitment_of(seq) {
                bytes[record.at - 5] = 1;
                let content = &mut bytes[record.at..record.at + record.content.len()];
                content.fill(0);
                content[..32].copy_from_slice(&commitment.0);
            }
            seq += 1;
            Ok(())
        })?;
        put_checksum(&mut bytes, &[]);
        Ok(bytes)
    }

    /// Returns the pruned frame.
    pub(crate) fn pruned_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = self.bytes.to_vec();
        self.each(|record| {
            bytes[record.at..record.at + record.content.len()].fill(0);
            Ok(())
        })?;
        FrameHeader { pruned: true, ..self.header.clone() }.put(&mut bytes)?;
        put_checksum(&mut bytes, &[]);
        Ok(bytes)
    }
}

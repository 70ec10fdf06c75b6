//! The index of an archive, built in one pass that verifies everything. Memory grows with the number of streams,
//! sections and definitions, and with the longest section. A length is only trusted if the file is long enough.

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::format::{self, Counts, Header, Start};
use crate::bytes::{Malformed, usize_of};
use crate::log::{Erasure, StreamEntry};
use crate::record::{Hash, StreamId};
use crate::seal;

/// A byte range of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteRange {
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// Consecutive records of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) range: ByteRange,
    pub(super) start: Start,
    /// The `seq` after the last one.
    pub(super) end_seq: u64,
    /// The positions of the first and the last.
    pub(super) positions: (u64, u64),
}

/// A stream.
pub(super) struct Stream {
    pub(super) entry: StreamEntry,
    pub(super) erasures: Vec<Erasure>,
    pub(super) pages: Vec<Page>,
    /// The hash of the last record so far, the size of all bodies, and the `seq`s of erased ones.
    head: Hash,
    bytes: u64,
    erased: Vec<u64>,
}

/// The contents of an archive and their places in the file.
pub(super) struct Index {
    pub(super) header: Header,
    pub(super) digest: Hash,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) definitions: BTreeMap<Hash, ByteRange>,
    pub(super) records: u64,
}

/// An archive could not be indexed.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(io::Error),
    Newer(u32),
    Damaged(String),
}

impl From<Malformed> for Unreadable {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Damaged(what)
    }
}

/// Reads and hashes sections one by one.
struct Sections<R> {
    file: R,
    hasher: Sha256,
    offset: u64,
    length: u64,
}

impl<R: Read> Sections<R> {
    fn take(&mut self, count: u64, what: &str) -> Result<Vec<u8>, Unreadable> {
        let left = self.length.saturating_sub(self.offset);
        if count > left {
            return Err(Unreadable::Damaged(format!(
                "it is truncated: {what} at byte {} needs {count} bytes, {left} are left",
                self.offset
            )));
        }
        let mut bytes = Vec::new();
        self.file.by_ref().take(count).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
        if bytes.len() as u64 != count {
            return Err(Unreadable::Damaged(format!("the file ended at byte {} during the read", self.offset)));
        }
        self.offset += count;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<(), Unreadable> {
        let line = self.take(format::LINE.len() as u64, "its first line")?;
        self.hasher.update(&line);
        if line == *format::LINE {
            return Ok(());
        }
        let number = line.strip_prefix(format::BEGINNING).and_then(|rest| {
            let digits: String =
                rest.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| *byte as char).collect();
            digits.parse().ok()
        });
        match number {
            Some(found) if found > format::FORMAT => Err(Unreadable::Newer(found)),
            _ => Err(Unreadable::Damaged("its first line is not that of an archive".to_owned())),
        }
    }

    /// The next section. Does not hash the digest in the last one.
    fn section(&mut self) -> Result<(u8, ByteRange, Vec<u8>), Unreadable> {
        let at = self.offset;
        let head = self.take(5, "a section")?;
        let tag = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if length > format::MAX_LENGTH {
            return Err(Unreadable::Damaged(format!("the section at byte {at} has the invalid length {length}")));
        }
        let range = ByteRange { offset: self.offset, length };
        let bytes = self.take(u64::from(length), "a section")?;
        self.hasher.update(&head);
        let hashed = if tag == format::END { Counts::LENGTH.min(bytes.len()) } else { bytes.len() };
        self.hasher.update(&bytes[..hashed]);
        Ok((tag, range, bytes))
    }
}

/// Reads and verifies an archive of `length` bytes.
pub(super) fn read_through(file: impl Read, length: u64) -> Result<Index, Unreadable> {
    let mut sections = Sections { file, hasher: Sha256::new(), offset: 0, length };
    sections.line()?;
    let (tag, _, bytes) = sections.section()?;
    if tag != format::HEADER {
        return Err(Unreadable::Damaged(format!("its first section is {:?}, not its header", char::from(tag))));
    }
    let mut index = Index {
        header: Header::decode(&bytes)?,
        digest: Hash::ZERO,
        streams: BTreeMap::new(),
        definitions: BTreeMap::new(),
        records: 0,
    };
    let mut current: Option<Stream> = None;
    loop {
        let (tag, range, bytes) = sections.section()?;
        let wrong =
            |Malformed(what): Malformed| Unreadable::Damaged(format!("the section at byte {}: {what}", range.offset));
        match (tag, &mut current) {
            (format::END, _) => {
                index.finish_stream(current.take())?;
                let (counts, digest) = Counts::decode(&bytes).map_err(wrong)?;
                return index.finish(&sections, counts, digest);
            }
            (format::DEFINITION, _) => index.definition(range, &bytes).map_err(wrong)?,
            (format::STREAM, _) => {
                let entry = format::decode_stream(&bytes).map_err(wrong)?;
                index.finish_stream(current.take())?;
                current = Some(Stream::new(entry));
            }
            (format::ERASURE, Some(stream)) => {
                stream.erasures.push(format::decode_erasure(&bytes).map_err(wrong)?);
            }
            (format::RECORDS, Some(stream)) => stream.page(range, &bytes).map_err(wrong)?,
            (other, _) => {
                let what = format!("a section {:?} is unknown or belongs to no stream", char::from(other));
                return Err(wrong(Malformed(what)));
            }
        }
    }
}

impl Stream {
    fn new(entry: StreamEntry) -> Self {
        Self { entry, erasures: Vec::new(), pages: Vec::new(), head: Hash::ZERO, bytes: 0, erased: Vec::new() }
    }

    fn page(&mut self, range: ByteRange, bytes: &[u8]) -> Result<(), Malformed> {
        let seq = self.pages.last().map_or(0, |last| last.end_seq);
        let start = Start { stream: self.entry.stream, kind: self.entry.kind, seq, previous: self.head };
        let records = format::decode_records(bytes, start)?;
        let mut before = self.pages.last().map(|page| page.positions.1);
        for record in &records {
            if before.is_some_and(|before| before >= record.position) {
                return Err(Malformed(format!("{}: positions decrease at seq {}", record.stream, record.seq)));
            }
            // A frame could not hold it, because there is no position after it.
            if record.position == u64::MAX {
                return Err(Malformed(format!("{}: position {} is out of range", record.stream, record.position)));
            }
            before = Some(record.position);
            self.head = record.hash;
            self.bytes = self.bytes.saturating_add(u64::from(record.body.length()));
            if record.body.bytes().is_none() {
                self.erased.push(record.seq);
            }
        }
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            let positions = (first.position, last.position);
            self.pages.push(Page { range, start, end_seq: last.seq + 1, positions });
        }
        Ok(())
    }

    /// Checks a stream against its entry, and its erasures against its bodies.
    fn check(&self) -> Result<(), String> {
        let StreamEntry { stream, records, head, bytes, .. } = &self.entry;
        let found = self.pages.last().map_or(0, |last| last.end_seq);
        if (found, self.head, self.bytes) != (*records, *head, *bytes) {
            return Err(format!(
                "{stream}: its entry has {records} records of {bytes} bytes and hash {head}, but there are {found} of {} and {}",
                self.bytes, self.head
            ));
        }
        match self.erasures.iter().find(|erasure| self.erased.binary_search(&erasure.seq).is_err()) {
            Some(erasure) => Err(format!("{stream}: seq {} is listed as erased, but its body is there", erasure.seq)),
            None => Ok(()),
        }
    }
}

impl Index {
    fn definition(&mut self, range: ByteRange, bytes: &[u8]) -> Result<(), Malformed> {
        let Some((fingerprint, definition)) = bytes.split_first_chunk::<32>() else {
            return Err(Malformed::new("a definition has no fingerprint"));
        };
        let (fingerprint, found) = (Hash(*fingerprint), seal::fingerprint(definition));
        if found != fingerprint {
            return Err(Malformed(format!("the definition {fingerprint} has contents with fingerprint {found}")));
        }
        let range = ByteRange { offset: range.offset + 32, length: range.length - 32 };
        self.definitions.insert(fingerprint, range);
        Ok(())
    }

    fn finish_stream(&mut self, stream: Option<Stream>) -> Result<(), Unreadable> {
        let Some(stream) = stream else { return Ok(()) };
        stream.check().map_err(Unreadable::Damaged)?;
        self.records = self.records.saturating_add(stream.entry.records);
        let id = stream.entry.stream;
        if self.streams.insert(id, stream).is_some() {
            return Err(Unreadable::Damaged(format!("{id} is in it twice")));
        }
        Ok(())
    }

    fn finish<R>(mut self, sections: &Sections<R>, counts: Counts, digest: Hash) -> Result<Self, Unreadable> {
        let found = Hash(sections.hasher.clone().finalize().into());
        if found != digest {
            return Err(Unreadable::Damaged(format!("its digest is {digest}, its content gives {found}")));
        }
        if sections.offset != sections.length {
            return Err(Unreadable::Damaged(format!(
                "there are {} bytes after its end",
                sections.length - sections.offset
            )));
        }
        if (usize_of(counts.streams), counts.records) != (self.streams.len(), self.records) {
            return Err(Unreadable::Damaged(format!(
                "its last section has {} streams and {} records, but there are {} and {}",
                counts.streams,
                counts.records,
                self.streams.len(),
                self.records
            )));
        }
        self.digest = digest;
        Ok(self)
    }
}

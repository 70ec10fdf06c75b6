//! Reading an archive like a log.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format;
use super::index::{ByteRange, Index, Page, Unreadable, read_through};
use crate::bytes::{Malformed, usize_of};
use crate::descriptors::above_standard_streams;
use crate::directory::io_error;
use crate::log::{Erasure, LogHead, LogReader, OpenError, ReadError, StreamEntry, StreamFilter};
use crate::record::{Hash, Record, StreamId, Timestamp};
use crate::seal;

/// An archive, read like a log.
pub struct ArchiveReader {
    path: PathBuf,
    file: File,
    index: Index,
}

/// Opens an archive. Verifies all of it first: its digest, the hash and chain of every record, every
/// definition. So no data of a damaged archive is ever returned.
///
/// # Errors
/// [`OpenError::Missing`], [`OpenError::NotALog`], [`OpenError::NewerFormat`], [`OpenError::DamagedArchive`] with the
/// place of the damage, or [`OpenError::Io`].
///
/// # Examples
/// ```
/// use cloacina_store::archive::{Selected, open_archive, write_archive};
/// use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader};
/// use cloacina_store::record::{StreamId, StreamKind, Timestamp};
/// use cloacina_store::{MemoryDisk, MemoryLog};
///
/// let log = MemoryLog::open(&MemoryDisk::new())?;
/// let stream = StreamId::from_bytes([7; 16]);
/// let bodies = vec![b"hello".to_vec()];
/// let listing = Listing::Closed(Vec::new());
/// let frame =
///     Frame { stream, kind: StreamKind::Execution, expected_seq: 0, time: Timestamp(0), bodies, listing };
/// log.append(Batch { frames: vec![frame], ..Batch::default() })?;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("one.cloaca");
/// write_archive(&log, &[Selected::stream(stream)], &path, Timestamp(1))?;
/// let archive = open_archive(&path)?;
/// assert_eq!(archive.read(stream, 0, 10)?, log.read(stream, 0, 10)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_archive(path: &Path) -> Result<ArchiveReader, OpenError> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() },
        _ => io_error(path, "reading it", error),
    };
    // Non-blocking, so that a pipe opens at once and is rejected instead of blocking forever: the path may come from a
    // client.
    let not_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(not_waiting).open(path).and_then(above_standard_streams);
    let file = file.map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() || !super::is_archive(path) {
        return Err(OpenError::NotALog { path: path.to_owned(), found: "not an archive of a log".to_owned() });
    }
    let index = read_through(BufReader::with_capacity(1 << 20, &file), metadata.len()).map_err(|why| match why {
        Unreadable::Io(error) => failed(&error),
        Unreadable::Newer(found) => OpenError::NewerFormat { path: path.to_owned(), found, known: format::FORMAT },
        Unreadable::Damaged(what) => OpenError::DamagedArchive { path: path.to_owned(), what },
    })?;
    Ok(ArchiveReader { path: path.to_owned(), file, index })
}

impl ArchiveReader {
    /// The SHA-256 at the end of the archive, which identifies it.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.index.digest
    }

    /// When the archive was made.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.index.header.made
    }

    /// The name of the directory of the log from which the archive was made.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.index.header.origin
    }

    /// The number of records of all streams.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.index.records
    }

    /// The fingerprints of all definitions.
    pub fn definitions(&self) -> impl Iterator<Item = Hash> + '_ {
        self.index.definitions.keys().copied()
    }

    fn load(&self, range: ByteRange) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize_of(range.length)];
        self.file
            .read_exact_at(&mut bytes, range.offset)
            .map_err(|error| ReadError::Io(format!("the archive {}: {error}", self.path.display())))?;
        Ok(bytes)
    }

    /// The records of a page, verified again: the file may have changed.
    fn page(&self, page: &Page) -> Result<Vec<Record>, ReadError> {
        format::decode_records(&self.load(page.range)?, page.start).map_err(|Malformed(what)| ReadError::Damaged {
            stream: page.start.stream,
            seq: page.start.seq,
            what: format!("the archive {} has changed since it was opened: {what}", self.path.display()),
        })
    }
}

impl LogReader for ArchiveReader {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let pages = &self.index.streams.get(&stream).ok_or(ReadError::NoStream(stream))?.pages;
        let mut records = Vec::new();
        for page in &pages[pages.partition_point(|page| page.end_seq <= from)..] {
            if records.len() >= limit {
                break;
            }
            records.extend(self.page(page)?.into_iter().filter(|record| record.seq >= from));
        }
        records.truncate(limit);
        Ok(records)
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.index.streams.get(&stream).map(|found| found.entry.clone()).ok_or(ReadError::NoStream(stream))
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let wanted = |entry: &&StreamEntry| {
            filter.kind.is_none_or(|kind| kind == entry.kind)
                && (entry.open || !filter.open_only)
                && filter.before.is_none_or(|before| entry.listing_key() < before)
        };
        let mut entries: Vec<_> = self.index.streams.values().map(|stream| &stream.entry).filter(wanted).collect();
        entries.sort_unstable_by_key(|entry| Reverse(entry.listing_key()));
        Ok(entries.into_iter().take(filter.limit).cloned().collect())
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let mut pages: Vec<&Page> = self.index.streams.values().flat_map(|stream| &stream.pages).collect();
        pages.retain(|page| page.positions.1 >= from);
        pages.sort_unstable_by_key(|page| page.positions.0);
        let mut found = Vec::new();
        // The lowest position first: records of pages that were read.
        let mut waiting: BinaryHeap<(Reverse<u64>, usize)> = BinaryHeap::new();
        let mut records: Vec<Option<Record>> = Vec::new();
        let mut pages = pages.into_iter().peekable();
        while found.len() < limit {
            let next = waiting.peek().map(|(Reverse(position), _)| *position);
            let is_next = |page: &&Page| next.is_none_or(|next| page.positions.0 < next);
            if let Some(page) = pages.next_if(is_next) {
                for record in self.page(page)?.into_iter().filter(|record| record.position >= from) {
                    waiting.push((Reverse(record.position), records.len()));
                    records.push(Some(record));
                }
                continue;
            }
            let Some((_, at)) = waiting.pop() else { break };
            found.extend(records[at].take());
        }
        Ok(found)
    }

    fn erasures(&self, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
        Ok(self.index.streams.get(&stream).map(|found| found.erasures.clone()).unwrap_or_default())
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        let Some(range) = self.index.definitions.get(&fingerprint) else { return Ok(None) };
        let bytes = self.load(*range)?;
        let found = seal::fingerprint(&bytes);
        if found == fingerprint {
            return Ok(Some(bytes.into()));
        }
        Err(ReadError::DamagedLog(format!("the definition {fingerprint} has contents with fingerprint {found}")))
    }

    /// The end of the log from which the archive was made, with the time of the last record in the archive.
    fn head(&self) -> Result<LogHead, ReadError> {
        let time = self.index.streams.values().map(|stream| stream.entry.last).max().unwrap_or(Timestamp(0));
        let header = &self.index.header;
        Ok(LogHead { position: header.position, hash: header.hash, time, durability: None })
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

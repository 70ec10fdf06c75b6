//! Writing an archive.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::format::{self, Counts, Header};
use super::read::open_archive;
use crate::descriptors::reserve_standard_streams;
use crate::directory::sync_directory;
use crate::log::{LogReader, OpenError, ReadError, StreamEntry};
use crate::record::{Hash, Record, StreamId, Timestamp};

/// The number of records that are read at once.
const PAGE: usize = 512;

/// The size of bodies at which a section of records ends.
const PAGE_BYTES: usize = 1024 * 1024;

/// A stream to archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The stream.
    pub stream: StreamId,
    /// The definitions that its records refer to, which the store cannot determine.
    pub definitions: Vec<Hash>,
}

impl Selected {
    /// A stream that refers to no definition.
    #[must_use]
    pub fn stream(stream: StreamId) -> Self {
        Self { stream, definitions: Vec::new() }
    }
}

/// The result of writing an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The SHA-256 that the archive ends with.
    pub digest: Hash,
    /// The entries of the archived streams.
    pub streams: Vec<StreamEntry>,
    /// The number of their records.
    pub records: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// An archive could not be made. No file is left at its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log's own stream was selected.
    #[error("the log's own stream cannot be archived; name executions")]
    OwnStream,
    /// A stream refers to a definition that the log does not have.
    #[error("{stream} refers to the definition {fingerprint}, which the log does not have")]
    NoDefinition {
        /// The stream.
        stream: StreamId,
        /// The definition.
        fingerprint: Hash,
    },
    /// The path is taken.
    #[error("{0} already exists; choose another file")]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The archive does not read like the log.
    #[error("the archive written to {path} does not match the log: {what}; it was removed")]
    Differs {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}

/// Writes and hashes sections.
struct Sections<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Sections<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn section(&mut self, tag: u8, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).ok().filter(|length| *length <= format::MAX_LENGTH);
        let length = length.ok_or_else(|| io::Error::other("a section is too long"))?;
        self.put(&[tag])?;
        self.put(&length.to_be_bytes())?;
        parts.iter().try_for_each(|part| self.put(part))
    }

    /// Writes the last section, with the digest of everything before it.
    fn end(&mut self, counts: Counts) -> io::Result<()> {
        self.put(&[format::END])?;
        let length = u32::try_from(Counts::LENGTH + 32).unwrap_or(u32::MAX);
        self.put(&length.to_be_bytes())?;
        self.put(&counts.encode())?;
        let digest: [u8; 32] = self.hasher.finalize_reset().into();
        self.out.write_all(&digest)?;
        self.out.flush()
    }
}

/// Archives streams of a log to a new file. Writes and syncs a temporary file beside it, reads it back completely,
/// compares it with the log, and only then renames it.
///
/// An open stream is archived up to its current end.
///
/// # Errors
/// [`ArchiveError`].
pub fn write_archive(
    reader: &dyn LogReader,
    selected: &[Selected],
    path: &Path,
    made: Timestamp,
) -> Result<Archived, ArchiveError> {
    let failed = |error: io::Error| ArchiveError::Io { path: path.to_owned(), reason: error.to_string() };
    if path.symlink_metadata().is_ok() {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    reserve_standard_streams().map_err(failed)?;
    let file = tempfile::Builder::new().prefix(".cloaca-").tempfile_in(directory).map_err(failed)?;
    let head = reader.head()?;
    let header = Header {
        made,
        position: head.position,
        hash: head.hash,
        origin: name_of(&reader.location()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let streams = ArchiveWriter::new(reader, file.as_file(), path).all(&header, selected)?;
    let records = streams.iter().map(|entry| entry.records).sum();
    file.as_file().sync_all().map_err(failed)?;
    let digest = check(reader, file.path(), path, &streams)?;
    let bytes = file.as_file().metadata().map_err(failed)?.len();
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => ArchiveError::Exists(path.to_owned()),
        _ => failed(error.error),
    })?;
    sync_directory(directory).map_err(failed)?;
    Ok(Archived { digest, streams, records, bytes })
}

/// The name of a log's directory. The recipient of an archive must not learn the rest of the path.
fn name_of(location: &str) -> String {
    let name = Path::new(location).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| location.to_owned())
}

/// Writes an archive.
struct ArchiveWriter<'a, W> {
    reader: &'a dyn LogReader,
    sections: Sections<W>,
    path: &'a Path,
}

impl<'a, W: Write> ArchiveWriter<'a, io::BufWriter<W>> {
    fn new(reader: &'a dyn LogReader, out: W, path: &'a Path) -> Self {
        let out = io::BufWriter::with_capacity(1 << 20, out);
        Self { reader, sections: Sections { out, hasher: Sha256::new() }, path }
    }

    fn failed(&self, error: &io::Error) -> ArchiveError {
        ArchiveError::Io { path: self.path.to_owned(), reason: error.to_string() }
    }

    fn section(&mut self, tag: u8, parts: &[&[u8]]) -> Result<(), ArchiveError> {
        self.sections.section(tag, parts).map_err(|error| self.failed(&error))
    }

    fn all(mut self, header: &Header, selected: &[Selected]) -> Result<Vec<StreamEntry>, ArchiveError> {
        self.sections.put(format::LINE).map_err(|error| self.failed(&error))?;
        self.section(format::HEADER, &[&header.encode()])?;
        let mut definitions = BTreeSet::new();
        let mut known = BTreeSet::new();
        let mut entries = Vec::with_capacity(selected.len());
        for Selected { stream, definitions: wanted } in selected {
            if *stream == StreamId::LOG {
                return Err(ArchiveError::OwnStream);
            }
            for fingerprint in wanted {
                if definitions.insert(*fingerprint) {
                    self.definition(*stream, *fingerprint)?;
                }
            }
            if known.insert(*stream) {
                entries.push(self.stream(*stream)?);
            }
        }
        let records = entries.iter().map(|entry| entry.records).sum();
        let counts = Counts { streams: u32::try_from(entries.len()).unwrap_or(u32::MAX), records };
        self.sections.end(counts).map_err(|error| self.failed(&error))?;
        Ok(entries)
    }

    fn definition(&mut self, stream: StreamId, fingerprint: Hash) -> Result<(), ArchiveError> {
        let found = self.reader.definition(fingerprint)?;
        let bytes = found.ok_or(ArchiveError::NoDefinition { stream, fingerprint })?;
        self.section(format::DEFINITION, &[&fingerprint.0, &bytes])
    }

    fn stream(&mut self, stream: StreamId) -> Result<StreamEntry, ArchiveError> {
        let entry = self.reader.stream(stream)?;
        self.section(format::STREAM, &[&format::encode_stream(&entry)])?;
        for erasure in self.reader.erasures(stream)? {
            self.section(format::ERASURE, &[&format::encode_erasure(&erasure)])?;
        }
        let mut next = 0;
        while next < entry.records {
            let left = usize::try_from(entry.records - next).unwrap_or(usize::MAX);
            let page = self.reader.read(stream, next, PAGE.min(left))?;
            let Some(last) = page.last() else {
                return Err(ReadError::TailCut { stream, head: entry.records, found: next }.into());
            };
            next = last.seq + 1;
            for records in split_into_sections(&page) {
                self.section(format::RECORDS, &[&format::encode_records(records)])?;
            }
        }
        Ok(entry)
    }
}

/// Splits a page into sections by the size of the bodies.
fn split_into_sections(page: &[Record]) -> Vec<&[Record]> {
    let mut cut = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, record) in page.iter().enumerate() {
        let length = record.body.bytes().map_or(0, <[u8]>::len);
        if bytes > 0 && bytes + length > PAGE_BYTES {
            cut.push(&page[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += length;
    }
    cut.push(&page[from..]);
    cut
}

/// Reads an archive back completely, and compares it with the log.
fn check(reader: &dyn LogReader, written: &Path, path: &Path, streams: &[StreamEntry]) -> Result<Hash, ArchiveError> {
    let differs = |what: String| ArchiveError::Differs { path: path.to_owned(), what };
    let archive = open_archive(written).map_err(|error| match error {
        OpenError::DamagedArchive { what, .. } => differs(what),
        other => differs(other.to_string()),
    })?;
    for entry in streams {
        let stream = entry.stream;
        if archive.stream(stream)? != *entry {
            return Err(differs(format!("{stream}: its entry differs")));
        }
        let mut next = 0;
        while next < entry.records {
            let left = usize::try_from(entry.records - next).unwrap_or(usize::MAX);
            let page = reader.read(stream, next, PAGE.min(left))?;
            if page.is_empty() || archive.read(stream, next, page.len())? != page {
                return Err(differs(format!("{stream}: the records from seq {next} on differ")));
            }
            next += page.len() as u64;
        }
    }
    Ok(archive.digest())
}

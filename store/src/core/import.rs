//! Importing a stream from an archive.
//!
//! Imported records keep their hashes, and so the positions and times of the log in which they were sealed. They are
//! stored in their own frames, in the group of the event that records the import. That event contains the hash of the
//! last record, and so protects all of them.

use std::collections::HashSet;

use super::change::to_refused;
use super::writer::Writer;
use crate::archive::ArchiveReader;
use crate::keeper::{ChangeError, Changed};
use crate::layout::frame;
use crate::log::{Definition, Erasure, Listing, LogReader, ReadError, StreamEntry};
use crate::log_event::{Erased, ErasedRecord, Imported, LogEvent};
use crate::record::{Body, Hash, Record, StreamId, Timestamp};

/// The maximum number of records in an imported frame, and its approximate maximum size in bytes.
const FRAME: usize = 256;
const FRAME_BYTES: usize = 256 * 1024;

/// A complete stream to import.
pub(crate) struct ImportedStream {
    entry: StreamEntry,
    records: Vec<Record>,
    erasures: Vec<Erasure>,
    /// All definitions of the archive, which does not say which streams use them.
    definitions: Vec<Definition>,
    archive: Hash,
}

impl ImportedStream {
    /// A stream copied from another log; its definitions were copied before.
    pub(crate) fn copied(entry: StreamEntry, records: Vec<Record>, erasures: Vec<Erasure>) -> Self {
        Self { entry, records, erasures, definitions: Vec::new(), archive: Hash::ZERO }
    }

    /// Loads a stream of an archive.
    pub(crate) fn load(archive: &ArchiveReader, stream: StreamId) -> Result<Self, ReadError> {
        let mut definitions = Vec::new();
        for fingerprint in archive.definitions() {
            if let Some(bytes) = archive.definition(fingerprint)? {
                definitions.push(Definition { fingerprint, bytes });
            }
        }
        Ok(Self {
            entry: archive.stream(stream)?,
            records: archive.read(stream, 0, usize::MAX)?,
            erasures: archive.erasures(stream)?,
            definitions,
            archive: archive.digest(),
        })
    }
}

impl Writer {
    /// Imports a stream, unless the log already contains it.
    pub(super) fn import_stream(&mut self, imported: ImportedStream, time: Timestamp) -> Result<Changed, ChangeError> {
        let ImportedStream { entry, mut records, mut erasures, definitions, archive } = imported;
        let stream = entry.stream;
        if stream == StreamId::LOG || records.is_empty() {
            return Err(ChangeError::Refused(format!("{stream} cannot be imported")));
        }
        let core = self.core();
        match core.stream_entry(stream) {
            Ok(here) if here.records >= entry.records && self.has(&records)? => {
                return Ok(Changed { already: 1, ..Changed::default() });
            }
            Ok(_) => {
                let what = format!("{stream} is in this log with different records; import it into another log");
                return Err(ChangeError::Refused(what));
            }
            Err(ReadError::NoStream(_)) => {}
            Err(ReadError::Pruned { .. }) => {
                let pruned = core.query(|index| index.stream(stream))?;
                if pruned.is_some_and(|pruned| pruned.records == entry.records && pruned.head != entry.head) {
                    let what = "with different records than in the archive; import it into another log";
                    return Err(ChangeError::Refused(format!("this log has pruned {stream}, {what}")));
                }
            }
            Err(error) => return Err(error.into()),
        }
        let known: HashSet<u64> = core.erasures(stream)?.into_iter().map(|erasure| erasure.seq).collect();
        erasures.retain(|erasure| !known.contains(&erasure.seq));
        keep_erased(&mut records, &known);
        let event = Imported { stream, records: entry.records, head: entry.head, archive };
        let mut events = vec![LogEvent::Imported(event)];
        events.extend(erasure_events(stream, erasures, &records));
        let frames = imported_frames(&entry, &records).map_err(to_refused)?;
        self.record_with(&events, time, |writer, group| {
            definitions.iter().try_for_each(|definition| writer.define(definition, group))?;
            frames.iter().try_for_each(|(bytes, label)| group.add_imported(bytes, label))
        })?;
        Ok(Changed { streams: 1, records: entry.records, already: 0 })
    }

    /// Whether the log has exactly these records.
    fn has(&self, records: &[Record]) -> Result<bool, ReadError> {
        let Some(last) = records.last() else { return Ok(true) };
        let found = self.core().read(last.stream, last.seq, 1)?;
        Ok(found.first().is_some_and(|found| found.hash == last.hash))
    }
}

/// Erases bodies that were erased in this log, even if the archive still has them.
pub(crate) fn keep_erased(records: &mut [Record], erased: &HashSet<u64>) {
    for record in records.iter_mut().filter(|record| erased.contains(&record.seq)) {
        let (commitment, length) = (record.body.commitment(), record.body.length());
        record.body = Body::Erased { commitment, length };
    }
}

/// An encoded frame and its label.
type Encoded = (Vec<u8>, Vec<u8>);

/// Encodes records as frames. The records of a frame have the same time and contiguous positions. The last frame sets
/// the listing.
fn imported_frames(entry: &StreamEntry, records: &[Record]) -> Result<Vec<Encoded>, crate::bytes::Malformed> {
    let mut frames = Vec::new();
    let mut bytes = 0_u64;
    let mut rest = records;
    while let Some(first) = rest.first() {
        let mut size = 0;
        let fits = |(at, record): (usize, &Record)| {
            size += record.body.bytes().map_or(0, <[u8]>::len);
            record.time == first.time
                && record.position == first.position + at as u64
                && (at == 0 || at < FRAME && size <= FRAME_BYTES)
        };
        let count = rest.iter().enumerate().map(fits).take_while(|fits| *fits).count().max(1);
        let (own, after) = rest.split_at(count);
        rest = after;
        bytes += own.iter().map(|record| u64::from(record.body.length())).sum::<u64>();
        let listing = match (rest.is_empty(), entry.open) {
            (false, _) => Listing::Keep,
            (true, true) => Listing::Open(entry.label.clone()),
            (true, false) => Listing::Closed(entry.label.clone()),
        };
        let label = if rest.is_empty() { entry.label.clone() } else { Vec::new() };
        frames.push((frame::imported(own, bytes, &listing)?, label));
    }
    Ok(frames)
}

/// The erasures before the archive was made, grouped by reason and person.
fn erasure_events(stream: StreamId, erasures: Vec<Erasure>, records: &[Record]) -> Vec<LogEvent> {
    let commitment_of = |seq: u64| {
        let at = usize::try_from(seq).unwrap_or(usize::MAX);
        records.get(at).map_or(Hash::ZERO, |record| record.body.commitment())
    };
    let mut events: Vec<Erased> = Vec::new();
    for Erasure { seq, note, reason, by, .. } in erasures {
        let wiped = ErasedRecord { seq, commitment: commitment_of(seq), note };
        match events.last_mut() {
            Some(last)
                if (&last.reason, &last.by) == (&reason, &by) && last.records.len() < crate::keeper::MAX_ERASED =>
            {
                last.records.push(wiped);
            }
            _ => events.push(Erased { stream, records: vec![wiped], reason, by }),
        }
    }
    events.into_iter().map(LogEvent::Erased).collect()
}

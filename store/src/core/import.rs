//! Taking a stream over from an archive.
//!
//! Its records keep their hashes, and so the positions and times of the log that they were sealed in. They stand in frames
//! that no commit entry names; the event that says that they were imported holds the hash of the last one, and with it
//! all of them. What this very log has pruned goes back to where it was instead.

use std::collections::HashSet;

use super::change::{Edit, replace};
use super::group::Group;
use super::writer::Writer;
use crate::archive::ArchiveReader;
use crate::backend::Backend;
use crate::keeper::{ChangeError, Changed};
use crate::layout::frame::{FrameHeader, Standing, StoredFrame, StoredRecord};
use crate::layout::keys;
use crate::layout::listing::{ListingEntry, started_value};
use crate::log::{Definition, Erasure, LogReader, ReadError, StreamEntry};
use crate::log_event::{Erased, Imported, LogEvent};
use crate::record::{Body, Hash, Record, StreamId, Timestamp};

/// How many records an imported frame has at the most, and after how many bytes of bodies it ends.
const FRAME: usize = 256;
const FRAME_BYTES: usize = 256 * 1024;

/// A stream of an archive, all of it.
pub(crate) struct Taken {
    entry: StreamEntry,
    records: Vec<Record>,
    erasures: Vec<Erasure>,
    /// All definitions of the archive: it does not say whose they are.
    definitions: Vec<Definition>,
    archive: Hash,
}

impl Taken {
    /// A stream that was copied from another log, whose definitions are here.
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

impl<B: Backend> Writer<B> {
    /// Takes a stream over, unless it is there.
    pub(super) fn take_over(&mut self, taken: Taken, time: Timestamp) -> Result<Changed, ChangeError> {
        let Taken { entry, mut records, mut erasures, definitions, archive } = taken;
        let stream = entry.stream;
        if stream == StreamId::LOG || records.is_empty() {
            return Err(ChangeError::Refused(format!("{stream} cannot be imported")));
        }
        match self.core().stored_stream(stream) {
            Ok(here) if here.records >= entry.records && self.has(&records)? => {
                return Ok(Changed { already: 1, ..Changed::default() });
            }
            Ok(_) => {
                let what = format!("{stream} is in this log, with other records; import it into another log");
                return Err(ChangeError::Refused(what));
            }
            Err(ReadError::NoStream(_) | ReadError::Pruned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let known: HashSet<u64> = self.core().erasures(stream)?.into_iter().map(|erasure| erasure.seq).collect();
        erasures.retain(|erasure| !known.contains(&erasure.seq));
        keep_erased(&mut records, &known);
        let stubs = self.stubs(stream)?;
        let restored = !stubs.is_empty();
        let mut edits = restore(&records, &stubs)?;
        let before = stubs.first().map_or(records.len(), |(first_seq, _)| usize_of(*first_seq));
        for frame in imported_frames(&records[..before.min(records.len())]) {
            let first_seq = frame.0;
            edits.extend(replace(stream, first_seq, &frame.1.header, &frame.1)?);
        }
        edits.push(listing(&entry));
        edits.push((keys::started(entry.kind, entry.listing_key()), Some(started_value())));
        let event = Imported { stream, records: entry.records, head: entry.head, archive, restored };
        let mut events = vec![LogEvent::Imported(event)];
        events.extend(erasure_events(stream, erasures));
        let definitions = self.new_definitions(definitions)?;
        self.record_with(&events, time, |group: &mut Group| {
            group.hide_imported(stream);
            edits.into_iter().for_each(|(key, value)| group.change(key, value));
            // They were found to be short enough.
            definitions.iter().filter_map(|definition| group.add_definition(definition).err()).for_each(drop);
        })?;
        self.forget_stream(stream);
        Ok(Changed { streams: 1, records: entry.records, already: 0 })
    }

    /// Whether the log has these very records.
    fn has(&self, records: &[Record]) -> Result<bool, ReadError> {
        let Some(last) = records.last() else { return Ok(true) };
        let found = self.core().read(last.stream, last.seq, 1)?;
        Ok(found.first().is_some_and(|found| found.hash == last.hash))
    }

    /// What is left of a stream that was pruned.
    fn stubs(&self, stream: StreamId) -> Result<Vec<(u64, StoredFrame)>, ReadError> {
        let mut stubs = Vec::new();
        let mut below = u64::MAX;
        while let Some((first_seq, _)) = self.core().last_frame(stream, below, u64::MAX)? {
            if let Some(frame) = self.core().load_frame(stream, first_seq)? {
                stubs.push((first_seq, frame));
            }
            match first_seq.checked_sub(1) {
                Some(before) => below = before,
                None => break,
            }
        }
        stubs.reverse();
        Ok(stubs)
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What was erased here stays erased, also if an archive still has it.
pub(crate) fn keep_erased(records: &mut [Record], erased: &HashSet<u64>) {
    for record in records.iter_mut().filter(|record| erased.contains(&record.seq)) {
        let (commitment, length) = (record.body.commitment(), record.body.length());
        record.body = Body::Erased { commitment, length };
    }
}

/// Puts records back to where their stubs are.
fn restore(records: &[Record], stubs: &[(u64, StoredFrame)]) -> Result<Vec<Edit>, ChangeError> {
    let mut edits = Vec::new();
    for (first_seq, stub) in stubs {
        let from = usize_of(*first_seq);
        let to = from.saturating_add(stub.pruned.len());
        let hashes = records.get(from..to).map(|found| found.iter().map(|record| record.hash).collect::<Vec<_>>());
        let (Some(found), true) = (records.get(from..to), hashes.as_ref() == Some(&stub.pruned)) else {
            let stream = records.first().map_or(StreamId::LOG, |record| record.stream);
            return Err(ChangeError::Refused(format!(
                "this log has pruned {stream}, and with other records than the archive has from seq {first_seq} on; import it into another log"
            )));
        };
        let header = FrameHeader { standing: Standing::Own, ..stub.header.clone() };
        let frame = StoredFrame { header, records: stored(found), pruned: Vec::new() };
        let stream = found.first().map_or(StreamId::LOG, |record| record.stream);
        edits.extend(replace(stream, *first_seq, &stub.header, &frame)?);
    }
    let covered = stubs.last().map_or(records.len(), |(first, stub)| usize_of(*first) + stub.pruned.len());
    if covered != records.len() {
        return Err(ChangeError::Refused(format!(
            "this log has pruned {covered} records of the stream, the archive has {}; import it into another log",
            records.len()
        )));
    }
    Ok(edits)
}

fn stored(records: &[Record]) -> Vec<StoredRecord> {
    records.iter().map(|record| StoredRecord { hash: record.hash, body: record.body.clone() }).collect()
}

/// Records in frames: those of a frame have one time, and positions without a gap.
fn imported_frames(records: &[Record]) -> Vec<(u64, StoredFrame)> {
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
        let header = FrameHeader {
            standing: Standing::Imported,
            length: 0,
            kind: first.kind,
            first_position: first.position,
            time: first.time,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            bytes,
            head: own.last().map_or(Hash::ZERO, |last| last.hash),
        };
        frames.push((first.seq, StoredFrame { header, records: stored(own), pruned: Vec::new() }));
    }
    frames
}

fn listing(entry: &StreamEntry) -> Edit {
    let key = keys::listing(entry.open, entry.kind, entry.stream);
    let listed = ListingEntry {
        started: entry.started,
        last: entry.last,
        records: entry.records,
        bytes: entry.bytes,
        head: entry.head,
        label: entry.label.clone(),
    };
    let value = listed.encode(&key);
    (key, Some(value))
}

/// What was erased before the archive was made, by reason and person.
fn erasure_events(stream: StreamId, erasures: Vec<Erasure>) -> Vec<LogEvent> {
    let mut events: Vec<Erased> = Vec::new();
    for Erasure { seq, note, reason, by, .. } in erasures {
        match events.last_mut() {
            Some(last)
                if (&last.reason, &last.by) == (&reason, &by) && last.records.len() < crate::keeper::MOST_ERASED =>
            {
                last.records.push((seq, note));
            }
            _ => events.push(Erased { stream, records: vec![(seq, note)], reason, by }),
        }
    }
    events.into_iter().map(LogEvent::Erased).collect()
}

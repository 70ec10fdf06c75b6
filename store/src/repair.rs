//! Recovering the intact streams of a damaged log.
//!
//! A stream is recovered completely or not at all: without one of its records it would be a different history. Intact
//! streams are copied to a new log, with their hashes unchanged, as if they had been imported; the others are listed.
//! Also listed are streams that may have continued: the log lacks records that could have been theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::core::Core;
use crate::core::change::Work;
use crate::core::import::{ImportedStream, keep_erased};
use crate::core::open::load_head;
use crate::core::verify;
use crate::directory::detect::{Presence, detect};
use crate::disk::directory::DirectoryDisk;
use crate::keeper::ChangeError;
use crate::log::{Batch, Erasure, EventLog, LogReader, OpenError, ReadError, StreamEntry};
use crate::log_event::LogEvent;
use crate::own_stream;
use crate::paging::Records;
use crate::reader::{DamagedLog, open_damaged_log};
use crate::record::{Record, StreamId};
use crate::sled_log::{Options, SledLog, open};

/// The result of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The number of intact streams, which are in the new log.
    pub streams: u64,
    /// The number of their records.
    pub records: u64,
    /// The damaged streams, which are not in the new log.
    pub lost: Vec<Lost>,
    /// Streams in the new log that may have continued: they were still open, and the log lacks
    /// records after their last one.
    pub doubtful: Vec<StreamId>,
    /// The number of pruned streams, of which nothing could be recovered.
    pub pruned: u64,
    /// Other damage in the log.
    pub findings: Vec<ReadError>,
}

/// A stream that was not recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The stream.
    pub stream: StreamId,
    /// The number of intact records before the first damaged one.
    pub whole: u64,
    /// The damage.
    pub why: ReadError,
}

/// A repair failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// One of the two logs cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The path of the new log is taken.
    #[error("{0} already exists; choose a directory that does not exist yet")]
    Exists(String),
    /// The new log cannot be written.
    #[error("cannot write the new log: {0}")]
    Write(String),
}

impl From<ChangeError> for RepairError {
    fn from(error: ChangeError) -> Self {
        Self::Write(error.to_string())
    }
}

/// Copies the intact streams of a log that no process holds to a new log. The old log is not changed.
///
/// Erased bodies and pruned streams are not restored.
///
/// # Errors
/// [`RepairError`]. Streams that were already copied stay in the new log, which is valid.
pub fn repair(from: &Path, to: &Path) -> Result<Repaired, RepairError> {
    if detect(to)? != Presence::Absent {
        return Err(RepairError::Exists(to.display().to_string()));
    }
    let DamagedLog { core, mut findings } = open_damaged_log(from)?;
    // Findings about records are reported with their streams below.
    let of_log = |finding: &ReadError| finding.stream().is_none();
    for finding in verify::verify(&core).findings.into_iter().filter(of_log) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    let mut repaired = Repaired { findings, ..Repaired::default() };
    let new = open(to, &Options { serve_readers: false, ..Options::default() })?;
    copy_definitions(&core, &new, &mut repaired)?;
    let events = OwnStreamEvents::read(&core, &mut repaired.findings);
    let missing = last_missing(from, &core);
    for stream in core.all_streams() {
        match read_intact(&core, stream) {
            Ok((entry, mut records)) => {
                // Imported records have positions of another log.
                let last = records.last().filter(|_| !events.imported.contains(&stream)).map(|last| last.position);
                if entry.open && missing.is_some_and(|missing| last.is_none_or(|last| last < missing)) {
                    repaired.doubtful.push(stream);
                }
                let erasures = events.erasures.get(&stream).cloned().unwrap_or_default();
                keep_erased(&mut records, &erasures.iter().map(|erasure| erasure.seq).collect());
                repaired.streams += 1;
                repaired.records += records.len() as u64;
                new.work(Work::Import(Box::new(ImportedStream::copied(entry, records, erasures))))?;
            }
            Err((_, ReadError::Pruned { .. })) => repaired.pruned += 1,
            Err((whole, why)) => repaired.lost.push(Lost { stream, whole, why }),
        }
    }
    new.close().map_err(|error| RepairError::Write(error.to_string()))?;
    Ok(repaired)
}

/// The last position without a readable record. Any stream that was open before it may have continued there.
fn last_missing(path: &Path, core: &Core) -> Option<u64> {
    let saved = load_head(&DirectoryDisk::reading(path)).ok().flatten().map_or(0, |head| head.tip.position);
    let mut known = core.known_positions();
    known.sort_unstable_by_key(|(_, end)| std::cmp::Reverse(*end));
    let mut from = saved.max(core.tip().position);
    for (start, end) in known {
        if end < from {
            break;
        }
        from = from.min(start);
    }
    from.checked_sub(1)
}

/// An intact stream; or the number of its intact records and the damage after them.
type IntactStream = Result<(StreamEntry, Vec<Record>), (u64, ReadError)>;

fn copy_definitions(core: &Core, new: &SledLog, repaired: &mut Repaired) -> Result<(), RepairError> {
    for definition in core.intact_definitions(&mut repaired.findings) {
        let batch = Batch { definitions: vec![definition], frames: Vec::new() };
        new.append(batch).map_err(|error| RepairError::Write(error.to_string()))?;
    }
    Ok(())
}

/// Reads all records of a stream, if it is intact.
fn read_intact(reader: &dyn LogReader, stream: StreamId) -> IntactStream {
    let mut records: Vec<Record> = Vec::new();
    for record in Records::new(reader, stream, 0) {
        match record {
            Ok(record) => records.push(record),
            Err(error) => return Err((records.len() as u64, error)),
        }
    }
    let entry = reader.stream(stream).map_err(|error| (records.len() as u64, error))?;
    if entry.records == records.len() as u64 {
        return Ok((entry, records));
    }
    let (head, found) = (entry.records, records.len() as u64);
    Err((found, ReadError::TailCut { stream, head, found }))
}

/// What the log's own stream records about other streams, as far as it is readable.
#[derive(Default)]
struct OwnStreamEvents {
    erasures: BTreeMap<StreamId, Vec<Erasure>>,
    imported: BTreeSet<StreamId>,
}

impl OwnStreamEvents {
    fn read(core: &Core, findings: &mut Vec<ReadError>) -> Self {
        let mut events = Self::default();
        let visited = own_stream::visit(core, |record, event| {
            match event {
                LogEvent::Erased(erased) => {
                    events.erasures.entry(erased.stream).or_default().extend(erased.erasures(record.time));
                }
                LogEvent::Imported(imported) => drop(events.imported.insert(imported.stream)),
                _ => {}
            }
            true
        });
        findings.extend(visited.err());
        events
    }
}

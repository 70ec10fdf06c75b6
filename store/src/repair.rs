//! Taking what is whole out of a damaged log.
//!
//! A stream is whole or it is not: one of which a record is missing would be another history. Whole streams go into a new
//! log, with their hashes as they are, as if they had been imported; the rest is listed. So are those of which nobody can
//! tell whether they went on: records are missing in the log that may have been theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::core::Core;
use crate::core::change::Work;
use crate::core::import::{Taken, keep_erased};
use crate::core::open::load_head;
use crate::core::verify;
use crate::directory::looking::{Found, look};
use crate::disk::directory::DirectoryDisk;
use crate::keeper::ChangeError;
use crate::log::{Batch, Erasure, EventLog, LogReader, OpenError, ReadError, StreamEntry};
use crate::log_event::LogEvent;
use crate::own_stream;
use crate::paging::Records;
use crate::reader::{Broken, open_broken};
use crate::record::{Record, StreamId};
use crate::sled_log::{Options, SledLog, open};

/// What was taken out of a damaged log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The streams that were whole, and are in the new log.
    pub streams: u64,
    /// How many records they have.
    pub records: u64,
    /// The streams that are not whole, each with how many of its first records are, and what is wrong behind them.
    pub lost: Vec<Lost>,
    /// Streams that are in the new log, and may have gone on: they had not been closed, and behind their last record
    /// records are missing in the log.
    pub doubtful: Vec<StreamId>,
    /// The streams that had been pruned, of which there was nothing to be taken.
    pub pruned: u64,
    /// What else is wrong.
    pub findings: Vec<ReadError>,
}

/// A stream that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// It.
    pub stream: StreamId,
    /// How many records before the first one that is damaged fit their hashes.
    pub whole: u64,
    /// What is wrong.
    pub why: ReadError,
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// One of the two logs cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something where the new log should be.
    #[error("{0} exists already; name a directory that is not there yet")]
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

/// Copies the whole streams of a log that nobody has, damaged or not, into a new log. The old one is not changed.
///
/// A body that was erased, and a stream that was pruned, do not come back.
///
/// # Errors
/// [`RepairError`]; what was already written of the new log stays, and is whole by itself.
pub fn repair(from: &Path, to: &Path) -> Result<Repaired, RepairError> {
    if look(to)? != Found::Nothing {
        return Err(RepairError::Exists(to.display().to_string()));
    }
    let Broken { core, mut findings } = open_broken(from)?;
    // Of findings, those about records are told with their streams.
    let of_log = |finding: &ReadError| finding.stream().is_none();
    for finding in verify::verify(&core).findings.into_iter().filter(of_log) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    let mut repaired = Repaired { findings, ..Repaired::default() };
    let new = open(to, &Options { serve_readers: false, ..Options::default() })?;
    copy_definitions(&core, &new, &mut repaired)?;
    let told = Told::by(&core, &mut repaired.findings);
    let missing = last_missing(from, &core);
    for stream in core.all_streams() {
        match whole_stream(&core, stream) {
            Ok((entry, mut records)) => {
                // What was imported has the positions of another log.
                let last = records.last().filter(|_| !told.imported.contains(&stream)).map(|last| last.position);
                if entry.open && missing.is_some_and(|missing| last.is_none_or(|last| last < missing)) {
                    repaired.doubtful.push(stream);
                }
                let erasures = told.erasures.get(&stream).cloned().unwrap_or_default();
                keep_erased(&mut records, &erasures.iter().map(|erasure| erasure.seq).collect());
                repaired.streams += 1;
                repaired.records += records.len() as u64;
                new.work(Work::Take(Box::new(Taken::copied(entry, records, erasures))))?;
            }
            Err((_, ReadError::Pruned { .. })) => repaired.pruned += 1,
            Err((whole, why)) => repaired.lost.push(Lost { stream, whole, why }),
        }
    }
    new.close().map_err(|error| RepairError::Write(error.to_string()))?;
    Ok(repaired)
}

/// The last position of a log of which no record can be told: any stream may have had it that had not been closed before.
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

/// A whole stream; or how many of its first records are whole, and what is wrong behind them.
type Whole = Result<(StreamEntry, Vec<Record>), (u64, ReadError)>;

fn copy_definitions(core: &Core, new: &SledLog, repaired: &mut Repaired) -> Result<(), RepairError> {
    for definition in core.whole_definitions(&mut repaired.findings) {
        let batch = Batch { definitions: vec![definition], frames: Vec::new() };
        new.append(batch).map_err(|error| RepairError::Write(error.to_string()))?;
    }
    Ok(())
}

/// All records of a stream, if it is whole; else how many are, and what is wrong.
fn whole_stream(reader: &dyn LogReader, stream: StreamId) -> Whole {
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

/// What the log's own stream says of other streams, as far as it can be read.
#[derive(Default)]
struct Told {
    erasures: BTreeMap<StreamId, Vec<Erasure>>,
    imported: BTreeSet<StreamId>,
}

impl Told {
    fn by(core: &Core, findings: &mut Vec<ReadError>) -> Self {
        let mut told = Self::default();
        let visited = own_stream::visit(core, |record, event| {
            match event {
                LogEvent::Erased(erased) => {
                    told.erasures.entry(erased.stream).or_default().extend(erased.erasures(record.time));
                }
                LogEvent::Imported(imported) => drop(told.imported.insert(imported.stream)),
                _ => {}
            }
            true
        });
        findings.extend(visited.err());
        told
    }
}

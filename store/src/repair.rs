//! Taking what is whole out of a damaged log.
//!
//! A stream is whole or it is not: one of which a record is missing would be another history. Whole streams go into a new
//! log, with their hashes as they are, as if they had been imported; the rest is listed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::core::change::Work;
use crate::core::import::Taken;
use crate::directory::{self, Found};
use crate::keeper::ChangeError;
use crate::log::{Batch, Erasure, EventLog, LogReader, OpenError, ReadError, StreamEntry};
use crate::log_event::LogEvent;
use crate::reader::{Broken, open_broken};
use crate::record::{Record, StreamId};
use crate::sled_log::{Options, open};

/// What was taken out of a damaged log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The streams that were whole, and are in the new log.
    pub streams: u64,
    /// How many records they have.
    pub records: u64,
    /// The streams that are not whole, each with how many of its first records are, and what is wrong behind them.
    pub lost: Vec<Lost>,
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

/// How many records are read at once.
const PAGE: usize = 1_024;

/// Copies the whole streams of a log that nobody has, damaged or not, into a new log. The old one is not changed.
///
/// # Errors
/// [`RepairError`]; what was already written of the new log stays, and is whole by itself.
pub fn repair(from: &Path, to: &Path) -> Result<Repaired, RepairError> {
    if directory::look(to)? != Found::Nothing {
        return Err(RepairError::Exists(to.display().to_string()));
    }
    let Broken { core, findings, .. } = open_broken(from)?;
    let new = open(to, &Options { serve_readers: false, ..Options::default() })?;
    let mut repaired = Repaired { findings, ..Repaired::default() };
    let definitions = core.whole_definitions(&mut repaired.findings);
    for definition in definitions {
        let batch = Batch { definitions: vec![definition], frames: Vec::new() };
        new.append(batch).map_err(|error| RepairError::Write(error.to_string()))?;
    }
    let erasures = erasures(&core, &mut repaired.findings);
    for stream in core.all_streams(&mut repaired.findings) {
        match whole_stream(&core, stream) {
            Ok((entry, records)) => {
                let told = erasures.get(&stream).cloned().unwrap_or_default();
                let (count, taken) = (records.len() as u64, Taken::copied(entry, records, told));
                new.work(Work::Take(Box::new(taken)))?;
                repaired.streams += 1;
                repaired.records += count;
            }
            Err((_, ReadError::Pruned { .. })) => repaired.pruned += 1,
            Err((whole, why)) => repaired.lost.push(Lost { stream, whole, why }),
        }
    }
    new.close().map_err(|error| RepairError::Write(error.to_string()))?;
    Ok(repaired)
}

/// All records of a stream, if it is whole; else how many are, and what is wrong.
fn whole_stream(reader: &dyn LogReader, stream: StreamId) -> Result<(StreamEntry, Vec<Record>), (u64, ReadError)> {
    let mut records: Vec<Record> = Vec::new();
    let mut limit = PAGE;
    loop {
        match reader.read(stream, records.len() as u64, limit) {
            Ok(page) if page.is_empty() => break,
            Ok(page) => records.extend(page),
            // Record by record, up to the one that is at fault.
            Err(ReadError::Damaged { .. } | ReadError::TailCut { .. }) if limit > 1 => limit = 1,
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

/// What was erased, as far as the log's own stream can be read.
fn erasures(reader: &dyn LogReader, findings: &mut Vec<ReadError>) -> BTreeMap<StreamId, Vec<Erasure>> {
    let mut known: BTreeMap<StreamId, Vec<Erasure>> = BTreeMap::new();
    let visited = crate::own_stream::visit(reader, |record, event| {
        if let LogEvent::Erased(erased) = event {
            known.entry(erased.stream).or_default().extend(erased.erasures(record.time));
        }
        true
    });
    findings.extend(visited.err());
    known
}

//! Taking what is whole out of a damaged log.
//!
//! A stream is whole or it is not: one of which a record is missing would be another history. Whole streams go into a new
//! log, with their hashes as they are, as if they had been imported; the rest is listed. So are those of which nobody can
//! tell whether they went on: records are missing in the log that may have been theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::backend::sled_file::salvage::Salvage;
use crate::backend::{Backend, journal};
use crate::core::change::Work;
use crate::core::import::{Taken, keep_erased};
use crate::core::open::open_for_verifying;
use crate::core::{Core, verify};
use crate::directory::{self, Found};
use crate::keeper::ChangeError;
use crate::log::{Batch, Erasure, EventLog, LogReader, OpenError, ReadError, StreamEntry};
use crate::log_event::LogEvent;
use crate::own_stream;
use crate::paging::Records;
use crate::reader::{Broken, open_broken, over};
use crate::record::{Record, StreamId};
use crate::sled_log::{Options, SledLog, open};
use crate::tails::Tails;

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
/// What sled cannot find any more is looked for in its files, record by record; that takes as much memory as the log has
/// bytes. A body that was erased, and a stream that was pruned, do not come back.
///
/// # Errors
/// [`RepairError`]; what was already written of the new log stays, and is whole by itself.
pub fn repair(from: &Path, to: &Path) -> Result<Repaired, RepairError> {
    if directory::look(to)? != Found::Nothing {
        return Err(RepairError::Exists(to.display().to_string()));
    }
    let Broken { core, findings, journal, copy } = open_broken(from)?;
    let mut repaired = Repaired { findings, ..Repaired::default() };
    let mut sources = vec![core];
    if !verify::verify(&sources[0]).findings.is_empty() || !repaired.findings.is_empty() {
        sources.extend(salvage(from, journal));
    }
    let new = open(to, &Options { serve_readers: false, ..Options::default() })?;
    copy_definitions(&sources, &new, &mut repaired)?;
    let told = Told::by(&sources, &mut repaired.findings);
    let mut tails = Tails::of(&sources);
    let mut unclosed = Vec::new();
    let streams: BTreeSet<_> = sources.iter().flat_map(|source| source.all_streams(&mut repaired.findings)).collect();
    for stream in streams {
        // What was pruned may still lie in the files; it was to go.
        let sources = if told.pruned.contains(&stream) { &sources[..1] } else { &sources[..] };
        match most_of(sources, stream).and_then(|whole| not_cut(whole, tails.named(stream))) {
            Ok((entry, mut records)) => {
                // What was imported has the positions of another log.
                let last = records.last().filter(|_| !told.imported.contains(&stream)).map(|last| last.position);
                if last.is_some() {
                    tails.account_for(&records);
                }
                if entry.open {
                    unclosed.push((stream, last));
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
    if let Some(missing) = tails.last_missing() {
        let doubtful = unclosed.into_iter().filter(|(_, last)| last.is_none_or(|last| last < missing));
        repaired.doubtful = doubtful.map(|(stream, _)| stream).collect();
    }
    new.close().map_err(|error| RepairError::Write(error.to_string()))?;
    drop(sources);
    drop(copy);
    Ok(repaired)
}

/// A whole stream; or how many of its first records are whole, and what is wrong behind them.
type Whole = Result<(StreamEntry, Vec<Record>), (u64, ReadError)>;
/// A log, wherever it is read from.
type Source = Core<Box<dyn Backend>>;

/// What is whole in the files of a log, as a log.
fn salvage(path: &Path, journal: journal::Found) -> Option<Source> {
    match Salvage::gather(path) {
        Ok(salvage) => {
            let (backend, _) = over(Box::new(salvage), journal).ok()?;
            Some(open_for_verifying(backend, path.display().to_string()).0)
        }
        Err(why) => {
            tracing::warn!(log = %path.display(), ?why, "its files cannot be searched");
            None
        }
    }
}

fn copy_definitions(sources: &[Source], new: &SledLog, repaired: &mut Repaired) -> Result<(), RepairError> {
    let mut copied = BTreeSet::new();
    for source in sources {
        for definition in source.whole_definitions(&mut repaired.findings) {
            if copied.insert(definition.fingerprint) {
                let batch = Batch { definitions: vec![definition], frames: Vec::new() };
                new.append(batch).map_err(|error| RepairError::Write(error.to_string()))?;
            }
        }
    }
    Ok(())
}

/// A stream from where most of it is; where it is whole nowhere, how far it is.
fn most_of(sources: &[Source], stream: StreamId) -> Whole {
    let mut best: Whole = Err((0, ReadError::NoStream(stream)));
    for source in sources {
        let found = whole_stream(source, stream);
        let better = match (&best, &found) {
            (Ok((_, had)), Ok((_, has))) => has.len() > had.len(),
            (Err((_, ReadError::NoStream(_))), _) | (Err(_), Ok(_)) => true,
            (Err((had, _)), Err((has, _))) => has > had,
            (Ok(_), Err(_)) => false,
        };
        if better {
            best = found;
        }
    }
    best
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

/// A stream that seems whole, unless a commit entry names more of it.
fn not_cut((entry, records): (StreamEntry, Vec<Record>), named: u64) -> Whole {
    let found = records.len() as u64;
    if found < named {
        return Err((found, ReadError::TailCut { stream: entry.stream, head: named, found }));
    }
    Ok((entry, records))
}

/// What the log's own stream says of other streams, as far as it can be read.
#[derive(Default)]
struct Told {
    erasures: BTreeMap<StreamId, Vec<Erasure>>,
    /// The streams that were pruned, and not imported again.
    pruned: BTreeSet<StreamId>,
    imported: BTreeSet<StreamId>,
}

impl Told {
    fn by(sources: &[Source], findings: &mut Vec<ReadError>) -> Self {
        let mut told = Self::default();
        for source in sources {
            let visited = own_stream::visit(source, |record, event| {
                match event {
                    LogEvent::Erased(erased) => {
                        let of = told.erasures.entry(erased.stream).or_default();
                        let new = erased.erasures(record.time);
                        let known: BTreeSet<u64> = of.iter().map(|erasure| erasure.seq).collect();
                        of.extend(new.into_iter().filter(|erasure| !known.contains(&erasure.seq)));
                    }
                    LogEvent::Pruned(pruned) => {
                        told.pruned.insert(pruned.stream);
                    }
                    LogEvent::Imported(imported) => {
                        told.pruned.remove(&imported.stream);
                        told.imported.insert(imported.stream);
                    }
                    _ => {}
                }
                true
            });
            findings.extend(visited.err());
        }
        told
    }
}

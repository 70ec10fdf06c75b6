//! Opening a log: verifying its files, and creating a reader or a writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::scan::{GroupScan, LoadError, ScanStep, ScannedLog, check_segments, scan};
use super::wiping::{self, PendingErasures};
use super::writer::Writer;
use crate::disk::{Disk, content};
use crate::index::{Index, Part, Store};
use crate::layout::head::{Head, LogId, Tip};
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::log::{AppendError, Durability, OpenError, ReadError};
use crate::log_event::{LogEvent, Opened};
use crate::merkle::Tree;
use crate::record::Timestamp;
use crate::segments::Segments;
use crate::segments::appender::Appender;

/// The head file, which records how far the log is known to go, and its maximum length.
pub(crate) const HEAD: &str = "head";
const MAX_HEAD: usize = 8 * 1024;

impl LoadError {
    /// Converts to the error of opening the log at a path.
    pub(crate) fn at(self, path: &std::path::Path) -> OpenError {
        match self {
            Self::Damaged(what) => OpenError::Damaged { path: path.to_owned(), what },
            Self::Failed(reason) | Self::Index(reason) => {
                OpenError::Io { path: path.to_owned(), doing: "loading it".to_owned(), reason }
            }
        }
    }
}

/// Reads the head of a log; `None` if it has none.
pub(crate) fn load_head(disk: &dyn Disk) -> Result<Option<Head>, LoadError> {
    let bytes = content(disk, HEAD, MAX_HEAD).map_err(|error| LoadError::Failed(format!("the head file: {error}")))?;
    let decoded = bytes.map(|bytes| Head::decode(&bytes)).transpose();
    decoded.map_err(|why| LoadError::Damaged(format!("the head file: {why}")))
}

pub(crate) fn save_head(disk: &dyn Disk, head: &Head) -> std::io::Result<()> {
    disk.replace(HEAD, &head.encode())
}

/// Creates an empty log on an empty disk: its first segment, then its head.
pub(crate) fn create(disk: &Arc<dyn Disk>, log: LogId) -> Result<Head, LoadError> {
    let failed = |error: std::io::Error| LoadError::Failed(format!("creating its first segment: {error}"));
    let header = SegmentHeader { number: 1, log, before: Tip::empty(), length_before: 0 };
    Appender::begin(Arc::clone(disk), &header, crate::segments::appender::MAX_SEGMENT).map_err(failed)?;
    let place = Place { segment: 1, offset: HEADER as u32 };
    let head = Head { closed: false, log, tip: Tip::empty(), place, wiped: 0, index: 0, tree: Tree::default() };
    save_head(&**disk, &head).map_err(failed)?;
    Ok(head)
}

/// A log whose structure was verified.
pub(crate) struct LoadedLog {
    pub(crate) segments: Segments,
    pub(crate) index: Index,
    pub(crate) head: Head,
    pub(crate) scanned: ScannedLog,
    pub(crate) numbers: Vec<u32>,
}

/// Scans a log to its end. `store` may be an index of a part of it.
pub(crate) fn load(
    disk: &Arc<dyn Disk>,
    head: Head,
    store: Option<Store>,
    flush_in_background: bool,
) -> Result<LoadedLog, LoadError> {
    let segments = Segments::new(Arc::clone(disk), head.log);
    let numbers = check_segments(&segments, &head)?;
    let (tip, place) =
        store.as_ref().map_or((Tip::empty(), Place::default()), |store| (store.end().tip, store.end().place));
    let index = Index::new(Part::default(), tip, place, store);
    if flush_in_background {
        index
            .start_flusher()
            .map_err(|error| LoadError::Failed(format!("starting the thread of its index: {error}")))?;
    }
    let scanned = scan(&segments, &numbers, &head, &index)?;
    Ok(LoadedLog { segments, index, head, scanned, numbers })
}

/// Opens a log for reading. A stream with a frame that does not match its checksum can be read no more, but does not keep
/// readers from the others.
pub(crate) fn open_for_reading(disk: &Arc<dyn Disk>, location: String) -> Result<Core, LoadError> {
    let (mut core, scanned) = load_for_reading(disk, location)?;
    if core.pending.is_empty() {
        core.damaged = scanned.damaged_streams(&core.segments)?;
    }
    Ok(core)
}

fn load_for_reading(disk: &Arc<dyn Disk>, location: String) -> Result<(Core, ScannedLog), LoadError> {
    let head = load_head(&**disk)?.ok_or_else(|| LoadError::Damaged("its head file (`head`) is missing".to_owned()))?;
    let LoadedLog { segments, index, head, scanned, .. } = load(disk, head, None, false)?;
    let mut core = Core::new(segments, index, None, location);
    core.pending = PendingErasures::of(&core, head.wiped)?;
    Ok((core, scanned))
}

/// Opens a log that is intact for reading. Apparent damage may be data that is half overwritten by a pending erasure;
/// records are verified when they are read.
fn open_intact(disk: &Arc<dyn Disk>, location: String) -> Result<Core, LoadError> {
    let (core, scanned) = load_for_reading(disk, location)?;
    if core.pending.is_empty() {
        scanned.check_suspects(&core.segments)?;
    }
    Ok(core)
}

/// Opens a log as far as possible, damaged or not. Also returns the damage for which a regular open would reject it.
pub(crate) fn open_for_verifying(disk: &Arc<dyn Disk>, location: String) -> Result<(Core, Vec<ReadError>), LoadError> {
    match open_intact(disk, location.clone()) {
        Ok(core) => Ok((core, Vec::new())),
        Err(LoadError::Damaged(what)) => {
            let log = load_head(&**disk).ok().flatten().map(|head| head.log);
            let log =
                log.or_else(|| super::verify::find_log_id(&**disk)).ok_or_else(|| LoadError::Damaged(what.clone()))?;
            let segments = Segments::new(Arc::clone(disk), log);
            let part = super::verify::index_intact_groups(&segments)?;
            let (part, tip, place) = part;
            let index = Index::new(part, tip, place, None);
            Ok((Core::new(segments, index, None, location), vec![ReadError::DamagedLog(what)]))
        }
        Err(other) => Err(other),
    }
}

/// The cause of an error. Drops the prefix that the log stopped, which means nothing before it has started.
fn reason(error: AppendError) -> String {
    match error {
        AppendError::Failed(reason) | AppendError::Invalid(reason) => reason,
        other => other.to_string(),
    }
}

/// How to open a log for writing.
pub(crate) struct WriterOptions<Now> {
    pub(crate) location: String,
    pub(crate) durability: Durability,
    pub(crate) opened: Opened,
    /// Returns the current time, given the time of the last record.
    pub(crate) now: Now,
    /// The length at which a segment is full.
    pub(crate) max_segment: u32,
}

/// Opens a verified log for writing, and records that in it.
pub(crate) fn open_for_writing<Now: FnOnce(Timestamp) -> Timestamp>(
    disk: &Arc<dyn Disk>,
    found: LoadedLog,
    writer_options: WriterOptions<Now>,
) -> Result<(Arc<Core>, Writer), LoadError> {
    let LoadedLog { segments, index, head, scanned, numbers } = found;
    let WriterOptions { location, durability, opened, now, max_segment } = writer_options;
    let failed = |doing: &str, error: std::io::Error| LoadError::Failed(format!("{doing}: {error}"));
    // An open that is refused here has changed nothing, except that it finished erasures.
    let core = Arc::new(Core::new(segments, index, Some(durability), location));
    wiping::wipe_pending(&core, head.wiped)?;
    scanned.check_suspects(&core.segments)?;
    // Remove unfinished segments before writing anything, the last one first.
    for number in numbers.iter().rev().filter(|number| **number > scanned.place.segment) {
        disk.remove(&crate::segments::name_of(*number))
            .map_err(|error| failed("removing an unfinished segment", error))?;
    }
    let appender = Appender::resume(Arc::clone(disk), scanned.place, max_segment)
        .map_err(|error| failed("opening the last segment", error))?;
    let mut writer = Writer::new(Arc::clone(&core), appender, &head, scanned);
    let time = now(writer.last_time());
    writer
        .record(&LogEvent::Opened(opened), time)
        .map_err(|error| LoadError::Failed(format!("recording that it was opened: {}", reason(error))))?;
    // From here on, a log that is shorter than its head has lost something.
    writer.save_head().map_err(|error| LoadError::Failed(reason(error)))?;
    core.flushes.store(0, Ordering::Relaxed);
    Ok((core, writer))
}

/// Visits every group of a log, without an index.
pub(crate) fn each_group(
    segments: &Segments,
    mut visit: impl FnMut(&crate::segments::walk::Group) -> Result<(), LoadError>,
) -> Result<Tip, LoadError> {
    let numbers = segments.open_all().map_err(|error| LoadError::Failed(error.to_string()))?;
    let mut scan = GroupScan::all(segments, &numbers);
    loop {
        match scan.next() {
            ScanStep::Group(group) => visit(&group)?,
            ScanStep::Invalid(error) => return Err(error.into()),
            ScanStep::End => return Ok(scan.tip),
        }
    }
}

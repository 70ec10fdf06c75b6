//! The checks of `replay doctor`: where a log is stored, which process has it, and what its index says is in it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;
use cloacina_store::doctor::{Diagnosis, examine};
use cloacina_store::log::{Durability, LogReader, OpenError, ReadError, StreamFilter};
use cloacina_store::log_event::LogEvent;
use cloacina_store::record::{StreamId, StreamKind};

use crate::damage_finder::DamageFinder;
use crate::ids::short;
use crate::reading::started;
use crate::source::{self, Head, executions};
use crate::words::span;

/// Less free space than this is worth a warning, in bytes.
const LOW_SPACE: u64 = 1024 * 1024 * 1024;

/// How many executions that nothing runs get a warning of their own.
const MAX_NAMED: usize = 5;

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The file system that stores the log.
    FileSystem,
    /// The duration of an fsync.
    Sync,
    /// The process that has the log open.
    Holder,
    /// When appends are acknowledged.
    Durability,
    /// The content of the log.
    Content,
    /// This machine's clock, compared with the log's timestamps.
    Clock,
    /// An unfinished execution that nothing runs.
    Execution,
}

/// A warning of the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The subject.
    pub about: About,
    /// The text, without "warning:".
    pub text: String,
}

/// How much is in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The number of executions.
    pub executions: u64,
    /// The number of unfinished executions.
    pub unfinished: u64,
    /// The number of records.
    pub records: u64,
    /// When the oldest execution started.
    pub oldest: Option<Timestamp>,
}

/// The findings of the doctor.
#[derive(Clone, Debug)]
pub struct DoctorReport {
    /// The storage of the log, and the process that has it.
    pub diagnosis: Diagnosis,
    /// The durability mode of the process that has the log open, or else of the last one that had it; `None` if unknown.
    pub durability: Option<Durability>,
    /// The content, if it can be read.
    pub content: Option<Content>,
    /// The warnings.
    pub warnings: Vec<Warning>,
}

/// Examines the log at a path. `opened` is the result of opening it for reading.
///
/// # Errors
/// [`DoctorError`] if there is no log, or its index cannot be read.
pub fn look(
    path: &Path,
    opened: Result<Box<dyn LogReader>, OpenError>,
    now: Timestamp,
) -> Result<DoctorReport, DoctorError> {
    let mut ground = DoctorReport { diagnosis: examine(path)?, durability: None, content: None, warnings: Vec::new() };
    match opened {
        Ok(reader) => {
            ground.durability = reader.head()?.durability.or_else(|| last_mode(&*reader));
            ground.content = Some(content(&*reader)?);
            if let Some(ahead) = ahead_of_clock(&*reader, now)? {
                ground.warn(About::Clock, ahead);
            }
            ground.check_unfinished(&*reader)?;
        }
        Err(error) => ground.warn(About::Content, error.to_string()),
    }
    ground.check_environment();
    Ok(ground)
}

/// How far a log's end may be ahead of the clock without a warning, in microseconds: ordinary clock skew is smaller.
const MAX_CLOCK_SKEW: u64 = 60_000_000;

/// Returns the warning about a log that ends ahead of this machine's clock, or `None`.
///
/// # Errors
/// [`ReadError`].
pub fn ahead_of_clock(reader: &dyn LogReader, now: Timestamp) -> Result<Option<String>, ReadError> {
    let end = Timestamp(reader.head()?.time.0);
    // Events appended since the caller took `now` are not ahead.
    let now = now.max(system_time());
    let ahead = end.micros_since(now);
    Ok((ahead > MAX_CLOCK_SKEW).then(|| {
        format!(
            "the log's last event is {} ahead of this machine's clock: a clock is or was wrong. Times of new events continue from \
             there at half speed until the clock has caught up; schedules follow the clock",
            span(ahead)
        )
    }))
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Why the doctor cannot examine a log.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// There is no log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl DoctorReport {
    fn warn(&mut self, about: About, text: impl Into<String>) {
        self.warnings.push(Warning { about, text: text.into() });
    }

    /// Warns about unfinished executions that nothing runs, each with the reason and what to do.
    fn check_unfinished(&mut self, reader: &dyn LogReader) -> Result<(), ReadError> {
        let left = unfinished(reader)?.into_iter().filter(|head| head.standing.status.is_orphaned());
        let left: Vec<Head> = left.collect();
        for head in left.iter().take(MAX_NAMED) {
            let Standing { status, .. } = head.standing;
            let advice = head.standing.advice().unwrap_or_default();
            let text = format!("execution …{} of workflow '{}': {status}: {advice}", short(head.id), head.workflow());
            self.warn(About::Execution, text);
        }
        if left.len() > MAX_NAMED {
            let more = left.len() - MAX_NAMED;
            let text = format!("{more} more unfinished executions are not running; list them with `replay list`");
            self.warn(About::Execution, text);
        }
        Ok(())
    }

    fn check_environment(&mut self) {
        if let Some(warning) = self.diagnosis.file_system.warning {
            self.warn(About::FileSystem, warning);
        }
        if self.diagnosis.file_system.free < LOW_SPACE {
            self.warn(About::FileSystem, "less than 1 GiB of disk space left: an engine stops when it cannot write");
        }
        if self.diagnosis.sync.as_ref().is_ok_and(|cost| !cost.seems_real) {
            let text = "fsync is too fast to have reached a disk: acknowledged events may not survive a power cut";
            self.warn(About::Sync, text);
        }
        let silent = self.diagnosis.holder.as_ref().filter(|holder| holder.holds);
        if let Some(why) = silent.and_then(|holder| holder.answers.as_ref().err().cloned()) {
            self.warn(About::Holder, format!("the process that has the log open does not answer readers: {why}"));
        }
        if self.durability == Some(Durability::Os) {
            self.warn(About::Durability, "acknowledged events may not be on disk yet: a power cut can lose them");
        }
    }
}

/// Returns the unfinished executions, newest first. Damage is included: it shows only when their events are read.
fn unfinished(reader: &dyn LogReader) -> Result<Vec<Head>, ReadError> {
    let mut found = source::open_heads(reader)?;
    let mut finder = DamageFinder::new(reader);
    found.iter_mut().for_each(|head| finder.check(head));
    Ok(found)
}

fn content(reader: &dyn LogReader) -> Result<Content, ReadError> {
    let open = StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: usize::MAX };
    let unfinished = reader.streams(&open)?.len() as u64;
    let (mut count, mut oldest) = (0, None);
    for entry in executions(reader) {
        let start = started(&entry?);
        count += 1;
        oldest = Some(oldest.map_or(start, |oldest: Timestamp| oldest.min(start)));
    }
    Ok(Content { executions: count, unfinished, records: reader.head()?.position, oldest })
}

/// Returns the durability mode of the last process that appended executions. Processes that only changed existing
/// records (`cloaca log prune`) are skipped: their mode says nothing about how executions were acknowledged.
fn last_mode(reader: &dyn LogReader) -> Option<Durability> {
    let mut newest = None;
    // Backwards: `end` is the position after a process's records, `own` how many of them are in the log's own stream.
    let (mut end, mut own, mut changes) = (reader.head().ok()?.position, 0, false);
    let mut below = reader.stream(StreamId::LOG).ok()?.records;
    while below > 0 {
        let from = below.saturating_sub(LOG_EVENTS_AT_ONCE);
        let page = reader.read(StreamId::LOG, from, usize::try_from(below - from).ok()?).ok()?;
        for record in page.iter().rev() {
            own += 1;
            match LogEvent::decode(record.body.bytes()?) {
                Ok(LogEvent::Opened(opened)) => {
                    newest = newest.or_else(|| opened.durability());
                    let wrote_nothing_else = changes && end - record.position == own;
                    if !wrote_nothing_else {
                        return opened.durability();
                    }
                    (end, own, changes) = (record.position, 0, false);
                }
                Ok(LogEvent::Closed) => {}
                Ok(_) => changes = true,
                Err(_) => return newest,
            }
        }
        below = from;
    }
    newest
}

/// How many events of the log's own stream are read at once.
const LOG_EVENTS_AT_ONCE: u64 = 256;

/// Returns for how many seconds Linux may keep written data in memory only, or `None` on other systems.
#[must_use]
pub fn os_window() -> Option<u64> {
    let centiseconds = fs::read_to_string("/proc/sys/vm/dirty_expire_centisecs").ok()?;
    centiseconds.trim().parse::<u64>().ok().map(|number| number / 100)
}

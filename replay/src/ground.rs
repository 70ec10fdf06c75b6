//! The ground that a log lies on, and what is in it as far as its index tells.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;
use cloacina_store::doctor::{Diagnosis, examine};
use cloacina_store::log::{Durability, LogReader, OpenError, ReadError, StreamFilter};
use cloacina_store::log_event::LogEvent;
use cloacina_store::record::{StreamId, StreamKind};

use crate::damage::DamageFinder;
use crate::ids::short;
use crate::reading::started;
use crate::source::{self, Head, executions};

/// Less than this is soon used up, in bytes.
const LITTLE: u64 = 1024 * 1024 * 1024;

/// How many executions are named that nothing runs.
const MOST_NAMED: usize = 5;

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Where its files are.
    FileSystem,
    /// How long a sync takes.
    Sync,
    /// The process that has the log.
    Holder,
    /// When appends are acknowledged.
    Durability,
    /// What is in the log.
    Content,
    /// The clock of this machine, and the log's time.
    Clock,
    /// An execution that is unfinished, and that nothing runs.
    Execution,
}

/// Something to worry about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub about: About,
    /// What it says.
    pub text: String,
}

/// What is in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// How many executions it has.
    pub executions: u64,
    /// How many of them are not over.
    pub unfinished: u64,
    /// How many records it has.
    pub records: u64,
    /// When the oldest execution started.
    pub oldest: Option<Timestamp>,
}

/// What was found out.
#[derive(Clone, Debug)]
pub struct Ground {
    /// What the log lies on, and who has it.
    pub diagnosis: Diagnosis,
    /// When whoever has or had the log last acknowledges; `None` if that is not known.
    pub durability: Option<Durability>,
    /// What is in it, if it can be read.
    pub content: Option<Content>,
    /// What to worry about.
    pub warnings: Vec<Warning>,
}

/// Looks at the log at a path. `opened` is what opening it for reading gave.
///
/// # Errors
/// [`Unfit`] if there is no log, or its index cannot be read.
pub fn look(path: &Path, opened: Result<Box<dyn LogReader>, OpenError>, now: Timestamp) -> Result<Ground, Unfit> {
    let mut ground = Ground { diagnosis: examine(path)?, durability: None, content: None, warnings: Vec::new() };
    match opened {
        Ok(reader) => {
            ground.durability = reader.head()?.durability.or_else(|| last_mode(&*reader));
            ground.content = Some(content(&*reader)?);
            if let Some(ahead) = ahead_of_clock(&*reader, now)? {
                ground.warn(About::Clock, ahead);
            }
            ground.worry_about_unfinished(&*reader)?;
        }
        Err(error) => ground.warn(About::Content, error.to_string()),
    }
    ground.worry();
    Ok(ground)
}

/// How far the end of a log may lie ahead of the clock without a warning: clocks of machines differ by less.
const MOST_AHEAD: u64 = 60_000_000;

/// What to say of a log that ends ahead of the clock; nothing, if it does not.
///
/// # Errors
/// [`ReadError`].
pub fn ahead_of_clock(reader: &dyn LogReader, now: Timestamp) -> Result<Option<String>, ReadError> {
    let end = Timestamp(reader.head()?.time.0);
    // What was appended since `now` was asked for is not ahead.
    let now = now.max(system_time());
    let ahead = end.micros_since(now);
    Ok((ahead > MOST_AHEAD).then(|| {
        format!(
            "the log's last event lies {} ahead of this machine's clock: a clock is wrong, or was. New events go on from there at \
             half the pace until the clock has caught up; schedules go by the clock",
            span(ahead)
        )
    }))
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn span(micros: u64) -> String {
    match micros / 60_000_000 {
        minutes @ 0..120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

/// Why nothing can be said of a log's ground.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Ground {
    fn warn(&mut self, about: About, text: impl Into<String>) {
        self.warnings.push(Warning { about, text: text.into() });
    }

    /// Names the executions that are unfinished and that nothing runs, each with the reason and what to do.
    fn worry_about_unfinished(&mut self, reader: &dyn LogReader) -> Result<(), ReadError> {
        let left = unfinished(reader)?.into_iter().filter(|head| head.standing.status.is_left());
        let left: Vec<Head> = left.collect();
        for head in left.iter().take(MOST_NAMED) {
            let Standing { status, .. } = head.standing;
            let advice = head.standing.advice().unwrap_or_default();
            let text = format!("execution …{} of workflow '{}': {status}: {advice}", short(head.id), head.workflow());
            self.warn(About::Execution, text);
        }
        if left.len() > MOST_NAMED {
            let more = left.len() - MOST_NAMED;
            let text = format!("{more} more executions are unfinished, and nothing runs them: replay list");
            self.warn(About::Execution, text);
        }
        Ok(())
    }

    fn worry(&mut self) {
        if let Some(warning) = self.diagnosis.file_system.warning {
            self.warn(About::FileSystem, warning);
        }
        if self.diagnosis.file_system.free < LITTLE {
            self.warn(About::FileSystem, "there is little space left: an engine stops where it cannot write");
        }
        if self.diagnosis.sync.as_ref().is_ok_and(|cost| !cost.seems_real) {
            let text = "that is too fast to have reached a disk: what was acknowledged may not survive a power cut";
            self.warn(About::Sync, text);
        }
        let silent = self.diagnosis.holder.as_ref().filter(|holder| holder.holds);
        if let Some(why) = silent.and_then(|holder| holder.answers.as_ref().err().cloned()) {
            self.warn(About::Holder, format!("it does not answer readers: {why}"));
        }
        if self.durability == Some(Durability::Os) {
            self.warn(About::Durability, "what is acknowledged is not on the disk yet");
        }
    }
}

/// The unfinished executions, newest first, also with the damage that only reading them tells.
fn unfinished(reader: &dyn LogReader) -> Result<Vec<Head>, ReadError> {
    let mut found = source::open_heads(reader)?;
    let mut finder = DamageFinder::new(reader);
    found.iter_mut().for_each(|head| finder.look(head));
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

/// How the process acknowledged that wrote to the log last. One that has only changed what was there, as `cloaca log prune` does, says
/// nothing of how the executions in it were acknowledged.
fn last_mode(reader: &dyn LogReader) -> Option<Durability> {
    let mut newest = None;
    // The position of what was written down behind a process's own events, and how many of these there are.
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

/// How many events of the log's own are read at once.
const LOG_EVENTS_AT_ONCE: u64 = 256;

/// For how many seconds Linux may keep what was written in memory alone, if it says so.
#[must_use]
pub fn os_window() -> Option<u64> {
    let centiseconds = fs::read_to_string("/proc/sys/vm/dirty_expire_centisecs").ok()?;
    centiseconds.trim().parse::<u64>().ok().map(|number| number / 100)
}

//! `replay ID --follow`: shows the events of an execution as they are appended, until it ends.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use cloacina_engine::core::event::{Event, Seq};
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::state::Status;
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::paging::Records;

use super::failure::{Failure, code};
use super::full_view;
use super::header::{self, ChainStatus};
use super::screen::Screen;
use super::surroundings::{Opener, Pause};
use super::target::Target;
use super::text;
use crate::json::lines::Lines;
use crate::reading::{Decoder, Entry, stream_of};
use crate::source;

/// How long to wait for the log between checks for Ctrl-C. New events end the wait at once.
const WAIT: Duration = Duration::from_millis(250);

/// Follows an execution.
pub struct Follow<'a> {
    /// Reopens the log if the process that had it open is gone.
    pub open: Opener<'a>,
    /// The absolute path of the log.
    pub path: &'a std::path::Path,
    /// Waits for a duration, and returns whether to continue: false after Ctrl-C.
    pub pause: Pause<'a>,
    /// Whether to write events as JSON lines.
    pub jsonl: bool,
    /// Whether to show values.
    pub values: bool,
}

impl Follow<'_> {
    /// Shows events until the execution ends or no process runs it, and returns the exit code.
    ///
    /// # Errors
    /// [`Failure`] if the log cannot be read.
    pub fn run(&self, screen: &mut Screen<'_>, err: &mut dyn Write, target: &Target) -> Result<i32, Failure> {
        let head = source::head(&*target.log.reader, target.id)?;
        let mut lines = Lines::default();
        if self.jsonl {
            lines.execution(screen.out, &head, &target.log.path.display().to_string())?;
        } else {
            header::write(screen, target, &head, ChainStatus::Unread)?;
        }
        let rows = full_view::Rows::new(screen, target, &head, self.values);
        if !self.jsonl {
            rows.heading(screen)?;
        }
        let mut reopened: Option<Box<dyn LogReader>> = None;
        let mut standing = head.standing;
        let mut next: Seq = 0;
        let mut delay = Duration::ZERO;
        loop {
            let reader = reopened.as_deref().unwrap_or(&*target.log.reader);
            let live = reader.head().ok().filter(|head| head.durability.is_some());
            let mut decoder = Decoder::new(reader);
            // An end that is not the last event was followed by a retry.
            let mut end = None;
            let read = Records::new(reader, stream_of(target.id), next).try_for_each(|record| {
                let entry = decoder.decode(&record?)?;
                if self.jsonl {
                    lines.entry(screen.out, &entry, &reader)?;
                } else {
                    rows.entry(screen, &entry)?;
                }
                next = entry.seq + 1;
                end = ended(&entry);
                Ok(())
            });
            screen.out.flush()?;
            match (read, end) {
                (Ok(()), Some(Status::Completed)) => return Ok(code::OK),
                (Ok(()), Some(_)) => return Ok(code::DIFFERS),
                // The process that had the log open has closed it: read the rest from the files.
                (Err(Stop::Gone), _) => {
                    reopened = Some((self.open)(self.path).map_err(|error| Failure::open(&error))?);
                    continue;
                }
                (Err(Stop::Failed(failure)), _) => return Err(failure),
                (Ok(()), None) => {}
            }
            // Report only changes: the header shows the standing at the start.
            let mut report_standing = |screen: &Screen<'_>, err: &mut dyn Write| {
                let now = source::standing(reader, target.id).unwrap_or_else(|_| standing.clone());
                // The last event shows the end.
                let is_news = standing != now && !now.status.is_final();
                standing = now;
                if is_news { write_standing(screen, err, &standing) } else { Ok(()) }
            };
            let Some(before) = live else {
                report_standing(screen, err)?;
                writeln!(
                    err,
                    "\nno process has the log open, so there will be no more events\nhint: {}",
                    target.command("")
                )?;
                return Ok(code::STILL_RUNNING);
            };
            if !(self.pause)(delay) {
                writeln!(
                    err,
                    "\nstopped following after seq {}; the execution {}\nhint: {}",
                    next.saturating_sub(1),
                    if standing.status.is_orphaned() { "stays as it is" } else { "continues" },
                    target.command("--follow")
                )?;
                return Ok(code::STILL_RUNNING);
            }
            report_standing(screen, err)?;
            let began = Instant::now();
            // If the process is gone, the next read reports it.
            let moved = reader.wait(before.position, WAIT).is_ok_and(|head| head.position > before.position);
            // The engine limits the number of waiting readers, and answers the others at once.
            delay = if moved || began.elapsed() >= WAIT { Duration::ZERO } else { WAIT };
        }
    }
}

/// Writes the new standing of the execution.
fn write_standing(screen: &Screen<'_>, err: &mut dyn Write, standing: &Standing) -> io::Result<()> {
    let line = header::standing_line(screen, standing.status.name(), standing)
        .unwrap_or_else(|| standing.status.name().to_owned());
    writeln!(err, "{line}")?;
    standing.next.iter().try_for_each(|next| writeln!(err, "next: {}", text::clean(next)))
}

enum Stop {
    Gone,
    Failed(Failure),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone,
            other => Self::Failed(other.into()),
        }
    }
}

impl From<crate::reading::HistoryError> for Stop {
    fn from(trouble: crate::reading::HistoryError) -> Self {
        Self::Failed(trouble.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

fn ended(entry: &Entry) -> Option<Status> {
    match entry.event.as_ref()? {
        Event::ExecutionCompleted(_) => Some(Status::Completed),
        Event::ExecutionFailed(_) => Some(Status::Failed),
        Event::ExecutionCancelled(_) => Some(Status::Cancelled),
        _ => None,
    }
}

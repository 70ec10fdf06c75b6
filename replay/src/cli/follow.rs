//! `replay ID --follow`: the events of an execution as they are appended, until it ends.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use cloacina_engine::core::event::{Event, Seq};
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::state::Status;
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::paging::Records;

use super::failure::{Failure, code};
use super::found::Found;
use super::full_view;
use super::header::{self, ChainWord};
use super::screen::Screen;
use super::surroundings::{Opener, Pause};
use super::text;
use crate::json::lines::Lines;
use crate::reading::{Decoder, Entry, stream_of};
use crate::source;

/// For how long the log is waited for before it is asked whether Ctrl-C was pressed. What happens is seen at once all the same.
const PATIENCE: Duration = Duration::from_millis(250);

/// What following needs of the world besides the log.
pub struct Follow<'a> {
    /// Opens the log again, if the process that had it is gone.
    pub open: Opener<'a>,
    /// The log's whole path.
    pub path: &'a std::path::Path,
    /// Waits so long, and says whether to go on: not after Ctrl-C.
    pub pause: Pause<'a>,
    /// Whether events are written as JSON, a line each.
    pub jsonl: bool,
    /// Whether values are shown.
    pub values: bool,
}

impl Follow<'_> {
    /// Shows events until the execution ends or nobody runs it, and gives the exit code.
    ///
    /// # Errors
    /// [`Failure`] if the log cannot be read.
    pub fn run(&self, screen: &mut Screen<'_>, err: &mut dyn Write, found: &Found) -> Result<i32, Failure> {
        let head = source::head(&*found.log.reader, found.id)?;
        let mut lines = Lines::default();
        if self.jsonl {
            lines.execution(screen.out, &head, &found.log.path.display().to_string())?;
        } else {
            header::write(screen, found, &head, ChainWord::Unread)?;
        }
        let view = full_view::Rows::new(screen, found, &head, self.values);
        if !self.jsonl {
            view.heading(screen)?;
        }
        let mut again: Option<Box<dyn LogReader>> = None;
        let mut standing = head.standing;
        let mut next: Seq = 0;
        let mut rest = Duration::ZERO;
        loop {
            let reader = again.as_deref().unwrap_or(&*found.log.reader);
            let live = reader.head().ok().filter(|head| head.durability.is_some());
            let mut decoder = Decoder::new(reader);
            let read = Records::new(reader, stream_of(found.id), next).try_for_each(|record| {
                let entry = decoder.decode(&record?)?;
                if self.jsonl {
                    lines.entry(screen.out, &entry, &reader)?;
                } else {
                    view.entry(screen, &entry)?;
                }
                next = entry.seq + 1;
                match ended(&entry) {
                    Some(status) => Err(Stop::Ended(status)),
                    None => Ok(()),
                }
            });
            screen.out.flush()?;
            match read {
                Err(Stop::Ended(Status::Completed)) => return Ok(code::OK),
                Err(Stop::Ended(_)) => return Ok(code::DIFFERS),
                // The process that had the log has let go of it: what it left is read once more.
                Err(Stop::Gone) => {
                    again = Some((self.open)(self.path).map_err(|error| Failure::open(&error))?);
                    continue;
                }
                Err(Stop::Failed(failure)) => return Err(failure),
                Ok(()) => {}
            }
            // What was said when it began is not said again.
            let now = source::standing(reader, found.id).unwrap_or_else(|_| standing.clone());
            if standing != now {
                standing = now;
                say(screen, err, &standing)?;
            }
            let Some(before) = live else {
                writeln!(err, "\nno process has the log, so nothing more will come\nhint: {}", found.command(""))?;
                return Ok(code::STILL_RUNNING);
            };
            if !(self.pause)(rest) {
                writeln!(
                    err,
                    "\ndetached after seq {}; it {}\nhint: {}",
                    next.saturating_sub(1),
                    if standing.status.is_left() { "stays as it is" } else { "runs on" },
                    found.command("--follow")
                )?;
                return Ok(code::STILL_RUNNING);
            }
            let began = Instant::now();
            // That it is gone is found by the next reading.
            let moved = reader.wait(before.position, PATIENCE).is_ok_and(|head| head.position > before.position);
            // More may wait than the engine lets: those are answered at once.
            rest = if moved || began.elapsed() >= PATIENCE { Duration::ZERO } else { PATIENCE };
        }
    }
}

/// Says that the execution stands another way now.
fn say(screen: &Screen<'_>, err: &mut dyn Write, standing: &Standing) -> io::Result<()> {
    let line = header::standing_line(screen, standing.status.name(), standing)
        .unwrap_or_else(|| standing.status.name().to_owned());
    writeln!(err, "{line}")?;
    standing.next.iter().try_for_each(|next| writeln!(err, "next: {}", text::clean(next)))
}

enum Stop {
    Ended(Status),
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

impl From<crate::reading::Trouble> for Stop {
    fn from(trouble: crate::reading::Trouble) -> Self {
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

//! `replay doctor`: the ground that a log lies on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cloacina_engine::core::time::Timestamp;
use cloacina_store::doctor::{Diagnosis, Holder, examine};
use cloacina_store::log::{Durability, LogReader, OpenError, StreamFilter};
use cloacina_store::log_event::LogEvent;
use cloacina_store::record::{StreamId, StreamKind};

use super::failure::{Failure, code};
use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::source::executions;

/// Less than this is soon used up.
const LITTLE: u64 = 1024 * 1024 * 1024;

/// Writes what was found out, and gives 0 if nothing of it is worth a warning.
///
/// # Errors
/// [`Failure`] if there is no log.
pub fn write(
    screen: &mut Screen<'_>,
    path: &Path,
    opened: Result<Box<dyn LogReader>, OpenError>,
) -> Result<i32, Failure> {
    let Diagnosis { file_system, sync, holder, database, files } =
        examine(path).map_err(|error| Failure::open(&error))?;
    let mut lines = Lines { screen, warnings: 0 };
    lines.say("log", &path.display().to_string())?;
    lines.say("files", &format!("{}, of which the database has {}", text::size(files), text::size(database)))?;
    let room =
        format!("{}, {} free of {}", file_system.kind, text::size(file_system.free), text::size(file_system.size));
    lines.say("file system", &room)?;
    if let Some(warning) = file_system.warning {
        lines.warn(warning)?;
    }
    if file_system.free < LITTLE {
        lines.warn("there is little space left: an engine stops where it cannot write")?;
    }
    match sync {
        Ok(cost) => {
            let each = format!("{} in the middle, {} at the longest, of 4 KB", time(cost.median), time(cost.longest));
            lines.say("a sync", &each)?;
            if !cost.seems_real {
                lines.warn(
                    "that is too fast to have reached a disk: what was acknowledged may not survive a power cut",
                )?;
            }
        }
        Err(why) => lines.say("a sync", &format!("could not be tried beside the log: {why}"))?,
    }
    holding(&mut lines, holder.as_ref())?;
    match opened {
        Ok(reader) => content(&mut lines, &*reader)?,
        Err(error) => lines.warn(&text::clean(&error.to_string()))?,
    }
    let warnings = lines.warnings;
    screen.line("")?;
    match warnings {
        0 => screen.line("nothing to worry about")?,
        count => screen.line(&text::count(count, "warning"))?,
    }
    Ok(code::OK)
}

struct Lines<'a, 'b> {
    screen: &'a mut Screen<'b>,
    warnings: u64,
}

impl Lines<'_, '_> {
    fn say(&mut self, name: &str, what: &str) -> std::io::Result<()> {
        self.screen.line(&format!("{}  {}", text::pad(name, 12), text::clean(what)))
    }

    fn warn(&mut self, what: &str) -> std::io::Result<()> {
        self.warnings += 1;
        self.screen.paragraph(14, Tone::Warning, &format!("warning: {what}"))
    }
}

fn holding(lines: &mut Lines<'_, '_>, holder: Option<&Holder>) -> std::io::Result<()> {
    let Some(Holder { pid, host, holds, answers }) = holder else {
        return lines.say("held by", "nobody; it was closed in order");
    };
    if *holds {
        lines.say("held by", &format!("process {pid} on host {host}"))?;
        return match answers {
            Ok(()) => lines.say("socket", "it answers readers"),
            Err(why) => lines.warn(&format!("it does not answer readers: {why}")),
        };
    }
    lines.say("held by", &format!("nobody; process {pid} on host {host} had it, and died"))?;
    lines.say("socket", "what is left of it is removed at the next open")
}

fn content(lines: &mut Lines<'_, '_>, reader: &dyn LogReader) -> Result<(), Failure> {
    let head = reader.head()?;
    let mode = head.durability.or_else(|| last_mode(reader));
    match mode {
        None => lines.say("durability", "unknown")?,
        Some(Durability::Sync) => lines.say("durability", "sync: a power cut loses nothing that was acknowledged")?,
        Some(Durability::Interval(milliseconds)) => {
            lines.say(
                "durability",
                &format!("interval: a power cut can lose the last {milliseconds} ms, and one sync"),
            )?;
        }
        Some(Durability::Os) => {
            lines.say("durability", &format!("os: a power cut can lose {}", os_window()))?;
            lines.warn("what is acknowledged is not on the disk yet")?;
        }
    }
    let open = StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: usize::MAX };
    let unfinished = reader.streams(&open)?.len() as u64;
    let mut count = 0;
    let mut oldest = None;
    for entry in executions(reader, None) {
        let entry = entry?;
        count += 1;
        oldest = Some(oldest.map_or(entry.started.0, |oldest: i64| oldest.min(entry.started.0)));
    }
    let of_them = format!("{}, {unfinished} unfinished", text::count(count, "execution"));
    lines.say("holds", &format!("{of_them}, {}", text::count(head.position, "record")))?;
    if let Some(oldest) = oldest {
        let date = lines.screen.date(Timestamp(oldest));
        lines.say("oldest", &date)?;
    }
    Ok(())
}

/// How whoever had the log last acknowledged.
fn last_mode(reader: &dyn LogReader) -> Option<Durability> {
    let records = reader.stream(StreamId::LOG).ok()?.records;
    let from = records.saturating_sub(64);
    let page = reader.read(StreamId::LOG, from, 64).ok()?;
    page.iter().rev().find_map(|record| match LogEvent::decode(record.body.bytes()?) {
        Ok(LogEvent::Opened(opened)) => opened.durability(),
        _ => None,
    })
}

/// How long Linux may keep what was written in memory.
fn os_window() -> String {
    let centiseconds = fs::read_to_string("/proc/sys/vm/dirty_expire_centisecs").ok();
    let seconds = centiseconds.and_then(|text| text.trim().parse::<u64>().ok()).map(|number| number / 100);
    seconds.map_or_else(
        || "what the system has not written yet".to_owned(),
        |seconds| format!("the last {seconds} s, or more"),
    )
}

fn time(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

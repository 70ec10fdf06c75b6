//! `replay SCHEDULE`: the events of a schedule, one per line. Without `--full`, consecutive fires share a line.

use std::io;

use cloacina_engine::core::codec::decode_schedule_label;
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::schedule::ScheduleEvent;
use cloacina_store::log::StreamEntry;

use super::columns::{Cell, Column, Table};
use super::failure::{Failure, code};
use super::header;
use super::screen::{Screen, Times};
use super::style::Tone;
use super::target::{TargetLog, next_command};
use super::text;
use crate::ids::short;
use crate::json::document::Object;
use crate::json::schedules::ScheduleEntryJson;
use crate::schedules::{self, ScheduleEntry, events};

/// The schedule that a command is about.
pub struct Schedule {
    /// The log that contains it.
    pub log: TargetLog,
    /// Its entry in the index.
    pub entry: StreamEntry,
}

impl Schedule {
    fn id(&self) -> ExecutionId {
        ExecutionId(*self.entry.stream.as_bytes())
    }

    /// Writes the events of the schedule, and returns the exit code.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write(
        &self,
        screen: &mut Screen<'_>,
        err: &mut dyn io::Write,
        (full, json): (bool, bool),
    ) -> Result<i32, Failure> {
        let location = self.log.path.display().to_string();
        if json {
            let mut object = Object::begin(screen.out, "schedule")?;
            object.member("log", &location)?;
            object.member("id", &self.id().to_string())?;
            let all = events(&*self.log.reader, &self.entry);
            object.list("events", all.map(|happened| Ok::<_, Failure>(ScheduleEntryJson::new(&happened?)?)))?;
            object.end()?;
            return Ok(code::OK);
        }
        self.header(screen)?;
        header::read_from(screen, &location)?;
        header::warn_if_ahead(screen, &*self.log.reader)?;
        screen.line("")?;
        let heading = if screen.times == Some(Times::Utc) { "time (UTC)" } else { "time" };
        let columns = vec![Column::right("seq"), Column::left(heading), Column::shrinking("what", 16)];
        let mut table = Table::new(columns, 1);
        let mut fires = Fires::default();
        for happened in events(&*self.log.reader, &self.entry) {
            let happened = match happened {
                Ok(happened) => happened,
                Err(error) => {
                    fires.write(&mut table, screen);
                    table.write(screen)?;
                    return Err(error.into());
                }
            };
            if !full && matches!(happened.event, Ok(ScheduleEvent::Fired(_))) {
                fires.0.push(happened);
                continue;
            }
            fires.write(&mut table, screen);
            row(&mut table, screen, &happened);
        }
        let last = fires.write(&mut table, screen);
        table.write(screen)?;
        screen.out.flush()?;
        let next = last.map_or_else(|| "list".to_owned(), short);
        writeln!(err, "\nhint: {}", next_command(&next, "", &self.log.option))?;
        Ok(code::OK)
    }

    /// Writes the header, from the index entry.
    fn header(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let state = match decode_schedule_label(&self.entry.label) {
            Ok(label) => {
                let next = match label.next {
                    Some(next) => format!("next at {}", screen.date(next)),
                    None => "will not fire".to_owned(),
                };
                let (workflow, expression) = (text::clean(&label.workflow), text::clean(&label.expression));
                let (zone, catchup) = (text::clean(&label.timezone), label.catchup.name());
                format!("{workflow}  {expression} ({zone})  catch-up {catchup}  {next}")
            }
            Err(error) => format!("cannot read its label: {error}"),
        };
        let count = text::count(self.entry.records, "event");
        screen.line(&format!("schedule …{}  {state}  {count}", short(self.id())))
    }
}

/// Consecutive fires.
#[derive(Default)]
struct Fires(Vec<ScheduleEntry>);

impl Fires {
    /// Writes the fires as one row, and returns the execution that was started last.
    fn write(&mut self, table: &mut Table, screen: &Screen<'_>) -> Option<ExecutionId> {
        let fires = std::mem::take(&mut self.0);
        let fired = |happened: &ScheduleEntry| match &happened.event {
            Ok(ScheduleEvent::Fired(fired)) => Some(fired.clone()),
            _ => None,
        };
        let (first, last) = (fires.first()?, fires.last()?);
        let (from, to) = (fired(first)?, fired(last)?);
        if first.seq == last.seq {
            row(table, screen, first);
        } else {
            table.row(vec![
                Cell::new(format!("{}-{}", first.seq, last.seq)),
                Cell::new(screen.date(first.time)),
                Cell::new(format!("fired {} times", fires.len())),
            ]);
            let (first, last) = (screen.date(from.scheduled), screen.date(to.scheduled));
            let ids = [from.execution, to.execution].map(short);
            table.note(Tone::Plain, format!("for {first} to {last}: …{} to …{}", ids[0], ids[1]));
        }
        Some(to.execution)
    }
}

fn row(table: &mut Table, screen: &Screen<'_>, happened: &ScheduleEntry) {
    let (tone, what, details) = match &happened.event {
        Ok(event) => {
            let tone = if matches!(event, ScheduleEvent::Skipped(_)) { Tone::Warning } else { Tone::Plain };
            (tone, schedules::word(event), schedules::says(event, |time| screen.date(time)))
        }
        Err(why) => (Tone::Bad, "cannot be read", why.clone()),
    };
    table.row(vec![
        Cell::new(happened.seq.to_string()),
        Cell::new(screen.date(happened.time)),
        Cell::new(what).tone(tone),
    ]);
    table.note(tone, text::clean(&details));
}

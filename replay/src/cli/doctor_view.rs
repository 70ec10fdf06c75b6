//! `replay doctor`: the log's storage and environment.

use std::io;
use std::path::Path;
use std::time::Duration;

use cloacina_store::doctor::Holder;
use cloacina_store::log::{Durability, LogReader, OpenError};

use super::failure::{Failure, code};
use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::doctor::{About, DoctorError, DoctorReport, look, os_window};
use crate::json::document::Object;
use crate::json::log::DoctorJson;

/// Examines the log at an absolute path and writes the findings. The output calls the log `location`.
///
/// # Errors
/// [`Failure`] if there is no log.
pub fn write(
    screen: &mut Screen<'_>,
    (path, location): (&Path, &str),
    opened: Result<Box<dyn LogReader>, OpenError>,
    json: bool,
) -> Result<i32, Failure> {
    let ground = look(path, opened, screen.now).map_err(|unfit| match unfit {
        DoctorError::Open(error) => Failure::open(&error),
        DoctorError::Read(error) => error.into(),
    })?;
    if json {
        let mut object = Object::begin(screen.out, "doctor")?;
        object.member("log", &location)?;
        object.member("ground", &DoctorJson::from(&ground))?;
        object.end()?;
        return Ok(code::OK);
    }
    let mut lines = Lines { screen, ground: &ground };
    lines.line("log", location)?;
    lines.disk()?;
    lines.holder()?;
    lines.content()?;
    screen.line("")?;
    match ground.warnings.len() as u64 {
        0 => screen.line("no problems found")?,
        count => screen.line(&text::count(count, "warning"))?,
    }
    Ok(code::OK)
}

struct Lines<'a, 'b> {
    screen: &'a mut Screen<'b>,
    ground: &'a DoctorReport,
}

impl Lines<'_, '_> {
    fn line(&mut self, name: &str, what: &str) -> io::Result<()> {
        self.screen.line(&format!("{}  {}", text::pad(name, 12), text::clean(what)))
    }

    fn warnings(&mut self, about: About) -> io::Result<()> {
        for warning in self.ground.warnings.iter().filter(|warning| warning.about == about) {
            self.screen.paragraph(14, Tone::Warning, &format!("warning: {}", text::clean(&warning.text)))?;
        }
        Ok(())
    }

    fn disk(&mut self) -> io::Result<()> {
        let diagnosis = &self.ground.diagnosis;
        let (files, index) = (text::size(diagnosis.files), text::size(diagnosis.index));
        self.line("files", &format!("{files}, {index} of them in the index"))?;
        let disk = &diagnosis.file_system;
        self.line(
            "file system",
            &format!("{}, {} free of {}", disk.kind, text::size(disk.free), text::size(disk.size)),
        )?;
        self.warnings(About::FileSystem)?;
        let sync = match &diagnosis.sync {
            Ok(cost) => format!("{} median, {} maximum, for 4 KB", time(cost.median), time(cost.longest)),
            Err(why) => format!("could not be measured: {why}"),
        };
        self.line("a sync", &sync)?;
        self.warnings(About::Sync)
    }

    fn holder(&mut self) -> io::Result<()> {
        match &self.ground.diagnosis.holder {
            None => self.line("held by", "no process; it was closed properly"),
            Some(Holder { pid, host, holds: true, answers }) => {
                self.line("held by", &format!("process {pid} on host {host}"))?;
                if answers.is_ok() {
                    self.line("socket", "answers readers")?;
                }
                self.warnings(About::Holder)
            }
            Some(Holder { pid, host, .. }) => {
                self.line("held by", &format!("no process; process {pid} on host {host} died without closing it"))?;
                self.line("socket", "a stale socket; the next process that opens the log removes it")
            }
        }
    }

    fn content(&mut self) -> io::Result<()> {
        let Some(content) = self.ground.content else { return self.warnings(About::Content) };
        let durability = match self.ground.durability {
            None => "unknown".to_owned(),
            Some(Durability::Sync) => "sync: a power cut loses no acknowledged event".to_owned(),
            Some(Durability::Interval(milliseconds)) => {
                format!("interval: a power cut can lose the last {milliseconds} ms, plus the time of one sync")
            }
            Some(Durability::Os) => {
                let loss = os_window().map_or_else(
                    || "everything that the system has not written yet".to_owned(),
                    |seconds| format!("the last {seconds} s or more"),
                );
                format!("os: a power cut can lose {loss}")
            }
        };
        self.line("durability", &durability)?;
        self.warnings(About::Durability)?;
        self.warnings(About::Clock)?;
        let executions = text::count(content.executions, "execution");
        let records = text::count(content.records, "record");
        self.line("holds", &format!("{executions}, {} unfinished, {records}", content.unfinished))?;
        self.warnings(About::Execution)?;
        match content.oldest {
            Some(oldest) => {
                let date = self.screen.date(oldest);
                self.line("oldest", &date)
            }
            None => Ok(()),
        }
    }
}

fn time(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

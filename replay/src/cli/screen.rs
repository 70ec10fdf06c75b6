//! Output for a terminal: writes lines and paragraphs, and formats times.

use std::io::{self, Write};

use chrono::{Local, TimeZone};
use clap::ValueEnum;
use cloacina_engine::core::time::Timestamp;

use super::style::{Style, Tone};
use super::text;

/// How to show times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Times {
    /// In the local time zone
    Local,
    /// In UTC
    Utc,
    /// As the time since the start of the execution; in lists, as an age
    Relative,
}

/// An output with a width, colours, and a format for times.
pub struct Screen<'a> {
    /// The writer.
    pub out: &'a mut dyn Write,
    /// The width in columns.
    pub width: usize,
    /// The colours.
    pub style: Style,
    /// How to show times; `None` is the default of each view.
    pub times: Option<Times>,
    /// The current time.
    pub now: Timestamp,
}

impl Screen<'_> {
    /// Writes a line.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", line.trim_end())
    }

    /// Writes a text, wrapped to the width. Lines are indented by `indent` columns, all but the first by two more.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn paragraph(&mut self, indent: usize, tone: Tone, text: &str) -> io::Result<()> {
        let columns = self.width.saturating_sub(indent + 2).max(20);
        for (number, line) in text::wrap(text, columns).iter().enumerate() {
            let indent = if number == 0 { indent } else { indent + 2 };
            let painted = self.style.paint(tone, line);
            self.line(&format!("{}{painted}", " ".repeat(indent)))?;
        }
        Ok(())
    }

    /// Formats a time within an execution that began at `start`.
    #[must_use]
    pub fn moment(&self, time: Timestamp, start: Timestamp) -> String {
        match self.times {
            None | Some(Times::Relative) => text::span(time.micros_since(start)),
            Some(Times::Utc) => clock(time, false, "%H:%M:%S%.3f"),
            Some(Times::Local) => clock(time, true, "%H:%M:%S%.3f"),
        }
    }

    /// Returns the heading for a column of [`Screen::moment`]s.
    #[must_use]
    pub fn moments(&self) -> &'static str {
        match self.times {
            None | Some(Times::Relative) => "+time",
            Some(Times::Utc) => "time (UTC)",
            Some(Times::Local) => "time",
        }
    }

    /// Returns the heading for a column of [`Screen::date`]s.
    #[must_use]
    pub fn dates(&self) -> &'static str {
        if self.times == Some(Times::Utc) { "started (UTC)" } else { "started" }
    }

    /// Formats a time with its date.
    #[must_use]
    pub fn date(&self, time: Timestamp) -> String {
        match self.times {
            Some(Times::Relative) => format!("{} ago", text::span(self.now.micros_since(time))),
            Some(Times::Utc) => clock(time, false, "%Y-%m-%d %H:%M:%S"),
            None | Some(Times::Local) => clock(time, true, "%Y-%m-%d %H:%M:%S"),
        }
    }
}

fn clock(time: Timestamp, local: bool, format: &str) -> String {
    let Some(utc) = crate::time::utc(time) else { return format!("{} us", time.0) };
    if local {
        Local.from_utc_datetime(&utc.naive_utc()).format(format).to_string()
    } else {
        utc.format(format).to_string()
    }
}

//! The screen: where lines go, how wide it is, how times are shown.

use std::io::{self, Write};

use chrono::{Local, TimeZone};
use clap::ValueEnum;
use cloacina_engine::core::time::Timestamp;

use super::style::{Style, Tone};
use super::text;

/// How times are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Times {
    /// In the time zone of this computer
    Local,
    /// In UTC
    Utc,
    /// As seconds since the start of the execution, or as an age in the list
    Relative,
}

/// Where lines go.
pub struct Screen<'a> {
    /// Where data goes.
    pub out: &'a mut dyn Write,
    /// How wide it is.
    pub width: usize,
    /// Colours.
    pub style: Style,
    /// How times are shown; `None` is each view's own way.
    pub times: Option<Times>,
    /// What time it is.
    pub now: Timestamp,
}

impl Screen<'_> {
    /// Writes a line.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", line.trim_end())
    }

    /// Writes a text in as many lines as it takes, each with `indent` before it, the later ones with two columns more.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn paragraph(&mut self, indent: usize, tone: Tone, text: &str) -> io::Result<()> {
        let columns = self.width.saturating_sub(indent + 2).max(20);
        for (number, line) in text::wrap(text, columns).iter().enumerate() {
            let indent = if number == 0 { indent } else { indent + 2 };
            let painted = self.style.paint(tone, line);
            self.line(&format!("{}{painted}", " ".repeat(indent)))?;
        }
        Ok(())
    }

    /// A moment of an execution that began at `start`.
    #[must_use]
    pub fn moment(&self, time: Timestamp, start: Timestamp) -> String {
        match self.times {
            None | Some(Times::Relative) => text::span(time.micros_since(start)),
            Some(Times::Utc) => clock(time, false, "%H:%M:%S%.3f"),
            Some(Times::Local) => clock(time, true, "%H:%M:%S%.3f"),
        }
    }

    /// The heading of a column of [`Screen::moment`]s.
    #[must_use]
    pub fn moments(&self) -> &'static str {
        match self.times {
            None | Some(Times::Relative) => "+time",
            Some(Times::Utc) => "time (UTC)",
            Some(Times::Local) => "time",
        }
    }

    /// The heading of a column of [`Screen::date`]s.
    #[must_use]
    pub fn dates(&self) -> &'static str {
        if self.times == Some(Times::Utc) { "started (UTC)" } else { "started" }
    }

    /// A time with its date.
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

//! Finds the log and the executions that a command line names, and parses its times.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime};
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::ids::{NotFound, resolve, short};
use cloacina_replay::logs::choose;
use cloacina_replay::source::{self, Head, Wanted};
use cloacina_store::log::LogReader;

use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

const SECOND: i64 = 1_000_000;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age {
    micros: i64,
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid age '{text}': expected a number and s, m, h, d or w, as in 90d");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(wrong()),
        };
        let number: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
        Ok(Self { micros: i64::from(number) * seconds * SECOND })
    }
}

impl Age {
    /// Returns the time that lies this age before `now`.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.micros))
    }
}

/// A point in time: a date, a time, or an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(Age),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(Timestamp(time.timestamp_micros())));
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::At(Timestamp(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros())));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!(
                "invalid time '{text}': expected a date (2026-11-01, in UTC), a time (2026-11-01T12:00:00Z), or an age \
                 (90d)"
            )
        })
    }
}

impl Moment {
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => age.before(now),
        }
    }
}

/// Returns the path of the log: `option`, or the default log.
pub(crate) fn log(option: Option<&Path>, env: &Surroundings<'_>) -> Result<PathBuf, Failure> {
    let logs = choose(option, env.variable, &env.directory)
        .map_err(|error| Failure::usage(error.to_string(), "cloaca log --log PATH …"))?;
    let first = logs.paths.into_iter().next().unwrap_or_default();
    Ok(env.directory.join(first))
}

/// Finds an execution by an id, or by a unique prefix or suffix of it.
pub(crate) fn execution(reader: &dyn LogReader, text: &str) -> Result<Head, Failure> {
    let id = resolve(reader, text).map_err(|error| match error {
        NotFound::Log(error) => error.into(),
        NotFound::NoId(_) => Failure::usage(error.to_string(), "replay list"),
        NotFound::Unknown { .. } => {
            Failure::new(code::NOT_FOUND, format!("no execution '{text}' in {}", reader.location()), "replay list")
        }
        NotFound::Ambiguous { candidates, .. } => {
            let ids: Vec<String> = candidates.iter().map(|head| head.id.to_string()).collect();
            Failure::new(
                code::NOT_FOUND,
                format!("'{text}' matches several executions: {}", ids.join(", ")),
                "replay list",
            )
        }
    })?;
    Ok(source::head(reader, id)?)
}

/// Lists the finished executions that match `wanted`, newest first; only those that ended before `before`, if given.
pub(crate) fn finished(
    reader: &dyn LogReader,
    wanted: &Wanted,
    before: Option<Timestamp>,
) -> Result<Vec<Head>, Failure> {
    let (heads, _) = source::list(reader, wanted)?;
    let has_ended = |head: &Head| match (head.ended(), before) {
        (Some(ended), Some(before)) => ended < before,
        (ended, _) => ended.is_some(),
    };
    Ok(heads.into_iter().filter(|head| !head.entry.open && has_ended(head)).collect())
}

/// Formats an execution as one line of a list.
pub(crate) fn line(head: &Head) -> String {
    use cloacina_replay::cli::text;
    let ended = head.ended().and_then(cloacina_replay::time::utc);
    let ended = ended.map_or_else(|| "unfinished".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string());
    format!(
        "  {}  {}  {}  {ended}  {}, {}",
        head.id,
        text::clean(head.workflow()),
        head.status(),
        text::count(head.entry.records, "event"),
        text::size(head.entry.bytes)
    )
}

/// Returns the short id of an execution, for use in hints.
pub(crate) fn name(id: ExecutionId) -> String {
    short(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_three_ways() {
        let now = Timestamp(1_795_490_530_000_000);
        let at = |text: &str| text.parse::<Moment>().unwrap().resolve(now).0;
        assert_eq!(at("1970-01-02"), 86_400_000_000);
        assert_eq!(at("1970-01-01T01:00:00+01:00"), 0);
        assert_eq!(at("2h"), now.0 - 7_200_000_000);
        assert_eq!(at("1w"), now.0 - 604_800_000_000);
        for wrong in ["", "d", "5", "5y", "-3d", "yesterday", "ä", "2026-13-01"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}

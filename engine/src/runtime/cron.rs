//! Cron expressions in a time zone.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::core::graph::nearest;
use crate::core::schedule::Calendar;
use crate::core::time::Timestamp;

/// A cron expression in a time zone.
///
/// Five fields (minute, hour, day of month, month, day of week), six with the second first, or one of `@yearly
/// @annually @monthly @weekly @daily @midnight @hourly`. If both days are given, a date has to match only one of them.
/// Names (`MON`, `JAN`), ranges, lists, steps, `L` (last), `#` (the n-th weekday of the month) and `W` (the nearest
/// working day) are those of the [Open Cron Pattern Specification](https://github.com/open-source-cron/ocps).
///
/// **Daylight saving time.** An expression with one fixed time of day (`30 2 * * *`) fires once on every such day:
/// right after the missing hour if its time falls into it, and at the first occurrence if its time occurs twice. Any
/// other expression (`*/15 * * * *`, `0 1,2 * * *`) follows local time: it skips the missing hour and fires in both
/// passes of the repeated one. On a day that a zone skips entirely (30 December 2011 in Samoa), nothing fires.
///
/// ```
/// use cloacina_engine::core::schedule::Calendar;
/// use cloacina_engine::core::time::Timestamp;
/// use cloacina_engine::runtime::cron::CronExpression;
/// // 02:30 is missing in Berlin on 29 March 2026: it fires at 03:00, which is 01:00 UTC.
/// let half_past_two = CronExpression::parse("30 2 * * *", "Europe/Berlin")?;
/// let noon_before = Timestamp(1_774_695_600_000_000); // 2026-03-28T11:00:00Z
/// assert_eq!(half_past_two.next_after(noon_before), Some(Timestamp(1_774_746_000_000_000)));
/// assert!(CronExpression::parse("61 * * * *", "UTC").is_err());
/// assert!(CronExpression::parse("@daily", "Europe/Berlinn").is_err());
/// # Ok::<(), cloacina_engine::runtime::cron::CronError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CronExpression {
    expression: Arc<str>,
    timezone: Arc<str>,
    cron: Cron,
    zone: Tz,
}

/// Why a cron expression or a time zone is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression is invalid.
    #[error(
        "invalid cron expression '{expression}': {why}; it has 5 fields (minute, hour, day of month, month, day of week) or 6 with the second first, or is a word like @daily"
    )]
    Expression {
        /// The expression.
        expression: String,
        /// Why.
        why: String,
    },
    /// The time zone is unknown.
    #[error(
        "unknown time zone '{timezone}'{}; use a name of the IANA database, like UTC or Europe/Berlin{}",
        .nearest.map(|name| format!(", did you mean '{name}'?")).unwrap_or_default(),
        if .nearest.is_some_and(|name| name.starts_with("Etc/")) { " (the sign is inverted in Etc/GMT names)" } else { "" }
    )]
    TimeZone {
        /// The name.
        timezone: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
    },
}

/// Maximum length in bytes. Expressions are stored in the listing.
const LONGEST: usize = 1_000;

impl CronExpression {
    /// Parses an expression and a time zone.
    ///
    /// # Errors
    /// See [`CronError`].
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, CronError> {
        let wrong = |why: String| CronError::Expression { expression: expression.chars().take(100).collect(), why };
        if expression.len() > LONGEST {
            return Err(wrong(format!("it is longer than {LONGEST} bytes")));
        }
        // croner accepts it as a field that nothing matches, and then searches thousands of years.
        if let Some(field) = expression.split_whitespace().find(|field| field.bytes().all(|byte| byte == b',')) {
            return Err(wrong(format!("the field '{field}' is an empty list")));
        }
        if expression.trim().eq_ignore_ascii_case("@reboot") {
            let why = "a schedule fires by the clock; to run a workflow when the program starts, execute it there";
            return Err(wrong(why.to_owned()));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let known = if expression.trim().eq_ignore_ascii_case("@midnight") { "@daily" } else { expression };
        let cron = parser.parse(known).map_err(|error| wrong(reason(error)))?;
        let zone = Tz::from_str(timezone).map_err(|_| CronError::TimeZone {
            timezone: timezone.chars().take(100).collect(),
            nearest: nearest_zone(timezone),
        })?;
        Ok(Self { expression: expression.trim().into(), timezone: timezone.into(), cron, zone })
    }

    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &Arc<str> {
        &self.expression
    }

    /// The time zone.
    #[must_use]
    pub fn timezone(&self) -> &Arc<str> {
        &self.timezone
    }
}

impl Calendar for CronExpression {
    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.search(time, false);
        let next = match found {
            Some(next) => next,
            // UTC skips no days: if a match exists there, one exists in this zone, too.
            None => {
                self.cron.find_next_occurrence(&utc(time)?, false).ok()?;
                self.after_gap(time)?
            }
        };
        // Never go back, whatever the zone's rules: the fold would reject it.
        (next > time).then_some(next)
    }
}

impl CronExpression {
    /// Finds the first match after `from`. `None` if there is none, or if the search reaches a day that the zone skips:
    /// croner handles a missing hour, but fails on a missing day.
    fn search(&self, from: Timestamp, inclusive: bool) -> Option<Timestamp> {
        let start = utc(from)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&start, inclusive).ok()?;
        Some(Timestamp(next.timestamp_micros()))
    }

    /// Searches past a day that the zone skips, from the beginning of the next day.
    fn after_gap(&self, time: Timestamp) -> Option<Timestamp> {
        let lands_in_gap = |from: i64| self.search(Timestamp(from), true).is_none();
        let (mut before, mut step) = (time.0, DAY);
        let mut after = time.0.checked_add(step)?;
        while lands_in_gap(after) {
            before = after;
            step = step.checked_mul(2).filter(|step| *step < LONGEST_SEARCH)?;
            after = after.checked_add(step)?;
        }
        // The zone's rules change at a whole second.
        while after - before > SECOND {
            let middle = before + (after - before) / 2;
            *(if lands_in_gap(middle) { &mut before } else { &mut after }) = middle;
        }
        let day_begins = after - after.rem_euclid(SECOND);
        self.search(Timestamp(day_begins), true)
    }
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3_600 * SECOND;
/// How far to search for a skipped day. No expression has a longer interval between matches.
const LONGEST_SEARCH: i64 = 64 * 366 * DAY;

/// The parser's message without its own prefix for the kind of error.
fn reason(error: croner::errors::CronError) -> String {
    use croner::errors::CronError as Why;
    let text = match error {
        Why::InvalidPattern(text) | Why::IllegalCharacters(text) | Why::ComponentError(text) => text,
        Why::EmptyPattern => "it is empty".to_owned(),
        other => other.to_string(),
    };
    text.trim_end_matches('.').to_owned()
}

fn nearest_zone(name: &str) -> Option<&'static str> {
    let known = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let same = known().find(|zone| zone.eq_ignore_ascii_case(name));
    same.or_else(|| offset_zone(name)).or_else(|| nearest(name, known()))
}

/// The zone of a fixed offset written as `GMT+2` or `UTC+02:00`. Its IANA name has the opposite sign.
fn offset_zone(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let offset = name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC")).unwrap_or(&name).trim();
    let (sign, hours) = match offset.split_at_checked(1)? {
        ("+", hours) => ('-', hours),
        ("-", hours) => ('+', hours),
        _ => return None,
    };
    let hours: u8 = hours.strip_suffix(":00").unwrap_or(hours).parse().ok()?;
    let wanted = format!("Etc/GMT{sign}{hours}");
    TZ_VARIANTS.iter().map(|zone| zone.name()).find(|zone| *zone == wanted)
}

fn utc(time: Timestamp) -> Option<DateTime<Utc>> {
    Utc.timestamp_micros(time.0).single()
}

/// Formats a time in UTC as `datetime.isoformat` does, for programs that parse it with any Python's
/// `datetime.fromisoformat`, which accepts no `Z` before 3.11: `2026-03-29T01:00:00+00:00`.
#[must_use]
pub fn isoformat(time: Timestamp) -> String {
    utc(time).map_or_else(|| time.0.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false))
}

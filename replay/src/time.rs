//! Conversion of times to text and back.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use cloacina_engine::core::time::Timestamp;

/// Formats a time as RFC 3339 in UTC, to the microsecond. A time outside the years 0 to 9999, which RFC 3339 cannot
/// express, is written as its microseconds: `253402300800000000 us`.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    match utc(time).filter(|time| (0..=9999).contains(&time.year())) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{} us", time.0),
    }
}

/// Parses the output of [`rfc3339`].
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if let Some(micros) = text.strip_suffix(" us") {
        return micros.parse().ok().map(Timestamp);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp(time.timestamp_micros()))
}

/// Returns a time as a calendar date; `None` if it is outside the calendar's range.
#[must_use]
pub fn utc(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression test: a time before the year 0 or after 9999 was written as a date that could not be parsed again.
    #[test]
    fn every_time_reads_again_as_it_was_written() {
        for micros in
            [i64::MIN, -1_223_372_036_854_775_808, -1, 0, 253_402_300_799_999_999, 253_402_300_800_000_000, i64::MAX]
        {
            let time = Timestamp(micros);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "{}", rfc3339(time));
        }
        assert_eq!(rfc3339(Timestamp(253_402_300_800_000_000)), "253402300800000000 us");
    }
}

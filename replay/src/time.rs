//! Times as text.

use chrono::{DateTime, SecondsFormat, Utc};
use cloacina_engine::core::time::Timestamp;

/// A time as RFC 3339 in UTC, to the microsecond. A time that no calendar has is written as its microseconds.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    match utc(time) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{} us", time.0),
    }
}

/// The time that [`rfc3339`] wrote.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if let Some(micros) = text.strip_suffix(" us") {
        return micros.parse().ok().map(Timestamp);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp(time.timestamp_micros()))
}

/// A time in the calendar.
#[must_use]
pub fn utc(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(time.0)
}

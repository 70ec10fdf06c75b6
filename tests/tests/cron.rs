//! Cron expressions in time zones: at clock changes, and compared with a model that checks every minute.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use cloacina_engine::core::schedule::Calendar;
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::cron::{CronExpression, isoformat};
use proptest::collection::btree_set;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<DateTime<Utc>>().unwrap().timestamp_micros())
}

/// The next fires after a time, in local time of the zone.
fn next(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = CronExpression::parse(expression, zone).unwrap();
    let local = |time: Timestamp| {
        let zone: Tz = zone.parse().unwrap();
        Utc.timestamp_micros(time.0).unwrap().with_timezone(&zone).format("%d %H:%M:%S %Z").to_string()
    };
    let fires = std::iter::successors(cron.next_after(at(after)), |time| cron.next_after(*time));
    fires.take(count).map(local).collect()
}

/// Regression: Samoa had no 30 December 2011, Kwajalein no 21 August 1993. A schedule there silently ended on the day before.
#[test]
fn a_day_that_a_zone_skips_ends_no_schedule() {
    let days = |fires: Vec<String>| fires.iter().map(|fire| fire[..8].to_owned()).collect::<Vec<_>>();
    let fires = next("30 2 * * *", "Pacific/Apia", "2011-12-29T11:00:00Z", 3);
    assert_eq!(days(fires), ["29 02:30", "31 02:30", "01 02:30"]);
    let fires = next("0 */8 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", 4);
    assert_eq!(days(fires), ["29 16:00", "31 00:00", "31 08:00", "31 16:00"]);
    for (zone, after) in [("Pacific/Apia", "2011-11-20T00:00:00Z"), ("Pacific/Kwajalein", "1993-07-10T00:00:00Z")] {
        for expression in
            ["30 2 * * *", "*/20 * * * *", "15 6,18 * * *", "0 0 30 * *", "0 0 21 8 *", "0 12 * * FRI", "@yearly"]
        {
            assert_eq!(next(expression, zone, after, 60).len(), 60, "{expression} in {zone}");
        }
    }
    let never = CronExpression::parse("0 0 30 2 *", "Pacific/Apia").unwrap();
    assert_eq!(never.next_after(at("2011-12-29T00:00:00Z")), None);
}

#[test]
fn expressions_have_five_or_six_fields_or_are_words() {
    let cases = [
        ("30 2 * * *", "2026-06-01T00:00:00Z", "2026-06-01T02:30:00+00:00"),
        ("15 30 2 * * *", "2026-06-01T00:00:00Z", "2026-06-01T02:30:15+00:00"),
        ("*/10 * * * * *", "2026-06-01T00:00:05Z", "2026-06-01T00:00:10+00:00"),
        ("0 9 * * MON-FRI", "2026-06-05T10:00:00Z", "2026-06-08T09:00:00+00:00"),
        ("0 0 1 JAN *", "2026-06-05T10:00:00Z", "2027-01-01T00:00:00+00:00"),
        ("0 0 L * *", "2026-02-05T10:00:00Z", "2026-02-28T00:00:00+00:00"),
        ("0 0 * * 7", "2026-06-05T10:00:00Z", "2026-06-07T00:00:00+00:00"),
        ("0 0 13 * FRI", "2026-06-06T10:00:00Z", "2026-06-12T00:00:00+00:00"),
        ("0 0 29 2 *", "2026-06-06T10:00:00Z", "2028-02-29T00:00:00+00:00"),
        ("@hourly", "2026-06-05T10:00:00Z", "2026-06-05T11:00:00+00:00"),
        ("@daily", "2026-06-05T10:00:00Z", "2026-06-06T00:00:00+00:00"),
        ("@midnight", "2026-06-05T10:00:00Z", "2026-06-06T00:00:00+00:00"),
        ("@weekly", "2026-06-05T10:00:00Z", "2026-06-07T00:00:00+00:00"),
        ("@monthly", "2026-06-05T10:00:00Z", "2026-07-01T00:00:00+00:00"),
        ("@yearly", "2026-06-05T10:00:00Z", "2027-01-01T00:00:00+00:00"),
        ("@annually", "2026-06-05T10:00:00Z", "2027-01-01T00:00:00+00:00"),
    ];
    for (expression, after, expected) in cases {
        let found = CronExpression::parse(expression, "UTC").unwrap().next_after(at(after));
        assert_eq!(found.map(isoformat).as_deref(), Some(expected), "{expression}");
    }
}

#[test]
fn a_fire_is_later_than_the_given_moment() {
    let cron = CronExpression::parse("* * * * *", "UTC").unwrap();
    let noon = at("2026-06-01T12:00:00Z");
    let minute = 60_000_000;
    assert_eq!(cron.next_after(Timestamp(noon.0 - 1)), Some(noon));
    assert_eq!(cron.next_after(noon), Some(Timestamp(noon.0 + minute)));
    assert_eq!(cron.next_after(Timestamp(noon.0 + 1)), Some(Timestamp(noon.0 + minute)));
}

#[test]
fn an_invalid_expression_or_zone_is_refused_with_the_reason() {
    for wrong in [
        "",
        "*",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 32 * *",
        "* * * 13 *",
        "a b c d e",
        "@often",
        "*/0 * * * *",
        "5-1 * * * *",
    ] {
        let error = CronExpression::parse(wrong, "UTC").unwrap_err().to_string();
        assert!(error.starts_with(&format!("invalid cron expression '{wrong}': ")), "{error}");
        assert!(error.contains("@daily"), "{error}");
    }
    let error = CronExpression::parse("@daily", "Europe/Berlinn").unwrap_err().to_string();
    assert!(error.starts_with("unknown time zone 'Europe/Berlinn', did you mean 'Europe/Berlin'?"), "{error}");
    assert!(CronExpression::parse("@daily", "").is_err());
    assert!(CronExpression::parse(&"1,".repeat(2_000), "UTC").unwrap_err().to_string().len() < 400);
    // It is valid, but never fires: creating a schedule with it is an error.
    assert_eq!(CronExpression::parse("0 0 30 2 *", "UTC").unwrap().next_after(at("2026-01-01T00:00:00Z")), None);
}

/// Regression, found by a fuzzer: the parser accepted an empty list, and searched for a matching moment for more than ten
/// seconds, on the scheduler's thread.
#[test]
fn an_empty_list_is_refused() {
    for wrong in ["0 , * 2  * *", ", * * * *", "* ,, * * *"] {
        let error = CronExpression::parse(wrong, "UTC").unwrap_err().to_string();
        assert!(error.contains("is an empty list"), "{error}");
    }
}

#[test]
fn one_fixed_time_of_day_fires_once_on_the_day_without_it() {
    let before = "2026-03-28T12:00:00Z";
    let expected = ["29 03:00:00 CEST", "30 02:30:00 CEST"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", before, 2), expected);
    let expected = ["08 03:00:00 EDT", "09 02:30:00 EDT"];
    assert_eq!(next("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2), expected);
    // This zone changes by half an hour: from 02:00 to 02:30.
    let expected = ["04 02:30:00 +11", "05 02:15:00 +11"];
    assert_eq!(next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 2), expected);
    let expected = ["08 03:00:00 NDT", "09 02:30:00 NDT"];
    assert_eq!(next("30 2 * * *", "America/St_Johns", "2026-03-07T12:00:00Z", 2), expected);
}

#[test]
fn one_fixed_time_of_day_fires_once_on_the_day_that_has_it_twice() {
    let expected = ["25 02:30:00 CEST", "26 02:30:00 CET"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2), expected);
    let expected = ["01 01:30:00 EDT", "02 01:30:00 EST"];
    assert_eq!(next("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2), expected);
    let expected = ["05 01:45:00 +11", "06 01:45:00 +1030"];
    assert_eq!(next("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", 2), expected);
}

#[test]
fn other_expressions_follow_the_wall_clock() {
    let expected = ["29 01:30:00 CET", "29 03:00:00 CEST", "29 03:30:00 CEST"];
    assert_eq!(next("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3), expected);
    let expected = ["25 02:00:00 CEST", "25 02:30:00 CEST", "25 02:00:00 CET", "25 02:30:00 CET", "25 03:00:00 CET"];
    assert_eq!(next("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 5), expected);
    let expected = ["29 01:00:00 CET", "30 01:00:00 CEST", "30 02:00:00 CEST"];
    assert_eq!(next("0 1,2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3), expected);
    let expected = ["05 01:30:00 +11", "05 01:30:00 +1030", "05 02:00:00 +1030"];
    assert_eq!(next("*/30 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 3), expected);
    assert_eq!(next("0 * * * *", "Asia/Kolkata", "2026-04-04T14:00:00Z", 1), ["04 20:00:00 IST"]);
    assert_eq!(next("0 12 * * *", "Asia/Kathmandu", "2026-04-04T14:00:00Z", 1), ["05 12:00:00 +0545"]);
}

/// A generated field: its text, and the values that it matches.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<u32>,
    is_star: bool,
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let all = move || (low..=high).collect::<BTreeSet<u32>>();
    let star = Just(Field { text: "*".to_owned(), values: all(), is_star: true });
    let step = (2..=(high - low).max(3)).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (low..=high).filter(|value| (value - low).is_multiple_of(step)).collect(),
        is_star: false,
    });
    let one = (low..=high).prop_map(|value| Field {
        text: value.to_string(),
        values: BTreeSet::from([value]),
        is_star: false,
    });
    let some = btree_set(low..=high, 2..4).prop_map(|values| Field {
        text: values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        values,
        is_star: false,
    });
    let range = (low..high).prop_flat_map(move |from| (Just(from), from + 1..=high)).prop_map(|(from, to)| Field {
        text: format!("{from}-{to}"),
        values: (from..=to).collect(),
        is_star: false,
    });
    prop_oneof![3 => star, 2 => step, 4 => one, 2 => some, 1 => range]
}

#[derive(Clone, Debug)]
struct Expression {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Expression {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day, &self.month, &self.weekday].map(|field| field.text.clone()).join(" ")
    }

    fn meets_day(&self, local: NaiveDateTime) -> bool {
        let day = self.day.values.contains(&local.day());
        let weekday = self.weekday.values.contains(&local.weekday().num_days_from_sunday());
        // The rule of cron: if both are given, either is enough.
        let days = match (self.day.is_star, self.weekday.is_star) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        days && self.month.values.contains(&local.month())
    }

    fn meets(&self, local: NaiveDateTime) -> bool {
        self.meets_day(local)
            && self.hour.values.contains(&local.hour())
            && self.minute.values.contains(&local.minute())
    }

    fn is_one_time_of_day(&self) -> bool {
        [&self.minute, &self.hour].iter().all(|field| field.values.len() == 1 && !field.text.contains('*'))
    }

    /// Whether it fires at this minute, from the local time now, the local time a minute ago, and the first time with this local time.
    fn fires_at(&self, minute: DateTime<Utc>, zone: Tz) -> bool {
        let wall = |time: DateTime<Utc>| time.with_timezone(&zone).naive_local();
        let (local, before) = (wall(minute), wall(minute - TimeDelta::minutes(1)));
        if !self.is_one_time_of_day() {
            return self.meets(local);
        }
        let first = zone.from_local_datetime(&local).earliest().map(|time| time.with_timezone(&Utc));
        let missing =
            std::iter::successors(Some(before + TimeDelta::minutes(1)), |time| Some(*time + TimeDelta::minutes(1)));
        let mut missing = missing.take_while(|time| *time < local);
        (self.meets(local) && first == Some(minute)) || missing.any(|time| self.meets(time) && self.meets_day(local))
    }
}

fn expressions() -> impl Strategy<Value = Expression> {
    let daily = Field { text: "*".to_owned(), values: (1..=12).collect(), is_star: true };
    let month = prop_oneof![4 => Just(daily), 1 => field(1, 12)];
    (field(0, 59), field(0, 23), field(1, 31), month, field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| Expression { minute, hour, day, month, weekday })
}

/// Zones, each with days around a clock change, or ordinary days.
const ZONES: [(&str, &[&str]); 9] = [
    ("UTC", &["2026-05-05"]),
    ("Europe/Berlin", &["2026-03-28", "2026-10-24", "2027-03-27"]),
    ("America/New_York", &["2026-03-07", "2026-10-31", "2028-02-27"]),
    ("America/St_Johns", &["2026-03-07", "2026-10-31"]),
    ("Australia/Lord_Howe", &["2026-04-04", "2026-10-03"]),
    ("Pacific/Chatham", &["2026-04-04", "2026-09-26"]),
    ("Asia/Kolkata", &["2026-12-31"]),
    ("America/Santiago", &["2026-04-04", "2026-09-05"]),
    ("Atlantic/Azores", &["2026-03-28", "2026-10-24"]),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fires_are_those_of_a_check_of_every_minute(
        expression in expressions(), zone in 0..ZONES.len(), day in any::<prop::sample::Index>(), offset in 0..1_440_i64,
    ) {
        let (name, days) = ZONES[zone];
        let zone: Tz = name.parse().unwrap();
        let day = days[day.index(days.len())];
        let begin = format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(offset);
        let end = begin + TimeDelta::hours(40);
        let minutes = std::iter::successors(Some(begin + TimeDelta::minutes(1)), |time| Some(*time + TimeDelta::minutes(1)));
        let naive: Vec<_> = minutes.take_while(|time| *time <= end).filter(|time| expression.fires_at(*time, zone)).collect();

        let cron = CronExpression::parse(&expression.text(), name).unwrap();
        let fires = std::iter::successors(Some(Timestamp(begin.timestamp_micros())), |time| cron.next_after(*time)).skip(1);
        let found: Vec<_> = fires.map(|time| Utc.timestamp_micros(time.0).unwrap()).take_while(|time| *time <= end).collect();
        prop_assert_eq!(found, naive, "{} in {}", expression.text(), name);
    }
}

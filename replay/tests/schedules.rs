//! `replay SCHEDULE`: when it fired, and which times it skipped.

use crate::common::{self, Log, START, histories, id, replay};
use cloacina_engine::core::codec::{ScheduleLabel, encode_schedule_event, encode_schedule_label};
use cloacina_engine::core::schedule::{
    Catchup, ScheduleCreated, ScheduleEvent, ScheduleFired, ScheduleSkipped, SkipCause,
};
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{Batch, Frame, Listing};
use cloacina_store::record::{StreamId, StreamKind, Timestamp as StoreTime};

const SCHEDULE: u32 = 0x5c4e_d001;

fn after(seconds: i64) -> Timestamp {
    Timestamp(START + seconds * 1_000_000)
}

/// A schedule that fired twice, skipped an hour, and fired again.
fn log() -> Log {
    let log = histories::all();
    let fired = |seconds, end| {
        ScheduleEvent::Fired(ScheduleFired {
            scheduled: after(seconds),
            execution: id(end),
            next: Some(after(seconds + 60)),
        })
    };
    let events = [
        ScheduleEvent::Created(ScheduleCreated {
            name: None,
            workflow: "nightly".into(),
            expression: "* * * * *".into(),
            timezone: "UTC".into(),
            catchup: Catchup::Skip,
            input: vec![("rows".into(), common::json("12345678901234567890"))],
            next: Some(after(60)),
        }),
        fired(60, 0xf1),
        fired(120, 0xf2),
        ScheduleEvent::Skipped(ScheduleSkipped {
            first: after(180),
            until: after(3_780),
            why: SkipCause::Missed,
            next: Some(after(3_840)),
        }),
        fired(3_840, 0xf3),
    ];
    let frame = Frame {
        stream: StreamId::from_bytes(id(SCHEDULE).0),
        kind: StreamKind::Schedule,
        expected_seq: 0,
        time: StoreTime(START + 4_000_000_000),
        bodies: events.iter().map(encode_schedule_event).collect(),
        listing: Listing::Open(encode_schedule_label(&ScheduleLabel {
            workflow: "nightly".into(),
            expression: "* * * * *".into(),
            timezone: "UTC".into(),
            catchup: Catchup::Skip,
            enabled: true,
            next: Some(after(3_900)),
            last_run: Some(after(3_840)),
            created: after(0),
            updated: after(0),
        })),
    };
    log.0.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    log
}

/// Regression test: no command of replay showed the skipped times, although the log has them.
#[test]
fn the_times_that_a_schedule_skipped_are_shown() {
    let ran = replay(&log(), "5c4ed001 --time utc");
    assert_eq!(ran.code, 0, "{ran}");
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("fired 2 times for 2026-11-24 03:23:10 to 2026-11-24 03:24:10"), "{ran}");
    let skipped = "skipped times due from 2026-11-24 03:25:10 to 2026-11-24 04:25:10: no runner was running then";
    assert!(words.contains(skipped), "{ran}");
    assert!(ran.err.contains("hint: replay 000000f3"), "{ran}");
    let head = "schedule …5c4ed001  nightly  * * * * * (UTC)  catch-up skip  next at 2026-11-24 04:27:10  5 events\n";
    assert!(ran.out.starts_with(head), "{ran}");
    let full = replay(&log(), "5c4ed001 --full");
    assert_eq!(full.out.matches("fired").count(), 3, "{full}");
    // Commands for executions are refused for a schedule.
    for line in ["5c4ed001 --at 3", "5c4ed001 context", "5c4ed002"] {
        assert_eq!(replay(&log(), line).code, 3, "{line}");
    }
}

#[test]
fn it_is_told_as_json_too() {
    let ran = replay(&log(), "5c4ed001 --json");
    assert_eq!(ran.code, 0, "{ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let skipped = &json["events"][3];
    assert_eq!((&skipped["event"], &skipped["why"]), (&"ScheduleSkipped".into(), &"missed".into()));
    assert_eq!(skipped["first"], "2026-11-24T03:25:10.000000Z");
    assert!(ran.out.contains("\"rows\":12345678901234567890"), "as it was written: {ran}");
}

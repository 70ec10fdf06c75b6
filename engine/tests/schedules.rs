//! Schedules and triggers: given events, when a command, then events. A naive model checks every fire.

use std::collections::BTreeSet;

use crate::support::cases;
use cloacina_engine::core::codec;
use cloacina_engine::core::event::{ExecutionId, Request};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::schedule::*;
use cloacina_engine::core::time::{Millis, Timestamp};
use cloacina_engine::core::trigger::{self, DropCause, Pace, TriggerDefined, TriggerEvent, TriggerId};
use proptest::collection::vec;
use proptest::prelude::*;

const ID: ScheduleId = ScheduleId([9; 16]);

/// Fires at every multiple of a period.
fn every(period: i64) -> impl Fn(Timestamp) -> Option<Timestamp> {
    move |time| Some(Timestamp((time.0.div_euclid(period) + 1) * period))
}

fn created(catchup: Catchup) -> ScheduleCreated {
    ScheduleCreated {
        name: None,
        workflow: "etl".into(),
        expression: "* * * * *".into(),
        timezone: "UTC".into(),
        catchup,
        input: vec![("day".into(), Json::parse("1").unwrap())],
        next: None,
    }
}

fn new_schedule(catchup: Catchup, now: i64) -> Schedule {
    create(ID, created(catchup), &every(10), Timestamp(now)).unwrap().0
}

fn fire(attended: bool, limit: u32) -> Command {
    Command::Fire(CatchupLimits { attended, limit })
}

/// Runs a command at a time, and returns the new events as text.
fn lines_of(state: &mut Schedule, command: Command, now: i64) -> Vec<String> {
    let decision = decide(state, command, &every(10), Timestamp(now)).unwrap();
    let fires = decision.fires.iter().map(|fire| fire.scheduled);
    let fired = decision.events.iter().filter_map(|recorded| match &recorded.event {
        ScheduleEvent::Fired(fired) => Some(fired.scheduled),
        _ => None,
    });
    assert!(fires.eq(fired), "each fire starts one execution");
    let describe = |recorded: &Recorded| match &recorded.event {
        ScheduleEvent::Fired(fired) => format!("fired for {}", fired.scheduled.0),
        ScheduleEvent::Skipped(skipped) => {
            format!("skipped {} to {}: {:?}", skipped.first.0, skipped.until.0, skipped.why)
        }
        other => other.name().to_owned(),
    };
    decision.events.iter().map(describe).collect()
}

#[test]
fn a_schedule_fires_once_for_each_time() {
    let mut state = new_schedule(Catchup::Skip, 5);
    assert_eq!(lines_of(&mut state, fire(true, 0), 9), [""; 0]);
    assert_eq!(lines_of(&mut state, fire(true, 0), 10), ["fired for 10"]);
    assert_eq!(lines_of(&mut state, fire(true, 0), 10), [""; 0]);
    assert_eq!(lines_of(&mut state, fire(true, 0), 23), ["fired for 20"]);
    assert_eq!((state.next(), state.last_run()), (Some(Timestamp(30)), Some(Timestamp(23))));
}

#[test]
fn what_nobody_was_there_for_is_skipped_or_caught_up_with_as_asked() {
    let mut skip = new_schedule(Catchup::Skip, 0);
    assert_eq!(lines_of(&mut skip, fire(false, 100), 45), ["skipped 10 to 45: Missed"]);
    assert_eq!(lines_of(&mut skip, fire(true, 100), 50), ["fired for 50"]);

    let mut run_all = new_schedule(Catchup::RunAll, 0);
    assert_eq!(lines_of(&mut run_all, fire(false, 100), 35), ["fired for 10", "fired for 20", "fired for 30"]);

    let mut limited = new_schedule(Catchup::RunAll, 0);
    let expected = ["fired for 10", "fired for 20", "skipped 30 to 55: LimitReached { limit: 2 }"];
    assert_eq!(lines_of(&mut limited, fire(false, 2), 55), expected);
    assert_eq!(limited.next(), Some(Timestamp(60)));
}

/// An engine that was running but is late (the machine slept) fires for the first time that is due. The others depend
/// on the catch-up limit.
#[test]
fn who_is_late_still_fires_for_what_was_due_first() {
    let mut skip = new_schedule(Catchup::Skip, 0);
    assert_eq!(lines_of(&mut skip, fire(true, 100), 45), ["fired for 10", "skipped 20 to 45: Missed"]);
    let mut none = new_schedule(Catchup::RunAll, 0);
    assert_eq!(lines_of(&mut none, fire(true, 0), 25), ["fired for 10", "skipped 20 to 25: LimitReached { limit: 0 }"]);
}

#[test]
fn a_disabled_schedule_does_not_fire_and_does_not_catch_up_with_that() {
    let mut state = new_schedule(Catchup::RunAll, 0);
    assert_eq!(lines_of(&mut state, Command::Disable(Request::default()), 5), ["ScheduleDisabled"]);
    assert_eq!(lines_of(&mut state, Command::Disable(Request::default()), 5), [""; 0]);
    assert_eq!(state.next(), None);
    assert_eq!(lines_of(&mut state, fire(true, 100), 45), [""; 0]);
    assert_eq!(lines_of(&mut state, Command::Enable(Request::default()), 47), ["ScheduleEnabled"]);
    assert_eq!(lines_of(&mut state, Command::Enable(Request::default()), 47), [""; 0]);
    assert_eq!(lines_of(&mut state, fire(true, 100), 50), ["fired for 50"]);
}

#[test]
fn an_updated_schedule_fires_by_its_new_expression_only() {
    let mut state = new_schedule(Catchup::Skip, 0);
    let update = Command::Update { expression: "new".into(), timezone: "Europe/Berlin".into() };
    decide(&mut state, update, &every(100), Timestamp(5)).unwrap();
    assert_eq!((&**state.expression(), &**state.timezone()), ("new", "Europe/Berlin"));
    assert_eq!(state.next(), Some(Timestamp(100)));
    let never = |_: Timestamp| None;
    let update = Command::Update { expression: "30 feb".into(), timezone: "UTC".into() };
    let rejection = decide(&mut state, update, &never, Timestamp(6)).unwrap_err();
    assert_eq!(rejection.to_string(), "'30 feb' in UTC never fires");
    assert_eq!(&**state.expression(), "new", "a rejected command has changed nothing");
}

#[test]
fn a_deleted_schedule_takes_nothing_more() {
    let mut state = new_schedule(Catchup::Skip, 0);
    assert_eq!(lines_of(&mut state, Command::Delete(Request::default()), 5), ["ScheduleDeleted"]);
    assert_eq!(state.next(), None);
    for command in [fire(true, 1), Command::Enable(Request::default()), Command::Delete(Request::default())] {
        assert_eq!(decide(&mut state, command, &every(10), Timestamp(50)).unwrap_err(), Rejection::Deleted);
    }
}

#[test]
fn a_schedule_that_never_fires_cannot_be_made() {
    let never = |_: Timestamp| None;
    let rejection = create(ID, created(Catchup::Skip), &never, Timestamp(0)).unwrap_err();
    assert_eq!(rejection.to_string(), "'* * * * *' in UTC never fires");
}

#[test]
fn a_last_time_leaves_nothing_to_come() {
    let once = |time: Timestamp| (time.0 < 10).then_some(Timestamp(10));
    let (mut state, _) = create(ID, created(Catchup::Skip), &once, Timestamp(0)).unwrap();
    decide(&mut state, fire(true, 0), &once, Timestamp(10)).unwrap();
    assert_eq!((state.next(), state.fires()), (None, 1));
}

#[test]
fn the_execution_of_a_fire_follows_from_the_schedule_and_the_time() {
    let time = Timestamp(1_774_746_000_000_000);
    let id = execution_of_fire(ID, time);
    assert_eq!(id, execution_of_fire(ID, time));
    assert_ne!(id, execution_of_fire(ScheduleId([8; 16]), time));
    assert_ne!(id, execution_of_fire(ID, Timestamp(time.0 + 1)));
    let text = id.to_string();
    assert_eq!(text[..13].replace('-', ""), format!("{:012x}", time.0 / 1_000), "a UUIDv7 of that millisecond");
    assert_eq!(&text[14..15], "7");
    assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
}

/// Events that no engine writes.
#[test]
fn impossible_events_are_refused_by_name() {
    let state = new_schedule(Catchup::Skip, 0);
    let fired = |scheduled: i64, next: i64| {
        ScheduleEvent::Fired(ScheduleFired {
            scheduled: Timestamp(scheduled),
            execution: ExecutionId([1; 16]),
            next: Some(Timestamp(next)),
        })
    };
    let wrong = [
        (1, 10, fired(20, 30), "impossible event at seq 1: ScheduleFired is for 20, but 10 is due next"),
        (
            1,
            10,
            fired(10, 10),
            "impossible event at seq 1: ScheduleFired names a next fire time that is already covered",
        ),
        (1, 9, fired(10, 20), "impossible event at seq 1: ScheduleFired covers 10 to 10, but was recorded at 9"),
        (2, 10, fired(10, 20), "impossible event at seq 2: ScheduleFired is out of order: expected seq 1"),
        (1, -1, fired(10, 20), "impossible event at seq 1: ScheduleFired is older than the event before it"),
        (
            1,
            10,
            ScheduleEvent::Enabled(ScheduleEnabled { request: Request::default(), next: None }),
            "impossible event at seq 1: ScheduleEnabled comes while already enabled",
        ),
        (
            1,
            10,
            ScheduleEvent::Created(created(Catchup::Skip)),
            "impossible event at seq 1: ScheduleCreated occurs a second time",
        ),
    ];
    for (seq, time, event, message) in wrong {
        let recorded = Recorded { seq, time: Timestamp(time), event };
        assert_eq!(fold(Some(state.clone()), ID, &recorded).unwrap_err().to_string(), message);
    }
    let first = Recorded { seq: 0, time: Timestamp(0), event: fired(10, 20) };
    assert!(fold(None, ID, &first).unwrap_err().to_string().contains("expected ScheduleCreated"));
}

/// An action on a schedule.
#[derive(Clone, Debug)]
enum Action {
    Fire { attended: bool, limit: u32 },
    Enable,
    Disable,
    Update(i64),
}

fn actions() -> impl Strategy<Value = Vec<(i64, Action)>> {
    let action = prop_oneof![
        6 => (any::<bool>(), 0..5_u32).prop_map(|(attended, limit)| Action::Fire { attended, limit }),
        1 => Just(Action::Enable),
        1 => Just(Action::Disable),
        1 => (1..40_i64).prop_map(Action::Update),
    ];
    vec((0..60_i64, action), 0..60)
}

/// A model of a schedule without events: it records which times have been handled.
struct Naive {
    period: i64,
    /// The period of the last update.
    updated: Option<i64>,
    enabled: bool,
    since: i64,
    fired: Vec<i64>,
}

impl Naive {
    fn due(&self, now: i64) -> Vec<i64> {
        (self.since + 1..=now).filter(|time| time % self.period == 0).collect()
    }

    /// An update that changes nothing keeps the times that are due.
    fn update(&mut self, period: i64, now: i64) {
        let is_due = self.enabled && !self.due(now).is_empty();
        if self.updated != Some(period) || !is_due {
            (self.period, self.since) = (period, now);
        }
        self.updated = Some(period);
    }

    fn fire(&mut self, attended: bool, limit: u32, catchup: Catchup, now: i64) {
        if !self.enabled {
            return;
        }
        let due = self.due(now);
        let mut allowed = if catchup == Catchup::RunAll { limit as usize } else { 0 };
        allowed += usize::from(attended);
        self.fired.extend(due.iter().take(allowed));
        self.since = now;
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_time_is_fired_for_once_or_skipped_as_a_naive_model_says(
        actions in actions(), run_all in any::<bool>(), period in 1..40_i64,
    ) {
        let catchup = if run_all { Catchup::RunAll } else { Catchup::Skip };
        let (mut state, begin) = create(ID, created(catchup), &every(period), Timestamp(0)).unwrap();
        let mut events = begin.events;
        let mut naive = Naive { period, updated: None, enabled: true, since: 0, fired: Vec::new() };
        let mut now = 0;
        for (later, action) in actions {
            now += later;
            let command = match action {
                Action::Fire { attended, limit } => {
                    naive.fire(attended, limit, catchup, now);
                    fire(attended, limit)
                }
                Action::Enable => {
                    if !naive.enabled {
                        (naive.enabled, naive.since) = (true, now);
                    }
                    Command::Enable(Request::default())
                }
                Action::Disable => {
                    naive.enabled = false;
                    Command::Disable(Request::default())
                }
                Action::Update(period) => {
                    naive.update(period, now);
                    Command::Update { expression: period.to_string().into(), timezone: "UTC".into() }
                }
            };
            let decision = decide(&mut state, command, &every(naive.period), Timestamp(now)).unwrap();
            events.extend(decision.events);
        }
        let fired: Vec<i64> = events.iter().filter_map(|recorded| match &recorded.event {
            ScheduleEvent::Fired(fired) => Some(fired.scheduled.0),
            _ => None,
        }).collect();
        prop_assert_eq!(&fired, &naive.fired);
        prop_assert_eq!(fired.iter().collect::<BTreeSet<_>>().len(), fired.len(), "no time twice");

        // The state equals the fold of the events, and the events survive encoding.
        let mut folded = None;
        for recorded in &events {
            let bytes = codec::encode_schedule_event(&recorded.event);
            prop_assert_eq!(&codec::decode_schedule_event(&bytes).unwrap(), &recorded.event);
            folded = Some(fold(folded, ID, recorded).unwrap());
        }
        prop_assert_eq!(&folded.unwrap(), &state);
        let text = codec::encode_schedule_label(&label(&state));
        prop_assert_eq!(codec::decode_schedule_label(&text).unwrap(), label(&state));
    }
}

fn definition() -> TriggerDefined {
    TriggerDefined {
        name: "inbox".into(),
        workflow: "etl".into(),
        pace: Pace::Interval(Millis(5_000)),
        allow_concurrent: false,
    }
}

fn fires(same_runs: Option<ExecutionId>, refused: Option<&str>) -> trigger::Command {
    let refused = refused.map(Into::into);
    trigger::Command::Fire { context: [7; 32], execution: ExecutionId([2; 16]), same_runs, refused }
}

#[test]
fn a_fire_starts_an_execution_unless_one_with_the_same_context_runs() {
    let (mut state, _) = trigger::define(definition(), Timestamp(0)).unwrap();
    let decision = trigger::decide(&mut state, fires(None, None), Timestamp(1)).unwrap();
    assert_eq!((decision.starts, state.fires()), (Some(ExecutionId([2; 16])), 1));

    let running = ExecutionId([1; 16]);
    let decision = trigger::decide(&mut state, fires(Some(running), None), Timestamp(2)).unwrap();
    let [trigger::Recorded { event: TriggerEvent::Dropped(dropped), .. }] = &decision.events[..] else {
        panic!("{:?}", decision.events)
    };
    assert_eq!(dropped.why, DropCause::SameContextRuns(running));
    assert_eq!((decision.starts, state.fires(), state.drops()), (None, 1, 1));

    let concurrent = TriggerDefined { allow_concurrent: true, ..definition() };
    trigger::decide(&mut state, trigger::Command::Define(concurrent), Timestamp(3)).unwrap();
    let decision = trigger::decide(&mut state, fires(Some(running), None), Timestamp(4)).unwrap();
    assert!(decision.starts.is_some(), "concurrent executions are now allowed");
    let decision = trigger::decide(&mut state, fires(None, Some("too long")), Timestamp(5)).unwrap();
    assert!(decision.starts.is_none());
}

#[test]
fn a_trigger_that_is_disabled_does_not_fire() {
    let (mut state, begin) = trigger::define(definition(), Timestamp(0)).unwrap();
    let mut events = begin.events;
    let commands = [
        (trigger::Command::Define(definition()), 0),
        (trigger::Command::Disable(Request::default()), 1),
        (trigger::Command::Disable(Request::default()), 0),
        (fires(None, None), 0),
        (trigger::Command::Enable(Request::default()), 1),
        (fires(None, None), 1),
    ];
    for (command, count) in commands {
        let decision = trigger::decide(&mut state, command.clone(), Timestamp(1)).unwrap();
        assert_eq!(decision.events.len(), count, "{command:?}");
        events.extend(decision.events);
    }
    let mut folded = None;
    for recorded in &events {
        let bytes = codec::encode_trigger_event(&recorded.event);
        assert_eq!(codec::decode_trigger_event(&bytes).unwrap(), recorded.event);
        folded = Some(trigger::fold(folded, TriggerId::of("inbox"), recorded).unwrap());
    }
    assert_eq!(folded.unwrap(), state);
    let text = codec::encode_trigger_label(&trigger::label(&state));
    assert_eq!(codec::decode_trigger_label(&text).unwrap(), trigger::label(&state));
    let other = TriggerDefined { name: "outbox".into(), ..definition() };
    assert!(trigger::decide(&mut state, trigger::Command::Define(other), Timestamp(2)).is_err());
    assert!(trigger::fold(None, TriggerId::of("outbox"), &events[0]).is_err(), "another stream's trigger");
}

#[test]
fn the_digest_of_a_context_does_not_depend_on_the_order_of_its_keys() {
    let pair = |key: &str, value: &str| (key.into(), Json::parse(value).unwrap());
    let one = [pair("a", "1"), pair("b", "2")];
    let other = [pair("b", "2"), pair("a", "1")];
    assert_eq!(trigger::context_digest(&one), trigger::context_digest(&other));
    assert_ne!(trigger::context_digest(&one), trigger::context_digest(&[pair("a", "1")]));
}

//! Encoding: values round-trip, unknown bytes are rejected, and format 1 does not change.

use std::fmt::Debug;

use crate::support::plan::plans;
use crate::support::simulate::Simulation;
use crate::support::{Story, TaskBuilder, cases, task, workflow};
use cloacina_engine::core::codec::*;
use cloacina_engine::core::definition::*;
use cloacina_engine::core::event::*;
use cloacina_engine::core::graph::{Graph, Problem};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::schedule::*;
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::core::trigger::{DropCause, Pace, TriggerDefined, TriggerDropped, TriggerEvent, TriggerFired};
use proptest::collection::vec;
use proptest::prelude::*;

/// Runs every decoder. None may panic.
fn decode_all(bytes: &[u8]) {
    let _ = decode_event(bytes);
    let _ = decode_definition(bytes);
    let _ = decode_label(bytes);
    let _ = decode_schedule_event(bytes);
    let _ = decode_trigger_event(bytes);
    let _ = decode_schedule_label(bytes);
    let _ = decode_trigger_label(bytes);
}

fn assert_round_trips<T: PartialEq + Debug>(
    value: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    let bytes = encode(value);
    assert_eq!(decode(&bytes).as_ref(), Ok(value));
    assert_eq!(encode(&decode(&bytes).unwrap()), bytes, "the encoding is canonical");
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "cut after {end} of {} bytes", bytes.len());
    }
    assert!(decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "with a byte too many");
}

#[test]
fn of_events_that_are_read_together_a_name_is_kept_once() {
    let started =
        |task: &str| encode_event(&Event::TaskStarted(TaskStarted { task: task.into(), attempt: 1, worker: 0 }));
    let mut names = Names::default();
    let mut task = |bytes: &[u8]| match decode_event_interned(bytes, &mut names) {
        Ok(Event::TaskStarted(started)) => started.task,
        other => panic!("{other:?}"),
    };
    let (first, again) = (task(&started("load")), task(&started("load")));
    assert_eq!(&*first, "load");
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    // More names than the table holds, and one that is too long for it.
    let many = (0..5_000).map(|at| format!("task_{at}")).chain(["x".repeat(5_000)]).cycle().take(15_000);
    many.for_each(|name| assert_eq!(*task(&started(&name)), *name));
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn everything_comes_back_as_it_went_in(plan in plans(true), choices in vec(any::<u16>(), 0..40)) {
        let mut simulation = Simulation::begin(&plan, Simulation::options(), 3);
        simulation.run(&choices);
        let mut names = Names::default();
        for recorded in simulation.events() {
            assert_round_trips(&recorded.event, encode_event, decode_event);
            assert_eq!(decode_event_interned(&encode_event(&recorded.event), &mut names).as_ref(), Ok(&recorded.event));
        }
        assert_round_trips(&**plan.graph.definition(), encode_definition, decode_definition);
        assert_round_trips(&cloacina_engine::core::decide::label(&simulation.state), encode_label, decode_label);
    }

    #[test]
    fn altered_bytes_never_panic(
        plan in plans(true),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut simulation = Simulation::begin(&plan, Simulation::options(), 3);
        simulation.run(&[]);
        let events = simulation.events().into_iter().map(|recorded| encode_event(&recorded.event));
        for mut bytes in events.chain([encode_definition(plan.graph.definition())]) {
            for (place, byte) in &changes {
                // Behind the magic byte, so that the body is decoded.
                let at = 3 + place.index(bytes.len() - 3);
                bytes[at] = *byte;
            }
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn random_bytes_never_panic(magic in prop_oneof![Just(b'E'), Just(b'D'), Just(b'L')], kind in 0..56_u8, body in vec(any::<u8>(), 0..300)) {
        decode_all(&body);
        decode_all(&[&[magic, 1, 1, kind, 0], body.as_slice()].concat());
    }
}

/// A small body that claims to have billions of elements is rejected before anything is allocated.
#[test]
fn a_hostile_length_allocates_nothing() {
    let huge: &[&[u8]] = &[&[253], &[0xff; 8]];
    let huge = huge.concat();
    let large = [252, 0xff, 0xff, 0xff, 0x0f];
    for magic in [b'E', b'D', b'L'] {
        for kind in 0..56 {
            for lengths in [huge.as_slice(), &large] {
                for before in 0..6 {
                    let mut bytes = vec![magic, 1, 1, kind, 0];
                    bytes.extend(std::iter::repeat_n(0, before));
                    bytes.extend(lengths.iter().copied().chain([0; 40]));
                    decode_all(&bytes);
                }
            }
        }
    }
}

/// The number of retries is stored only if there are any, so that the labels of all other executions stay as they are.
#[test]
fn a_label_says_how_often_an_execution_was_retried() {
    let mut story = Story::of(&workflow([task("a")]));
    story.fails("a");
    let failed = cloacina_engine::core::decide::label(&story.state);
    assert_eq!((failed.retries, encode_label(&failed)[3]), (0, 0));
    story.retries().fails("a").retries();
    let retried = cloacina_engine::core::decide::label(&story.state);
    assert_eq!((retried.status, retried.retries, retried.ended), (LabelStatus::Running, 2, None));
    assert_eq!(encode_label(&retried)[3], 4);
    assert_round_trips(&failed, encode_label, decode_label);
    assert_round_trips(&retried, encode_label, decode_label);
}

fn nested(depth: usize) -> Condition {
    (0..depth).fold(Condition::Always, |inner, _| Condition::All(vec![inner]))
}

/// Regression: conditions were decoded recursively without a limit, at two bytes per level. A definition of half a
/// megabyte overflowed the stack.
#[test]
fn a_condition_nested_without_end_is_refused() {
    let definition = |condition| Definition { workflow: "w".into(), tasks: vec![task("a").when(condition)] };
    let shallow = encode_definition(&definition(nested(1)));
    let deeper = encode_definition(&definition(nested(2)));
    // The bytes that one more level adds.
    let start = shallow.iter().zip(&deeper).take_while(|(one, other)| one == other).count() - 2;
    let level = &deeper[start..start + deeper.len() - shallow.len()];
    assert_eq!(level, [1, 1], "all_of with one part");
    let bytes = [&deeper[..start], &level.repeat(200_000), &deeper[start..]].concat();
    let error = decode_definition(&bytes).unwrap_err();
    assert!(matches!(error, DecodeError::Broken { .. }), "{error}");

    // A definition can be decoded if and only if it is valid.
    let limit = Condition::MAX_DEPTH;
    let deepest = definition(nested(limit));
    assert_eq!(decode_definition(&encode_definition(&deepest)), Ok(deepest.clone()));
    assert!(Graph::new(deepest.into()).is_ok());
    let too_deep = definition(nested(limit + 1));
    assert!(decode_definition(&encode_definition(&too_deep)).is_err());
    let problem = Graph::new(too_deep.into()).unwrap_err();
    assert_eq!(problem.problems, [Problem::TooDeep { task: "a".into() }]);
    assert_eq!(
        problem.to_string(),
        "workflow 'w' is not valid: The trigger rules of task 'a' nest deeper than 64 levels; put conditions \
         side by side: any_of(*many), all_of(*many)"
    );
}

#[test]
fn what_a_newer_version_wrote_is_refused_by_name() {
    let event = encode_event(&Event::ExecutionPaused(Request::default()));
    for (place, byte) in [(2, 2), (3, 19), (4, 1)] {
        let mut newer = event.clone();
        newer[place] = byte;
        let error = decode_event(&newer).unwrap_err();
        assert!(matches!(error, DecodeError::Newer { known: 1, .. }), "{error}");
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
    for (place, byte) in [(0, b'D'), (1, 2)] {
        let mut foreign = event.clone();
        foreign[place] = byte;
        assert!(matches!(decode_event(&foreign), Err(DecodeError::Foreign { .. })));
    }
    // Format 0 was never released.
    let mut none = event;
    none[2] = 0;
    assert!(matches!(decode_event(&none), Err(DecodeError::Foreign { .. })));
}

/// One event of each kind, with every field set.
fn one_of_each() -> Vec<Event> {
    let task = || TaskId::from("load");
    let origin = || Origin::Task { task: task(), attempt: 2 };
    let environment =
        || Environment { engine: "0.1.0".into(), host: "h".into(), pid: 4_000_000, python: Some("3.13.1".into()) };
    let reads = || Reads {
        keys: vec![
            Read { key: "a".into(), seen: Seen::Nothing },
            Read { key: "b".into(), seen: Seen::Write(300) },
            Read { key: "c".into(), seen: Seen::Merged(vec![1, 70_000]) },
            Read { key: "d".into(), seen: Seen::Undeclared(5) },
        ],
        all: true,
    };
    let request = || Request { by: "ops".into(), reason: Some("late".into()) };
    let ended = |reason: &str| ExecutionEnded { reason: reason.into(), context: [0xab; 32] };
    vec![
        Event::ExecutionStarted(ExecutionStarted {
            workflow: "etl".into(),
            definition: Fingerprint([0xcd; 32]),
            cause: Cause::Schedule { schedule: [3; 16], scheduled: Timestamp(1_700_000_000_000_000) },
            environment: environment(),
            options: ExecutionOptions::default(),
            inputs: 2,
        }),
        Event::ContextWritten(ContextWritten {
            origin: Origin::Input,
            key: "näme".into(),
            value: Json::parse("{\"b\": 1.50, \"a\": 123456789012345678901234567890}").unwrap(),
        }),
        Event::ContextRemoved(ContextRemoved { origin: origin(), key: "tmp".into() }),
        Event::TaskStarted(TaskStarted { task: task(), attempt: 1, worker: 3 }),
        Event::TaskCompleted(TaskCompleted { task: task(), attempt: 2, reads: reads() }),
        Event::TaskFailed(TaskFailed {
            task: task(),
            attempt: 2,
            error: TaskError {
                kind: "ValueError".into(),
                message: "no rows".into(),
                traceback: Some("Traceback".into()),
                lineage: vec!["ValueError".into(), "Exception".into()],
                transient: true,
                hint: Some("add it".into()),
            },
            reads: reads(),
            retry_at: Some(Timestamp(-1)),
        }),
        Event::TaskSkipped(TaskSkipped {
            task: task(),
            why: SkipReason {
                rule: "none_failed".into(),
                tasks: vec![("a".into(), Settled::Failed), ("b".into(), Settled::SkippedByFailure)],
                keys: vec!["rows".into()],
                failure: true,
            },
        }),
        Event::TaskAbandoned(TaskAbandoned { task: task(), attempt: 1, why: AbandonReason::Shutdown }),
        Event::ExecutionPaused(request()),
        Event::ExecutionUnpaused(request()),
        Event::CancelRequested(request()),
        Event::ExecutionRecovered(ExecutionRecovered { environment: environment(), definition: Fingerprint([1; 32]) }),
        Event::ExecutionCompleted(ended("")),
        Event::ExecutionFailed(ended("task 'load' failed")),
        Event::ExecutionCancelled(ended("cancelled by ops")),
        Event::TaskDeferred(TaskDeferred { task: task(), attempt: 3 }),
        Event::TaskResumed(TaskResumed { task: task(), attempt: 3, worker: 7 }),
        Event::ExecutionRetried(ExecutionRetried {
            environment: environment(),
            definition: Fingerprint([2; 32]),
            options: ExecutionOptions { timeout: None, strict_context: true, ..ExecutionOptions::default() },
            request: request(),
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    lines.map(|line| line + "\n").collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Compares with the bytes of format 1, one golden file per kind. Files are never changed; `GOLDEN=write` adds one for
/// a new kind.
#[test]
fn the_bytes_of_format_1_do_not_change() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/events-v1");
    for (kind, event) in (1..).zip(one_of_each()) {
        assert_eq!(event.kind(), kind, "each kind once, in order");
        let path = folder.join(format!("{kind:02}-{}.hex", event.name()));
        if !path.exists() && std::env::var_os("GOLDEN").is_some() {
            std::fs::write(&path, hex(&encode_event(&event))).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(hex(&encode_event(&event)), golden, "{} is not encoded as in format 1", event.name());
        assert_eq!(decode_event(&unhex(&golden)), Ok(event), "logs of format 1 must stay readable");
    }
    assert!(one_of_each().len() == 18 && decode_event(&[b'E', 1, 1, 19, 0]).is_err(), "a new kind needs a golden file");
}

/// One event of each kind of a schedule, with every field set.
fn one_of_each_of_a_schedule() -> Vec<ScheduleEvent> {
    let request = || Request { by: "ops".into(), reason: Some("late".into()) };
    let time = Timestamp(1_774_746_000_000_000);
    let next = Some(Timestamp(1_774_832_400_000_000));
    let created = |name: Option<&str>| {
        ScheduleEvent::Created(ScheduleCreated {
            name: name.map(Into::into),
            workflow: "etl".into(),
            expression: "30 2 * * *".into(),
            timezone: "Europe/Berlin".into(),
            catchup: Catchup::RunAll,
            input: vec![("day".into(), Json::parse("1.50").unwrap())],
            next: Some(time),
        })
    };
    vec![
        created(None),
        ScheduleEvent::Updated(ScheduleUpdated { expression: "@daily".into(), timezone: "UTC".into(), next }),
        ScheduleEvent::Enabled(ScheduleEnabled { request: request(), next }),
        ScheduleEvent::Disabled(request()),
        ScheduleEvent::Deleted(request()),
        ScheduleEvent::Fired(ScheduleFired { scheduled: time, execution: ExecutionId([5; 16]), next: None }),
        ScheduleEvent::Skipped(ScheduleSkipped {
            first: time,
            until: Timestamp(1_774_746_000_000_001),
            why: SkipCause::LimitReached { limit: 100 },
            next,
        }),
        created(Some("nightly")),
    ]
}

/// One event of each kind of a trigger, with every field set.
fn one_of_each_of_a_trigger() -> Vec<TriggerEvent> {
    let request = || Request { by: "ops".into(), reason: Some("late".into()) };
    let pace = Pace::Cron { expression: "@hourly".into(), timezone: "UTC".into() };
    vec![
        TriggerEvent::Defined(TriggerDefined {
            name: "inbox".into(),
            workflow: "etl".into(),
            pace,
            allow_concurrent: true,
        }),
        TriggerEvent::Enabled(request()),
        TriggerEvent::Disabled(request()),
        TriggerEvent::Fired(TriggerFired { execution: ExecutionId([5; 16]), context: [0xab; 32] }),
        TriggerEvent::Dropped(TriggerDropped {
            context: [0xab; 32],
            why: DropCause::SameContextRuns(ExecutionId([6; 16])),
        }),
    ]
}

/// The same as [`the_bytes_of_format_1_do_not_change`] for schedules and triggers.
#[test]
fn the_bytes_of_schedules_and_triggers_do_not_change() {
    for (kind, event) in (32..).zip(one_of_each_of_a_schedule()) {
        assert_eq!(event.kind(), kind, "each kind once, in order");
        assert_round_trips(&event, encode_schedule_event, decode_schedule_event);
        assert_golden(kind, event.name(), &encode_schedule_event(&event));
    }
    for (kind, event) in (48..).zip(one_of_each_of_a_trigger()) {
        assert_eq!(event.kind(), kind, "each kind once, in order");
        assert_round_trips(&event, encode_trigger_event, decode_trigger_event);
        assert_golden(kind, event.name(), &encode_trigger_event(&event));
    }
    assert_eq!((one_of_each_of_a_schedule().len(), one_of_each_of_a_trigger().len()), (8, 5));
    for unknown in [19, 31, 40, 47, 53] {
        let bytes = [b'E', 1, 1, unknown, 0];
        assert!(matches!(decode_schedule_event(&bytes), Err(DecodeError::Newer { .. })));
        assert!(matches!(decode_trigger_event(&bytes), Err(DecodeError::Newer { .. })));
    }
}

fn assert_golden(kind: u16, name: &str, bytes: &[u8]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/events-v1");
    let path = folder.join(format!("{kind:02}-{name}.hex"));
    if !path.exists() && std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes)).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(hex(bytes), golden, "{name} is not encoded as in format 1");
}

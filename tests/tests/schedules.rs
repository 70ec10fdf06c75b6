//! Schedules in an engine: they fire once when the clock reaches them, and survive restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::codec::decode_schedule_event;
use cloacina_engine::core::event::{Cause, Event, ExecutionId};
use cloacina_engine::core::schedule::{Catchup, ScheduleEvent, ScheduleId, SkipCause};
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::clock::{TimeSource, VirtualClock};
use cloacina_engine::runtime::cron::isoformat;
use cloacina_engine::runtime::engine::{Engine, ExecutionStatus};
use cloacina_engine::runtime::schedules::{NewSchedule, PastFire, ScheduleError, Standing, rebuild_schedule};
use cloacina_store::log::EventLog;
use cloacina_store::record::StreamId;
use cloacina_tests::GUARD;
use cloacina_tests::gate::GatedLog;
use cloacina_tests::history::history;
use cloacina_tests::workflows::{step, workflow};
use cloacina_tests::world::{World, call_as, end_of, input, value};
use serde_json::json;

/// The first second of 2030. It has to be later than the wall clock, which the log itself uses.
const NEW_YEAR: Timestamp = Timestamp(1_893_456_000_000_000);

const HOUR: u64 = 3_600;

fn at(seconds: u64) -> Timestamp {
    Timestamp(NEW_YEAR.0 + i64::try_from(seconds).unwrap() * 1_000_000)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Starts a process at a given time, on a disk.
fn process_at(world: World, time: Timestamp) -> (World, VirtualClock) {
    let clock = VirtualClock::starting_at(time);
    let world = world.with_workflows([workflow("etl", [step("load")])]);
    let at_clock = clock.clone();
    (world.with_config(|config| config.time = TimeSource::Virtual(at_clock)), clock)
}

fn new_process() -> (World, VirtualClock) {
    process_at(World::default(), NEW_YEAR)
}

fn hourly(catchup: Catchup) -> NewSchedule {
    NewSchedule {
        name: None,
        workflow: "etl".into(),
        expression: "@hourly".into(),
        timezone: "UTC".into(),
        catchup,
        input: Vec::new(),
    }
}

fn history_of(engine: &Engine, id: ScheduleId) -> Vec<PastFire> {
    let mut fires = engine.schedule_history(id, usize::MAX, 0).unwrap();
    fires.reverse();
    fires
}

/// The fires of a schedule, in hours after the new year.
fn hours(engine: &Engine, id: ScheduleId) -> Vec<u64> {
    let fires = history_of(engine, id);
    fires.iter().map(|fire| fire.scheduled.micros_since(NEW_YEAR) / (HOUR * 1_000_000)).collect()
}

/// Checks in the log that each fire of a schedule has exactly one execution, and no others exist.
fn check_executions(engine: &Engine, id: ScheduleId) {
    let fires = history_of(engine, id);
    for fire in &fires {
        let outcome = end_of(engine, fire.execution);
        assert_eq!(outcome.status, ExecutionStatus::Completed);
        let past = history(&**engine.log(), fire.execution);
        let Event::ExecutionStarted(started) = &past[0].event else { panic!("{:?}", past[0]) };
        assert_eq!(started.cause, Cause::Schedule { schedule: id.0, scheduled: fire.scheduled });
    }
    let started: BTreeSet<ExecutionId> = fires.iter().map(|fire| fire.execution).collect();
    assert_eq!(started.len(), fires.len(), "no execution belongs to two fires");
    let all: BTreeSet<ExecutionId> =
        engine.executions(None, None, usize::MAX, None).unwrap().iter().map(|listed| listed.execution).collect();
    assert_eq!(all, started, "no execution without a fire");
}

#[test]
fn ten_thousand_fires_have_no_gap_and_no_double() {
    const FIRES: u64 = 10_000;
    let (world, clock) = new_process();
    let engine = world.open();
    let every_second = NewSchedule { expression: "* * * * * *".into(), ..hourly(Catchup::Skip) };
    let id = engine.create_schedule(every_second).unwrap();
    clock.advance(seconds(FIRES));
    let fires = history_of(&engine, id);
    let scheduled: Vec<Timestamp> = fires.iter().map(|fire| fire.scheduled).collect();
    assert_eq!(scheduled, (1..=FIRES).map(at).collect::<Vec<_>>());
    assert!(fires.iter().all(|fire| fire.fired == fire.scheduled), "each at its own time");
    let completed =
        |fire: &PastFire| matches!(fire.standing, Standing::Known { status: ExecutionStatus::Completed, .. });
    assert!(fires.iter().all(completed));
    let executions: BTreeSet<_> = fires.iter().map(|fire| fire.execution).collect();
    assert_eq!(executions.len(), fires.len());
    assert_eq!(engine.executions(None, None, usize::MAX, None).unwrap().len(), fires.len());
    let stats = engine.schedule_stats(at(9_001)).unwrap();
    assert_eq!((stats.total, stats.successful, stats.lost), (1_000, 1_000, 0));
    assert_eq!(engine.schedule_history(id, 2, 3).unwrap(), [fires[9_996].clone(), fires[9_995].clone()]);
}

#[test]
fn an_execution_knows_its_schedule() {
    let (world, clock) = new_process();
    let engine = world.open();
    let new = NewSchedule {
        name: None,
        expression: "30 2 * * *".into(),
        timezone: "Europe/Berlin".into(),
        input: vec![input("day", json!("all")), input("schedule_id", json!("not yours"))],
        ..hourly(Catchup::Skip)
    };
    let id = engine.create_schedule(new).unwrap();
    clock.advance(seconds(24 * HOUR));
    let fire = history_of(&engine, id).remove(0);
    let outcome = end_of(&engine, fire.execution);
    assert_eq!(value(&outcome, "day"), "all");
    assert_eq!(value(&outcome, "schedule_id"), id.to_string());
    assert_eq!(value(&outcome, "schedule_expression"), "30 2 * * *");
    assert_eq!(value(&outcome, "schedule_timezone"), "Europe/Berlin");
    assert_eq!(value(&outcome, "scheduled_time"), "2030-01-01T01:30:00+00:00");
    assert_eq!(isoformat(fire.scheduled), "2030-01-01T01:30:00+00:00");
    let listed = engine.schedule(id).unwrap();
    assert_eq!(listed.label.next.map(isoformat).as_deref(), Some("2030-01-02T01:30:00+00:00"));
    assert_eq!(listed.label.last_run, Some(fire.fired));
    check_executions(&engine, id);
}

#[test]
fn fires_that_were_due_while_the_process_was_down_are_skipped_or_caught_up() {
    for (catchup, max, expected) in [
        (Catchup::Skip, 100, vec![1, 2, 8]),
        (Catchup::RunAll, 100, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (Catchup::RunAll, 2, vec![1, 2, 3, 4, 8]),
        (Catchup::RunAll, 0, vec![1, 2, 8]),
    ] {
        let (world, clock) = new_process();
        let engine = world.open();
        let id = engine.create_schedule(hourly(catchup)).unwrap();
        clock.advance(seconds(2 * HOUR + 1_800));
        engine.shutdown(GUARD).unwrap();

        let (world, clock) = process_at(world.in_new_process(), at(7 * HOUR + 1_800));
        let world = world.with_config(|config| config.max_catchup = max);
        let engine = world.open();
        clock.advance(seconds(HOUR));
        assert_eq!(hours(&engine, id), expected, "{catchup:?}, at most {max}");
        check_executions(&engine, id);
    }
}

/// Any number of restarts that miss no fire change nothing.
#[test]
fn restarts_between_two_fires_fire_nothing() {
    let (mut world, clock) = new_process();
    let engine = world.open();
    let id = engine.create_schedule(hourly(Catchup::RunAll)).unwrap();
    clock.advance(seconds(HOUR));
    drop(engine);
    for minute in 1..6 {
        let (next, clock) = process_at(world.in_new_process(), at(HOUR + minute * 60));
        let engine = next.open();
        clock.advance(Duration::ZERO);
        assert_eq!(hours(&engine, id), [1]);
        assert_eq!(rebuild_schedule(&**engine.log(), id).unwrap().next_seq(), 2, "no event was written");
        drop(engine);
        world = next;
    }
}

/// If the process dies between the decision to fire and its flush, nothing has happened, and the next process fires. After
/// the flush, the fire and its execution are both there.
#[test]
fn a_kill_at_the_moment_of_a_fire_leaves_both_or_neither() {
    for let_through in [0, 1] {
        let (world, clock) = new_process();
        let log = GatedLog::new(world.log());
        let engine = world.open_on(log.clone());
        let id = engine.create_schedule(hourly(Catchup::RunAll)).unwrap();
        log.hold();
        let moving = {
            let clock = clock.clone();
            thread::spawn(move || clock.advance(seconds(HOUR)))
        };
        log.wait_for_held(1);
        log.let_through(let_through);
        if let_through == 1 {
            // The end of the attempt waits at the gate, so the first batch is on the disk.
            log.wait_for_held(1);
        }
        let killed = world.after_kill();
        log.release();
        moving.join().unwrap();
        drop(engine);

        let before = killed.log();
        assert_eq!(rebuild_schedule(&before, id).unwrap().fires(), let_through as u64);
        drop(before);
        let (world, clock) = process_at(killed, at(HOUR + 60));
        let engine = world.open();
        clock.advance(Duration::ZERO);
        assert_eq!(hours(&engine, id), [1], "one fire, from either process");
        check_executions(&engine, id);
    }
}

/// The events of a schedule after the first one.
fn changes(engine: &Engine, id: ScheduleId) -> Vec<ScheduleEvent> {
    let records = engine.log().read(StreamId::from_bytes(id.0), 1, usize::MAX).unwrap();
    let bytes = records.iter().map(|record| record.body.bytes().unwrap());
    bytes.map(|bytes| decode_schedule_event(bytes).unwrap()).collect()
}

/// A known fault of django-celery-beat and Prefect: a schedule is updated, disabled or deleted while it is due, and the due fire is
/// silently lost. Here the process was down for five hours, and the next one changes the schedule before it registers the workflow,
/// or does not fire schedules at all.
#[test]
fn due_fires_are_settled_before_a_schedule_is_changed() {
    type Change = fn(&Engine, ScheduleId);
    let other: Change = |engine, id| engine.update_schedule(id, "30 * * * *", "UTC").unwrap();
    let disable: Change = |engine, id| engine.enable_schedule(id, false).unwrap();
    let delete: Change = |engine, id| engine.delete_schedule(id).unwrap();
    let until = at(5 * HOUR + 600);
    for (fires_schedules, change) in [(true, other), (true, disable), (true, delete), (false, other), (false, delete)] {
        let (world, _clock) = new_process();
        let id = world.open().create_schedule(hourly(Catchup::RunAll)).unwrap();
        let clock = VirtualClock::starting_at(until);
        let late = world.in_new_process().with_config(|config| {
            config.time = TimeSource::Virtual(clock.clone());
            config.cron = fires_schedules;
        });
        let engine = late.open();
        change(&engine, id);
        let changes = changes(&engine, id);
        let ScheduleEvent::Skipped(skipped) = &changes[0] else { panic!("{changes:?}") };
        assert_eq!((skipped.first, skipped.until, skipped.why), (at(HOUR), until, SkipCause::CouldNotFire));
        assert_eq!(changes.len(), 2, "{changes:?}");
    }
    for (catchup, fired) in [(Catchup::RunAll, vec![1, 2, 3, 4, 5, 6]), (Catchup::Skip, vec![6])] {
        let (world, _clock) = new_process();
        let id = world.open().create_schedule(hourly(catchup)).unwrap();
        let clock = VirtualClock::starting_at(until);
        let late = world.in_new_process().with_config(|config| config.time = TimeSource::Virtual(clock.clone()));
        let engine = late.open();
        engine.update_schedule(id, "@hourly", "UTC").unwrap();
        assert!(!engine.schedule(id).unwrap().is_registered);
        engine.registry().register(workflow("etl", [step("load")]));
        clock.advance(seconds(HOUR));
        assert_eq!(hours(&engine, id), fired, "an update that changes nothing loses nothing");
        assert!(engine.schedule(id).unwrap().is_registered);
    }
}

/// Regression: an execution with the id of the log's own stream or of a schedule could be started, and then failed to decode.
#[test]
fn an_id_that_belongs_to_something_else_is_refused_with_the_reason() {
    let (world, _clock) = new_process();
    let engine = world.open();
    let schedule = engine.create_schedule(hourly(Catchup::Skip)).unwrap();
    for (id, whose) in [(ExecutionId([0; 16]), "the log itself"), (ExecutionId(schedule.0), "a schedule")] {
        let refused = format!("{id} is the id of {whose}, not of an execution; use another id");
        assert_eq!(engine.start(call_as("etl", id)).unwrap_err().to_string(), refused);
        assert_eq!(engine.outcome(id).unwrap_err().to_string(), refused);
        assert_eq!(engine.wait(id, None).unwrap_err().to_string(), refused);
        assert_eq!(engine.resume(id).unwrap_err().to_string(), refused);
        assert_eq!(engine.cancel(id, None).unwrap_err().to_string(), refused);
        assert_eq!(engine.executions(None, None, 10, Some(id)).unwrap_err().to_string(), refused);
    }
    assert_eq!(hours(&engine, schedule), [0; 0], "the schedule is unchanged");
}

#[test]
fn a_disabled_schedule_stays_silent_and_a_deleted_one_keeps_its_history() {
    let (world, clock) = new_process();
    let engine = world.open();
    let id = engine.create_schedule(hourly(Catchup::RunAll)).unwrap();
    clock.advance(seconds(HOUR));
    engine.enable_schedule(id, false).unwrap();
    let listed = engine.schedule(id).unwrap();
    assert_eq!((listed.label.enabled, listed.label.next), (false, None));
    clock.advance(seconds(3 * HOUR));
    assert_eq!(hours(&engine, id), [1]);
    engine.enable_schedule(id, true).unwrap();
    clock.advance(seconds(HOUR));
    assert_eq!(hours(&engine, id), [1, 5], "fires while it was disabled are not caught up");
    engine.update_schedule(id, "30 * * * *", "UTC").unwrap();
    clock.advance(seconds(HOUR));
    assert_eq!(history_of(&engine, id).last().unwrap().scheduled, at(5 * HOUR + 1_800));
    engine.delete_schedule(id).unwrap();
    clock.advance(seconds(5 * HOUR));
    assert_eq!(hours(&engine, id), [1, 5, 5]);
    assert_eq!(engine.schedules().unwrap(), []);
    for result in [
        engine.schedule(id).map(drop),
        engine.delete_schedule(id),
        engine.enable_schedule(id, true),
        engine.update_schedule(id, "@daily", "UTC"),
    ] {
        assert_eq!(result, Err(ScheduleError::NotFound(id)));
    }
    drop(engine);
    let (world, clock) = process_at(world.in_new_process(), at(20 * HOUR));
    let engine = world.open();
    clock.advance(seconds(5 * HOUR));
    assert_eq!(hours(&engine, id), [1, 5, 5]);
    check_executions(&engine, id);
}

#[test]
fn a_change_survives_a_restart() {
    let (world, clock) = new_process();
    let engine = world.open();
    let id = engine.create_schedule(hourly(Catchup::Skip)).unwrap();
    let off = engine.create_schedule(hourly(Catchup::Skip)).unwrap();
    engine.update_schedule(id, "0 */2 * * *", "Asia/Tokyo").unwrap();
    engine.enable_schedule(off, false).unwrap();
    let before = engine.schedules().unwrap();
    assert_eq!(before.iter().map(|listed| listed.id).collect::<Vec<_>>(), [off, id], "newest first");
    drop((engine, clock));
    let (world, clock) = process_at(world.in_new_process(), at(60));
    let engine = world.open();
    assert_eq!(engine.schedules().unwrap(), before);
    clock.advance(seconds(4 * HOUR));
    assert_eq!((hours(&engine, id), hours(&engine, off)), (vec![1, 3], vec![]));
}

#[test]
fn an_engine_whose_scheduling_is_turned_off_fires_nothing_and_the_next_one_catches_up() {
    let (world, clock) = new_process();
    let world = world.with_config(|config| config.cron = false);
    let engine = world.open();
    let id = engine.create_schedule(hourly(Catchup::RunAll)).unwrap();
    clock.advance(seconds(3 * HOUR));
    assert_eq!(hours(&engine, id), [0; 0]);
    drop(engine);
    let (world, clock) = process_at(world.in_new_process(), at(3 * HOUR));
    let engine = world.with_config(|config| config.cron = true).open();
    clock.advance(Duration::ZERO);
    assert_eq!(hours(&engine, id), [1, 2, 3]);
}

#[test]
fn a_schedule_waits_for_its_workflow() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = World::default().with_config(|config| config.time = TimeSource::Virtual(clock.clone()));
    let engine = world.open();
    let run_all = engine.create_schedule(hourly(Catchup::RunAll)).unwrap();
    let skip = engine.create_schedule(hourly(Catchup::Skip)).unwrap();
    clock.advance(seconds(2 * HOUR));
    assert_eq!(hours(&engine, run_all), [0; 0]);
    let _world = world.with_workflows([workflow("etl", [step("load")])]);
    clock.advance(seconds(HOUR));
    assert_eq!((hours(&engine, run_all), hours(&engine, skip)), (vec![1, 2, 3], vec![3]));
}

#[test]
fn bad_input_creates_no_schedule() {
    let (world, _clock) = new_process();
    let engine = world.with_config(|config| config.max_value_bytes = 10).open();
    let bad = |change: fn(&mut NewSchedule)| {
        let mut new = hourly(Catchup::Skip);
        change(&mut new);
        engine.create_schedule(new).unwrap_err().to_string()
    };
    assert!(bad(|new| new.expression = "* *".into()).starts_with("invalid cron expression '* *'"));
    assert!(bad(|new| new.timezone = "Mars".into()).starts_with("unknown time zone 'Mars'"));
    assert_eq!(bad(|new| new.expression = "0 0 30 2 *".into()), "'0 0 30 2 *' in UTC never fires");
    assert_eq!(bad(|new| new.workflow = "".into()), "a workflow's name must have 1 to 500 bytes");
    assert!(bad(|new| new.input = vec![input("text", json!("much too long"))]).contains("max_value_bytes (10)"));
    assert_eq!(engine.schedules().unwrap(), []);
    engine.shutdown(Duration::ZERO).unwrap();
    assert_eq!(engine.create_schedule(hourly(Catchup::Skip)).unwrap_err(), ScheduleError::ShutDown);
}

/// In Berlin, the last Sunday of March 2030 has no 02:30, and that of October has two.
#[test]
fn clocks_that_change_neither_lose_nor_double_a_daily_fire() {
    let (world, clock) = new_process();
    let engine = world.open();
    let new =
        NewSchedule { expression: "30 2 * * *".into(), timezone: "Europe/Berlin".into(), ..hourly(Catchup::Skip) };
    let id = engine.create_schedule(new).unwrap();
    clock.advance(seconds(365 * 24 * HOUR));
    let fires: Vec<String> = history_of(&engine, id).iter().map(|fire| isoformat(fire.scheduled)).collect();
    assert_eq!(fires.len(), 365);
    let has = |time: &str| fires.iter().any(|fire| fire == time);
    assert!(has("2030-03-30T01:30:00+00:00") && has("2030-03-31T01:00:00+00:00") && has("2030-04-01T00:30:00+00:00"));
    assert!(has("2030-10-27T00:30:00+00:00") && has("2030-10-28T01:30:00+00:00"));
}

/// A fire and the start of its execution cost one flush, the rest of the execution one more.
#[test]
fn a_fire_and_the_start_of_its_execution_share_a_flush() {
    let (world, clock) = new_process();
    let log: Arc<dyn EventLog> = Arc::new(world.log());
    let engine = world.open_on(log.clone());
    engine.create_schedule(hourly(Catchup::Skip)).unwrap();
    let before = log.flushes();
    clock.advance(seconds(10 * HOUR));
    assert_eq!(log.flushes() - before, 20);
}

//! A virtual clock: timers fire when the clock is advanced, each at its own time, and deterministically.

use std::sync::Arc;
use std::time::Duration;

use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::clock::{TimeSource, VirtualClock};
use cloacina_engine::runtime::engine::ExecutionStatus;
use cloacina_store::log::EventLog;
use cloacina_tests::history::{RecordedEvent, history};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, failing_task, once, waiting, workflow};
use cloacina_tests::world::{World, end_of, millis, start, task};

/// The first second of 2030. It has to be later than the wall clock, which the log itself uses.
const NEW_YEAR: Timestamp = Timestamp(1_893_456_000_000_000);

fn under(clock: &VirtualClock, world: World) -> World {
    world.with_config(|config| config.time = TimeSource::Virtual(clock.clone()))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The events of an execution that begin or end an attempt, with their time in seconds since the new year.
fn times(log: &dyn EventLog, execution: ExecutionId) -> Vec<(i64, &'static str)> {
    let wanted = |past: &RecordedEvent| {
        matches!(past.event, Event::TaskStarted(_) | Event::TaskFailed(_) | Event::TaskCompleted(_))
    };
    let past = history(log, execution).into_iter().filter(wanted);
    past.map(|past| ((past.time.0 - NEW_YEAR.0) / 1_000_000, past.event.name())).collect()
}

#[test]
fn a_retry_fires_when_the_clock_reaches_it_and_not_before() {
    let (flaky, runs) = failing_task("flaky", 2);
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("w", [flaky.retry(attempts(3, 10_000))])]));
    let engine = world.open();
    let execution = start(&engine, "w");
    clock.advance(seconds(9));
    assert_eq!(task(&engine.outcome(execution).unwrap(), "flaky"), ("WaitingRetry", 1));
    clock.advance(seconds(1));
    assert_eq!(task(&engine.outcome(execution).unwrap(), "flaky"), ("WaitingRetry", 2));
    clock.advance(seconds(100));
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn in_one_long_advance_each_retry_fires_at_its_own_time() {
    let (flaky, _) = failing_task("flaky", 2);
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("w", [flaky.retry(attempts(3, 10_000))])]));
    let engine = world.open();
    let execution = start(&engine, "w");
    clock.advance(seconds(3_000));
    assert_eq!(clock.now().micros_since(NEW_YEAR), 3_000_000_000);
    let expected = [
        (0, "TaskStarted"),
        (0, "TaskFailed"),
        (10, "TaskStarted"),
        (10, "TaskFailed"),
        (20, "TaskStarted"),
        (20, "TaskCompleted"),
    ];
    assert_eq!(times(&**engine.log(), execution), expected);
}

#[test]
fn an_attempt_that_hangs_times_out_when_the_clock_reaches_its_timeout() {
    let door = Door::default();
    let hanging = waiting("hang", &door).timeout(seconds(120)).retry(attempts(2, 5_000));
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("w", [hanging])]));
    let engine = world.open();
    let execution = start(&engine, "w");
    clock.advance(seconds(119));
    assert_eq!(task(&engine.outcome(execution).unwrap(), "hang"), ("Running", 1));
    clock.advance(seconds(1_000));
    let outcome = end_of(&engine, execution);
    assert_eq!(task(&outcome, "hang"), ("Failed", 2));
    let expected = [(0, "TaskStarted"), (120, "TaskFailed"), (125, "TaskStarted"), (245, "TaskFailed")];
    assert_eq!(times(&**engine.log(), execution), expected);
    door.open();
}

#[test]
fn an_execution_runs_out_of_virtual_time() {
    let door = Door::default();
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("w", [waiting("hang", &door).timeout(seconds(1_000_000))])]))
        .with_config(|config| config.workflow_timeout = Some(millis(60_000)));
    let engine = world.open();
    let execution = start(&engine, "w");
    clock.advance(seconds(60));
    let outcome = end_of(&engine, execution);
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert_eq!(outcome.ended.unwrap().micros_since(NEW_YEAR), 60_000_000);
    door.open();
}

#[test]
fn a_clock_is_never_behind_the_log_and_moves_only_when_it_is_advanced() {
    let clock = VirtualClock::default();
    let world = under(&clock, World::of([workflow("w", [waiting("a", &Door::default()).retry(once())])]));
    let log: Arc<dyn EventLog> = Arc::new(world.log());
    let floor = log.head().unwrap().time.0;
    let engine = world.open_on(log);
    assert_eq!(clock.now(), Timestamp(floor));
    clock.advance(seconds(5));
    assert_eq!(clock.now(), Timestamp(floor + 5_000_000));
    drop(engine);
    clock.advance(seconds(5));
    assert_eq!(clock.now(), Timestamp(floor + 10_000_000), "a clock without an engine moves, too");
}

#[test]
fn two_engines_share_a_clock() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let engines = [10_000, 15_000].map(|delay| {
        let (flaky, _) = failing_task("flaky", 1);
        under(&clock, World::of([workflow("w", [flaky.retry(attempts(2, delay))])])).open()
    });
    let executions = engines.each_ref().map(|engine| start(engine, "w"));
    clock.advance(seconds(12));
    assert_eq!(end_of(&engines[0], executions[0]).status, ExecutionStatus::Completed);
    assert_eq!(task(&engines[1].outcome(executions[1]).unwrap(), "flaky"), ("WaitingRetry", 1));
    clock.advance(seconds(3));
    assert_eq!(end_of(&engines[1], executions[1]).status, ExecutionStatus::Completed);
}

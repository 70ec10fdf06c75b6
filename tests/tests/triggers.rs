//! Triggers in an engine: serial polls, fires that start executions, and fires that are dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloacina_engine::core::event::{Cause, Event, Request, TaskError};
use cloacina_engine::core::time::{Millis, Timestamp};
use cloacina_engine::core::trigger::{DropCause, Pace, TriggerEvent, TriggerId};
use cloacina_engine::core::{codec, trigger};
use cloacina_engine::runtime::clock::{TimeSource, VirtualClock};
use cloacina_engine::runtime::engine::{Engine, ExecutionStatus};
use cloacina_engine::runtime::task::Task;
use cloacina_engine::runtime::trigger::{Poll, PollResult, Trigger, TriggerBody};
use cloacina_engine::runtime::triggers::TriggerError;
use cloacina_store::record::StreamId;
use cloacina_tests::history::history;
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{error, once, step, waiting, workflow};
use cloacina_tests::world::{World, end_of, input, value};
use serde_json::json;

/// The first second of 2030. It has to be later than the wall clock, which the log itself uses.
const NEW_YEAR: Timestamp = Timestamp(1_893_456_000_000_000);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn under(clock: &VirtualClock, world: World) -> World {
    world.with_config(|config| config.time = TimeSource::Virtual(clock.clone()))
}

/// Scripted results of a trigger, one for each poll, then none; counts the polls.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<VecDeque<PollResult>>, AtomicUsize)>);

impl Script {
    fn of(answers: impl IntoIterator<Item = PollResult>) -> Self {
        Self(Arc::new((Mutex::new(answers.into_iter().collect()), AtomicUsize::new(0))))
    }

    fn polls(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn body(&self) -> TriggerBody {
        let script = self.clone();
        TriggerBody::Blocking(Arc::new(move || {
            script.0.1.fetch_add(1, Ordering::SeqCst);
            script.0.0.lock().unwrap().pop_front().unwrap_or(Ok(Poll::Skip))
        }))
    }
}

fn fire(file: &str) -> PollResult {
    Ok(Poll::Fire(vec![input("file", json!(file))]))
}

fn every_5_s() -> Pace {
    Pace::Interval(Millis(5_000))
}

fn inbox(script: &Script) -> Trigger {
    Trigger::new("inbox", "etl", every_5_s(), script.body()).unwrap()
}

/// The events of a trigger in the log.
fn event_names(engine: &Engine, name: &str) -> Vec<String> {
    let stream = StreamId::from_bytes(TriggerId::of(name).0);
    let records = engine.log().read(stream, 0, 1_000).unwrap();
    let event =
        |record: &cloacina_store::record::Record| codec::decode_trigger_event(record.body.bytes().unwrap()).unwrap();
    records.iter().map(|record| event(record).name().to_owned()).collect()
}

#[test]
fn a_trigger_is_polled_at_its_interval_and_only_its_results_are_in_the_log() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let script = Script::of([Ok(Poll::Skip), Ok(Poll::Skip), fire("a.csv")]);
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(9));
    assert_eq!(script.polls(), 2, "at once, and after five seconds");
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined"]);
    clock.advance(seconds(91));
    assert_eq!(script.polls(), 21);
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerFired"]);

    let [fired] = &engine.trigger_history("inbox", 10, 0).unwrap()[..] else { panic!("one fire") };
    assert_eq!(fired.fired.micros_since(NEW_YEAR), 10_000_000);
    assert_eq!(fired.context, trigger::context_digest(&[input("file", json!("a.csv"))]));
    let outcome = end_of(&engine, fired.execution);
    assert_eq!((outcome.status, value(&outcome, "file")), (ExecutionStatus::Completed, json!("a.csv")));
    assert_eq!(fired.standing.ended(), outcome.ended);
    let Event::ExecutionStarted(started) = &history(&**engine.log(), fired.execution)[0].event else { panic!() };
    assert_eq!(started.cause, Cause::Trigger { name: "inbox".into() });
    let [listed] = &engine.triggers().unwrap()[..] else { panic!("one trigger") };
    assert_eq!((&*listed.definition.workflow, listed.enabled), ("etl", true));
    assert_eq!(listed.last_poll.unwrap().micros_since(NEW_YEAR), 100_000_000);
}

#[test]
fn a_fire_is_dropped_while_an_execution_with_the_same_context_runs() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let door = Door::closed();
    let slow = || workflow("etl", [waiting("load", &door).timeout(seconds(100_000))]);
    let world = under(&clock, World::of([slow()]));
    let script = Script::of([fire("a"), fire("a"), fire("b"), fire("a")]);
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(20));
    let expected = ["TriggerDefined", "TriggerFired", "TriggerDropped", "TriggerFired", "TriggerDropped"];
    assert_eq!(event_names(&engine, "inbox"), expected);
    let first = engine.trigger_history("inbox", 1, 1).unwrap()[0].execution;
    let stream = StreamId::from_bytes(TriggerId::of("inbox").0);
    let dropped = engine.log().read(stream, 2, 1).unwrap().remove(0);
    let TriggerEvent::Dropped(dropped) = codec::decode_trigger_event(dropped.body.bytes().unwrap()).unwrap() else {
        panic!()
    };
    assert_eq!(dropped.why, DropCause::SameContextRuns(first));

    // The next process knows the unfinished executions, even before their workflow is registered.
    let world = under(&VirtualClock::starting_at(NEW_YEAR), world.after_kill());
    let script = Script::of([fire("b"), fire("c")]);
    world.registry.register_trigger(inbox(&script));
    world.registry.register(slow());
    let TimeSource::Virtual(later) = world.config.time.clone() else { panic!() };
    let second = world.open();
    later.advance(seconds(5));
    assert_eq!(event_names(&second, "inbox")[expected.len()..], ["TriggerDropped", "TriggerFired"]);
    door.open();
    drop((engine, second));
}

#[test]
fn a_fire_is_dropped_while_an_execution_with_the_same_context_is_retried() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let (door, runs) = (Door::closed(), AtomicUsize::new(0));
    let passed = door.clone();
    let load = Task::new("load", move |_| match runs.fetch_add(1, Ordering::SeqCst) {
        0 => Err(error("the server is down")),
        _ if passed.pass() => Ok(()),
        _ => Err(error("the door stayed closed")),
    });
    let world = under(&clock, World::of([workflow("etl", [load.retry(once()).timeout(seconds(100_000))])]));
    world.registry.register_trigger(inbox(&Script::of([fire("a"), fire("a")])));
    let engine = world.open();
    clock.advance(seconds(1));
    let failed = engine.trigger_history("inbox", 1, 0).unwrap()[0].execution;
    assert_eq!(end_of(&engine, failed).status, ExecutionStatus::Failed);
    engine.retry(failed, Request { by: "ann".into(), reason: None }).unwrap();
    door.wait_for_arrivals(1);
    clock.advance(seconds(5));
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerFired", "TriggerDropped"]);
    door.open();
    assert_eq!(end_of(&engine, failed).status, ExecutionStatus::Completed);
}

#[test]
fn a_context_may_fire_again_once_its_execution_has_ended() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let script = Script::of([fire("a"), fire("a")]);
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(5));
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerFired", "TriggerFired"]);
}

#[test]
fn a_trigger_that_may_run_concurrently_drops_nothing() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let door = Door::closed();
    let world = under(&clock, World::of([workflow("etl", [waiting("load", &door)])]));
    let script = Script::of([fire("a"), fire("a")]);
    world.registry.register_trigger(inbox(&script).allow_concurrent());
    let engine = world.open();
    clock.advance(seconds(5));
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerFired", "TriggerFired"]);
    door.open();
}

#[test]
fn a_poll_that_fails_or_panics_does_not_end_the_polling() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = polls.clone();
    let body = TriggerBody::Blocking(Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Err(TaskError { kind: "IOError".into(), message: "no inbox".into(), ..TaskError::default() }),
        1 => panic!("worse"),
        2 => fire("a"),
        _ => Ok(Poll::Skip),
    }));
    world.registry.register_trigger(Trigger::new("inbox", "etl", every_5_s(), body).unwrap());
    let dropping = TriggerBody::Detached(Arc::new(drop));
    world.registry.register_trigger(Trigger::new("lost", "etl", every_5_s(), dropping).unwrap());
    let engine = world.open();
    clock.advance(seconds(20));
    assert_eq!(polls.load(Ordering::SeqCst), 5);
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerFired"]);
    assert_eq!(event_names(&engine, "lost"), ["TriggerDefined"]);
}

#[test]
fn two_polls_of_a_trigger_never_run_at_once() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let door = Door::closed();
    let (at_door, polls) = (door.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = polls.clone();
    let body = TriggerBody::Blocking(Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(at_door.pass());
        Ok(Poll::Skip)
    }));
    world.registry.register_trigger(Trigger::new("slow", "etl", every_5_s(), body).unwrap());
    let engine = world.open();
    door.wait_for_arrivals(1);
    clock.advance(seconds(60));
    assert_eq!(polls.load(Ordering::SeqCst), 1, "the first poll still runs");
    door.open();
    clock.advance(seconds(10));
    assert_eq!(polls.load(Ordering::SeqCst), 4, "after it has ended, the late poll comes at once, then two more");
    drop(engine);
}

#[test]
fn a_disabled_trigger_is_not_polled_in_this_process_or_the_next() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let script = Script::default();
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(5));
    engine.enable_trigger("inbox", false).unwrap();
    clock.advance(seconds(50));
    assert_eq!((script.polls(), engine.triggers().unwrap()[0].enabled), (2, false));
    drop(engine);
    let engine = world.open();
    clock.advance(seconds(50));
    assert_eq!(script.polls(), 2);
    engine.enable_trigger("inbox", true).unwrap();
    clock.advance(seconds(5));
    assert_eq!(script.polls(), 4, "at once, and after five seconds");
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerDisabled", "TriggerEnabled"]);
    assert_eq!(engine.enable_trigger("outbox", true), Err(TriggerError::NotFound("outbox".into())));
    assert_eq!(engine.trigger_history("outbox", 10, 0), Ok(vec![]));
}

#[test]
fn a_trigger_waits_for_its_workflow_and_ends_when_it_is_unregistered() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::default());
    let script = Script::default();
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(50));
    assert_eq!(script.polls(), 0, "its fires could not start anything");
    world.registry.register(workflow("etl", [step("load")]));
    clock.advance(seconds(5));
    assert_eq!(script.polls(), 2);
    assert!(world.registry.unregister_trigger("inbox"));
    clock.advance(seconds(50));
    assert_eq!(script.polls(), 2);
    assert_eq!(engine.triggers().unwrap().len(), 1, "it is still in the log");
}

#[test]
fn a_redefined_trigger_uses_its_new_definition() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world = under(&clock, World::of([workflow("etl", [step("load")])]));
    let (old, new) = (Script::default(), Script::default());
    world.registry.register_trigger(inbox(&old));
    let engine = world.open();
    clock.advance(seconds(5));
    let hourly = Pace::Cron { expression: "@hourly".into(), timezone: "UTC".into() };
    world.registry.register_trigger(Trigger::new("inbox", "etl", hourly, new.body()).unwrap());
    clock.advance(seconds(2 * 3_600));
    assert_eq!((old.polls(), new.polls()), (2, 2), "at one and at two o'clock");
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerDefined"]);
}

#[test]
fn a_value_that_is_too_long_drops_the_fire_with_a_reason() {
    let clock = VirtualClock::starting_at(NEW_YEAR);
    let world =
        under(&clock, World::of([workflow("etl", [step("load")])])).with_config(|config| config.max_value_bytes = 10);
    let script = Script::of([fire("a name that is much too long"), fire("a")]);
    world.registry.register_trigger(inbox(&script));
    let engine = world.open();
    clock.advance(seconds(5));
    assert_eq!(event_names(&engine, "inbox"), ["TriggerDefined", "TriggerDropped", "TriggerFired"]);
}

#[test]
fn an_invalid_trigger_is_refused() {
    let body = Script::default().body();
    let cron =
        |expression: &str, timezone: &str| Pace::Cron { expression: expression.into(), timezone: timezone.into() };
    let wrong = |name: &str, pace| Trigger::new(name, "etl", pace, body.clone()).err().unwrap().to_string();
    assert!(wrong("t", cron("* *", "UTC")).starts_with("trigger 't': invalid cron expression '* *'"));
    assert!(wrong("t", cron("@daily", "Mars")).starts_with("trigger 't': unknown time zone 'Mars'"));
    assert_eq!(wrong("", every_5_s()), "trigger '': its name must have 1 to 500 bytes");
    assert!(wrong(&"t".repeat(501), every_5_s()).len() < 200);
}

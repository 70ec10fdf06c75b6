//! The crash that a test asks for: what was decided up to it is in the log, and what came later is not.

use std::sync::Arc;
use std::time::Duration;

use cloacina_engine::runtime::crashing::CrashingLog;
use cloacina_engine::runtime::engine::{ExecutionStatus, WaitError};
use cloacina_tests::GUARD;
use cloacina_tests::history::tale;
use cloacina_tests::workflows::chain;
use cloacina_tests::world::{World, call, end_of, run, value};
use serde_json::json;

/// The events of a chain of three: 0 started, 1-3 `a`, 4-6 `b`, 7-9 `c`, 10 completed; a step of it is one batch.
#[test]
fn after_a_crash_at_any_event_the_next_engine_ends_what_was_begun() {
    let undisturbed = run(&World::of([chain("three")]).open(), "three");
    for seq in 0..=10 {
        let world = World::of([chain("three")]);
        let log = CrashingLog::new(Arc::new(world.log()));
        log.crash_after(seq);
        let engine = world.open_on(Arc::new(log.clone()));
        // The start itself may be what nobody hears of any more.
        let started = engine.start(call("three"));
        let (execution, last) = log.crashed(GUARD).expect("it crashed");
        assert!(last >= seq);
        // Of an end that is in the log everybody hears who looks there.
        if started.is_ok() && last < 10 {
            assert!(
                matches!(engine.wait(execution, Some(GUARD)), Err(WaitError::Log(reason)) if reason.to_string().contains("crash"))
            );
        }
        drop(engine);
        let before = tale(&world.log(), execution);
        assert_eq!(before.len() as u64, last + 1, "nothing came after {seq}: {before:?}");

        let world = world.in_new_process().knowing([chain("three")]);
        let engine = world.open();
        let outcome = end_of(&engine, execution);
        assert_eq!((outcome.status, value(&outcome, "path")), (ExecutionStatus::Completed, json!(["a", "b", "c"])));
        assert_eq!(outcome.context, undisturbed.context);
        assert_eq!(tale(&**engine.log(), execution)[..before.len()], before[..]);
    }
}

#[test]
fn without_such_an_event_there_is_no_crash() {
    let world = World::of([chain("three")]);
    let log = CrashingLog::new(Arc::new(world.log()));
    log.crash_after(100);
    let engine = world.open_on(Arc::new(log.clone()));
    assert_eq!(run(&engine, "three").status, ExecutionStatus::Completed);
    assert_eq!(log.crashed(Duration::ZERO), None);
    engine.shutdown(GUARD).unwrap();
}

//! Crash injection: every decision before the crash is in the log, and no later one.

use std::sync::Arc;
use std::time::Duration;

use cloacina_engine::runtime::crashing::CrashingLog;
use cloacina_engine::runtime::engine::{ExecutionStatus, WaitError};
use cloacina_tests::GUARD;
use cloacina_tests::history::event_names;
use cloacina_tests::workflows::chain;
use cloacina_tests::world::{World, call, end_of, run, value};
use serde_json::json;

/// The events of a chain of three: 0 started, 1-3 `a`, 4-6 `b`, 7-9 `c`, 10 completed; a step of it is one batch.
#[test]
fn after_a_crash_at_any_event_the_next_engine_finishes_the_execution() {
    let undisturbed = run(&World::of([chain("three")]).open(), "three");
    for seq in 0..=10 {
        let world = World::of([chain("three")]);
        let log = CrashingLog::new(Arc::new(world.log()));
        log.crash_after(seq);
        let engine = world.open_on(Arc::new(log.clone()));
        // The crash may hit the start itself, which then fails.
        let started = engine.start(call("three"));
        let (execution, last) = log.crashed(GUARD).expect("it crashed");
        assert!(last >= seq);
        // If the end is in the log, a caller may read it there.
        if started.is_ok() && last < 10 {
            assert!(
                matches!(engine.wait(execution, Some(GUARD)), Err(WaitError::Log(reason)) if reason.to_string().contains("crash"))
            );
        }
        drop(engine);
        let before = event_names(&world.log(), execution);
        assert_eq!(before.len() as u64, last + 1, "nothing came after {seq}: {before:?}");

        let world = world.in_new_process().with_workflows([chain("three")]);
        let engine = world.open();
        let outcome = end_of(&engine, execution);
        assert_eq!((outcome.status, value(&outcome, "path")), (ExecutionStatus::Completed, json!(["a", "b", "c"])));
        assert_eq!(outcome.context, undisturbed.context);
        assert_eq!(event_names(&**engine.log(), execution)[..before.len()], before[..]);
    }
}

#[test]
fn without_the_event_there_is_no_crash() {
    let world = World::of([chain("three")]);
    let log = CrashingLog::new(Arc::new(world.log()));
    log.crash_after(100);
    let engine = world.open_on(Arc::new(log.clone()));
    assert_eq!(run(&engine, "three").status, ExecutionStatus::Completed);
    assert_eq!(log.crashed(Duration::ZERO), None);
    engine.shutdown(GUARD).unwrap();
}

//! Pause, unpause, cancel, and attaching to an execution by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cloacina_engine::runtime::engine::{EngineError, ExecutionStatus, StartError, WaitError};
use cloacina_engine::runtime::task::Task;
use cloacina_tests::history::{event_names, has_event};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{chain, once, step, waiting, workflow};
use cloacina_tests::world::{World, call, call_as, end_of, id, run, start, task, value};
use serde_json::json;

#[test]
fn a_paused_execution_starts_nothing_until_it_is_unpaused() {
    let door = Door::closed();
    let engine = World::of([workflow("two", [waiting("first", &door), step("second").after(["first"])])]).open();
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    engine.pause(execution, Some("the disk is full".into())).unwrap();
    assert_eq!(engine.outcome(execution).unwrap().status, ExecutionStatus::Paused);
    let listed = engine.executions(Some(ExecutionStatus::Paused), None, 10, None).unwrap();
    assert_eq!(listed.len(), 1);
    door.open();
    let completed = || has_event(&**engine.log(), execution, "TaskCompleted first 1");
    while !completed() {
        thread::yield_now();
    }
    assert!(!has_event(&**engine.log(), execution, "TaskStarted second 1"));
    engine.unpause(execution).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    let events = event_names(&**engine.log(), execution);
    let place = |event: &str| events.iter().position(|name| name == event).unwrap();
    assert!(place("TaskStarted second 1") > place("ExecutionUnpaused"));
}

#[test]
fn pausing_twice_is_refused() {
    let door = Door::closed();
    let engine = World::of([workflow("one", [waiting("only", &door)])]).open();
    let execution = start(&engine, "one");
    engine.pause(execution, None).unwrap();
    let refused = engine.pause(execution, None).unwrap_err();
    assert!(matches!(&refused, EngineError::Rejected { why, .. } if why == "it is already paused"), "{refused}");
    let refused = engine.resume(execution).unwrap_err();
    assert!(matches!(&refused, EngineError::Rejected { why, .. } if why.contains("not blocked")), "{refused}");
    engine.unpause(execution).unwrap();
    let refused = engine.unpause(execution).unwrap_err();
    assert!(matches!(&refused, EngineError::Rejected { why, .. } if why == "it is not paused"), "{refused}");
    door.open();
}

#[test]
fn a_cancelled_execution_frees_its_slots_and_ignores_running_attempts() {
    let door = Door::closed();
    let engine =
        World::of([workflow("two", [waiting("first", &door), step("second").after(["first"])]), chain("quick")])
            .with_slots(1)
            .open();
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    engine.cancel(execution, Some("a typo".into())).unwrap();
    let outcome = end_of(&engine, execution);
    assert_eq!(outcome.status, ExecutionStatus::Cancelled);
    assert_eq!(outcome.error.as_deref(), Some("cancelled by user: a typo"));
    assert_eq!((task(&outcome, "first"), task(&outcome, "second")), (("Cancelled", 1), ("Cancelled", 0)));
    assert_eq!(run(&engine, "quick").status, ExecutionStatus::Completed, "the slot is free");
    door.open();
    engine.shutdown(Duration::from_secs(10)).unwrap();
    assert!(!has_event(&**engine.log(), execution, "TaskCompleted first 1"));
}

/// Regression: the error was "there is no execution … in this log" for an execution that is in the log, but has ended.
#[test]
fn cancelling_an_ended_execution_says_that_it_has_ended() {
    let engine = World::of([chain("quick")]).open();
    let done = run(&engine, "quick").execution;
    for refused in [engine.cancel(done, None), engine.pause(done, None), engine.unpause(done)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, EngineError::Rejected { .. }), "{refused}");
        assert!(refused.to_string().contains("the execution has ended (Completed)"), "{refused}");
    }
    let unknown = engine.cancel(id(9), None).unwrap_err();
    assert!(matches!(unknown, EngineError::NotFound(_)), "{unknown}");
}

/// Regression: the result of the other workflow was returned.
#[test]
fn an_id_of_another_workflow_is_not_attached_to() {
    let door = Door::closed();
    let engine = World::of([workflow("one", [waiting("only", &door)]), chain("quick")]).open();
    engine.start(call_as("one", id(1))).unwrap();
    let refused = engine.start(call_as("quick", id(1))).unwrap_err();
    assert!(matches!(&refused, StartError::OtherWorkflow { workflow, .. } if &**workflow == "one"), "{refused}");
    door.open();
    end_of(&engine, id(1));
    let refused = engine.start(call_as("quick", id(1))).unwrap_err();
    assert!(matches!(refused, StartError::OtherWorkflow { .. }), "{refused}");
}

/// Regression: for an ended execution the error was that the engine was shut down before the execution ended.
#[test]
fn the_result_of_an_ended_execution_is_returned_after_the_shutdown_too() {
    let engine = World::of([chain("quick")]).open();
    let done = run(&engine, "quick").execution;
    engine.shutdown(Duration::ZERO).unwrap();
    assert_eq!(engine.wait(done, None).unwrap().status, ExecutionStatus::Completed);
    assert!(matches!(engine.wait(id(9), None).unwrap_err(), WaitError::NotFound(_)));
}

#[test]
fn waiting_for_a_missing_execution_is_an_error() {
    let engine = World::of([chain("quick")]).open();
    assert!(matches!(engine.wait(id(1), None).unwrap_err(), WaitError::NotFound(_)));
    assert!(matches!(engine.outcome(id(1)).unwrap_err(), EngineError::NotFound(_)));
}

#[test]
fn a_wait_that_times_out_leaves_the_execution_alone() {
    let door = Door::closed();
    let engine = World::of([workflow("one", [waiting("only", &door)])]).open();
    let execution = start(&engine, "one");
    let waited = engine.wait(execution, Some(Duration::from_millis(1))).unwrap_err();
    assert!(matches!(waited, WaitError::TimedOut { .. }), "{waited}");
    door.open();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

#[test]
fn an_id_that_is_new_starts_and_one_that_exists_attaches() {
    let door = Door::closed();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let body = waiting("only", &door);
    let count = Task::new("count", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let engine = World::of([workflow("one", [count, body.after(["count"])])]).open();
    assert_eq!(engine.start(call_as("one", id(1))).unwrap(), id(1));
    door.wait_for_arrivals(1);
    assert_eq!(engine.start(call_as("one", id(1))).unwrap(), id(1), "it attaches to the running execution");
    door.open();
    assert_eq!(value(&end_of(&engine, id(1)), "done"), json!(true));
    assert_eq!(engine.start(call_as("one", id(1))).unwrap(), id(1), "it attaches to the ended execution");
    assert_eq!(value(&end_of(&engine, id(1)), "done"), json!(true));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// Regression: whether an id is new was looked up before the scheduler was asked. If another caller's execution with the same
/// id began and ended in between, the second start wrote `ExecutionStarted` behind its end; the log refused that, and
/// the refusal stopped the whole engine.
#[test]
fn many_callers_who_start_the_same_id_start_it_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let only = Task::new("only", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let engine = Arc::new(World::of([workflow("one", [only.retry(once())])]).open());
    for round in 0..100 {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let engine = engine.clone();
                thread::spawn(move || {
                    let execution = engine.start(call_as("one", id(round))).unwrap();
                    end_of(&engine, execution).status
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| assert_eq!(caller.join().unwrap(), ExecutionStatus::Completed));
        assert_eq!(runs.load(Ordering::SeqCst), usize::from(round) + 1);
    }
    assert_eq!(end_of(&engine, engine.start(call("one")).unwrap()).status, ExecutionStatus::Completed);
}

/// Regression: the scheduler keeps an execution for a moment after its end is published. A resume in that moment was refused
/// because the execution was still running.
#[test]
fn resuming_an_ended_execution_is_refused_with_its_end() {
    let engine = World::of([chain("three")]).open();
    for _ in 0..50 {
        let ended = run(&engine, "three").execution;
        let refused = engine.resume(ended).unwrap_err().to_string();
        assert_eq!(refused, format!("execution {ended}: the execution has ended (Completed)"));
    }
    assert!(matches!(engine.resume(id(9)), Err(EngineError::NotFound(unknown)) if unknown == id(9)));
}

//! Starting executions together: all of them start, or none.

use std::sync::Arc;

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::runtime::crashing::CrashingLog;
use cloacina_engine::runtime::engine::{ExecutionStatus, StartError, StartManyError, StartRequest};
use cloacina_tests::GUARD;
use cloacina_tests::history::event_names;
use cloacina_tests::workflows::chain;
use cloacina_tests::world::{World, call, end_of, input, run, value};
use serde_json::json;

fn numbered(name: &str, number: u8) -> StartRequest {
    let mut request = call(name);
    request.input = vec![input("number", json!(number))];
    request
}

fn with_id(number: u8, id: ExecutionId) -> StartRequest {
    let mut request = numbered("three", number);
    request.execution = Some(id);
    request
}

#[test]
fn each_runs_as_if_it_was_started_alone() {
    let engine = World::of([chain("three")]).open();
    let alone = run(&engine, "three");
    let executions = engine.start_many((0..50).map(|number| numbered("three", number)).collect()).unwrap();
    for (number, execution) in executions.into_iter().enumerate() {
        let outcome = end_of(&engine, execution);
        assert_eq!((outcome.status, value(&outcome, "number")), (ExecutionStatus::Completed, json!(number)));
        assert_eq!(value(&outcome, "path"), value(&alone, "path"));
        let mut reported = event_names(&**engine.log(), execution);
        assert_eq!(reported.remove(1), "ContextWritten number");
        assert_eq!(reported, event_names(&**engine.log(), alone.execution));
    }
}

#[test]
fn no_requests_start_nothing() {
    assert_eq!(World::of([chain("three")]).open().start_many(Vec::new()).unwrap(), []);
}

#[test]
fn if_one_cannot_start_none_does() {
    let engine = World::of([chain("three"), chain("other")]).open();
    let taken = run(&engine, "other").execution;
    let refused = engine.start_many(vec![numbered("three", 0), numbered("thre", 1)]);
    assert!(matches!(refused, Err(StartManyError { at: 1, why: StartError::UnknownWorkflow { .. } })), "{refused:?}");
    let refused = engine.start_many(vec![numbered("three", 0), numbered("three", 1), with_id(2, taken)]);
    assert!(matches!(refused, Err(StartManyError { at: 2, why: StartError::OtherWorkflow { .. } })), "{refused:?}");
    let new = ExecutionId([7; 16]);
    let mut same_id = call("other");
    same_id.execution = Some(new);
    let refused = engine.start_many(vec![with_id(0, new), same_id]);
    assert!(matches!(refused, Err(StartManyError { at: 1, why: StartError::OtherWorkflow { .. } })), "{refused:?}");
    assert_eq!(engine.executions(None, Some("three"), 10, None).unwrap().len(), 0);
}

#[test]
fn existing_executions_are_attached_to() {
    let engine = World::of([chain("three")]).open();
    let (ended, new) = (ExecutionId([1; 16]), ExecutionId([2; 16]));
    end_of(&engine, engine.start(with_id(1, ended)).unwrap());
    let executions = engine.start_many(vec![with_id(5, ended), with_id(6, new), with_id(7, new)]).unwrap();
    assert_eq!(executions, [ended, new, new]);
    let numbers: Vec<_> = executions.iter().map(|id| value(&end_of(&engine, *id), "number")).collect();
    assert_eq!(numbers, [json!(1), json!(6), json!(6)]);
    assert_eq!(engine.start_many(vec![with_id(8, ended)]).unwrap(), [ended]);
}

#[test]
fn after_a_crash_all_of_them_are_there_or_none() {
    let world = World::of([chain("three")]);
    let log = CrashingLog::new(Arc::new(world.log()));
    log.crash_after(0);
    let engine = world.open_on(Arc::new(log.clone()));
    let started = engine.start_many((0..20).map(|number| numbered("three", number)).collect());
    log.crashed(GUARD).expect("it crashed");
    drop(engine);

    let world = world.in_new_process().with_workflows([chain("three")]);
    let engine = world.open();
    let found = engine.executions(None, None, 100, None).unwrap();
    assert!(found.len() == 20 || (found.is_empty() && started.is_err()), "{} of 20", found.len());
    for one in found {
        assert_eq!(end_of(&engine, one.execution).status, ExecutionStatus::Completed);
    }
}

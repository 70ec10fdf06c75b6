//! Erasing values through the engine that has the log open.

use cloacina_engine::core::erasure::{NothingToErase, What};
use cloacina_engine::runtime::engine::ExecutionStatus;
use cloacina_engine::runtime::erasing::EraseError;
use cloacina_engine::runtime::task::Task;
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{read, waiting, workflow, write};
use cloacina_tests::world::{World, call, end_of, id, input, start, value};
use serde_json::json;

fn greet() -> Task {
    Task::new("greet", |context| {
        let name = read(context, "name")?;
        write(context, "letters", json!(name.as_str().map_or(0, str::len)));
        Ok(())
    })
}

#[test]
fn an_erased_value_is_gone_and_the_execution_is_unchanged() {
    let world = World::of([workflow("greeting", [greet()])]);
    let engine = world.open();
    let mut request = call("greeting");
    request.input = vec![input("name", json!("Ada Lovelace"))];
    let execution = engine.start(request).unwrap();
    assert_eq!(value(&end_of(&engine, execution), "name"), json!("Ada Lovelace"));
    let key = [What::Key("name".to_owned())];
    assert_eq!(engine.erase(execution, &key, "case 311", "ann").unwrap(), 2, "the value, and the digest");
    assert_eq!(engine.erase(execution, &key, "case 311", "ann").unwrap(), 0, "erasing again changes nothing");
    engine.shutdown(std::time::Duration::ZERO).unwrap();

    let engine = world.open();
    let outcome = engine.outcome(execution).unwrap();
    assert_eq!((outcome.status, value(&outcome, "letters")), (ExecutionStatus::Completed, json!(12)));
    let erased = outcome.context["name"].erasure().expect("the context has the erasure in place of the value");
    assert_eq!((&*erased.by, &*erased.reason), ("ann", "case 311"));
    let erasures = engine.log().erasures(cloacina_engine::runtime::outcome::stream_of(execution)).unwrap();
    assert_eq!((&*erasures[0].by, &*erasures[0].reason), ("ann", "case 311"));
    assert_eq!(world.log().verify().findings, []);
}

#[test]
fn erasing_in_a_running_or_missing_execution_is_refused() {
    let door = Door::closed();
    let world = World::of([workflow("held", [waiting("wait", &door)])]);
    let engine = world.open();
    let execution = start(&engine, "held");
    let key = [What::Key("name".to_owned())];
    let refused = engine.erase(execution, &key, "x", "ann").unwrap_err();
    assert!(matches!(refused, EraseError::Nothing { why: NothingToErase::NotOver, .. }), "{refused}");
    assert!(matches!(engine.erase(id(9), &key, "x", "ann"), Err(EraseError::Unreadable(_))));
    door.open();
    end_of(&engine, execution);
}

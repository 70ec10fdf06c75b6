//! Running workflows without faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::runtime::engine::{ExecutionStatus, StartError};
use cloacina_engine::runtime::task::{Task, TaskBody};
use cloacina_tests::history::{event_names, history};
use cloacina_tests::sync::{Barrier, Door};
use cloacina_tests::workflows::{attempts, chain, error, once, read, step, waiting, workflow, write};
use cloacina_tests::world::{World, call, end_of, input, run, start, task, value};
use serde_json::json;

#[test]
fn a_task_sees_the_input_and_its_result_is_returned() {
    let double = Task::new("double", |context| {
        let number = read(context, "number")?.as_i64().unwrap_or(0);
        write(context, "double", json!(2 * number));
        Ok(())
    });
    let engine = World::of([workflow("doubling", [double])]).open();
    let mut request = call("doubling");
    request.input = vec![input("number", json!(21))];
    let execution = engine.start(request).unwrap();
    let outcome = end_of(&engine, execution);
    assert_eq!(outcome.status, ExecutionStatus::Completed);
    assert_eq!((value(&outcome, "number"), value(&outcome, "double")), (json!(21), json!(42)));
    assert_eq!((outcome.execution, &*outcome.workflow, &outcome.error), (execution, "doubling", &None));
}

#[test]
fn a_chain_runs_in_order_and_its_history_records_it() {
    let engine = World::of([chain("three")]).open();
    let outcome = run(&engine, "three");
    assert_eq!(value(&outcome, "path"), json!(["a", "b", "c"]));
    assert_eq!(
        event_names(&**engine.log(), outcome.execution),
        [
            "ExecutionStarted",
            "TaskStarted a 1",
            "ContextWritten path",
            "TaskCompleted a 1",
            "TaskStarted b 1",
            "ContextWritten path",
            "TaskCompleted b 1",
            "TaskStarted c 1",
            "ContextWritten path",
            "TaskCompleted c 1",
            "ExecutionCompleted",
        ]
    );
}

#[test]
fn a_diamond_joins_both_branches_in_the_order_of_the_dependencies() {
    let diamond = workflow(
        "diamond",
        [step("top"), step("left").after(["top"]), step("right").after(["top"]), step("end").after(["right", "left"])],
    );
    let engine = World::of([diamond]).open();
    for _ in 0..20 {
        assert_eq!(value(&run(&engine, "diamond"), "path"), json!(["top", "right", "left", "end"]));
    }
}

#[test]
fn a_hundred_branches_come_together_in_one() {
    let names: Vec<String> = (0..100).map(|number| format!("branch{number:03}")).collect();
    let branches = names.iter().map(|name| {
        let own = name.clone();
        Task::new(name.as_str(), move |context| {
            write(context, &own, json!(own));
            Ok(())
        })
        .after(["top"])
    });
    let all = names.clone();
    let count = Task::new("count", move |context| {
        let seen = all.iter().filter(|name| read(context, name).is_ok_and(|value| value == json!(name))).count();
        write(context, "seen", json!(seen));
        Ok(())
    })
    .after(names.iter().map(String::as_str));
    let tasks: Vec<Task> = std::iter::once(step("top")).chain(branches).chain([count]).collect();
    let engine = World::of([workflow("wide", tasks)]).with_slots(8).open();
    assert_eq!(value(&run(&engine, "wide"), "seen"), json!(100));
}

#[test]
fn an_async_task_runs_on_tokio() {
    let fetch = Task::new_async("fetch", |mut context| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        write(&mut context, "fetched", json!(true));
        (context, Ok(()))
    });
    let engine = World::of([workflow("fetching", [fetch])]).open();
    assert_eq!(value(&run(&engine, "fetching"), "fetched"), json!(true));
}

#[test]
fn a_detached_task_is_finished_by_its_executor() {
    let mut detached = Task::new("detached", |_| Ok(()));
    detached.body = TaskBody::Detached(Arc::new(|attempt| {
        drop(thread::spawn(move || {
            let mut context = attempt.context.clone();
            write(&mut context, "by", json!(format!("{} {}", attempt.info.task, attempt.info.attempt)));
            attempt.finish(context, Ok(()));
        }));
    }));
    let engine = World::of([workflow("elsewhere", [detached])]).open();
    assert_eq!(value(&run(&engine, "elsewhere"), "by"), json!("detached 1"));
}

#[test]
fn a_detached_attempt_that_is_dropped_has_failed() {
    let mut detached = Task::new("detached", |_| Ok(())).retry(once());
    detached.body = TaskBody::Detached(Arc::new(drop));
    let engine = World::of([workflow("lost", [detached])]).open();
    let outcome = run(&engine, "lost");
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert!(outcome.error.as_ref().unwrap().contains("ExecutorLost"), "{:?}", outcome.error);
}

#[test]
fn a_panicking_task_fails_with_its_message_and_the_engine_continues() {
    let panics = Task::new("panics", |_| panic!("out of cheese")).retry(once());
    let also_async =
        Task::new_async("async", |_| async { panic!("out of {}", "redo from start") }).retry(once()).after(["panics"]);
    let also_async = also_async.rule(cloacina_engine::core::definition::TriggerRule::Always);
    let engine = World::of([workflow("panicking", [panics, also_async]), chain("sound")]).open();
    let outcome = run(&engine, "panicking");
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    let messages: Vec<_> = outcome.tasks.iter().map(|task| task.error.clone().unwrap().message).collect();
    assert_eq!(
        messages.iter().map(|message| &**message).collect::<Vec<_>>(),
        ["out of cheese", "out of redo from start"]
    );
    assert_eq!(run(&engine, "sound").status, ExecutionStatus::Completed);
}

#[test]
fn four_tasks_run_at_once() {
    let barrier = Barrier::of(4);
    let tasks = ["a", "b", "c", "d"].map(|name| {
        let barrier = barrier.clone();
        Task::new(name, move |_| if barrier.wait_for_all() { Ok(()) } else { Err(error("the others never came")) })
            .retry(once())
    });
    let engine = World::of([workflow("barrier", tasks)]).with_slots(4).open();
    assert_eq!(run(&engine, "barrier").status, ExecutionStatus::Completed);
}

#[test]
fn no_more_tasks_run_at_once_than_there_are_slots() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<Task> = (0..40)
        .map(|number| {
            let (running, most) = (running.clone(), most.clone());
            Task::new(format!("task{number}"), move |_| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        })
        .collect();
    let engine = World::of([workflow("crowd", tasks)]).with_slots(3).open();
    let outcome = run(&engine, "crowd");
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let workers = history(&**engine.log(), outcome.execution).into_iter().filter_map(|past| match past.event {
        Event::TaskStarted(started) => Some(started.worker),
        _ => None,
    });
    assert_eq!(workers.max(), Some(2), "slots are numbered from 0");
}

#[test]
fn a_slow_task_delays_no_other() {
    let door = Door::closed();
    let engine = World::of([workflow("slow", [waiting("wait", &door)]), chain("quick")]).with_slots(2).open();
    let slow = start(&engine, "slow");
    door.wait_for_arrivals(1);
    for _ in 0..50 {
        assert_eq!(run(&engine, "quick").status, ExecutionStatus::Completed);
    }
    assert_eq!(engine.outcome(slow).unwrap().status, ExecutionStatus::Running);
    door.open();
    assert_eq!(end_of(&engine, slow).status, ExecutionStatus::Completed);
}

#[test]
fn one_wide_execution_does_not_starve_the_others() {
    let door = Door::closed();
    let wide: Vec<Task> = ["1", "2", "3", "4", "5", "6"].map(|name| waiting(name, &door)).into();
    let engine = World::of([workflow("wide", wide), chain("narrow")]).with_slots(2).open();
    let wide = start(&engine, "wide");
    door.wait_for_arrivals(2);
    let narrow = start(&engine, "narrow");
    door.open();
    let (wide, narrow) = (end_of(&engine, wide), end_of(&engine, narrow));
    let first_of_narrow = narrow.tasks[0].started;
    let last_of_wide = wide.tasks.iter().map(|task| task.started).max().unwrap();
    assert!(first_of_narrow < last_of_wide, "the narrow one waited for all of the wide one");
}

#[test]
fn sixty_four_threads_start_and_wait_at_once() {
    let engine = Arc::new(World::of([chain("three")]).with_slots(8).open());
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let engine = engine.clone();
            thread::spawn(move || -> Vec<ExecutionId> {
                let outcomes = (0..10).map(|_| run(&engine, "three"));
                let whole = outcomes.inspect(|outcome| assert_eq!(value(outcome, "path"), json!(["a", "b", "c"])));
                whole.map(|outcome| outcome.execution).collect()
            })
        })
        .collect();
    let mut all: Vec<ExecutionId> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 640);
    assert_eq!(engine.executions(Some(ExecutionStatus::Completed), None, 1_000, None).unwrap().len(), 640);
}

#[test]
fn an_unknown_workflow_is_refused_with_the_nearest_name() {
    let engine = World::of([chain("nightly_report")]).open();
    let refused = engine.start(call("nightly_raport")).unwrap_err();
    assert_eq!(refused.to_string(), "workflow 'nightly_raport' is not registered; did you mean 'nightly_report'?");
    assert!(engine.executions(None, None, 10, None).unwrap().is_empty(), "nothing was created");
}

#[test]
fn an_input_value_that_is_too_long_is_refused() {
    let engine = World::of([chain("three")]).with_config(|config| config.max_value_bytes = 10).open();
    let mut request = call("three");
    request.input = vec![input("text", json!("123456789"))];
    let refused = engine.start(request).unwrap_err();
    assert!(matches!(refused, StartError::ValueTooLarge { bytes: 11, limit: 10, .. }), "{refused}");
    assert!(engine.executions(None, None, 10, None).unwrap().is_empty(), "nothing was created");
}

#[test]
fn an_attempt_that_leaves_a_value_that_is_too_long_has_failed() {
    let long = Task::new("long", |context| {
        write(context, "short", json!(1));
        write(context, "text", json!("x".repeat(100)));
        Ok(())
    })
    .retry(attempts(1, 0));
    let engine = World::of([workflow("verbose", [long])]).with_config(|config| config.max_value_bytes = 50).open();
    let outcome = run(&engine, "verbose");
    assert_eq!((outcome.status, task(&outcome, "long")), (ExecutionStatus::Failed, ("Failed", 1)));
    let error = outcome.error.as_ref().unwrap();
    assert!(error.contains("context key 'text'") && error.contains("max_value_bytes (50)"), "{error}");
}

#[test]
fn executions_are_listed_newest_first_and_filtered() {
    let fails = workflow("fails", [Task::new("f", |_| Err(error("no"))).retry(once())]);
    let engine = World::of([chain("three"), fails]).open();
    let first = run(&engine, "three").execution;
    let failed = run(&engine, "fails").execution;
    let last = run(&engine, "three").execution;
    let ids = |status, name, limit, before| -> Vec<ExecutionId> {
        let listed = engine.executions(status, name, limit, before).unwrap();
        listed.into_iter().map(|listed| listed.execution).collect()
    };
    assert_eq!(ids(None, None, 10, None), [last, failed, first]);
    assert_eq!(ids(Some(ExecutionStatus::Failed), None, 10, None), [failed]);
    assert_eq!(ids(None, Some("three"), 10, None), [last, first]);
    assert_eq!(ids(None, None, 1, None), [last]);
    assert_eq!(ids(None, None, 10, Some(failed)), [first]);
}

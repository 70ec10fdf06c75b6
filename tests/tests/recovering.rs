//! Recovery: the next process resumes the executions of the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::runtime::engine::{Engine, EngineError, ExecutionStatus, StartError, WaitError};
use cloacina_engine::runtime::outcome::rebuild;
use cloacina_engine::runtime::task::Task;
use cloacina_engine::runtime::workflow::Workflow;
use cloacina_tests::history::{event_names, has_event, history};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, chain, once, step, waiting, workflow, write};
use cloacina_tests::world::{World, call_as, end_of, id, run, start, task, value};
use serde_json::json;

/// A chain of `a`, a task that waits at the door, and `c`.
fn interrupted(door: &Door) -> Workflow {
    workflow("work", [step("a"), waiting("wait", door).after(["a"]), step("c").after(["wait"])])
}

fn open_door() -> Door {
    let door = Door::closed();
    door.open();
    door
}

/// A world whose process was killed while a task waited at the door.
fn killed() -> (World, ExecutionId) {
    let door = Door::closed();
    let world = World::of([interrupted(&door)]);
    let engine = world.open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    let after = world.after_kill();
    door.open();
    (after, execution)
}

fn only_listed(engine: &Engine) -> cloacina_engine::runtime::engine::Listed {
    let mut listed = engine.executions(None, None, 10, None).unwrap();
    assert_eq!(listed.len(), 1);
    listed.remove(0)
}

#[test]
fn a_killed_execution_resumes_where_it_was() {
    let (world, execution) = killed();
    let engine = world.with_workflows([interrupted(&open_door())]).open();
    assert_eq!(engine.recovered(), [execution]);
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, value(&outcome, "path")), (ExecutionStatus::Completed, json!(["a", "c"])));
    assert_eq!((task(&outcome, "a"), task(&outcome, "wait")), (("Completed", 1), ("Completed", 2)));
    assert!(has_event(&**engine.log(), execution, "TaskAbandoned wait 1 ProcessDied"));
}

#[test]
fn a_rerun_under_the_same_id_finishes_the_killed_run() {
    let door = Door::closed();
    let world = World::of([interrupted(&door)]);
    let engine = world.open();
    engine.start(call_as("work", id(1))).unwrap();
    door.wait_for_arrivals(1);
    let after = world.after_kill().with_workflows([interrupted(&open_door())]);
    door.open();
    let engine = after.open();
    assert_eq!(engine.start(call_as("work", id(1))).unwrap(), id(1));
    assert_eq!(end_of(&engine, id(1)).status, ExecutionStatus::Completed);
    assert_eq!(engine.executions(None, None, 10, None).unwrap().len(), 1);
}

#[test]
fn an_execution_waits_for_its_workflow_to_be_registered() {
    let (world, execution) = killed();
    let engine = world.open();
    let listed = only_listed(&engine);
    assert_eq!(listed.standing.status, ExecutionStatus::Blocked);
    assert_eq!(
        listed.standing.reason.as_deref(),
        Some("workflow 'work' is not registered in the process that has the log open")
    );
    let heard = engine.wait(execution, None).unwrap_err();
    assert!(matches!(heard, WaitError::Blocked { .. }), "{heard}");
    world.registry.register(interrupted(&open_door()));
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    assert_eq!(only_listed(&engine).standing.reason, None);
}

/// Regression: right after the open, the listing showed a held execution as `Running`, because the scheduler had not processed it.
#[test]
fn a_held_execution_is_listed_as_pending_from_the_start() {
    let (world, _) = killed();
    for _ in 0..50 {
        let world = World { disk: world.disk.after_kill(), ..world.in_new_process() };
        assert_eq!(only_listed(&world.open()).standing.status, ExecutionStatus::Blocked);
    }
}

/// Regression: after a resume with a changed graph, an abandoned attempt ran again at once, although its task had a new
/// dependency that had not run yet. So did a task that was waiting for its retry.
#[test]
fn a_task_with_a_new_dependency_waits_for_it_before_it_runs_again() {
    let flaky = |failures| cloacina_tests::workflows::failing_task("flaky", failures).0.retry(attempts(2, 100));
    let door = Door::closed();
    let world = World::of([workflow("work", [waiting("wait", &door), flaky(1)])]);
    let engine = world.open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    while engine.outcome(execution).unwrap().tasks[1].state != "WaitingRetry" {
        thread::yield_now();
    }
    let after = world.after_kill();
    drop(engine);
    door.open();
    let new = Door::closed();
    let changed = [waiting("new", &new), waiting("wait", &open_door()).after(["new"]), flaky(0).after(["new"])];
    let engine = after.with_workflows([workflow("work", changed)]).open();
    engine.resume(execution).unwrap();
    new.wait_for_arrivals(1);
    thread::sleep(Duration::from_millis(150));
    new.open();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    let events = event_names(&**engine.log(), execution);
    let place = |event: &str| events.iter().position(|name| name == event).expect(event);
    assert!(place("TaskStarted wait 2") > place("TaskCompleted new 1"), "{events:?}");
    assert!(place("TaskStarted flaky 2") > place("TaskCompleted new 1"), "{events:?}");
}

/// Regression: a held execution had to be resumed first, with another graph, and ran until the cancel arrived.
#[test]
fn a_held_execution_can_be_cancelled_without_running_a_task() {
    let changed = || workflow("work", [step("a"), step("new")]);
    for register in [true, false] {
        let (world, execution) = killed();
        let world = if register { world.with_workflows([changed()]) } else { world };
        let engine = world.open();
        assert_eq!(only_listed(&engine).standing.status, ExecutionStatus::Blocked);
        let started = |events: &[String]| events.iter().filter(|event| event.starts_with("TaskStarted")).count();
        let before = started(&event_names(&**engine.log(), execution));
        engine.cancel(execution, Some("nobody needs it".into())).unwrap();
        let outcome = end_of(&engine, execution);
        assert_eq!(outcome.status, ExecutionStatus::Cancelled);
        assert_eq!(outcome.error.as_deref(), Some("cancelled by user: nobody needs it"));
        assert_eq!(started(&event_names(&**engine.log(), execution)), before);
        let listed = only_listed(&engine);
        assert_eq!((listed.standing.status, listed.standing.reason), (ExecutionStatus::Cancelled, None));
        let again = engine.cancel(execution, None).unwrap_err();
        assert!(again.to_string().contains("the execution has ended (Cancelled)"), "{again}");
        engine.shutdown(Duration::ZERO).unwrap();
        assert_eq!(world.after_kill().open().recovered(), []);
    }
}

#[test]
fn a_changed_graph_holds_the_execution_until_it_is_resumed_explicitly() {
    let (world, execution) = killed();
    let changed = workflow("work", [step("a"), step("b").after(["a"]), waiting("wait", &open_door()).after(["b"])]);
    let engine = world.with_workflows([changed]).open();
    let why = "the graph of workflow 'work' has changed: task 'c' was removed; task 'b' was added; task 'wait' depends on [b] instead of [a]";
    let listed = only_listed(&engine);
    assert_eq!((listed.standing.status, listed.standing.reason.as_deref()), (ExecutionStatus::Blocked, Some(why)));
    let outcome = engine.outcome(execution).unwrap();
    assert_eq!(outcome.status, ExecutionStatus::Blocked);
    let advice = outcome.error.as_deref().unwrap();
    assert!(advice.starts_with(why) && advice.contains(&format!("runner.resume('{execution}')")), "{advice}");
    let refused = engine.start(call_as("work", execution)).unwrap_err();
    assert!(
        matches!(&refused, StartError::Blocked { standing, .. } if standing.reason.as_deref() == Some(why)),
        "{refused}"
    );
    let refused = engine.pause(execution, None).unwrap_err();
    assert!(matches!(&refused, EngineError::Rejected { why: reason, .. } if reason.contains(why)), "{refused}");

    engine.resume(execution).unwrap();
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, value(&outcome, "path")), (ExecutionStatus::Completed, json!(["a", "b"])));
    assert_eq!(task(&outcome, "a"), ("Completed", 1), "a completed task does not run again");
    let refused = engine.resume(execution).unwrap_err();
    assert!(matches!(refused, EngineError::Rejected { .. }), "{refused}");
}

#[test]
fn changed_code_with_the_same_graph_resumes_and_records_its_fingerprint() {
    let (world, execution) = killed();
    let door = open_door();
    let changed =
        workflow("work", [step("a"), waiting("wait", &door).after(["a"]).code_version("2"), step("c").after(["wait"])]);
    let fingerprint = changed.fingerprint();
    let engine = world.with_workflows([changed]).open();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    let recorded = history(&**engine.log(), execution).into_iter().find_map(|past| match past.event {
        Event::ExecutionRecovered(recovered) => Some(recovered.definition),
        _ => None,
    });
    assert_eq!(recorded, Some(fingerprint));
    assert_eq!(rebuild(&**engine.log(), execution).unwrap().fingerprint(), fingerprint);
}

/// A timeout is not part of the graph. Regression: after a recovery with another timeout, the dead attempt's timer with the old
/// one stayed: it timed the next attempt out too early, or stayed first in the queue forever and blocked every other timer
/// of that execution.
#[test]
fn a_changed_timeout_leaves_no_timer_of_the_dead_attempt() {
    let door = Door::closed();
    let with_timeout = |door: &Door, timeout: Duration| {
        let waits = waiting("wait", door).timeout(timeout);
        let runs = AtomicUsize::new(0);
        let stumbles = Task::new("stumbles", move |context| {
            write(context, "tried", json!(true));
            match runs.fetch_add(1, Ordering::SeqCst) {
                0 => Err(cloacina_tests::workflows::error("stumbled")),
                _ => Ok(()),
            }
        });
        workflow("work", [waits, stumbles.after(["wait"]).retry(attempts(2, 300))])
    };
    let world = World::of([with_timeout(&door, Duration::from_millis(200))]);
    let engine = world.open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    let after = world.after_kill();
    drop(engine);
    door.open();
    let engine = after.with_workflows([with_timeout(&open_door(), Duration::from_secs(3_600))]).open();
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, task(&outcome, "stumbles")), (ExecutionStatus::Completed, ("Completed", 2)));
    assert_eq!(task(&outcome, "wait"), ("Completed", 2));
}

#[test]
fn a_task_that_keeps_killing_its_process_has_failed_after_max_recoveries() {
    let mut world = World::default().with_config(|config| config.max_recoveries = 3);
    let execution = {
        let door = Door::closed();
        let first = world.clone().with_workflows([interrupted(&door)]);
        let engine = first.open();
        let execution = start(&engine, "work");
        door.wait_for_arrivals(1);
        world = first.after_kill();
        door.open();
        execution
    };
    for _ in 0..3 {
        let door = Door::closed();
        let next = world.with_workflows([interrupted(&door)]);
        let engine = next.open();
        door.wait_for_arrivals(1);
        world = next.after_kill();
        drop(engine);
        door.open();
    }
    let door = open_door();
    let engine = world.with_workflows([interrupted(&door)]).open();
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, task(&outcome, "wait")), (ExecutionStatus::Failed, ("Failed", 4)));
    let error = outcome.error.as_ref().unwrap();
    assert!(error.contains("its process died while it ran, 4 times"), "{error}");
    assert_eq!(door.arrivals(), 0, "it does not run again");
}

#[test]
fn a_task_that_waited_for_its_retry_is_retried_by_the_next_process() {
    let flaky = |failures: usize| {
        let (task, _) = cloacina_tests::workflows::failing_task("flaky", failures);
        workflow("flaky", [task.retry(attempts(2, 200))])
    };
    let world = World::of([flaky(1)]);
    let engine = world.open();
    let execution = start(&engine, "flaky");
    while engine.outcome(execution).unwrap().tasks[0].state != "WaitingRetry" {
        thread::yield_now();
    }
    let after = world.after_kill().with_workflows([flaky(0)]);
    drop(engine);
    let engine = after.open();
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, task(&outcome, "flaky")), (ExecutionStatus::Completed, ("Completed", 2)));
    let events = history(&**engine.log(), execution);
    let due = events.iter().find_map(|past| match &past.event {
        Event::TaskFailed(failed) => failed.retry_at,
        _ => None,
    });
    let again = events.iter().rev().find(|past| matches!(past.event, Event::TaskStarted(_))).unwrap();
    assert!(again.time >= due.unwrap());
}

#[test]
fn a_paused_execution_is_still_paused_after_a_kill() {
    let door = Door::closed();
    let world = World::of([interrupted(&door)]);
    let engine = world.open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    engine.pause(execution, None).unwrap();
    let after = world.after_kill().with_workflows([interrupted(&open_door())]);
    door.open();
    let engine = after.open();
    assert_eq!(engine.outcome(execution).unwrap().status, ExecutionStatus::Paused);
    assert_eq!(only_listed(&engine).standing.status, ExecutionStatus::Paused);
    engine.unpause(execution).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

/// A closed log is opened with its index, without reading the segments, so the damage is found only later.
#[test]
fn damage_in_one_history_holds_that_execution_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let opened = || Arc::new(cloacina_store::open(&path, &cloacina_store::Options::default()).unwrap());
    let door = Door::closed();
    let world = World::of([interrupted(&door)]).with_slots(2);
    let engine = world.open_on(opened());
    let damaged = engine.start(call_as("work", id(1))).unwrap();
    let whole = engine.start(call_as("work", id(2))).unwrap();
    door.wait_for_arrivals(2);
    engine.shutdown(Duration::ZERO).unwrap();
    door.open();
    drop(engine);
    let segment = path.join("segments/0000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    // A frame of the execution has its id, followed by its events.
    let find =
        |from: usize, word: &[u8]| from + bytes[from..].windows(word.len()).position(|part| part == word).unwrap();
    let place = find(find(0, &id(1).0), b"path");
    bytes[place] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let after = world.in_new_process().with_workflows([interrupted(&open_door()), chain("quick")]);
    let engine = after.open_on(opened());
    assert_eq!(end_of(&engine, whole).status, ExecutionStatus::Completed);
    let heard = engine.wait(damaged, None).unwrap_err();
    assert!(heard.to_string().contains(&format!("replay {damaged} verify")), "it has its own advice: {heard}");
    assert_eq!(engine.standing(damaged).unwrap().status, ExecutionStatus::Damaged);
    let listed = engine.executions(Some(ExecutionStatus::Damaged), None, 10, None).unwrap();
    assert_eq!(listed.iter().map(|listed| listed.execution).collect::<Vec<_>>(), [damaged]);
    assert!(matches!(engine.resume(damaged).unwrap_err(), EngineError::Rejected { .. }));
    assert_eq!(run(&engine, "quick").status, ExecutionStatus::Completed);
}

#[test]
fn recovery_can_be_turned_off_and_done_explicitly() {
    let (world, execution) = killed();
    let engine = world.with_config(|config| config.recover = false).with_workflows([interrupted(&open_door())]).open();
    assert_eq!(only_listed(&engine).standing.status, ExecutionStatus::Blocked);
    engine.resume(execution).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

#[test]
fn a_task_that_completed_never_runs_again() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = |runs: &Arc<AtomicUsize>, door: &Door| {
        let runs = runs.clone();
        let first = Task::new("first", move |_| {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        workflow("work", [first.retry(once()), waiting("wait", door).after(["first"])])
    };
    let mut world = World::default();
    let mut execution = None;
    for _ in 0..3 {
        let door = Door::closed();
        let process = world.with_workflows([counted(&runs, &door)]);
        let engine = process.open();
        execution = execution.or_else(|| Some(start(&engine, "work")));
        door.wait_for_arrivals(1);
        world = process.after_kill();
        drop(engine);
        door.open();
    }
    let engine = world.with_workflows([counted(&runs, &open_door())]).open();
    assert_eq!(end_of(&engine, execution.unwrap()).status, ExecutionStatus::Completed);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

//! Failures: retries, timeouts, and late results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloacina_engine::core::event::{Event, TaskFailed};
use cloacina_engine::core::time::Millis;
use cloacina_engine::runtime::engine::{Engine, ExecutionStatus, Outcome};
use cloacina_engine::runtime::task::{Task, TaskBody};
use cloacina_store::log::{Batch, EventLog, Frame, Listing};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use cloacina_tests::history::{event_names, history};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, chain, error, failing_task, once, step, workflow, write};
use cloacina_tests::world::{World, end_of, run, start, task, value};
use serde_json::json;

fn failures(engine: &Engine, outcome: &Outcome) -> Vec<(TaskFailed, i64)> {
    history(&**engine.log(), outcome.execution)
        .into_iter()
        .filter_map(|past| match past.event {
            Event::TaskFailed(failed) => Some((failed, past.time.0)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_failed_attempt_is_retried_when_it_is_due() {
    let (stumbles, runs) = failing_task("stumbles", 2);
    let engine =
        World::of([workflow("retried", [stumbles.retry(attempts(3, 20)), step("next").after(["stumbles"])])]).open();
    let outcome = run(&engine, "retried");
    assert_eq!((outcome.status, task(&outcome, "stumbles")), (ExecutionStatus::Completed, ("Completed", 3)));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let failed = failures(&engine, &outcome);
    assert_eq!(failed.len(), 2);
    let started: Vec<i64> = history(&**engine.log(), outcome.execution)
        .into_iter()
        .filter(|past| matches!(&past.event, Event::TaskStarted(started) if &*started.task == "stumbles"))
        .map(|past| past.time.0)
        .collect();
    for ((failed, at), next) in failed.iter().zip(&started[1..]) {
        let due = failed.retry_at.expect("it is retried").0;
        assert_eq!(due - at, 20_000, "the backoff is that of the policy");
        assert!(*next >= due, "attempt {} started at {next}, before it was due at {due}", failed.attempt + 1);
    }
}

#[test]
fn attempts_run_out_and_the_reason_names_task_attempt_and_error() {
    let (stumbles, runs) = failing_task("stumbles", usize::MAX);
    let engine =
        World::of([workflow("hopeless", [stumbles.retry(attempts(2, 1)), step("next").after(["stumbles"])])]).open();
    let outcome = run(&engine, "hopeless");
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert_eq!(outcome.error.as_deref(), Some("task 'stumbles' failed, attempt 2 of 2: Error: stumbled"));
    assert_eq!(outcome.failed, Some(("stumbles".into(), 2)));
    assert_eq!(task(&outcome, "next"), ("Skipped", 0));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[test]
fn a_task_that_waits_for_its_next_attempt_takes_no_slot() {
    let (stumbles, _) = failing_task("stumbles", 1);
    let engine =
        World::of([workflow("patient", [stumbles.retry(attempts(2, 3_600_000))]), chain("quick")]).with_slots(1).open();
    let patient = start(&engine, "patient");
    for _ in 0..5 {
        assert_eq!(run(&engine, "quick").status, ExecutionStatus::Completed);
    }
    assert_eq!(task(&engine.outcome(patient).unwrap(), "stumbles"), ("WaitingRetry", 1));
}

#[test]
fn the_writes_of_a_failed_attempt_have_no_effect() {
    let runs = Arc::new(AtomicUsize::new(0));
    let writes = Task::new("writes", move |context| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        if run == 0 {
            write(context, "draft", json!("from the attempt that failed"));
            return Err(error("no"));
        }
        write(context, "final", json!(run));
        Ok(())
    });
    let engine = World::of([workflow("drafts", [writes.retry(attempts(2, 1))])]).open();
    let outcome = run(&engine, "drafts");
    assert_eq!((value(&outcome, "draft"), value(&outcome, "final")), (json!(null), json!(1)));
    assert!(
        event_names(&**engine.log(), outcome.execution).contains(&"ContextWritten draft".to_owned()),
        "the history has it"
    );
}

/// A task whose first attempt times out, and returns its late result when the door opens.
fn times_out_first(door: &Door, arrived: &Door) -> Task {
    let (door, arrived) = (door.clone(), arrived.clone());
    let runs = AtomicUsize::new(0);
    Task::new("sleeps", move |context| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        if run == 0 {
            let _ = door.pass();
            write(context, "by", json!("the attempt that was late"));
            arrived.open();
        } else {
            write(context, "by", json!("the second attempt"));
        }
        Ok(())
    })
    .timeout(Duration::from_millis(30))
}

#[test]
fn an_attempt_that_runs_out_of_time_is_fenced_and_its_slot_is_free() {
    let (door, left) = (Door::closed(), Door::closed());
    let engine =
        World::of([workflow("late", [times_out_first(&door, &left).retry(attempts(2, 1))])]).with_slots(1).open();
    let outcome = run(&engine, "late");
    assert_eq!((outcome.status, task(&outcome, "sleeps")), (ExecutionStatus::Completed, ("Completed", 2)));
    assert_eq!(value(&outcome, "by"), json!("the second attempt"));
    let before = event_names(&**engine.log(), outcome.execution);
    door.open();
    assert!(left.pass(), "the late attempt ended");
    engine.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(event_names(&**engine.log(), outcome.execution), before, "the late result left no trace");
    assert!(before.contains(&"TaskFailed sleeps 1".to_owned()));
}

#[test]
fn a_late_result_does_not_free_the_slot_of_the_next_attempt() {
    // If the only slot were freed twice, two of the following tasks would run at once.
    let (door, left) = (Door::closed(), Door::closed());
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, counted) = (running.clone(), most.clone());
    let follow = ["1", "2", "3", "4"].map(|name| {
        let (running, most, door) = (count.clone(), counted.clone(), door.clone());
        Task::new(name, move |_| {
            door.open();
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .after(["sleeps"])
    });
    let tasks: Vec<Task> = std::iter::once(times_out_first(&door, &left).retry(attempts(2, 1))).chain(follow).collect();
    let engine = World::of([workflow("late", tasks)]).with_slots(1).open();
    assert_eq!(run(&engine, "late").status, ExecutionStatus::Completed);
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn an_async_attempt_that_runs_out_of_time_is_stopped() {
    struct Stopped(Door);
    impl Drop for Stopped {
        fn drop(&mut self) {
            self.0.open();
        }
    }
    let stopped = Door::closed();
    let held = stopped.clone();
    let forever = Task::new_async("forever", move |context| {
        let guard = Stopped(held.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            (context, Ok(()))
        }
    });
    let engine = World::of([workflow("endless", [forever.retry(once()).timeout(Duration::from_millis(20))])]).open();
    let outcome = run(&engine, "endless");
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert!(outcome.error.as_ref().unwrap().contains("the attempt ran longer than 0.02 s"), "{:?}", outcome.error);
    assert!(stopped.pass(), "the future was dropped");
}

#[test]
fn a_detached_attempt_that_times_out_is_stopped() {
    let stopped = Door::closed();
    let stop = stopped.clone();
    let mut detached = Task::new("detached", |_| Ok(())).retry(once()).timeout(Duration::from_millis(20));
    detached.body = TaskBody::Detached(Arc::new(move |attempt| {
        let stop = stop.clone();
        attempt.on_cancel(move || stop.open());
        std::mem::forget(attempt);
    }));
    let engine = World::of([workflow("elsewhere", [detached])]).open();
    assert_eq!(run(&engine, "elsewhere").status, ExecutionStatus::Failed);
    assert!(stopped.pass());
}

/// Regression: an executor that registered its stop function just after its attempt had timed out was never called.
#[test]
fn a_stop_function_that_is_registered_after_the_timeout_is_called_at_once() {
    let (taken, stopped, ended) = (Door::closed(), Door::closed(), Door::closed());
    let (take, stop, end) = (taken.clone(), stopped.clone(), ended.clone());
    let mut detached = Task::new("detached", |_| Ok(())).retry(once()).timeout(Duration::from_millis(20));
    detached.body = TaskBody::Detached(Arc::new(move |attempt| {
        let (stop, end) = (stop.clone(), end.clone());
        take.open();
        // On another thread: the engine's threads do not wait for another executor.
        std::thread::spawn(move || {
            let _ = end.pass();
            attempt.on_cancel(move || stop.open());
            std::mem::forget(attempt);
        });
    }));
    let engine = World::of([workflow("elsewhere", [detached])]).open();
    assert_eq!(run(&engine, "elsewhere").status, ExecutionStatus::Failed);
    assert!(taken.pass());
    ended.open();
    assert!(stopped.pass());
}

#[test]
fn a_workflow_that_times_out_fails_and_names_the_unfinished_tasks() {
    let door = Door::closed();
    let waits = cloacina_tests::workflows::waiting("waits", &door);
    let world = World::of([workflow("slow", [step("first"), waits.after(["first"]), step("last").after(["waits"])])]);
    let engine = world.with_config(|config| config.workflow_timeout = Some(Millis(100))).open();
    let outcome = run(&engine, "slow");
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert_eq!(outcome.error.as_deref(), Some("the workflow ran longer than 0.1 s; not done: waits, last"));
    assert_eq!((task(&outcome, "waits"), task(&outcome, "last")), (("Cancelled", 1), ("Cancelled", 0)));
    door.open();
}

/// Regression: the log may have been written with a clock that was ahead. Its times never decrease, so the engine's clock started at
/// the end of the log and stood still until the wall clock had caught up: no retry was due, and nothing timed out.
#[test]
fn timers_fire_on_a_log_whose_last_time_is_in_the_future() {
    let (stumbles, _) = failing_task("stumbles", 1);
    let door = Door::closed();
    let waits = cloacina_tests::workflows::waiting("waits", &door).timeout(Duration::from_millis(20));
    let world = World::of([workflow("retried", [stumbles.retry(attempts(2, 5))]), workflow("late", [waits])]);
    let log = world.log();
    let year_2100 = Timestamp(4_102_444_800_000_000);
    let frame = Frame {
        stream: StreamId::from_bytes([7; 16]),
        kind: StreamKind::Schedule,
        expected_seq: 0,
        time: year_2100,
        bodies: vec![b"written under a wrong clock".to_vec()],
        listing: Listing::Closed(Vec::new()),
    };
    log.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    let engine = world.open_on(Arc::new(log));
    assert_eq!(run(&engine, "retried").status, ExecutionStatus::Completed);
    let late = start(&engine, "late");
    assert_eq!(end_of(&engine, late).status, ExecutionStatus::Failed);
    door.open();
}

/// Regression: the log raises the time of a frame to its own last time. So the recorded start of an execution can be later than the
/// start from which its time limit counted, and its recorded end then looks too early: the history was refused with "there is
/// time left", although nothing was wrong with it.
#[test]
fn a_history_whose_times_the_log_has_raised_is_valid() {
    let door = Door::closed();
    let waits = cloacina_tests::workflows::waiting("waits", &door);
    let world = World::of([workflow("slow", [waits])]).with_config(|config| config.workflow_timeout = Some(Millis(50)));
    let log = Arc::new(world.log());
    let engine = world.open_on(log.clone());
    // Another writer appends with a clock that is ahead of the engine's.
    let ahead = Frame {
        stream: StreamId::from_bytes([7; 16]),
        kind: StreamKind::Schedule,
        expected_seq: 0,
        time: Timestamp(4_102_444_800_000_000),
        bodies: vec![b"written by another clock".to_vec()],
        listing: Listing::Closed(Vec::new()),
    };
    log.append(Batch { definitions: Vec::new(), frames: vec![ahead] }).unwrap();
    let execution = start(&engine, "slow");
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Failed);
    let rebuilt = cloacina_engine::runtime::outcome::rebuild(&*log, execution).unwrap();
    assert_eq!(rebuilt.reason().as_ref(), "the workflow ran longer than 0.05 s; not done: waits");
    door.open();
}

/// Regression: if a worker process took longer to import a task's module than the timeout of the task, each attempt timed out
/// before the task had begun, and the next one started with a new process again.
#[test]
fn the_start_of_an_executor_does_not_count_towards_the_timeout() {
    let timeout = Duration::from_millis(400);
    let ready = Task::with_handle("ready", move |_, handle| {
        handle.hold_timeout();
        std::thread::sleep(timeout * 2);
        handle.begin_timeout();
        Ok(())
    });
    let slow = Task::with_handle("slow", move |_, handle| {
        handle.hold_timeout();
        handle.begin_timeout();
        handle.sleep(Duration::from_secs(60)).map_err(|over| error(&over.to_string()))
    });
    let tasks = [ready, slow].map(|task| task.retry(once()).timeout(timeout));
    let engine = World::of([workflow("starts", tasks)]).open();
    let outcome = run(&engine, "starts");
    assert_eq!(task(&outcome, "ready"), ("Completed", 1));
    let [(failed, _)] = &failures(&engine, &outcome)[..] else { panic!("one of them times out") };
    assert_eq!((&*failed.task, &*failed.error.kind), ("slow", "TaskTimeoutError"));
}

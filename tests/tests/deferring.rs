//! Deferred attempts: they wait for an external event without holding a slot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{ExecutionId, TaskError};
use cloacina_engine::runtime::engine::{Engine, ExecutionStatus, WaitError};
use cloacina_engine::runtime::handle::{AttemptOver, TaskHandle};
use cloacina_engine::runtime::task::{Task, TaskBody};
use cloacina_tests::GUARD;
use cloacina_tests::history::{event_names, has_event};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{once, step, waiting, workflow, write};
use cloacina_tests::world::{World, end_of, run, start, value};
use serde_json::json;

const OFTEN: Duration = Duration::from_millis(1);

fn failed(over: &AttemptOver) -> TaskError {
    TaskError { kind: "AttemptOver".into(), message: over.to_string().into(), ..TaskError::default() }
}

/// A task that waits without a slot until `open`, and arrives at `deferred` when it does.
fn deferring_task(name: &'static str, deferred: &Door, open: &Arc<AtomicBool>) -> Task {
    let (deferred, open) = (deferred.clone(), open.clone());
    Task::with_handle(name, move |context, handle| {
        let mut held = Vec::new();
        let came = || {
            held.push(handle.is_slot_held());
            deferred.open();
            open.load(Ordering::SeqCst)
        };
        handle.defer_until(came, OFTEN).map_err(|over| failed(&over))?;
        write(context, "held while it waited", json!(held.iter().any(|held| *held)));
        write(context, "held after it", json!(handle.is_slot_held()));
        Ok(())
    })
    .retry(once())
}

#[test]
fn with_one_slot_others_run_while_one_waits_and_it_gets_a_slot_again() {
    let (deferred, open, inside) = (Door::closed(), Arc::new(AtomicBool::new(false)), Door::closed());
    let world = World::of([
        workflow("patient", [deferring_task("patient", &deferred, &open)]),
        workflow("other", [waiting("other", &inside)]),
        workflow("last", [step("last")]),
    ]);
    let engine = world.with_slots(1).open();
    let patient = start(&engine, "patient");
    assert!(deferred.pass());
    let other = start(&engine, "other");
    inside.wait_for_arrivals(1);
    // The event has happened, but the only slot is taken.
    open.store(true, Ordering::SeqCst);
    let last = start(&engine, "last");
    inside.open();
    let outcome = end_of(&engine, patient);
    assert_eq!(value(&outcome, "held while it waited"), json!(false));
    assert_eq!(value(&outcome, "held after it"), json!(true));
    assert_eq!(end_of(&engine, other).status, ExecutionStatus::Completed);
    assert_eq!(end_of(&engine, last).status, ExecutionStatus::Completed);
    assert_eq!(
        event_names(&**engine.log(), patient),
        [
            "ExecutionStarted",
            "TaskStarted patient 1",
            "TaskDeferred patient 1",
            "TaskResumed patient 1",
            "ContextWritten held while it waited",
            "ContextWritten held after it",
            "TaskCompleted patient 1",
            "ExecutionCompleted",
        ]
    );
}

#[test]
fn a_slot_that_was_given_back_counts_once() {
    let (deferred, open) = (Door::closed(), Arc::new(AtomicBool::new(true)));
    let most = Arc::new(std::sync::Mutex::new((0, 0)));
    let counting = |name: &'static str| {
        let most = most.clone();
        Task::new(name, move |_| {
            {
                let mut running = most.lock().unwrap();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            thread::yield_now();
            most.lock().unwrap().0 -= 1;
            Ok(())
        })
    };
    let tasks = (0..20).flat_map(|number| {
        let (defers, counts): (&'static str, &'static str) =
            (Box::leak(format!("defers{number}").into()), Box::leak(format!("counts{number}").into()));
        [deferring_task(defers, &deferred, &open), counting(counts).after([defers])]
    });
    let engine = World::of([workflow("many", tasks.collect::<Vec<_>>())]).with_slots(2).open();
    assert_eq!(run(&engine, "many").status, ExecutionStatus::Completed);
    assert!(most.lock().unwrap().1 <= 2, "never more than the number of slots");
}

#[test]
fn a_future_waits_without_a_slot_too() {
    let (deferred, open) = (Door::closed(), Arc::new(AtomicBool::new(false)));
    let (asked, opened) = (deferred.clone(), open.clone());
    let patient = Task::async_with_handle("patient", move |mut context, handle: TaskHandle| {
        let (asked, opened) = (asked.clone(), opened.clone());
        async move {
            let came = || {
                asked.open();
                let came = opened.load(Ordering::SeqCst);
                async move { came }
            };
            let waited = handle.defer_until_async(came, OFTEN).await;
            write(&mut context, "held", json!(handle.is_slot_held()));
            (context, waited.map_err(|over| failed(&over)))
        }
    });
    let world = World::of([workflow("patient", [patient]), workflow("other", [step("other")])]).with_slots(1);
    let engine = world.open();
    let patient = start(&engine, "patient");
    assert!(deferred.pass());
    assert_eq!(run(&engine, "other").status, ExecutionStatus::Completed);
    open.store(true, Ordering::SeqCst);
    assert_eq!(value(&end_of(&engine, patient), "held"), json!(true));
}

/// A task with a deferred attempt that reports how its wait ended.
fn reporting_task(name: &'static str, deferred: &Door, ended: &Door) -> Task {
    let (deferred, ended) = (deferred.clone(), ended.clone());
    Task::with_handle(name, move |_, handle| {
        let waited = handle.defer_until(
            || {
                deferred.open();
                false
            },
            GUARD,
        );
        // The wait ends with the attempt, not with the poll interval.
        let over = waited.expect_err("the event never happens");
        assert_eq!((&*over.task, over.attempt), ("patient", 1));
        ended.open();
        Err(failed(&over))
    })
    .retry(once())
}

#[test]
fn cancelling_ends_the_wait() {
    let (deferred, ended) = (Door::closed(), Door::closed());
    let engine = World::of([workflow("patient", [reporting_task("patient", &deferred, &ended)])]).open();
    let execution = start(&engine, "patient");
    assert!(deferred.pass());
    engine.cancel(execution, None).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Cancelled);
    assert!(ended.pass());
}

#[test]
fn a_shutdown_does_not_wait_for_deferred_attempts() {
    let (deferred, ended) = (Door::closed(), Door::closed());
    let world = World::of([workflow("patient", [reporting_task("patient", &deferred, &ended)])]);
    let engine = world.open();
    let execution = start(&engine, "patient");
    assert!(deferred.pass());
    // The grace period is infinite: a shutdown that waits would hang.
    engine.shutdown(Duration::MAX).unwrap();
    assert!(ended.pass());
    assert!(has_event(&world.log(), execution, "TaskAbandoned patient 1 Shutdown"));
}

/// Regression: a detached executor that asked for its slot just after its attempt was over never got an answer.
#[test]
fn asking_for_a_slot_too_late_is_answered() {
    let (asks, answered) = (Door::closed(), Door::closed());
    let (ask, answer) = (asks.clone(), answered.clone());
    let mut patient = Task::new("patient", |_| Ok(())).retry(once());
    patient.body = TaskBody::Detached(Arc::new(move |attempt| {
        let (ask, answer) = (ask.clone(), answer.clone());
        thread::spawn(move || {
            attempt.handle().release_slot();
            let _ = ask.pass();
            assert!(attempt.handle().is_over());
            assert!(attempt.handle().take_slot().is_err());
            assert!(!attempt.handle().is_slot_held());
            answer.open();
            std::mem::forget(attempt);
        });
    }));
    let engine = World::of([workflow("patient", [patient])]).open();
    let execution = start(&engine, "patient");
    engine.cancel(execution, None).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Cancelled);
    asks.open();
    assert!(answered.pass());
}

/// A task that starts `child` on its own engine, and waits for its end with `how`.
fn parent(engine: &Arc<OnceLock<Weak<Engine>>>, how: fn(&Engine, &TaskHandle, ExecutionId) -> bool) -> Task {
    let engine = engine.clone();
    Task::with_handle("parent", move |context, handle| {
        let engine = engine.get().and_then(Weak::upgrade).expect("the engine is open");
        let child = start(&engine, "child");
        write(context, "waited", json!(how(&engine, handle, child)));
        Ok(())
    })
    .retry(once())
}

/// Regression: as many parents as there are slots waited for their children, which never got a slot.
#[test]
fn a_wait_for_an_execution_is_refused_when_every_slot_is_held_by_one() {
    let refused = |engine: &Engine, _: &TaskHandle, child| {
        matches!(engine.wait(child, None), Err(WaitError::NoSlotLeft { slots: 1, .. }))
    };
    // A deferred wait and a wait with a timeout can both end.
    let deferred = |engine: &Engine, handle: &TaskHandle, child| {
        let is_over = || engine.outcome(child).is_ok_and(|outcome| outcome.ended.is_some());
        handle.defer_until(is_over, OFTEN).is_ok() && engine.wait(child, None).is_ok()
    };
    let limited = |engine: &Engine, _: &TaskHandle, child| {
        matches!(engine.wait(child, Some(Duration::from_millis(20))), Err(WaitError::TimedOut { .. }))
    };
    let hows: [fn(&Engine, &TaskHandle, ExecutionId) -> bool; 3] = [refused, deferred, limited];
    for how in hows {
        let itself = Arc::new(OnceLock::new());
        let flows = [workflow("parent", [parent(&itself, how)]), workflow("child", [step("child")])];
        let engine = Arc::new(World::of(flows).with_slots(1).open());
        itself.set(Arc::downgrade(&engine)).unwrap();
        assert_eq!(value(&run(&engine, "parent"), "waited"), json!(true));
    }
}

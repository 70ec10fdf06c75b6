//! Orderly shutdown.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cloacina_engine::runtime::engine::{ExecutionStatus, StartError, WaitError};
use cloacina_engine::runtime::task::Task;
use cloacina_tests::GUARD;
use cloacina_tests::gate::GatedLog;
use cloacina_tests::history::{event_names, has_event};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{chain, step, waiting, workflow};
use cloacina_tests::world::{World, call, end_of, start, task};

fn two(door: &Door) -> cloacina_engine::runtime::workflow::Workflow {
    workflow("two", [waiting("first", door), step("second").after(["first"])])
}

#[test]
fn abandoned_attempts_do_not_count_against_the_task() {
    let door = Door::closed();
    let mut world = World::of([two(&door)]).with_config(|config| config.max_recoveries = 0);
    let engine = world.open();
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    engine.shutdown(Duration::ZERO).unwrap();
    drop(engine);
    for times in 2..5 {
        world = world.in_new_process().with_workflows([two(&door)]);
        let engine = world.open();
        assert_eq!(engine.recovered(), [execution]);
        door.wait_for_arrivals(times);
        engine.shutdown(Duration::ZERO).unwrap();
        let attempt = times;
        assert!(has_event(&world.log(), execution, &format!("TaskAbandoned first {attempt} Shutdown")));
    }
    door.open();
    let engine = world.in_new_process().with_workflows([two(&door)]).open();
    let outcome = end_of(&engine, execution);
    assert_eq!((outcome.status, task(&outcome, "first")), (ExecutionStatus::Completed, ("Completed", 5)));
}

#[test]
fn attempts_may_end_within_the_grace_and_nothing_new_starts() {
    let door = Door::closed();
    let world = World::of([two(&door)]);
    let engine = Arc::new(world.open());
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    let stops = {
        let engine = engine.clone();
        thread::spawn(move || engine.shutdown(GUARD))
    };
    // Wait until the scheduler is stopping: from then on it refuses every start.
    while engine.start(call("unknown")).is_err_and(|error| !matches!(error, StartError::ShutDown)) {
        thread::yield_now();
    }
    door.open();
    stops.join().unwrap().unwrap();
    let events = event_names(&world.log(), execution);
    assert_eq!(events.last().unwrap(), "TaskCompleted first 1");
}

#[test]
fn waiting_callers_get_an_answer() {
    let door = Door::closed();
    let engine = Arc::new(World::of([two(&door)]).open());
    let execution = start(&engine, "two");
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (engine, (sender, answer)) = (engine.clone(), mpsc::channel());
            thread::spawn(move || drop(sender.send(engine.wait(execution, None).map(|_| ()))));
            answer
        })
        .collect();
    door.wait_for_arrivals(1);
    engine.shutdown(Duration::ZERO).unwrap();
    for waiter in waiters {
        let heard = waiter.recv_timeout(GUARD).expect("an answer").unwrap_err();
        assert!(matches!(heard, WaitError::ShutDown(_)), "{heard}");
    }
    door.open();
}

/// Regression: an engine that was shut down dropped a callback without calling it, so a future that was built on it never
/// completed.
#[test]
fn a_callback_is_called_even_by_an_engine_that_is_shut_down() {
    let engine = World::of([chain("quick")]).open();
    let execution = start(&engine, "quick");
    end_of(&engine, execution);
    engine.shutdown(Duration::ZERO).unwrap();
    let (sender, heard) = mpsc::channel();
    engine.when_done(execution, Box::new(move |end| drop(sender.send(end.map(|outcome| outcome.status)))));
    assert!(heard.recv_timeout(GUARD).is_ok());
}

#[test]
fn a_second_shutdown_does_nothing_and_later_calls_are_refused() {
    let engine = World::of([chain("quick")]).open();
    let execution = start(&engine, "quick");
    end_of(&engine, execution);
    engine.shutdown(GUARD).unwrap();
    engine.shutdown(GUARD).unwrap();
    assert!(matches!(engine.start(call("quick")), Err(StartError::ShutDown)));
    drop(engine);
}

/// Regression: `Instant::now() + grace` overflowed, and the scheduler's thread panicked.
#[test]
fn the_grace_may_be_infinite() {
    let door = Door::closed();
    let world = World::of([two(&door)]);
    let engine = Arc::new(world.open());
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    let stops = {
        let engine = engine.clone();
        thread::spawn(move || engine.shutdown(Duration::MAX))
    };
    thread::sleep(Duration::from_millis(20));
    door.open();
    stops.join().unwrap().unwrap();
    assert!(has_event(&world.log(), execution, "TaskCompleted first 1"));
}

#[test]
fn dropping_an_engine_shuts_it_down_in_order() {
    let door = Door::closed();
    let world = World::of([two(&door)]);
    let engine = world.open();
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    drop(engine);
    assert!(has_event(&world.log(), execution, "TaskAbandoned first 1 Shutdown"));
    door.open();
}

/// Regression: an attempt whose `TaskStarted` was being flushed during the shutdown was abandoned in the log, but then run:
/// its code still ran after `shutdown` had returned, beside the next engine's attempt.
#[test]
fn an_attempt_that_was_abandoned_before_it_ran_does_not_run() {
    let ran = Door::closed();
    let runs = ran.clone();
    let blocking = Task::new("blocking", move |_| {
        let _ = runs.pass();
        Ok(())
    });
    let runs = ran.clone();
    let future = Task::new_async("async", move |context| {
        let _ = runs.pass();
        async move { (context, Ok(())) }
    });
    ran.open();
    let world = World::of([workflow("both", [blocking, future])]);
    let log = GatedLog::new(world.log());
    let engine = Arc::new(world.open_on(log.clone()));
    log.hold();
    let caller = {
        let engine = engine.clone();
        thread::spawn(move || engine.start(call("both")))
    };
    log.wait_for_held(1);
    engine.shutdown(Duration::ZERO).unwrap();
    let execution = caller.join().unwrap().expect("the start was made durable by the close");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(ran.arrivals(), 0, "an attempt ran after it was abandoned");
    assert!(has_event(&world.log(), execution, "TaskAbandoned async 1 Shutdown"));
}

/// Regression: a signal handler shut down an engine during its shutdown. The second call returned at once and closed files
/// that the first one was using, or both waited for each other.
#[test]
fn a_second_shutdown_waits_for_the_same_end_and_its_shorter_grace_counts() {
    let door = Door::closed();
    let world = World::of([two(&door)]);
    let engine = world.open();
    let execution = start(&engine, "two");
    door.wait_for_arrivals(1);
    let first = engine.begin_shutdown(Duration::MAX);
    assert!(first.within(Duration::from_millis(20)).is_none());
    let second = engine.begin_shutdown(Duration::MAX);
    engine.shutdown(Duration::ZERO).unwrap();
    for ending in [first, second] {
        ending.within(GUARD).unwrap().unwrap();
    }
    assert!(has_event(&world.log(), execution, "TaskAbandoned first 1 Shutdown"));
    door.open();
}

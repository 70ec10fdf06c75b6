//! A failing log: nothing that waits is acknowledged, and the reason reaches every caller.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::Cause;
use cloacina_engine::runtime::engine::{Engine, EngineError, ExecutionStatus, StartError, StartRequest, WaitError};
use cloacina_tests::GUARD;
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, chain, failing_task, waiting, workflow};
use cloacina_tests::world::{World, call, call_as, end_of, id, run, start};

const REASON: &str = "no space left on the disk";

fn world(door: &Door) -> World {
    World::of([workflow("slow", [waiting("wait", door)]), chain("quick")])
}

/// Makes the log fail while a caller waits for an execution. Returns the caller's error.
fn fail(world: &World, engine: &Arc<Engine>, door: &Door) -> WaitError {
    let slow = start(engine, "slow");
    door.wait_for_arrivals(1);
    let waiter = {
        let engine = engine.clone();
        thread::spawn(move || engine.wait(slow, Some(GUARD)).unwrap_err())
    };
    world.disk.fail_sync(1, REASON);
    door.open();
    waiter.join().unwrap()
}

#[test]
fn the_reason_reaches_waiting_and_later_callers() {
    let door = Door::closed();
    let world = world(&door);
    let engine = Arc::new(world.open());
    let done = run(&engine, "quick").execution;
    let heard = fail(&world, &engine, &door);
    assert!(matches!(&heard, WaitError::Log(why) if why.to_string().contains(REASON)), "{heard}");

    let refused = engine.start(call("quick")).unwrap_err();
    assert!(matches!(&refused, StartError::Log(why) if why.to_string().contains(REASON)), "{refused}");
    let stopped = engine.shutdown(Duration::ZERO).unwrap_err();
    assert!(matches!(&stopped, EngineError::Log(why) if why.to_string().contains(REASON)), "{stopped}");

    let after = World { disk: world.disk.after_power_cut(), ..world.in_new_process() };
    let engine = after.with_workflows([chain("quick"), workflow("slow", [waiting("wait", &door)])]).open();
    assert_eq!(engine.wait(done, None).unwrap().status, ExecutionStatus::Completed, "the acknowledged one is there");
    assert_eq!(engine.recovered().len(), 1, "the other one is resumed");
    assert_eq!(end_of(&engine, engine.recovered()[0]).status, ExecutionStatus::Completed);
}

/// Regression: a caller that began to wait after the failure heard that the engine had been shut down.
#[test]
fn the_reason_reaches_a_later_waiter_for_an_execution_that_was_running() {
    let door = Door::closed();
    let world = world(&door);
    let engine = Arc::new(world.open());
    let done = run(&engine, "quick").execution;
    let slow = engine.start(call_as("slow", id(1))).unwrap();
    let second = Door::closed();
    world.registry.register(workflow("second", [waiting("wait", &second)]));
    let other = start(&engine, "second");
    second.wait_for_arrivals(1);
    world.disk.fail_sync(1, REASON);
    door.open();
    for execution in [slow, other, slow] {
        let heard = engine.wait(execution, Some(GUARD)).unwrap_err();
        assert!(matches!(&heard, WaitError::Log(why) if why.to_string().contains(REASON)), "{heard}");
    }
    let heard = engine.start(call_as("slow", id(1))).unwrap_err();
    assert!(matches!(&heard, StartError::Log(why) if why.to_string().contains(REASON)), "{heard}");
    let heard = engine.cancel(slow, None).unwrap_err();
    assert!(matches!(&heard, EngineError::Log(why) if why.to_string().contains(REASON)), "{heard}");
    assert_eq!(engine.wait(done, None).unwrap().status, ExecutionStatus::Completed, "a durable result is returned");
    second.open();
}

#[test]
fn a_start_that_cannot_be_made_durable_is_refused_with_the_reason() {
    let world = world(&Door::closed());
    let engine = world.open();
    world.disk.fail_write(1, REASON);
    let refused = engine.start(call("quick")).unwrap_err();
    assert!(matches!(&refused, StartError::Log(why) if why.to_string().contains(REASON)), "{refused}");
    let after = World { disk: world.disk.after_power_cut(), ..world };
    assert!(after.open().executions(None, None, 10, None).unwrap().is_empty());
}

/// Regression: a timer of an execution that failed with the log stayed in the queue. Once it was due, it stayed first in the
/// queue without its execution, and the scheduler spun on it forever and answered nobody.
#[test]
fn a_timer_that_is_due_after_the_failure_does_not_hang_the_engine() {
    let door = Door::closed();
    let (stumbles, _) = failing_task("stumbles", 1);
    let world = world(&door).with_workflows([workflow("retried", [stumbles.retry(attempts(2, 300))])]);
    let engine = Arc::new(world.open());
    let retried = start(&engine, "retried");
    while engine.outcome(retried).unwrap().tasks[0].state != "WaitingRetry" {
        thread::yield_now();
    }
    fail(&world, &engine, &door);
    thread::sleep(Duration::from_millis(400));
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(engine.start(call("quick")).unwrap_err().to_string()));
    let answer = answer.recv_timeout(Duration::from_secs(10)).expect("the engine answers");
    assert!(answer.contains(REASON), "{answer}");
}

/// Regression: the engine took every refused batch for a failure of the log, and stopped: one start with an absurd name
/// stopped all other executions. A batch that is refused as invalid leaves the log intact.
#[test]
fn a_batch_that_is_refused_as_invalid_affects_only_its_own_execution() {
    let door = Door::closed();
    let world = world(&door).with_slots(2);
    let engine = world.open();
    let slow = start(&engine, "slow");
    for _ in 0..4 {
        let cause = Cause::Trigger { name: "x".repeat(10_000).into() };
        let refused = engine.start(StartRequest { cause, ..call("quick") }).unwrap_err();
        assert!(matches!(&refused, StartError::Log(why) if why.to_string().contains("label")), "{refused}");
    }
    assert_eq!(
        run(&engine, "quick").status,
        ExecutionStatus::Completed,
        "the slots of the refused executions are free"
    );
    door.open();
    assert_eq!(end_of(&engine, slow).status, ExecutionStatus::Completed);
    assert_eq!(engine.executions(None, None, 10, None).unwrap().len(), 2);
}

/// A second engine on the same log fences an execution of the first: the writer that comes second to a `seq` loses that
/// execution, and nothing else.
#[test]
fn an_engine_loses_only_the_execution_that_another_writer_took() {
    let door = Door::closed();
    let world = world(&door);
    let log = Arc::new(world.log());
    let first = world.open_on(log.clone());
    let slow = start(&first, "slow");
    door.wait_for_arrivals(1);
    let thief = world.in_new_process().with_workflows([workflow("slow", [waiting("wait", &door)])]);
    let second = thief.open_on(log);
    assert_eq!(second.recovered(), [slow]);
    door.wait_for_arrivals(2);
    door.open();
    assert_eq!(end_of(&second, slow).status, ExecutionStatus::Completed);
    let heard = first.wait(slow, Some(GUARD));
    assert!(!matches!(heard, Err(WaitError::TimedOut { .. })), "{heard:?}");
    assert_eq!(run(&first, "quick").status, ExecutionStatus::Completed);
}

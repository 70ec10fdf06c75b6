//! Output commit: nothing is answered and no task runs before the events that led to it are durable. The log here holds
//! batches back, so that anything that is visible too early has time to show itself.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cloacina_engine::runtime::engine::{Engine, ExecutionStatus};
use cloacina_store::MemoryLog;
use cloacina_tests::gate::GatedLog;
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{step, waiting, workflow};
use cloacina_tests::world::{World, call_as, end_of, id, start};

struct Gated {
    engine: Arc<Engine>,
    log: Arc<GatedLog<MemoryLog>>,
    door: Door,
}

fn gated() -> Gated {
    let door = Door::closed();
    let world = World::of([workflow("two", [waiting("first", &door), step("second").after(["first"])])]);
    let log = GatedLog::new(world.log());
    Gated { engine: Arc::new(world.open_on(log.clone())), log, door }
}

/// A caller that asks the engine on its own thread.
struct Asker<T> {
    thread: JoinHandle<()>,
    answer: std::sync::mpsc::Receiver<T>,
}

impl Gated {
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Engine) -> T + Send + 'static) -> Asker<T> {
        let (sender, answer) = channel();
        let engine = self.engine.clone();
        let thread = thread::spawn(move || drop(sender.send(question(&engine))));
        Asker { thread, answer }
    }
}

impl<T> Asker<T> {
    /// Whether it is still waiting, after enough time for an answer.
    fn waits(&self) -> bool {
        matches!(self.answer.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout))
    }

    fn answer(self) -> T {
        let answer = self.answer.recv_timeout(cloacina_tests::GUARD).unwrap();
        self.thread.join().unwrap();
        answer
    }
}

#[test]
fn a_start_is_answered_and_its_task_runs_only_when_it_is_durable() {
    let gated = gated();
    gated.log.hold();
    let caller = gated.ask(|engine| start(engine, "two"));
    gated.log.wait_for_held(1);
    assert!(caller.waits());
    assert_eq!(gated.door.arrivals(), 0, "the task runs before its start is durable");
    gated.log.release();
    let execution = caller.answer();
    gated.door.wait_for_arrivals(1);
    gated.door.open();
    end_of(&gated.engine, execution);
}

/// Regression: a second caller with the same id got an answer at once because the execution was live: a power cut at that
/// moment took back an answered start.
#[test]
fn a_second_caller_with_the_same_id_is_answered_only_when_the_start_is_durable() {
    let gated = gated();
    gated.log.hold();
    let first = gated.ask(|engine| engine.start(call_as("two", id(1))));
    gated.log.wait_for_held(1);
    let second = gated.ask(|engine| engine.start(call_as("two", id(1))));
    assert!(second.waits());
    gated.log.release();
    assert_eq!((first.answer().unwrap(), second.answer().unwrap()), (id(1), id(1)));
    gated.door.open();
}

#[test]
fn a_result_is_returned_only_when_it_is_durable() {
    let gated = gated();
    let execution = start(&gated.engine, "two");
    gated.door.wait_for_arrivals(1);
    let waiter = gated.ask(move |engine| engine.wait(execution, None).unwrap().status);
    gated.log.hold();
    gated.door.open();
    gated.log.wait_for_held(1);
    gated.log.let_through(1);
    gated.log.wait_for_held(1);
    let late_waiter = gated.ask(move |engine| engine.wait(execution, None).unwrap().status);
    assert!(waiter.waits() && late_waiter.waits());
    gated.log.release();
    assert_eq!((waiter.answer(), late_waiter.answer()), (ExecutionStatus::Completed, ExecutionStatus::Completed));
}

/// Regression: the state of a live execution was answered from the scheduler's memory, which is ahead of the log: a caller
/// read `Completed` and the final context before they were durable.
#[test]
fn the_state_of_an_execution_is_returned_only_when_it_is_durable() {
    let gated = gated();
    let execution = start(&gated.engine, "two");
    gated.door.wait_for_arrivals(1);
    gated.log.hold();
    gated.door.open();
    gated.log.wait_for_held(1);
    gated.log.let_through(1);
    gated.log.wait_for_held(1);
    let asker = gated.ask(move |engine| engine.outcome(execution).unwrap().status);
    assert!(asker.waits());
    gated.log.release();
    assert_eq!(asker.answer(), ExecutionStatus::Completed);
}

/// Regression: cancelling and pausing were answered as soon as they were decided.
#[test]
fn a_request_is_answered_only_when_it_is_durable() {
    let gated = gated();
    let execution = start(&gated.engine, "two");
    gated.door.wait_for_arrivals(1);
    gated.log.hold();
    let pauses = gated.ask(move |engine| engine.pause(execution, None));
    gated.log.wait_for_held(1);
    let cancels = gated.ask(move |engine| engine.cancel(execution, None));
    gated.log.wait_for_held(2);
    assert!(pauses.waits() && cancels.waits());
    gated.log.release();
    pauses.answer().unwrap();
    cancels.answer().unwrap();
    assert_eq!(end_of(&gated.engine, execution).status, ExecutionStatus::Cancelled);
    gated.door.open();
}

#[test]
fn a_slow_log_delays_only_callers_that_need_it() {
    let gated = gated();
    let done = {
        gated.door.open();
        let execution = start(&gated.engine, "two");
        end_of(&gated.engine, execution).execution
    };
    gated.log.hold();
    let caller = gated.ask(|engine| start(engine, "two"));
    gated.log.wait_for_held(1);
    assert_eq!(end_of(&gated.engine, done).status, ExecutionStatus::Completed);
    assert_eq!(gated.engine.executions(None, None, 10, None).unwrap().len(), 1, "what is not durable is not listed");
    gated.log.release();
    caller.answer();
}

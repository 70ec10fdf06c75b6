//! The cost of durability: the number of flushes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::runtime::engine::{Engine, ExecutionStatus};
use cloacina_store::Options;
use cloacina_tests::workflows::{chain, step, workflow};
use cloacina_tests::world::{World, call, end_of, run, start};
use tempfile::TempDir;

fn on_a_disk(world: &World) -> (TempDir, Arc<Engine>) {
    let directory = tempfile::tempdir().unwrap();
    let log = cloacina_store::open(&directory.path().join("log"), &Options::default()).unwrap();
    (directory, Arc::new(world.open_on(Arc::new(log))))
}

fn flushes_of(engine: &Engine, what: impl FnOnce()) -> u64 {
    let before = engine.log().flushes();
    what();
    engine.log().flushes() - before
}

#[test]
fn one_task_takes_two_flushes_and_three_in_a_row_at_most_five() {
    let (_directory, engine) = on_a_disk(&World::of([workflow("one", [step("only")]), chain("three")]));
    // The first run of each also stores the definition, in the same batch.
    for _ in 0..3 {
        assert_eq!(flushes_of(&engine, || drop(run(&engine, "one"))), 2);
        let three = flushes_of(&engine, || drop(run(&engine, "three")));
        assert!(three <= 5, "a chain of three: {three}");
        assert_eq!(three, 4, "the start, and one for each step");
    }
}

/// The flushes of a hundred executions of three tasks, started at once by a hundred threads.
fn flushes_of_a_hundred(slots: usize) -> u64 {
    let (_directory, engine) = on_a_disk(&World::of([chain("three")]).with_slots(slots));
    run(&engine, "three");
    let spent = flushes_of(&engine, || {
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let engine = engine.clone();
                thread::spawn(move || run(&engine, "three").status)
            })
            .collect();
        callers.into_iter().for_each(|caller| assert_eq!(caller.join().unwrap(), ExecutionStatus::Completed));
    });
    println!("100 executions of three tasks at once, {slots} slots: {spent} flushes");
    spent
}

#[test]
fn a_hundred_executions_at_once_take_at_most_a_hundred() {
    for slots in [100, 16] {
        let spent = flushes_of_a_hundred(slots);
        assert!(spent <= 100, "{slots} slots: {spent} flushes");
    }
    // A flush starts at most as many tasks as there are slots: with four, 300 tasks take at least 75. Decisions of one turn
    // share a flush, and short tasks that start together end in one turn: it takes about 80 flushes. On a busy machine they
    // may not end in one turn, and it takes up to twice as many.
    let spent = flushes_of_a_hundred(4);
    assert!((75..=150).contains(&spent), "4 slots: {spent} flushes");
}

#[test]
fn a_thousand_executions_that_start_together_take_two_flushes_to_start() {
    let (_directory, engine) = on_a_disk(&World::of([chain("three")]).with_slots(1));
    let before = engine.log().flushes();
    let executions = engine.start_many(vec![call("three"); 1000]).unwrap();
    let spent = engine.log().flushes() - before;
    // The first attempt may have ended by now, and its successor have started.
    assert!(spent <= 4, "{spent} flushes");
    assert_eq!(executions.len(), 1000);
    engine.shutdown(Duration::ZERO).unwrap();
}

#[test]
fn a_wide_execution_shares_flushes_among_its_tasks() {
    let names: Vec<String> = (0..64).map(|number| format!("t{number}")).collect();
    let tasks = names.iter().map(|name| cloacina_engine::runtime::task::Task::new(name.as_str(), |_| Ok(())));
    let (_directory, engine) = on_a_disk(&World::of([workflow("wide", tasks)]).with_slots(64));
    let spent = flushes_of(&engine, || {
        let execution = start(&engine, "wide");
        end_of(&engine, execution);
    });
    println!("one execution of 64 parallel tasks, 64 slots: {spent} flushes");
    assert!(spent <= 64, "{spent} flushes");
}

//! Runs one workflow on a log and prints how many flushes the log counted, for `flushes.sh`, which compares that with the
//! system calls.
//!
//! `one_run DIRECTORY WORKFLOW [EXECUTIONS]`, where the workflow is `none`, `one` or `three` (a chain of tasks).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloacina_store::Options;
use cloacina_tests::workflows::{chain, step, workflow};
use cloacina_tests::world::{World, end_of, start};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let name = arguments.next().expect("a workflow");
    let executions: usize = arguments.next().map_or(1, |count| count.parse().expect("a number"));
    let world = World::of([workflow("one", [step("only")]), chain("three")]).with_slots(100);
    let log = Arc::new(cloacina_store::open(Path::new(&directory), &Options::default()).expect("the log opens"));
    let engine = world.open_on(log);
    let before = engine.log().flushes();
    if name != "none" {
        let started: Vec<_> = (0..executions).map(|_| start(&engine, &name)).collect();
        started.into_iter().for_each(|execution| drop(end_of(&engine, execution)));
    }
    println!("{}", engine.log().flushes() - before);
    engine.shutdown(Duration::from_secs(1)).expect("an orderly shutdown");
}

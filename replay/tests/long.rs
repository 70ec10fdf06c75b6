//! A long history: told in one pass, in time that grows with its length and no faster.

#![allow(clippy::unwrap_used, reason = "clippy takes only what is marked as a test for one")]

mod common;

use std::time::Instant;

use cloacina_engine::core::retry::RetryPolicy;
use common::{Log, Recorder, id, json, replay, task};

/// A workflow of so many tasks in chains of ten, all of them run: three events a task.
fn long(tasks: usize) -> Log {
    let log = Log::default();
    let names: Vec<String> = (0..tasks).map(|number| format!("task_{number}")).collect();
    let definitions = names.iter().enumerate().map(|(number, name)| {
        let before: Vec<&str> = if number % 10 == 0 { Vec::new() } else { vec![&names[number - 1]] };
        let mut task = task(name, &before);
        task.retry = RetryPolicy::never();
        task
    });
    let mut run = Recorder::start(&log, id(1), "long", definitions.collect(), &[]);
    for (number, name) in names.iter().enumerate() {
        run.run(name, 1, |context| {
            context.set(format!("chain_{}", number / 10), json("1"));
            Ok(())
        });
    }
    log
}

/// `cargo test --release -p cloacina-replay --test long -- --ignored --nocapture` says how fast each view is.
#[test]
#[ignore = "measures"]
fn a_million_events() {
    let log = long(333_333);
    for arguments in ["00000001", "00000001 --full", "00000001 --at 500000", "00000001 verify", "00000001 --json"] {
        let start = Instant::now();
        let ran = replay(&log, arguments);
        println!("{arguments}: {:?}, {} bytes, exit {}", start.elapsed(), ran.out.len(), ran.code);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
}

#[test]
fn twice_the_events_take_no_more_than_a_few_times_as_long() {
    let time = |tasks| {
        let log = long(tasks);
        let start = Instant::now();
        assert_eq!(replay(&log, "00000001").code, 0);
        start.elapsed().as_secs_f64()
    };
    let (short, long) = (time(1_000).max(0.01), time(4_000));
    assert!(long < short * 12.0, "1,000 tasks: {short} s, 4,000 tasks: {long} s");
}

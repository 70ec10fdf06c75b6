//! A long history, read through many pages.

#![allow(clippy::unwrap_used, reason = "clippy takes only what is marked as a test for one")]

mod common;

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

#[test]
fn every_view_tells_a_history_of_thousands_of_events() {
    let log = long(1_000);
    for arguments in ["00000001", "00000001 --full", "00000001 --at 1500", "00000001 verify", "00000001 --json"] {
        let ran = replay(&log, arguments);
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        assert!(!ran.out.is_empty(), "{arguments}");
    }
    let all = replay(&log, "00000001 --full").out;
    assert!(all.lines().count() > 3_000, "a line for each event");
}

//! Following an execution while it runs.

use std::cell::RefCell;
use std::path::Path;

use crate::common::{Log, Ran, Recorder, error, id, json, replay, replay_pausing, task};
use cloacina_replay::history::History;
use cloacina_store::log::{Durability, LogHead, LogReader, OpenError, ReadError};
use cloacina_store::read_through;
use cloacina_store::record::StreamId;

/// A log, and whether a process has it.
struct Live(Log, bool);

impl LogReader for Live {
    read_through!(self => self.0.0; read, stream, streams, tail, tree, erasures, definition, location);

    fn head(&self) -> Result<LogHead, ReadError> {
        let durability = self.1.then_some(Durability::Sync);
        Ok(LogHead { durability, ..self.0.0.head()? })
    }
}

fn start(log: &Log) -> Recorder {
    let mut load = task("load", &["extract"]);
    load.retry = cloacina_engine::core::retry::RetryPolicy::never();
    Recorder::start(log, id(0x77), "etl", vec![task("extract", &[]), load], &[("day", "1")])
}

/// Follows an execution. Each time the command waits, the next of `steps` runs.
fn follow(log: &Log, run: Recorder, steps: Vec<fn(&mut Recorder)>, live: bool, arguments: &str) -> Ran {
    let (run, steps) = (RefCell::new(run), RefCell::new(steps.into_iter()));
    let reader = log.clone();
    let open = move |_: &Path| -> Result<Box<dyn LogReader>, OpenError> { Ok(Box::new(Live(reader.clone(), live))) };
    let pause = |_| match steps.borrow_mut().next() {
        Some(step) => {
            step(&mut run.borrow_mut());
            true
        }
        None => false,
    };
    replay_pausing(&open, None, &pause, arguments)
}

const EXTRACT: fn(&mut Recorder) = |run| {
    run.run("extract", 50, |context| {
        context.set("rows", json("[1]"));
        Ok(())
    });
};
const LOAD: fn(&mut Recorder) = |run| {
    run.run("load", 50, |_| Ok(()));
};
const FAIL: fn(&mut Recorder) = |run| {
    run.run("load", 50, |_| Err(error("ValueError", "no")));
};

#[test]
fn events_come_as_they_happen_until_the_end() {
    let log = Log::default();
    let ran = follow(&log, start(&log), vec![EXTRACT, |_| (), LOAD], true, "@ --follow");
    insta::assert_snapshot!(ran);
}

#[test]
fn an_execution_that_fails_gives_one() {
    let log = Log::default();
    let ran = follow(&log, start(&log), vec![EXTRACT, FAIL], true, "@ --follow");
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("ValueError: no"), "{ran}");
}

#[test]
fn detaching_gives_six_and_says_how_to_go_on() {
    let log = Log::default();
    let ran = follow(&log, start(&log), vec![EXTRACT], true, "@ --follow");
    assert_eq!(ran.code, 6, "{ran}");
    assert_eq!(ran.err, "\nstopped following after seq 4; the execution continues\nhint: replay 00000077 --follow\n");
}

#[test]
fn what_nobody_runs_is_not_waited_for() {
    let log = Log::default();
    let ran = follow(&log, start(&log), vec![|_| panic!("nothing will come")], false, "@ --follow");
    assert_eq!(ran.code, 6, "{ran}");
    assert!(ran.err.contains("no process has the log"), "{ran}");
}

#[test]
fn lines_can_be_followed_and_read_back() {
    let log = Log::default();
    let ran = follow(&log, start(&log), vec![EXTRACT, LOAD], true, "@ --follow --jsonl");
    assert_eq!(ran.code, 0, "{ran}");
    let back = History::from_json(&ran.out).unwrap();
    assert_eq!(back.entries, History::open(&*log.0, id(0x77)).unwrap().entries);
    assert_eq!(log.0.stream(StreamId::from_bytes(id(0x77).0)).unwrap().records, back.entries.len() as u64);
}

#[test]
fn what_has_ended_is_shown_and_not_waited_for() {
    let log = Log::default();
    let mut run = start(&log);
    EXTRACT(&mut run);
    LOAD(&mut run);
    let ran = replay(&log, "@ --follow");
    assert_eq!((ran.code, &*ran.err), (0, ""), "{ran}");
}

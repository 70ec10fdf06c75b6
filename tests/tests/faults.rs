//! A call of the system that fails stops the log, with the reason; nothing is acknowledged that is not safe; and once the
//! fault is gone, the log opens and holds everything that was.
//!
//! Every call that a log makes of the system, while it is made, written to, closed, and taken up again, is let fail in
//! turn: with an error of the disk, for lack of space, as a write of half, as a sync that does nothing.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../powercut/checker.rs"]
mod checker;
#[path = "../powercut/dice.rs"]
mod dice;
#[path = "../powercut/judge.rs"]
mod judge;
#[path = "../powercut/load.rs"]
mod load;
#[path = "../powercut/recording.rs"]
mod recording;
#[path = "../powercut/victim.rs"]
mod victim;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use checker::{Checker, scratch};
use judge::Written;
use recording::Event;
use victim::Run;

const LOAD: &str = "failing";
const EIO: &str = "5";
const ENOSPC: &str = "28";

/// What a call can be let fail with.
fn faults(kind: &str) -> Vec<String> {
    let mut faults = vec![format!("{EIO}:once"), format!("{EIO}:forever")];
    if ["open", "write", "truncate", "rename", "mkdir"].contains(&kind) {
        faults.push(format!("{ENOSPC}:forever"));
    }
    match kind {
        "write" => faults.extend(["short:once".to_owned(), "short:forever".to_owned()]),
        "sync" => faults.push("lie:forever".to_owned()),
        _ => {}
    }
    faults
}

/// All faults for calls that a run made.
fn every_call(run: &Run) -> Vec<String> {
    let kinds = ["open", "write", "sync", "range", "truncate", "rename", "unlink", "mkdir", "read"];
    let of_kind = |kind: &'static str| {
        let calls = run.count(kind);
        faults(kind)
            .into_iter()
            .flat_map(move |fault| (1..=calls).map(move |call| format!("{kind}:{call}:{fault}")))
            .collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// What a run under a fault came to.
#[derive(Debug, Default)]
struct Tally {
    runs: usize,
    struck: usize,
    stopped: usize,
    noisy: Vec<String>,
    wrong: Vec<String>,
}

/// A disk to begin with: the log that is on it, if any, and what was written to it.
struct Ground<'a> {
    disk: &'a Path,
    earlier: Vec<Written>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the load under a fault, takes the fault away, and looks at the log.
fn run_under(recorder: &Path, fault: &str, ground: &Ground<'_>, checker: &mut Checker, tally: &Mutex<Tally>) {
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let disk = place.path().join("disk");
    copy(ground.disk, &disk);
    let phase = ground.earlier.len() as u64;
    let run = victim::write(recorder, LOAD, phase, &disk, Some(fault));
    let judged = run.as_ref().map_err(Clone::clone).and_then(|run| {
        if !run.status.success() {
            return Err(format!("{}: {}", run.status, run.said));
        }
        says_why(run, fault)?;
        let mut written = ground.earlier.clone();
        let acknowledged = judge::acknowledged(run.marks());
        written.push(Written { gaps: true, ..Written::new(&load::named(LOAD).unwrap(), phase, acknowledged) });
        written.push(Written::all(&load::named("more").unwrap(), phase + 1));
        judge::holds(&checker.go_on(&disk.join(victim::LOG), phase + 1), &written)
    });
    let mut tally = tally.lock().unwrap();
    tally.runs += 1;
    if let Ok(run) = &run {
        tally.struck += usize::from(run.events.iter().any(|event| matches!(event, Event::Fault(_))));
        tally.stopped += usize::from(!run.marks().any(|mark| mark == "closed"));
        if run.said.contains("panicked") {
            tally.noisy.push(format!("{fault}: {}", run.said));
        }
    }
    if let Err(what) = judged {
        let marks: Vec<&str> = run.iter().flat_map(Run::marks).filter(|mark| !mark.starts_with("ack")).collect();
        tally.wrong.push(format!("{fault}: {what}\n    it said {marks:?}"));
    }
}

/// That whatever was not done names the fault, and nothing is acknowledged after the log has stopped.
fn says_why(run: &Run, fault: &str) -> Result<(), String> {
    let mut stopped = None;
    for mark in run.marks() {
        let refused = mark.starts_with("refused") || mark.starts_with("not ");
        if refused && !fault.split(':').any(|part| mark.contains(&format!("os error {part}"))) {
            return Err(format!("the reason is not named: {mark}"));
        }
        if mark.contains("the log stopped") {
            stopped.get_or_insert(mark);
        }
        if let Some(stopped) = stopped.filter(|_| mark.starts_with("acknowledged") || mark == "closed") {
            return Err(format!("{mark} after {stopped}"));
        }
    }
    Ok(())
}

fn let_every_call_fail(recorder: &Path, ground: &Ground<'_>, what: &str) {
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let disk = place.path().join("disk");
    copy(ground.disk, &disk);
    let whole = victim::write(recorder, LOAD, ground.earlier.len() as u64, &disk, None).unwrap();
    assert!(whole.marks().any(|mark| mark == "closed"), "{}", whole.said);
    let faults = every_call(&whole);
    let tally = Mutex::new(Tally::default());
    let next = Mutex::new(faults.iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut checker = Checker::new();
                loop {
                    let fault = next.lock().unwrap().next();
                    let Some(fault) = fault else { break };
                    run_under(recorder, fault, ground, &mut checker, &tally);
                }
            });
        }
    });
    let Tally { runs, struck, stopped, noisy, wrong } = tally.into_inner().unwrap();
    let counts: BTreeMap<_, _> = whole.counts.iter().cloned().collect();
    println!("{what}: {runs} runs, {struck} faults struck, {stopped} logs stopped; calls {counts:?}");
    // Where sled unwraps a failed sync at its end, the panic is caught: the thread that lets go of it says so, no other.
    let caught =
        |said: &&String| said.matches("panicked").count() == said.matches("thread 'cloacina-letting-go'").count();
    assert_eq!(noisy.iter().filter(caught).count(), noisy.len(), "{noisy:?}");
    assert!(struck > runs / 2, "the faults do not strike");
    assert!(wrong.is_empty(), "{} of {runs} runs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn any_call_of_a_new_log_may_fail() {
    let Some(recorder) = victim::recorder() else { return };
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let_every_call_fail(recorder, &Ground { disk: place.path(), earlier: Vec::new() }, "a new log");
}

#[test]
fn any_call_of_a_log_that_is_taken_up_again_may_fail() {
    let Some(recorder) = victim::recorder() else { return };
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let disk = place.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let first = victim::write(recorder, "small", 0, &disk, None).unwrap();
    assert!(first.status.success(), "{}", first.said);
    let earlier = vec![Written::all(&load::named("small").unwrap(), 0)];
    let_every_call_fail(recorder, &Ground { disk: &disk, earlier }, "a log taken up again");
}

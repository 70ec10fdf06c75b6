//! A call of the system that fails stops the log, with the reason; nothing is acknowledged that is not safe; and once the
//! fault is gone, the log opens and holds everything that was.
//!
//! Every call that a log makes of the system, while it is made, written to, closed, and taken up again, is let fail in
//! turn: with an error of the disk, for lack of space, as a write of half, as a sync that does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::powercut::checker::{Checker, scratch};
use crate::powercut::judge::{self, Written};
use crate::powercut::load;
use crate::powercut::recording::Event;
use crate::powercut::victim::{self, Run};
use cloacina_store::log::{EventLog, Listing};

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
    // Not `sync_file_range`: only sled calls it, and may then wait for its own thread without an end. What becomes of a log whose
    // index fails is tried in `store/tests/rebuilding.rs`.
    let kinds = ["open", "write", "sync", "truncate", "rename", "unlink", "mkdir", "read"];
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
        |said: &&String| said.matches("panicked").count() == said.matches("thread 'cloacina-index-close'").count();
    assert_eq!(noisy.iter().filter(caught).count(), noisy.len(), "{noisy:?}");
    assert!(struck > runs / 2, "the faults do not strike");
    assert!(wrong.is_empty(), "{} of {runs} runs:\n{}", wrong.len(), wrong.join("\n"));
}

/// `cloaca log erase` ended with "erased" and exit code 0 at 22 of 81 calls that failed, and the plaintext was still in the files.
#[test]
fn what_is_said_to_be_wiped_is_and_the_next_who_writes_wipes_the_rest() {
    let Some(recorder) = victim::recorder() else { return };
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let first = place.path().join("first");
    fs::create_dir(&first).unwrap();
    let run = victim::write(recorder, "secrets", 0, &first, None).unwrap();
    assert!(run.marks().any(|mark| mark == "closed"), "{}", run.said);
    let secrets = secrets();
    assert!(secrets.iter().all(|secret| is_in_a_file(&first, secret)), "if it is not, this test shows nothing");
    let whole = victim::erase(recorder, &copied(&first, place.path()), None).unwrap();
    assert_eq!(whole.marks().collect::<Vec<_>>(), ["erased", "wiped"], "{}", whole.said);
    let faults: Vec<String> = ["write", "sync", "truncate"]
        .into_iter()
        .flat_map(|kind| (1..=whole.count(kind)).step_by(2).map(move |call| format!("{kind}:{call}:{EIO}:forever")))
        .collect();
    let mut outcomes = BTreeMap::new();
    for fault in &faults {
        let disk = copied(&first, place.path());
        let run = victim::erase(recorder, &disk, Some(fault)).unwrap();
        let last = run.marks().last().unwrap_or("nothing").split(':').next().unwrap_or_default().to_owned();
        let is_left = |what: &str| {
            let left = secrets.iter().filter(|secret| is_in_a_file(&disk, secret)).count();
            assert_eq!(left, 0, "{fault}: {what}; it said {:?}", run.marks().collect::<Vec<_>>());
        };
        if last == "wiped" {
            is_left("said to be wiped");
        }
        let erased = run.marks().any(|mark| mark == "erased");
        cloacina_store::open(&disk.join(victim::LOG), &cloacina_store::Options::default()).unwrap().close().unwrap();
        if erased {
            is_left("opened and closed since");
        }
        *outcomes.entry(last).or_insert(0) += 1;
    }
    println!("{} faults: {outcomes:?}", faults.len());
    assert!(outcomes.get("not wiped").is_some_and(|count| *count > 3), "{outcomes:?}");
}

/// The bodies of the stream that is erased.
fn secrets() -> Vec<Vec<u8>> {
    let batches = load::batches(&load::named("secrets").unwrap(), 0);
    let frames: Vec<_> = batches.into_iter().flat_map(|batch| batch.frames).collect();
    // The newest one is found first.
    let closed = frames.iter().rev().find(|frame| matches!(frame.listing, Listing::Closed(_))).unwrap().stream;
    frames.into_iter().filter(|frame| frame.stream == closed).flat_map(|frame| frame.bodies).collect()
}

fn copied(from: &Path, place: &Path) -> PathBuf {
    let disk = place.join("disk");
    let _ = fs::remove_dir_all(&disk);
    copy(from, &disk);
    disk
}

fn is_in_a_file(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            is_in_a_file(&path, bytes)
        } else {
            entry.file_type().unwrap().is_file()
                && fs::read(path).unwrap().windows(bytes.len()).any(|part| part == bytes)
        }
    })
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

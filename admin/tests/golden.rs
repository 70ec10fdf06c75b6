//! A log directory in format 1, kept in `tests/golden/log-v1`: every later version must read it, print the same output
//! for it, and be able to append to it.
//!
//! To create the next golden log (for a format 2, or with new kinds of events), next to this one:
//!
//!     GOLDEN_LOG=$PWD/tests/golden/log-v2 cargo test -p cloacina-admin golden
//!
//! This also writes the output of `replay`. A golden log is never overwritten. After an intended change of that output,
//! `GOLDEN_SAID=1 cargo test -p cloacina-admin golden` updates it for this log.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::common::{self, Log, START, histories, id};
use cloacina_admin::Surroundings;
use cloacina_engine::core::codec::{
    encode_schedule_event, encode_schedule_label, encode_trigger_event, encode_trigger_label,
};
use cloacina_engine::core::event::{ExecutionId, Request};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::schedule::{self, Catchup, CatchupLimits, ScheduleCreated, ScheduleId};
use cloacina_engine::core::time::{Millis, Timestamp};
use cloacina_engine::core::trigger::{self, Pace, TriggerDefined, TriggerId};
use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader, StreamFilter};
use cloacina_store::record::{StreamId, StreamKind, Timestamp as StoreTime};
use cloacina_store::{Options, open, open_reader};

/// The id of an execution that is imported from another log.
const IMPORTED: u32 = 0x51b0_0077;

/// The arguments of `replay` and the file with the expected output.
const COMMANDS: [(&str, &str); 5] = [
    ("list --limit 50", "list.txt"),
    ("9f3ac102", "tutorial.txt"),
    ("51b00005", "branches.txt"),
    ("51b00077", "imported.txt"),
    ("verify --all", "verify.txt"),
];

/// Returns the golden logs: one for each format.
fn golden_logs() -> impl Iterator<Item = PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    ["log-v1"].into_iter().map(move |name| golden.join(name))
}

/// Runs a program in a directory, and returns what it printed. It must succeed.
fn output(program: &str, arguments: &str, directory: &Path) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let home = directory.join("home").into_os_string();
    let variable = move |name: &str| (name == "HOME").then(|| home.clone());
    let words = |first: &[&str]| -> Vec<OsString> {
        first.iter().copied().chain(arguments.split_whitespace()).map(OsString::from).collect()
    };
    let now = Timestamp(START);
    let code = if program == "replay" {
        let mut around = cloacina_replay::cli::surroundings::Surroundings {
            out: &mut out,
            err: &mut err,
            terminal: None,
            variable: &variable,
            directory: directory.to_owned(),
            now,
            open: &open_reader,
            pause: &|_| false,
            sharing: &cloacina_replay::cli::paging::Sharing::default(),
            shows_progress: false,
        };
        cloacina_replay::cli::run(words(&["replay", "--log", "log"]), &mut around)
    } else {
        let directory = directory.to_owned();
        let mut around =
            Surroundings { out: &mut out, err: &mut err, input: None, variable: &variable, directory, now };
        let removes =
            ["erase", "prune"].contains(&arguments.split(' ').next().unwrap()) || arguments.contains("--drop");
        let consent: &[&str] = if removes {
            &["--yes", "--by", "golden"]
        } else if arguments == "compact" {
            &["--yes"]
        } else {
            &[]
        };
        cloacina_admin::run(words(&[&["cloaca", "log", "--log", "log"], consent].concat()), &mut around)
    };
    assert_eq!(code, 0, "{program} {arguments}: {}", String::from_utf8_lossy(&err));
    String::from_utf8(out).unwrap()
}

fn append(log: &Log, stream: [u8; 16], kind: StreamKind, first: u64, bodies: Vec<Vec<u8>>, label: Vec<u8>) {
    let frame = Frame {
        stream: StreamId::from_bytes(stream),
        kind,
        expected_seq: first,
        time: StoreTime(START),
        bodies,
        listing: Listing::Open(label),
    };
    log.0.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
}

/// Appends a schedule that fired and was disabled, and a trigger that fired once and once did not.
fn append_schedule_and_trigger(log: &Log) {
    let request = || Request { by: "ops".into(), reason: Some("for tests".into()) };
    let hourly = |time: Timestamp| Some(Timestamp((time.0.div_euclid(3_600_000_000) + 1) * 3_600_000_000));
    let created = ScheduleCreated {
        name: None,
        workflow: "etl".into(),
        expression: "0 * * * *".into(),
        timezone: "UTC".into(),
        catchup: Catchup::RunAll,
        input: vec![("day".into(), Json::parse("1.50").unwrap())],
        next: None,
    };
    let (mut state, decision) = schedule::create(ScheduleId([9; 16]), created, &hourly, Timestamp(START)).unwrap();
    let mut events = decision.events;
    let fire = schedule::Command::Fire(CatchupLimits { attended: true, limit: 5 });
    for (command, hours) in [(fire, 1), (schedule::Command::Disable(request()), 2)] {
        let time = Timestamp(START + hours * 3_600_000_000);
        events.extend(schedule::decide(&mut state, command, &hourly, time).unwrap().events);
    }
    let bodies = events.iter().map(|recorded| encode_schedule_event(&recorded.event)).collect();
    append(log, [9; 16], StreamKind::Schedule, 0, bodies, encode_schedule_label(&schedule::label(&state)));

    let definition = TriggerDefined {
        name: "inbox".into(),
        workflow: "etl".into(),
        pace: Pace::Interval(Millis(5_000)),
        allow_concurrent: false,
    };
    let (mut state, decision) = trigger::define(definition, Timestamp(START)).unwrap();
    let mut events = decision.events;
    let execution = ExecutionId([5; 16]);
    for same_runs in [None, Some(execution)] {
        let fire = trigger::Command::Fire { context: [7; 32], execution, same_runs, refused: None };
        events.extend(trigger::decide(&mut state, fire, Timestamp(START + 1)).unwrap().events);
    }
    let bodies = events.iter().map(|recorded| encode_trigger_event(&recorded.event)).collect();
    append(
        log,
        TriggerId::of("inbox").0,
        StreamKind::Trigger,
        0,
        bodies,
        encode_trigger_label(&trigger::label(&state)),
    );
}

/// Writes an archive with an execution of another log.
fn archive_of_another_log(archive: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap());
    histories::tutorial(&Log(log.clone()), id(IMPORTED));
    log.close().unwrap();
    output("cloaca", "archive 51b00077 -o foreign.cloaca", directory.path());
    fs::copy(directory.path().join("foreign.cloaca"), archive).unwrap();
}

/// Creates a log with every kind of event in `log`, and writes the output of `replay` for it.
fn create_golden_log(directory: &Path) {
    // A log accepts no times before its creation, so the histories begin now; otherwise tasks would take no time.
    common::begin_now();
    let log = Arc::new(open(&directory.join("log"), &Options::default()).unwrap());
    let shared = Log(log.clone());
    histories::all_into(&shared);
    append_schedule_and_trigger(&shared);
    drop(shared);
    let work = tempfile::tempdir().unwrap();
    archive_of_another_log(&directory.join("foreign.cloaca"));
    output("cloaca", "import foreign.cloaca", directory);
    output("cloaca", "erase 9f3ac102 --key dataset --reason case-7", directory);
    output("cloaca", "archive 51b00006 -o dropped.cloaca --drop", directory);
    output("cloaca", "checkpoint -o checkpoint", directory);
    log.close().unwrap();
    // Keep the secret key out of the golden log.
    fs::rename(directory.join("home"), work.path().join("home")).unwrap();
    for name in ["foreign.cloaca", "dropped.cloaca"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    for (arguments, file) in COMMANDS {
        fs::write(directory.join(file), output("replay", arguments, directory)).unwrap();
    }
}

/// Copies a golden log, as it is in a checkout.
fn copied(golden: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(&golden.join("log"), &directory.path().join("log"));
    fs::copy(golden.join("checkpoint"), directory.path().join("checkpoint")).unwrap();
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Returns the paths and contents of all files below a directory.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

fn assert_same_output(golden: &Path, directory: &Path, commands: &[(&str, &str)]) {
    for (arguments, file) in commands {
        let now = output("replay", arguments, directory);
        if std::env::var_os("GOLDEN_SAID").is_some() {
            fs::write(golden.join(file), &now).unwrap();
        }
        let before = fs::read_to_string(golden.join(file)).unwrap();
        assert_eq!(now, before, "replay {arguments}, of {}", golden.display());
    }
}

#[test]
fn a_golden_log_is_read_where_it_lies_and_says_what_it_said() {
    for golden in golden_logs() {
        let directory = copied(&golden);
        let before = files(&directory.path().join("log"));
        assert_same_output(&golden, directory.path(), &COMMANDS);
        output("replay", "verify --checkpoint checkpoint", directory.path());
        let reader = open_reader(&directory.path().join("log")).unwrap();
        let listed = |kind| {
            let filter = StreamFilter { kind: Some(kind), limit: 100, ..StreamFilter::default() };
            reader.streams(&filter).unwrap().len()
        };
        let counts = [StreamKind::Execution, StreamKind::Schedule, StreamKind::Trigger].map(listed);
        assert_eq!(counts, [9, 1, 1], "{}", golden.display());
        drop(reader);
        assert!(before == files(&directory.path().join("log")), "reading writes nothing");
    }
}

#[test]
fn a_golden_log_is_gone_on_with() {
    for golden in golden_logs() {
        let directory = copied(&golden);
        let log = Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap());
        assert_eq!(log.verify().findings, []);
        let before = log.head().unwrap().position;
        histories::completed(&Log(log.clone()), id(0x51b0_0078));
        assert!(log.head().unwrap().position > before);
        log.close().unwrap();
        drop(log);
        output("replay", "51b00078", directory.path());
        output("replay", "verify --all", directory.path());
        output("replay", "verify --checkpoint checkpoint", directory.path());
        // The executions that were there before are unchanged.
        assert_same_output(&golden, directory.path(), &COMMANDS[1..4]);
    }
}

#[test]
fn a_golden_log_that_is_written_anew_says_what_it_said() {
    for golden in golden_logs() {
        let directory = copied(&golden);
        output("cloaca", "compact", directory.path());
        assert_same_output(&golden, directory.path(), &COMMANDS);
        output("replay", "verify --checkpoint checkpoint", directory.path());
    }
}

#[test]
fn an_archive_of_a_golden_log_holds_for_both_verifiers() {
    let verifier = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/verifier/verify.py");
    for golden in golden_logs() {
        let directory = copied(&golden);
        output("cloaca", "archive 9f3ac101 9f3ac102 51b00003 51b00008 51b00077 -o some.cloaca", directory.path());
        for (what, file) in [("archive", "some.cloaca"), ("checkpoint", "checkpoint")] {
            let ran =
                Command::new("python3").args([verifier, what, file]).current_dir(directory.path()).output().unwrap();
            assert!(ran.status.success(), "{what}: {}", String::from_utf8_lossy(&ran.stdout));
        }
        output("replay", "verify --all --log some.cloaca", directory.path());
    }
}

#[test]
fn the_next_golden_log_can_be_made() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = match std::env::var_os("GOLDEN_LOG") {
        None => temporary.path().to_owned(),
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(!path.exists(), "{} is there: a golden log is not written over", path.display());
            fs::create_dir_all(&path).unwrap();
            path
        }
    };
    create_golden_log(&directory);
    let list = fs::read_to_string(directory.join("list.txt")).unwrap();
    for status in ["Completed", "Failed", "Cancelled", "Running"] {
        assert!(list.contains(status), "{status} in {list}");
    }
    let tutorial = fs::read_to_string(directory.join("tutorial.txt")).unwrap();
    assert!(tutorial.contains("erased"), "{tutorial}");
}

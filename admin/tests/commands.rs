//! `cloaca log …` on a log in a directory, also while another process has it open.

use std::ffi::OsString;
use std::io::{BufRead, Cursor};
use std::path::PathBuf;

use crate::common::histories::{self, BRANCHES, COMPLETED, FAILED, RUNNING, TUTORIAL};
use crate::common::{self, Log, START};
use cloacina_admin::{Surroundings, code, run};
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{EventLog, LogReader};
use cloacina_store::record::StreamId;
use cloacina_store::{Options, SledLog, open, open_reader, verify};

struct World {
    directory: tempfile::TempDir,
    log: Option<std::sync::Arc<SledLog>>,
}

struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl World {
    /// A directory with a log of many histories, which this process still has open.
    fn held() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = std::sync::Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap());
        histories::all_into(&Log(log.clone()));
        Self { directory, log: Some(log) }
    }

    /// The same, but the log is closed.
    fn closed() -> Self {
        let mut world = Self::held();
        world.log.take().unwrap().close().unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> Box<dyn LogReader> {
        open_reader(&self.path("log")).unwrap()
    }

    fn run(&self, arguments: &str, answer: Option<&str>) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut input = answer.map(|answer| Cursor::new(answer.as_bytes().to_vec()));
        let mut around = Surroundings {
            out: &mut out,
            err: &mut err,
            input: input.as_mut().map(|input| input as &mut dyn BufRead),
            variable: &|name| (name == "USER").then(|| OsString::from("ann")),
            directory: self.directory.path().to_owned(),
            now: Timestamp(NEXT_YEAR),
        };
        let words = ["cloaca", "log"].into_iter().chain(arguments.split_whitespace()).map(OsString::from).collect();
        let code = run(words, &mut around);
        Ran { out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), code }
    }

    fn done(&self, arguments: &str) -> Ran {
        let ran = self.run(arguments, None);
        assert_eq!(ran.code, code::OK, "{arguments}: {} {}", ran.out, ran.err);
        assert_eq!(verify(&self.path("log")).unwrap().findings, []);
        ran
    }
}

/// Far in the future: the log replaces the times of the histories by the time of writing.
const NEXT_YEAR: i64 = i64::MAX / 2;

fn stream(end: u32) -> StreamId {
    StreamId::from_bytes(common::id(end).0)
}

fn id(end: u32) -> String {
    common::id(end).to_string()
}

#[test]
fn nothing_is_removed_without_a_yes() {
    let world = World::closed();
    for command in [
        format!("erase {} --key dataset --reason x", id(TUTORIAL)),
        "prune --keep 0".to_owned(),
        format!("archive {} -o a.cloaca --drop", id(COMPLETED)),
    ] {
        let before = world.log().head().unwrap();
        for answer in [None, Some("no\n"), Some("\n"), Some("y\n"), Some("")] {
            let ran = world.run(&command, answer);
            assert_eq!(ran.code, code::NOT_DONE, "{command}, {answer:?}: {}", ran.err);
            assert!(ran.err.contains("nothing was removed"), "{}", ran.err);
        }
        // Opening the log appends to its own stream, and changes nothing else.
        let (log, own) = (world.log(), world.log().stream(StreamId::LOG).unwrap().records);
        let others = log.head().unwrap().position - own;
        assert!(before.position - others <= own, "{command}");
        assert!(!world.path("a.cloaca").exists());
        assert!(log.read(stream(TUTORIAL), 4, 1).unwrap()[0].body.bytes().is_some());
        assert!(log.stream(stream(COMPLETED)).is_ok());
    }
    let ran = world.run(&format!("erase {} --key dataset --reason x", id(TUTORIAL)), Some("yes\n"));
    assert_eq!(ran.code, code::OK, "{}", ran.err);
    assert!(ran.err.contains("the value of dataset (prepare_dataset, attempt 1)"), "{}", ran.err);
    assert!(ran.err.contains("read by analyze_premium_customers, distribute_workload"), "{}", ran.err);
}

#[test]
fn a_value_is_erased_through_the_process_that_has_the_log() {
    for world in [World::held(), World::closed()] {
        let before = world.log().read(stream(TUTORIAL), 0, 100).unwrap();
        let ran = world.done("erase 9f3ac102 --key dataset --reason case-311 --yes");
        assert!(ran.out.contains("erased the contents of 2 events"), "{}", ran.out);
        let log = world.log();
        let after = log.read(stream(TUTORIAL), 0, 100).unwrap();
        let erased: Vec<u64> =
            after.iter().filter(|record| record.body.bytes().is_none()).map(|record| record.seq).collect();
        assert_eq!(erased, [4, before.len() as u64 - 1]);
        assert!(before.iter().zip(&after).all(|(old, new)| old.hash == new.hash));
        let erasures = log.erasures(stream(TUTORIAL)).unwrap();
        assert_eq!((&*erasures[0].by, &*erasures[0].reason), ("ann", "case-311"));
    }
}

#[test]
fn what_cannot_be_erased_says_why() {
    let world = World::held();
    for (arguments, code, says) in [
        ("erase 9f3ac102 --key datase --reason x --yes", code::NOT_FOUND, "no value was written to key 'datase'"),
        ("erase 9f3ac102 --seq 99 --reason x --yes", code::NOT_FOUND, "no event has seq 99"),
        ("erase 9f3ac102 --seq 1 --reason x --yes", code::NOT_DONE, "holds no value"),
        ("erase 51b00007 --key request_id --reason x --yes", code::NOT_DONE, "has not ended"),
        ("erase ffffffff --key a --reason x --yes", code::NOT_FOUND, "no execution 'ffffffff'"),
        ("erase 9f3ac102 --key dataset --yes", code::USAGE, "--reason"),
        ("erase 9f3ac102 --reason x", code::USAGE, "--key"),
        ("--log nowhere erase 9f3ac102 --key a --reason x", code::CANNOT_ACCESS, "there is no log at"),
        ("archive -o x.cloaca", code::USAGE, "ID"),
        ("prune", code::USAGE, "--keep"),
        ("import nothing.cloaca", code::CANNOT_ACCESS, "nothing.cloaca"),
    ] {
        let ran = world.run(arguments, None);
        assert_eq!(ran.code, code, "{arguments}: {}", ran.err);
        assert!(ran.err.contains(says), "{arguments}: {}", ran.err);
    }
}

#[test]
fn an_archive_is_shown_as_the_log_is_and_comes_back_after_it_was_dropped() {
    for world in [World::held(), World::closed()] {
        let before = world.log().read(stream(BRANCHES), 0, 1_000).unwrap();
        world.done(&format!("archive {} {} -o two.cloaca", id(BRANCHES), id(FAILED)));
        let archive = world.path("two.cloaca");
        let shown = |log: &std::path::Path| {
            let around_args = ["replay", "51b00005", "--json"].iter().map(OsString::from).collect::<Vec<_>>();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let variable = |name: &str| (name == "CLOACA_LOG").then(|| log.as_os_str().to_owned());
            let mut around = cloacina_replay::cli::surroundings::Surroundings {
                out: &mut out,
                err: &mut err,
                terminal: None,
                variable: &variable,
                directory: world.directory.path().to_owned(),
                now: Timestamp(START),
                open: &open_reader,
                pause: &|_| false,
                sharing: &cloacina_replay::cli::paging::Sharing::default(),
                shows_progress: false,
            };
            assert_eq!(cloacina_replay::cli::run(around_args, &mut around), 0);
            String::from_utf8(out).unwrap().split_once("\"trouble\"").unwrap().1.to_owned()
        };
        // The durability and the path of the log come before the part that is compared.
        assert!(shown(&archive) == shown(&world.path("log")));

        world.done(&format!("archive {} {} -o dropped.cloaca --drop --yes", id(BRANCHES), id(FAILED)));
        assert!(world.log().stream(stream(BRANCHES)).is_err());
        assert!(world.log().stream(stream(COMPLETED)).is_ok());
        let ran = world.done("import dropped.cloaca");
        assert!(ran.out.contains("imported 2 executions"), "{}", ran.out);
        assert_eq!(world.log().read(stream(BRANCHES), 0, 1_000).unwrap(), before);
        let ran = world.done("import two.cloaca");
        assert!(ran.out.contains("2 executions were there already"), "{}", ran.out);
        let ran = world.run(&format!("archive {} -o two.cloaca", id(BRANCHES)), None);
        assert_eq!(ran.code, code::NOT_DONE, "a file that is there is not written over");
        let ran = world.run(&format!("archive {} -o open.cloaca --drop --yes", id(RUNNING)), None);
        assert_eq!(ran.code, code::NOT_DONE, "{}", ran.err);
        assert!(!world.path("open.cloaca").exists());
    }
}

#[test]
fn pruning_takes_what_is_finished_and_old_enough_and_keeps_the_newest() {
    let world = World::held();
    let finished = |world: &World| {
        let ran = world.run("prune --keep 0 --dry-run", None);
        ran.out.lines().filter(|line| line.starts_with("  ")).count()
    };
    let all = finished(&world);
    assert!(all > 4);
    let failed = world.done("prune --status failed --dry-run").out;
    assert!(failed.contains("Failed") && !failed.contains("Completed"), "{failed}");
    assert!(world.done("prune --older-than 52w --status Failed --keep 100 --dry-run").out.contains("0 executions"));
    assert_eq!(finished(&world), all, "a dry run drops nothing");
    world.done(&format!("prune --keep {} --yes", all - 2));
    assert_eq!(finished(&world), all - 2);
    world.done("prune --status Failed --yes");
    assert!(world.log().stream(stream(FAILED)).is_err());
    world.done("prune --older-than 1s --yes");
    assert_eq!(finished(&world), 0);
    assert!(world.log().stream(stream(RUNNING)).is_ok(), "what runs is never dropped");
    assert!(world.done("prune --keep 0 --yes").out.contains("nothing to drop"));
}

#[test]
fn a_log_is_written_anew_and_copied_once_nobody_has_it() {
    let world = World::held();
    assert_eq!(world.run("compact --yes", None).code, code::CANNOT_ACCESS);
    assert_eq!(world.run("repair --to new", None).code, code::CANNOT_ACCESS);
    let world = World::closed();
    let before = world.log().read(stream(BRANCHES), 0, 1_000).unwrap();
    assert_eq!(world.run("compact", Some("no\n")).code, code::NOT_DONE);
    let ran = world.done("compact --yes");
    assert!(ran.out.contains("rewrote"), "{}", ran.out);
    assert_eq!(world.log().read(stream(BRANCHES), 0, 1_000).unwrap(), before);
    let ran = world.done("repair --to new");
    assert!(ran.out.starts_with("copied 9 streams"), "{}", ran.out);
    assert_eq!(open_reader(&world.path("new")).unwrap().read(stream(BRANCHES), 0, 1_000).unwrap(), before);
    assert_eq!(world.run("--log log repair --to new", None).code, code::NOT_DONE);
}

#[test]
fn a_damaged_log_is_copied_as_far_as_it_is_whole_and_says_what_is_not() {
    let world = World::closed();
    let segment = world.path("log").join("segments/0000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let word = b"complex_customer_analysis";
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    found.iter().for_each(|at| bytes[at + 3] ^= 1);
    std::fs::write(&segment, bytes).unwrap();
    let verified = {
        let path = world.path("log");
        let arguments = ["replay", "verify", "--all", "--log", path.to_str().unwrap()].map(OsString::from).to_vec();
        cloacina_replay::main(arguments)
    };
    assert_eq!(verified, 5);
    let ran = world.run("repair --to new", None);
    assert_eq!(ran.code, code::DAMAGED, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("also damaged: "), "{}", ran.out);
    assert_eq!(verify(&world.path("new")).unwrap().findings, []);
}

#[test]
fn help_says_what_the_exit_codes_are() {
    let world = World::closed();
    let ran = world.run("--help", None);
    assert_eq!(ran.code, 0);
    for word in ["archive", "import", "erase", "prune", "Exit codes", "--yes"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
}

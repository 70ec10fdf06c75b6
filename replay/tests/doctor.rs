//! `replay doctor` on logs in directories: held, closed, left by a process that died, and none.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::common::{Log, Ran, histories, replay_with};
use cloacina_store::log::{Durability, EventLog};
use cloacina_store::{Options, SledLog, open, open_reader};

fn made(path: &Path, durability: Durability) -> Arc<SledLog> {
    let log = Arc::new(open(path, &Options { durability, ..Options::default() }).unwrap());
    histories::all_into(&Log(log.clone()));
    log
}

fn doctor(path: &Path) -> Ran {
    replay_with(&open_reader, None, &format!("doctor --log {}", path.display()))
}

/// The text after a name.
fn line<'a>(ran: &'a Ran, name: &str) -> &'a str {
    ran.out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {ran}")).trim()
}

#[test]
fn a_held_log_says_by_whom_and_how_it_acknowledges() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = made(&path, Durability::Sync);
    let ran = doctor(&path);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(line(&ran, "held by").starts_with(&format!("process {} on host", std::process::id())), "{ran}");
    assert_eq!(line(&ran, "socket"), "answers readers");
    assert!(line(&ran, "durability").starts_with("sync: a power cut loses no acknowledged event"), "{ran}");
    assert!(line(&ran, "holds").starts_with("9 executions, 1 unfinished"), "{ran}");
    assert!(line(&ran, "a sync").contains(" ms median"), "{ran}");
    assert!(line(&ran, "file system").contains(" free of "), "{ran}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside the log");
    log.close().unwrap();
}

#[test]
fn what_a_crash_can_lose_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for (name, durability, says) in [
        ("interval", Durability::Interval(250), "interval: a power cut can lose the last 250 ms"),
        ("os", Durability::Os, "os: a power cut can lose"),
    ] {
        let path = directory.path().join(name);
        let log = made(&path, durability);
        assert!(line(&doctor(&path), "durability").starts_with(says));
        log.close().unwrap();
        assert!(line(&doctor(&path), "durability").starts_with(says), "a closed log remembers");
    }
    let ran = doctor(&directory.path().join("os"));
    assert!(ran.out.contains("warning: acknowledged events may not be on disk yet"), "{ran}");
}

#[test]
fn a_closed_log_is_told_from_one_whose_process_died() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    made(&path, Durability::Sync).close().unwrap();
    assert_eq!(line(&doctor(&path), "held by"), "no process; it was closed properly");
    fs::write(path.join("lock"), "4194304 elsewhere\n").unwrap();
    assert!(line(&doctor(&path), "held by").ends_with("process 4194304 on host elsewhere died without closing it"));
}

#[test]
fn a_damaged_log_still_has_a_ground_and_no_log_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    made(&path, Durability::Sync).close().unwrap();
    fs::remove_file(path.join("head")).unwrap();
    let ran = doctor(&path);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("warning: the log") && ran.out.contains("1 warning"), "{ran}");
    assert_eq!(doctor(&directory.path().join("none")).code, 4);
    assert_eq!(replay_with(&open_reader, None, "latest doctor").code, 2);
}

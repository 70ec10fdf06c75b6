//! Logs whose directory is moved, removed or replaced while a process has them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use cloacina_store::log::{EventLog, LogReader};
use cloacina_store::{Options, SledLog, open, open_reader, verify};

use super::{content, writable};
use crate::suite::{one, stream};

/// Returns an open log with ten records.
fn open_with_ten_records(path: &Path) -> SledLog {
    let log = writable(path).unwrap();
    for seq in 0..10 {
        log.append(one(stream(1), seq, b"first")).unwrap();
    }
    log
}

/// Returns the error of the next append.
fn refusal(log: &SledLog) -> String {
    log.append(one(stream(1), 10, b"lost")).unwrap_err().to_string()
}

/// Regression: a runner whose directory was moved (rotation by `mv`) or removed (a reset by `rm -rf`) continued, and its close wrote its
/// head file into the log that another runner had created at that path meanwhile. From then on that log counted as damaged.
#[test]
fn a_process_touches_only_the_directory_that_it_opened_and_says_so_at_the_next_append() {
    let move_away = |path: &Path| fs::rename(path, path.with_extension("old")).unwrap();
    let remove = |path: &Path| fs::remove_dir_all(path).unwrap();
    let empty = |path: &Path| {
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { fs::remove_dir_all(entry).unwrap() } else { fs::remove_file(entry).unwrap() }
        }
    };
    let lead_elsewhere = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        symlink(path.with_extension("new"), path).unwrap();
    };
    type Harm<'a> = &'a dyn Fn(&Path);
    let done: [(&str, Harm<'_>); 4] =
        [("moved", &move_away), ("removed", &remove), ("emptied", &empty), ("led elsewhere", &lead_elsewhere)];
    for (what, harm) in done {
        for asks_first in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            if what == "led elsewhere" {
                fs::create_dir(path.with_extension("old")).unwrap();
                symlink(path.with_extension("old"), &path).unwrap();
            }
            let one_process = open_with_ten_records(&path);
            harm(&path);
            if asks_first {
                let why = refusal(&one_process);
                assert!(why.contains("while this process had the log open"), "{what}: {why}");
            }
            let other = writable(&path).unwrap();
            other.append(one(stream(2), 0, b"second")).unwrap();
            let before = content(&path);
            let why = refusal(&one_process);
            assert!(why.contains("while this process had the log open"), "{what}: {why}");
            assert!(one_process.close().is_err(), "{what}");
            assert_eq!(content(&path), before, "{what}");
            other.append(one(stream(2), 1, b"second")).unwrap();
            other.close().unwrap();
            assert_eq!(verify(&path).unwrap().findings, [], "{what}");
            assert_eq!(open_reader(&path).unwrap().read(stream(2), 0, 9).unwrap().len(), 2);
            let old = path.with_extension("old");
            if old.exists() {
                assert_eq!(verify(&old).unwrap().findings, [], "{what}");
                assert_eq!(writable(&old).unwrap().read(stream(1), 0, 99).unwrap().len(), 10, "{what}");
            }
        }
    }
}

/// Regression: a lock file that somebody removed "to free the log" let a second process in, and both wrote to the same segment: of six
/// acknowledged executions three were left, and `verify` called the log intact.
#[test]
fn a_process_whose_lock_file_is_gone_writes_nothing_more_and_loses_nothing() {
    let remove = |lock: &Path| fs::remove_file(lock).unwrap();
    let move_away = |lock: &Path| fs::rename(lock, lock.with_extension("old")).unwrap();
    let replace = |lock: &Path| {
        fs::write(lock.with_extension("new"), b"").unwrap();
        fs::rename(lock.with_extension("new"), lock).unwrap();
    };
    type Harm<'a> = &'a (dyn Fn(&Path) + Sync);
    let done: [(&str, Harm<'_>, bool); 3] =
        [("removed", &remove, false), ("moved", &move_away, true), ("replaced", &replace, false)];
    // At once: the other process waits some seconds for the index, which the first one has.
    thread::scope(|scope| {
        for (what, harm, asks_first) in done {
            scope.spawn(move || a_lock_file_is_gone(what, harm, asks_first));
        }
    });
}

fn a_lock_file_is_gone(what: &str, harm: &dyn Fn(&Path), asks_first: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let one_process = open_with_ten_records(&path);
    harm(&path.join("lock"));
    if asks_first {
        let why = refusal(&one_process);
        assert!(why.contains("lock was") && why.contains("Restart this process"), "{what}: {why}");
    }
    let other = writable(&path).unwrap();
    for seq in 0..3 {
        other.append(one(stream(2), seq, b"second")).unwrap();
    }
    let before = content(&path);
    let why = refusal(&one_process);
    assert!(why.contains("lock was") && why.contains("Restart this process"), "{what}: {why}");
    assert!(one_process.close().is_err(), "{what}");
    drop(one_process);
    assert_eq!(content(&path), before, "{what}");
    other.append(one(stream(2), 3, b"second")).unwrap();
    other.close().unwrap();
    assert_eq!(verify(&path).unwrap().findings, [], "{what}");
    let reader = open_reader(&path).unwrap();
    let records = [1, 2].map(|number| reader.read(stream(number), 0, 99).unwrap().len());
    assert_eq!(records, [10, 4], "{what}");
}

#[test]
fn a_log_that_is_put_back_before_the_next_append_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (path, away) = (directory.path().join("log"), directory.path().join("away"));
    let log = open_with_ten_records(&path);
    fs::rename(&path, &away).unwrap();
    fs::rename(&away, &path).unwrap();
    log.append(one(stream(1), 10, b"more")).unwrap();
    log.close().unwrap();
    assert_eq!(open_reader(&path).unwrap().read(stream(1), 0, 99).unwrap().len(), 11);
}

/// Regression: a path that is not UTF-8 was converted to text before the close, which then left its files elsewhere.
#[test]
fn a_path_need_not_be_text() {
    let directory = tempfile::tempdir().unwrap();
    let name = |bytes: &[u8]| directory.path().join(std::ffi::OsStr::from_bytes(bytes));
    let paths: [PathBuf; 3] = [name(b"log-\xff\xfe"), name(b"a\nb"), name(&[b'x'; 200]).join("y".repeat(200))];
    for path in paths {
        let log = open_with_ten_records(&path);
        assert_eq!(log.path(), path);
        assert_eq!(open_reader(&path).unwrap().read(stream(1), 0, 99).unwrap().len(), 10, "through the socket");
        log.close().unwrap();
        let segment = fs::read(path.join("segments/0000000001")).unwrap();
        assert_ne!(segment[segment.len() - 100..], [0; 100], "the close truncates the space allocated ahead");
        assert_eq!(verify(&path).unwrap().findings, []);
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.as_bytes().starts_with(b"log-\xff") && !name.as_bytes().starts_with(b"a\n"));
        assert!(names.iter().all(|name| name.len() == 200), "{names:?}");
    }
}

/// Regression: nine of 96 processes that created one log at once got "No such file or directory": before it had the lock, each wrote the
/// format file under the same temporary name.
#[test]
fn of_many_processes_that_create_a_log_at_once_one_gets_it_and_the_others_learn_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let path = directory.path().join(format!("below/{round}/log"));
        let opened = std::thread::scope(|scope| {
            let all: Vec<_> = (0..24).map(|_| scope.spawn(|| open(&path, &Options::default()))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let refusals: Vec<_> = opened.iter().filter_map(|opened| opened.as_ref().err()).collect();
        assert_eq!(refusals.len(), 23, "one has the log");
        let named = format!("in use by process {}", std::process::id());
        assert!(refusals.iter().all(|error| error.to_string().contains(&named)), "{refusals:?}");
        drop(opened);
        assert_eq!(writable(&path).unwrap().head().unwrap().position, 2, "it was created once");
    }
}

//! What opening does with all that can stand at a path, and who may have a log.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

#[path = "directories/moved.rs"]
mod moved;
#[path = "directories/shared_machine.rs"]
mod shared_machine;
mod suite;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloacina_store::log::{Durability, EventLog, LogReader, OpenError};
use cloacina_store::{Options, open, open_reader, verify};
use suite::{batch, frame, one, open_label, stream};

fn writable(path: &Path) -> Result<cloacina_store::SledLog, OpenError> {
    open(path, &Options::default())
}

fn refusal(path: &Path) -> String {
    writable(path).err().unwrap().to_string()
}

/// Every file under a directory, with its content.
fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(content(&entry.path()));
            files.push((name, Vec::new()));
        } else if entry.file_type().unwrap().is_file() {
            files.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

/// A closed log with a few records.
fn written(path: &Path) {
    let log = writable(path).unwrap();
    for seq in 0..20 {
        let bodies: [&[u8]; 2] = [b"a", &[7; 900]];
        log.append(batch(vec![frame(stream(1), seq * 2, &bodies, open_label("x"))])).unwrap();
        log.append(one(stream(2), seq, b"b")).unwrap();
    }
    log.close().unwrap();
}

#[test]
fn what_is_no_log_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "notes").unwrap();
    let database = directory.path().join("cloacina.db");
    fs::write(&database, b"SQLite format 3\0and more").unwrap();
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "text").unwrap();
    let below = file.join("log");
    let before = content(directory.path());
    for (path, said) in [
        (&file, "a file"),
        (&database, "an SQLite database"),
        (&other, "a directory with other files in it, such as thesis.tex"),
        (&below, "a part of the path is a file"),
    ] {
        assert!(refusal(path).contains(said), "{}", refusal(path));
        let read = open_reader(path).err().unwrap().to_string();
        assert!(read.contains(said), "{read}");
    }
    assert_eq!(content(directory.path()), before);
}

#[test]
fn a_missing_log_is_made_by_a_writer_with_its_parents_and_never_by_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/log");
    assert!(matches!(open_reader(&path), Err(OpenError::Missing { .. })));
    assert!(matches!(verify(&path), Err(OpenError::Missing { .. })));
    let options = Options { create: false, ..Options::default() };
    assert!(matches!(open(&path, &options), Err(OpenError::Missing { .. })));
    assert!(content(directory.path()).is_empty());
    writable(&path).unwrap().close().unwrap();
    open(&path, &options).unwrap().close().unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    assert!(matches!(open_reader(&directory.path().join("empty")), Err(OpenError::Missing { .. })));
    writable(&directory.path().join("empty")).unwrap().close().unwrap();
}

/// A power cut during the first creation can tear whatever sled has made by then. That was taken for damage: the log could
/// never be made at that path, though nothing had been acknowledged.
#[test]
fn a_creation_that_was_stopped_anywhere_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    written(&log);
    let begun = directory.path().join("begun");
    fs::create_dir(&begun).unwrap();
    for (name, torn) in
        [("creating", ""), ("format.new", "cloac"), ("format", "cloacina-log 1\n"), ("conf", "seg"), ("db", "?")]
    {
        fs::write(begun.join(name), torn).unwrap();
        let copy = directory.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for (name, bytes) in content(&begun) {
            fs::write(copy.join(name), bytes).unwrap();
        }
        if copy.join("format").exists() {
            assert_eq!(open_reader(&copy).unwrap().head().unwrap().position, 0, "{name}");
        }
        writable(&copy).unwrap().close().unwrap();
        assert!(!copy.join("creating").exists());
        fs::remove_dir_all(&copy).unwrap();
    }
    // A cut can also leave the mark of a creation that was finished.
    fs::write(log.join("creating"), "").unwrap();
    assert_eq!(open_reader(&log).unwrap().read(stream(2), 0, 100).unwrap().len(), 20);
    writable(&log).unwrap().close().unwrap();
    assert!(!log.join("creating").exists());
}

/// A log of which only the format file was left used to open as a new and empty one.
#[test]
fn a_log_that_has_lost_its_database_and_its_head_file_is_not_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    for name in ["head", "db"] {
        fs::remove_file(path.join(name)).unwrap();
        assert!(refusal(&path).contains("its head file (`head`)"), "{}", refusal(&path));
        assert!(matches!(open_reader(&path), Err(OpenError::Damaged { .. })));
    }
}

/// About one kill in two thousand met sled while it wrote its first file, `conf`: the file was there and empty, and every
/// later open said that the database was damaged, although nobody had ever been told that there was one.
#[test]
fn a_creation_that_was_killed_while_sled_began_is_taken_up_again() {
    for left in [&b""[..], b"\x01\x02"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::create_dir_all(path.join("blobs")).unwrap();
        fs::write(path.join("creating"), "").unwrap();
        fs::write(path.join("format"), "cloacina-log 1\n").unwrap();
        fs::write(path.join("conf"), left).unwrap();
        let log = writable(&path).unwrap();
        log.append(one(stream(1), 0, b"a")).unwrap();
        log.close().unwrap();
        assert_eq!(open_reader(&path).unwrap().read(stream(1), 0, 10).unwrap().len(), 1);
    }
}

/// sled writes a snapshot under a name of its own and then renames it; but it looks for snapshots by a name that it no
/// longer uses for unfinished ones, so that it took what a kill had left for its newest snapshot, and for damage. Every
/// open writes one. A log that had been killed in that moment could not be opened again.
#[test]
fn a_log_that_was_killed_over_a_snapshot_opens() {
    for left in [&b""[..], b"\x01\x02", &[7; 100]] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = writable(&path).unwrap();
        log.append(one(stream(1), 0, b"a")).unwrap();
        log.close().unwrap();
        let unfinished = path.join("snap.FFFFFFFFFFFFFFFF.generating");
        fs::write(&unfinished, left).unwrap();
        assert_eq!(open_reader(&path).unwrap().read(stream(1), 0, 10).unwrap().len(), 1);
        assert!(unfinished.exists(), "a reader changes nothing");
        let log = writable(&path).unwrap();
        assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 1);
        log.append(one(stream(1), 1, b"b")).unwrap();
        log.close().unwrap();
    }
}

#[test]
fn a_newer_or_broken_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    fs::write(path.join("format"), "cloacina-log 2\n").unwrap();
    assert!(refusal(&path).contains("has format 2, this version reads up to format 1"));
    fs::write(path.join("format"), "cloacina-log one\n").unwrap();
    assert!(refusal(&path).contains("its format file says"));
    fs::write(path.join("format"), "something").unwrap();
    assert!(matches!(writable(&path), Err(OpenError::NotALog { .. })));
}

#[test]
fn a_second_writer_is_told_at_once_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = writable(&path).unwrap();
    let asked = Instant::now();
    let Err(OpenError::Locked { pid, host, .. }) = writable(&path) else { panic!("not locked") };
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(pid, std::process::id());
    assert!(!host.is_empty());
    drop(log);
    writable(&path).unwrap();
}

#[test]
fn a_lock_that_lingers_after_its_holder_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let mut lock = File::options().write(true).open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    // No process has this number.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    writeln!(lock, "{} {host}", i32::MAX).unwrap();
    let released = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(lock);
    });
    writable(&path).unwrap();
    released.join().unwrap();
}

#[test]
fn a_lost_or_shortened_database_is_never_taken_for_a_fresh_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let database = fs::read(path.join("db")).unwrap();
    fs::remove_file(path.join("db")).unwrap();
    assert!(refusal(&path).contains("`db`) is missing"), "{}", refusal(&path));
    assert!(open_reader(&path).err().unwrap().to_string().contains("`db`) is missing"));
    assert!(!path.join("db").exists());
    let used = database.iter().rposition(|byte| *byte != 0).unwrap();
    for kept in [0, used / 3] {
        fs::write(path.join("db"), &database[..kept]).unwrap();
        assert!(matches!(writable(&path), Err(OpenError::Damaged { .. })), "{kept} bytes");
    }
}

#[test]
fn a_damaged_head_file_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let mut head = fs::read(path.join("head")).unwrap();
    head[10] ^= 1;
    fs::write(path.join("head"), head).unwrap();
    assert!(refusal(&path).contains("the head file: its check does not fit"), "{}", refusal(&path));
    let findings = verify(&path).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn reading_a_log_that_nobody_has_changes_nothing_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    fs::remove_file(path.join("lock")).unwrap();
    let before = content(&path);
    let reader = open_reader(&path).unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 20);
    assert_eq!(reader.head().unwrap().durability, None);
    assert_eq!(reader.location(), path.display().to_string());
    let verified = verify(&path).unwrap();
    assert_eq!((verified.records, verified.streams), (62, 3));
    assert_eq!(verified.findings, []);
    assert_eq!(content(&path), before);
}

#[test]
fn who_reads_a_closed_log_is_in_nobodys_way_and_goes_along_with_whoever_opens_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let reader = open_reader(&path).unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 20);
    let log = writable(&path).unwrap();
    log.append(one(stream(2), 20, b"more")).unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 21, "through the socket of whoever has it");
    log.close().unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 21, "from the files again");
    writable(&path).unwrap().append(one(stream(2), 21, b"and more")).unwrap();
    assert_eq!(reader.read(stream(2), 20, 100).unwrap().len(), 2);
    assert_eq!(reader.head().unwrap().durability, None);
}

#[test]
fn damage_in_the_database_file_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let original = open_reader(&path).unwrap().tail(0, 1000).unwrap();
    let database = fs::read(path.join("db")).unwrap();
    let used = database.iter().rposition(|byte| *byte != 0).unwrap();
    for place in (0..used).step_by(used / 25) {
        let mut damaged = database.clone();
        damaged[place] ^= 0x20;
        fs::write(path.join("db"), damaged).unwrap();
        let Ok(reader) = open_reader(&path) else {
            continue;
        };
        if let Ok(records) = reader.tail(0, 1000) {
            assert_eq!(records, original, "byte {place}");
        }
    }
}

/// What a failed or killed open leaves of a snapshot was taken for the newest one, and for damage, at every later open. One
/// that is really damaged is left out too: all that is in it is in the database.
#[test]
fn an_unfinished_or_damaged_snapshot_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let snapshots = || {
        let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap.")).collect::<Vec<_>>()
    };
    assert_eq!(snapshots().len(), 1, "an orderly close leaves a snapshot");
    fs::write(path.join("snap.FFFFFFFFFFFFFFFF.generating"), "half").unwrap();
    assert_eq!(open_reader(&path).unwrap().read(stream(2), 0, 100).unwrap().len(), 20);
    writable(&path).unwrap().close().unwrap();
    for snapshot in snapshots() {
        fs::write(snapshot, "not what was written").unwrap();
    }
    assert_eq!(open_reader(&path).unwrap().read(stream(2), 0, 100).unwrap().len(), 20);
    let log = writable(&path).unwrap();
    assert_eq!(log.read(stream(2), 0, 100).unwrap().len(), 20);
    assert_eq!(log.verify().findings, []);
}

#[test]
fn every_durability_keeps_what_was_closed() {
    for durability in [Durability::Sync, Durability::Interval(1), Durability::Os] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = open(&path, &Options { durability, ..Options::default() }).unwrap();
        for seq in 0..10 {
            log.append(one(stream(1), seq, b"a")).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(log.flushes(), 10);
        assert_eq!(log.head().unwrap().durability, Some(durability));
        log.close().unwrap();
        assert_eq!(open_reader(&path).unwrap().read(stream(1), 0, 100).unwrap().len(), 10);
    }
}

/// A program that was killed left children behind that shared its lock: the next start said that a process was in the way
/// that did not exist, and readers waited for it.
#[test]
fn a_lock_that_outlives_its_owner_is_refused_with_the_name_of_who_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    writable(&path).unwrap().close().unwrap();
    let lock = fs::OpenOptions::new().read(true).write(true).open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    // Its owner is named, and gone.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    fs::write(path.join("lock"), format!("{} {host}\n", i32::MAX)).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(lock)).spawn().unwrap();
    let refused = |error: OpenError| match error {
        OpenError::LeftLocked { ref holders, .. } => {
            let holders: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
            (holders, error.to_string())
        }
        other => panic!("{other}"),
    };
    let (writer, reader) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| writable(&path).map(drop).map_err(refused));
        let reader = scope.spawn(|| open_reader(&path).map(drop).map_err(refused));
        (writer.join().unwrap(), reader.join().unwrap())
    });
    for refusal in [writer, reader] {
        let (holders, message) = refusal.unwrap_err();
        assert_eq!(holders, [child.id()], "{message}");
        assert!(message.contains(&format!("process {} (sleep 60)", child.id())), "{message}");
        assert!(message.contains("is gone"), "{message}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    writable(&path).unwrap();
}

//! Opening whatever a path can contain, and which process may have a log.

mod moved;
mod shared_machine;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::suite::{batch, frame, one, open_label, stream};
use cloacina_store::log::{Durability, EventLog, LogReader, OpenError};
use cloacina_store::{Options, compact, open, open_reader, verify};

fn writable(path: &Path) -> Result<cloacina_store::SledLog, OpenError> {
    open(path, &Options::default())
}

fn refusal(path: &Path) -> String {
    writable(path).err().unwrap().to_string()
}

/// Returns every file under a directory, with its contents.
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

/// Writes a closed log with a few records.
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
fn a_path_that_is_not_a_log_is_named_and_not_changed() {
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
    for (path, expected) in [
        (&file, "a file"),
        (&database, "an SQLite database"),
        (&other, "a directory with other files in it, such as thesis.tex"),
        (&below, "a part of the path is a file"),
    ] {
        assert!(refusal(path).contains(expected), "{}", refusal(path));
        let read = open_reader(path).err().unwrap().to_string();
        assert!(read.contains(expected), "{read}");
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

/// Regression: a power cut during the creation can tear every file of it. That counted as damage, so no log could ever
/// be created at that path, although nothing had been acknowledged.
#[test]
fn a_creation_that_was_interrupted_anywhere_starts_over() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    written(&log);
    let begun = directory.path().join("begun");
    fs::create_dir_all(begun.join("segments")).unwrap();
    fs::create_dir_all(begun.join("index/blobs")).unwrap();
    let whole = fs::read(log.join("segments/0000000001")).unwrap();
    for (name, torn) in [
        ("creating", &b""[..]),
        ("format.new", b"cloac"),
        ("format", b"cloacina-log 1\n"),
        ("segments/0000000001", b""),
        ("segments/0000000001", &whole[..50]),
        ("segments/0000000001", &[0; 84]),
        ("head.new", b"H"),
        ("index/conf", b"seg"),
        ("index/db", b"?"),
    ] {
        // With this subdirectory alone, or empty, the directory is not recognized as a log.
        fs::write(begun.join(name), torn).unwrap();
        let copy = directory.path().join("copy");
        copy_files(&begun, &copy);
        if copy.join("format").exists() {
            assert_eq!(open_reader(&copy).unwrap().head().unwrap().position, 0, "{name}");
        } else {
            fs::remove_dir_all(copy.join("segments")).unwrap();
            fs::remove_dir_all(copy.join("index")).unwrap();
        }
        let log = writable(&copy).unwrap();
        log.append(one(stream(1), 0, b"a")).unwrap();
        log.close().unwrap();
        assert!(!copy.join("creating").exists());
        assert_eq!(verify(&copy).unwrap().findings, [], "{name}");
        fs::remove_dir_all(&copy).unwrap();
    }
    // A power cut can also leave the marker of a finished creation.
    fs::write(log.join("creating"), "").unwrap();
    assert_eq!(open_reader(&log).unwrap().read(stream(2), 0, 100).unwrap().len(), 20);
    writable(&log).unwrap().close().unwrap();
    assert!(!log.join("creating").exists());
}

/// Regression: a log with nothing left but its format file opened as a new, empty log.
#[test]
fn a_log_that_has_lost_its_head_file_and_its_segments_is_not_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    fs::remove_file(path.join("head")).unwrap();
    for name in ["", "index", "segments"] {
        if !name.is_empty() {
            fs::remove_dir_all(path.join(name)).unwrap();
        }
        let before = content(&path);
        assert!(refusal(&path).contains("its head file (`head`)"), "{}", refusal(&path));
        assert!(matches!(open_reader(&path), Err(OpenError::Damaged { .. })));
        fs::write(path.join("lock"), "").unwrap();
        assert_eq!(content(&path), before, "nothing is made in it");
    }
}

/// Regression: about one kill in two thousand hit sled while it wrote its first file, `conf`. The file was empty, and every
/// later open reported a damaged database, although the creation had never been acknowledged.
#[test]
fn a_creation_that_was_killed_while_sled_started_starts_over() {
    for left in [&b""[..], b"\x01\x02"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        written(&path);
        for name in ["conf", "db"] {
            fs::write(path.join("index").join(name), left).unwrap();
        }
        let log = writable(&path).unwrap();
        log.append(one(stream(9), 0, b"a")).unwrap();
        log.close().unwrap();
        assert_eq!(open_reader(&path).unwrap().read(stream(9), 0, 10).unwrap().len(), 1);
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
    assert!(refusal(&path).contains("its format file contains"));
    fs::write(path.join("format"), "something").unwrap();
    assert!(matches!(writable(&path), Err(OpenError::NotALog { .. })));
}

#[test]
fn a_second_writer_learns_at_once_who_has_the_log() {
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
fn a_lock_that_is_released_late_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let mut lock = File::options().write(true).open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    // No process has this pid.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    writeln!(lock, "{} {host}", i32::MAX).unwrap();
    let released = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(lock);
    });
    writable(&path).unwrap();
    released.join().unwrap();
}

/// Makes a log as a process leaves it that was killed after an acknowledgement.
fn killed(path: &Path, as_it_was: &Path) {
    let log = writable(path).unwrap();
    log.append(one(stream(9), 0, b"acknowledged")).unwrap();
    copy_files(path, as_it_was);
    log.close().unwrap();
}

/// Regression: an engine silently opened a log whose process had died and whose last acknowledged records were missing, while a reader
/// refused it.
#[test]
fn a_log_that_has_lost_a_segment_or_a_part_of_one_is_refused_by_all_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, died) = (directory.path().join("log"), directory.path().join("died"));
    written(&path);
    killed(&path, &died);
    for log in [&path, &died] {
        let segment = log.join("segments/0000000001");
        let whole = fs::read(&segment).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let end = if log == &path { used } else { used * 3 / 4 };
        for (kept, with_index) in [(None, true), (None, false), (Some(0), true), (Some(0), false), (Some(50), true)]
            .into_iter()
            .chain([84, 200, used / 3, end].map(|kept| (Some(kept), true)))
        {
            match kept {
                None => drop(fs::remove_file(&segment)),
                Some(kept) => fs::write(&segment, &whole[..kept]).unwrap(),
            }
            let copy = directory.path().join("copy");
            copy_files(log, &copy);
            if !with_index {
                fs::remove_dir_all(copy.join("index")).unwrap();
            }
            let before = log_content(&copy);
            let case = format!("{kept:?}, index: {with_index}");
            assert!(matches!(writable(&copy), Err(OpenError::Damaged { .. })), "{case}: {}", refusal(&copy));
            assert!(matches!(open_reader(&copy), Err(OpenError::Damaged { .. })), "{case}");
            assert!(matches!(compact(&copy), Err(OpenError::Damaged { .. })), "{case}");
            assert!(!verify(&copy).unwrap().findings.is_empty(), "{case}");
            assert_eq!(log_content(&copy), before, "{case}");
            if kept.is_none() {
                assert!(refusal(&copy).contains("(the file segments/0000000001) is missing"), "{}", refusal(&copy));
            }
            fs::remove_dir_all(&copy).unwrap();
        }
        fs::write(&segment, &whole).unwrap();
    }
    assert_eq!(writable(&died).unwrap().read(stream(9), 0, 9).unwrap().len(), 1, "complete, it opens");
}

/// Returns the files of a log without the index, which is disposable, and without the lock file, which names its last reader.
fn log_content(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut content = content(path);
    content.retain(|(name, _)| name == "head" || name == "format" || name.starts_with("00"));
    content
}

/// Copies the files of a log as a kill would leave them now.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_damaged_head_file_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let mut head = fs::read(path.join("head")).unwrap();
    head[10] ^= 1;
    fs::write(path.join("head"), head).unwrap();
    assert!(refusal(&path).contains("the head file: its check does not match"), "{}", refusal(&path));
    let findings = verify(&path).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(matches!(open_reader(&path), Err(OpenError::Damaged { .. })));
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
fn a_reader_of_a_closed_log_blocks_nobody_and_follows_the_process_that_opens_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let reader = open_reader(&path).unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 20);
    let log = writable(&path).unwrap();
    log.append(one(stream(2), 20, b"more")).unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 21, "through the socket of the process that has it");
    log.close().unwrap();
    assert_eq!(reader.read(stream(2), 0, 100).unwrap().len(), 21, "from the files again");
    writable(&path).unwrap().append(one(stream(2), 21, b"and more")).unwrap();
    assert_eq!(reader.read(stream(2), 20, 100).unwrap().len(), 2);
    assert_eq!(reader.head().unwrap().durability, None);
}

#[test]
fn damage_in_a_segment_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let original = open_reader(&path).unwrap().tail(0, 1000).unwrap();
    let segment = path.join("segments/0000000001");
    let whole = fs::read(&segment).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 60) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x20;
        fs::write(&segment, damaged).unwrap();
        assert_ne!(verify(&path).unwrap().findings, [], "byte {place}");
        let Ok(reader) = open_reader(&path) else {
            continue;
        };
        assert!(reader.tail(0, 1000).is_err(), "byte {place}");
        for id in [stream(1), stream(2)] {
            if let Ok(records) = reader.read(id, 0, 1000) {
                let expected: Vec<_> = original.iter().filter(|record| record.stream == id).cloned().collect();
                assert_eq!(records, expected, "byte {place}");
            }
        }
    }
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

/// Regression: a killed program left children behind that had inherited its lock. The next start blamed a process
/// that no longer existed, and readers waited for it.
#[test]
fn a_lock_that_outlives_its_owner_is_refused_with_the_name_of_its_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    writable(&path).unwrap().close().unwrap();
    let lock = fs::OpenOptions::new().read(true).write(true).open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    // The lock file names the owner, which is gone.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    fs::write(path.join("lock"), format!("{} {host}\n", i32::MAX)).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(lock)).spawn().unwrap();
    let refused = |error: OpenError| match error {
        OpenError::OrphanedLock { ref holders, .. } => {
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

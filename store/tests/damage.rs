//! A wrong byte anywhere is detected and named, and is never returned as valid data.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::suite::stored::{self, flipped, overwrite};
use crate::suite::{batch, closed_label, frame, one, open_label, stream};
use cloacina_store::log::{Batch, Definition, EventLog, LogReader, OpenError, ReadError, StreamEntry, StreamFilter};
use cloacina_store::merkle::Node;
use cloacina_store::record::{Record, StreamId};
use cloacina_store::{MemoryDisk, MemoryLog, Options, open, open_reader, seal, verify};

/// Appends one of everything that a log can contain.
pub fn append_everything(log: &dyn EventLog) {
    let definition = Definition { fingerprint: seal::fingerprint(b"source"), bytes: b"source".as_slice().into() };
    let mut first = one(stream(1), 0, b"first");
    first.definitions.push(definition);
    log.append(first).unwrap();
    log.append(batch(vec![
        frame(stream(1), 1, &[b"second", b"third"], open_label("one")),
        frame(stream(2), 0, &[b"a", &[7; 450]], open_label("two")),
    ]))
    .unwrap();
    log.append(batch(vec![frame(stream(2), 2, &[b"end"], closed_label("two, done"))])).unwrap();
    log.append(one(stream(1), 3, b"fourth")).unwrap();
}

/// Returns the disk of such a log, after an orderly close or as a killed process leaves it.
fn written(closed: bool) -> (MemoryDisk, Original) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    append_everything(&log);
    if closed {
        log.close().unwrap();
    }
    let original = Original::of(&log);
    (disk.after_kill(), original)
}

/// The contents of the undamaged log.
pub struct Original {
    pub records: Vec<Record>,
    streams: BTreeMap<StreamId, StreamEntry>,
    nodes: Vec<Node>,
}

impl Original {
    pub fn of(log: &dyn LogReader) -> Self {
        let all = StreamFilter { limit: 100, ..StreamFilter::default() };
        let streams = log.streams(&all).unwrap().into_iter().map(|entry| (entry.stream, entry)).collect();
        Self { records: log.tail(0, usize::MAX).unwrap(), streams, nodes: log.tree(0, usize::MAX).unwrap() }
    }

    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// The log returns only what was written, and each stream completely or as an error. Records from position `least` on may be missing.
    fn assert_nothing_wrong(&self, log: &dyn LogReader, least: u64, what: &str) {
        let tail = log.tail(0, usize::MAX);
        let is_missing = |record: &Record| record.position >= least && record.position < self.end();
        let (old, new): (Vec<_>, Vec<_>) =
            tail.clone().unwrap_or_default().into_iter().partition(|record| record.position < self.end());
        for (found, written) in old.iter().zip(&self.records) {
            // Missing records at the end were replaced by those of the reopened log's own stream.
            assert!(found == written || is_missing(found) && found.stream == StreamId::LOG, "{what}: {found:?}");
        }
        assert!(new.iter().all(|record| record.stream == StreamId::LOG), "{what}");
        assert!(tail.is_err() || old.len() as u64 >= least, "{what}: {} records", old.len());
        for number in [1, 2] {
            let written: Vec<_> =
                self.records.iter().filter(|record| record.stream == stream(number)).cloned().collect();
            let durable = written.iter().filter(|record| record.position < least).count();
            match log.read(stream(number), 0, 100) {
                Ok(found) => {
                    assert!(found.len() >= durable, "{what}: {} records of {number}", found.len());
                    assert_eq!(found, written[..found.len()], "{what}");
                }
                Err(ReadError::NoStream(_)) => assert_eq!(durable, 0, "{what}"),
                Err(error) => assert!(error.is_damage(), "{what}: {error}"),
            }
            if let Ok(entry) = log.stream(stream(number)) {
                let is_it = Some(&entry) == self.streams.get(&stream(number));
                assert!(is_it || entry.records < written.len() as u64, "{what}: {entry:?}");
            }
        }
        match log.definition(seal::fingerprint(b"source")) {
            Ok(Some(bytes)) => assert_eq!(&*bytes, b"source", "{what}"),
            Ok(None) => assert!(least <= 2, "{what}"),
            Err(_) => {}
        }
        for (found, written) in log.tree(0, usize::MAX).unwrap_or_default().iter().zip(&self.nodes) {
            assert!(found == written || found.first >= least, "{what}");
        }
    }
}

/// Returns the position up to which records must be present. A damaged last group of a killed log looks like an unfinished one, so its
/// records, and no others, may be missing.
fn durable(disk: &MemoryDisk, original: &Original, closed: bool) -> u64 {
    let last = stored::groups(disk).last().unwrap().first;
    if closed { original.end() } else { last }
}

/// The contents of all files of a log.
fn contents(disk: &MemoryDisk) -> BTreeMap<String, Option<Vec<u8>>> {
    disk.names().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

/// Opens a damaged log: either it is refused and not changed, or nothing wrong is returned.
fn assert_refused_or_right(disk: &MemoryDisk, original: &Original, least: u64, what: &str) {
    let before = contents(disk);
    match MemoryLog::open(disk) {
        Ok(log) => {
            assert_eq!(log.verify().findings, [], "{what}: it was opened");
            original.assert_nothing_wrong(&log, least, what);
        }
        Err(OpenError::Damaged { .. }) => assert!(contents(disk) == before, "{what}: the refused open changed the log"),
        Err(other) => panic!("{what}: {other}"),
    }
}

/// Whether a log is refused.
pub fn is_refused(disk: &MemoryDisk) -> bool {
    matches!(MemoryLog::open(disk), Err(OpenError::Damaged { .. }))
}

#[test]
fn a_flipped_byte_in_any_file_is_refused_or_nothing_wrong_is_returned() {
    for closed in [true, false] {
        let (disk, original) = written(closed);
        let groups = stored::groups(&disk);
        let (last, end) = groups.last().map(|group| (group.at, group.at + group.length)).unwrap();
        let least = durable(&disk, &original, closed);
        for name in disk.names() {
            let content = disk.content(&name).unwrap();
            // The end of the log is followed by zeros, allocated ahead.
            for place in 0..content.len().min(end + 300) {
                let damaged = disk.after_kill();
                let mut flipped = content.clone();
                flipped[place] ^= 0x41;
                damaged.damage(&name, Some(&flipped));
                let what = format!("byte {place} of {name}, closed: {closed}");
                let is_tail = !closed && name != "head" && place >= last;
                assert!(is_tail || is_refused(&damaged.after_kill()), "{what}");
                assert_refused_or_right(&damaged, &original, least, &what);
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused_or_nothing_wrong_is_returned() {
    for closed in [true, false] {
        let (disk, original) = written(closed);
        let groups = stored::groups(&disk);
        let end = groups.last().map(|group| group.at + group.length).unwrap();
        // The head covers the log up to its open, or up to its close.
        let covered = if closed { end } else { groups[0].at + groups[0].length };
        for name in disk.names() {
            let content = disk.content(&name).unwrap();
            for length in 0..content.len().min(end + 300) {
                let damaged = disk.after_kill();
                damaged.damage(&name, Some(&content[..length]));
                let what = format!("{name} cut to {length} bytes, closed: {closed}");
                let must = name == "head" || length < covered;
                assert_eq!(is_refused(&damaged.after_kill()), must, "{what}");
                let whole = groups.iter().take_while(|group| group.at + group.length <= length).last();
                assert_refused_or_right(&damaged, &original, whole.map_or(0, |group| group.end), &what);
            }
        }
    }
}

/// A group of definitions alone has no position of its own, but later groups record that it was durable.
#[test]
fn a_damaged_group_of_definitions_is_no_end_of_the_log() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    let definition = Definition { fingerprint: seal::fingerprint(b"source"), bytes: b"source".as_slice().into() };
    log.append(Batch { definitions: vec![definition], frames: Vec::new() }).unwrap();
    log.append(one(stream(1), 0, b"acknowledged")).unwrap();
    let item = stored::items(&disk).into_iter().find(|item| item.bytes[0] == b'D').unwrap();
    let damaged = disk.after_kill();
    overwrite(&damaged, &item, &flipped(&item, item.bytes.len() - 1));
    assert!(is_refused(&damaged));
}

/// Zeros mean the end of the log, or data that the disk has lost.
#[test]
fn zeros_in_the_middle_of_a_log_are_refused() {
    for closed in [true, false] {
        let (disk, original) = written(closed);
        let groups = stored::groups(&disk);
        for (number, group) in groups.iter().enumerate() {
            let content = disk.content(&group.name).unwrap();
            for length in [112, group.length] {
                let damaged = disk.after_kill();
                let mut zeros = content.clone();
                zeros[group.at..group.at + length].fill(0);
                damaged.damage(&group.name, Some(&zeros));
                let is_tail = !closed && number + 1 == groups.len();
                let what = format!("{length} zeros in group {number}, closed: {closed}");
                assert_eq!(is_refused(&damaged.after_kill()), !is_tail, "{what}");
                assert_refused_or_right(&damaged, &original, durable(&disk, &original, closed), &what);
            }
        }
    }
}

#[test]
fn a_log_without_one_of_its_files_is_refused() {
    for closed in [true, false] {
        let (disk, _) = long(closed);
        assert!(disk.names().len() >= 4, "{:?}", disk.names());
        assert!(!is_refused(&disk.after_kill()));
        for name in disk.names() {
            let damaged = disk.after_kill();
            damaged.damage(&name, None);
            // Without a head the directory would count as a new log, but for the files that remain.
            let refused = MemoryLog::open(&damaged).err();
            assert!(matches!(refused, Some(OpenError::Damaged { .. })), "without {name}: {refused:?}");
        }
        for name in disk.names() {
            let damaged = disk.after_kill();
            damaged.damage(&name, Some(&[]));
            assert!(is_refused(&damaged), "{name}, emptied");
        }
    }
}

/// A log of several segments.
fn long(closed: bool) -> (MemoryDisk, Vec<Record>) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for round in 0..12 {
        log.append(one(stream(1), round, &[round as u8; 300_000])).unwrap();
    }
    if closed {
        log.close().unwrap();
    }
    let records = log.tail(0, usize::MAX).unwrap();
    (disk.after_kill(), records)
}

#[test]
fn an_outdated_file_is_refused() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    append_everything(&log);
    log.close().unwrap();
    let yesterday = disk.after_kill();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(one(stream(1), 4, b"fifth")).unwrap();
    let killed = (disk.after_kill(), Original::of(&log), false);
    log.close().unwrap();
    for (today, original, closed) in [(disk, Original::of(&log), true), killed] {
        for name in today.names() {
            let damaged = today.after_kill();
            damaged.damage(&name, yesterday.content(&name).as_deref());
            let what = format!("{name} of yesterday, closed: {closed}");
            // An outdated head covers less of the log, but nothing in it is wrong.
            assert_eq!(is_refused(&damaged.after_kill()), name != "head", "{what}");
            assert_refused_or_right(&damaged, &original, original.end(), &what);
        }
    }
}

#[test]
fn a_segment_of_another_log_or_of_another_place_is_refused() {
    let (disk, _) = long(true);
    let (other, _) = long(true);
    let names: Vec<_> = disk.names().into_iter().filter(|name| name.starts_with("segments/")).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        let damaged = disk.after_kill();
        damaged.damage(name, other.content(name).as_deref());
        assert!(is_refused(&damaged), "{name} of another log");
        for from in names.iter().filter(|from| *from != name) {
            let damaged = disk.after_kill();
            damaged.damage(name, disk.content(from).as_deref());
            assert!(is_refused(&damaged), "{from} in place of {name}");
        }
    }
    let damaged = disk.after_kill();
    damaged.damage("head", other.content("head").as_deref());
    assert!(is_refused(&damaged));
}

/// The files of a log in a directory, but for the lock.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.file_name().is_some_and(|name| name != "lock") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// A log in a directory, with everything in it and closed in order.
fn in_a_directory(directory: &Path) -> (PathBuf, Original) {
    let path = directory.join("log");
    let log = open(&path, &Options::default()).unwrap();
    append_everything(&log);
    log.close().unwrap();
    let original = Original::of(&*open_reader(&path).unwrap());
    (path, original)
}

#[test]
fn a_flipped_byte_of_a_log_in_a_directory_is_found_by_verify_and_never_shown_to_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let (path, original) = in_a_directory(directory.path());
    let mut looked_at = 0;
    // A reader does not use the index.
    for file in files(&path).into_iter().filter(|file| !file.starts_with(path.join("index"))) {
        let content = fs::read(&file).unwrap();
        for place in 0..content.len() {
            let mut flipped = content.clone();
            flipped[place] ^= 0x41;
            fs::write(&file, flipped).unwrap();
            let what = format!("byte {place} of {}", file.display());
            let found = verify(&path).map(|verified| verified.findings);
            assert!(found.as_ref().map_or(true, |findings| !findings.is_empty()), "{what}: {found:?}");
            if let Ok(reader) = open_reader(&path) {
                original.assert_nothing_wrong(&*reader, original.end(), &what);
            }
            looked_at += 1;
        }
        fs::write(&file, content).unwrap();
    }
    assert!(looked_at > 2_000, "{looked_at}");
    assert_eq!(verify(&path).unwrap().findings, []);
}

/// An engine whose index is intact does not scan the whole log at the open. It checks what it reads later.
#[test]
fn a_flipped_byte_of_a_log_in_a_directory_is_refused_or_found_by_the_engine_and_never_returned() {
    let directory = tempfile::tempdir().unwrap();
    let (path, original) = in_a_directory(directory.path());
    let damaged = directory.path().join("damaged");
    for file in files(&path) {
        let content = fs::read(&file).unwrap();
        let is_index = file.starts_with(path.join("index"));
        // Few bytes of the large index; elsewhere a prime stride, so that it hits every field.
        let every = if is_index { (content.len() / 6).max(1) } else { 131 };
        for place in (0..content.len()).step_by(every) {
            copy(&path, &damaged);
            let mut flipped = content.clone();
            flipped[place] ^= 0x41;
            fs::write(damaged.join(file.strip_prefix(&path).unwrap()), flipped).unwrap();
            let what = format!("byte {place} of {}", file.display());
            match open(&damaged, &Options { serve_readers: false, ..Options::default() }) {
                Ok(log) => {
                    original.assert_nothing_wrong(&log, original.end(), &what);
                    let findings = log.verify().findings;
                    assert_eq!(findings.is_empty(), is_index, "{what}: {findings:?}");
                    log.close().unwrap();
                    assert_eq!(verify(&damaged).unwrap().findings.is_empty(), is_index, "{what}");
                }
                Err(refused) => assert!(!is_index, "{what}: {refused}"),
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
}

/// Regression: one wrong byte in one execution kept readers of a log that no process had open from every other one.
#[test]
fn damage_of_one_stream_keeps_no_reader_from_the_others() {
    let ground = tempfile::tempdir().unwrap();
    let path = ground.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    for number in 1..=3 {
        log.append(batch(vec![frame(stream(number), 0, &[b"begin"], open_label("runs"))])).unwrap();
        let body = format!("body {number}");
        log.append(batch(vec![frame(stream(number), 1, &[body.as_bytes()], closed_label("done"))])).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let segment = path.join("segments/0000000001");
    let content = fs::read(&segment).unwrap();
    let at = content.windows(6).position(|part| part == b"body 2").unwrap();
    let mut damaged = content.clone();
    damaged[at] ^= 1;
    fs::write(&segment, damaged).unwrap();
    let reader = open_reader(&path).unwrap();
    for number in [1, 3] {
        assert_eq!(reader.read(stream(number), 0, 10).unwrap().len(), 2);
        assert_eq!(reader.stream(stream(number)).unwrap().label, b"done");
    }
    let is_named =
        |error: ReadError| matches!(error, ReadError::Damaged { stream: named, seq: 1, .. } if named == stream(2));
    assert!(is_named(reader.read(stream(2), 0, 10).unwrap_err()) && is_named(reader.stream(stream(2)).unwrap_err()));
    let listed = reader.streams(&StreamFilter { limit: 10, ..StreamFilter::default() }).unwrap();
    let labels: Vec<_> = listed.iter().map(|entry| (entry.stream, entry.label.clone())).collect();
    assert_eq!(
        labels[..3],
        [3, 2, 1].map(|number| (stream(number), if number == 2 { vec![] } else { b"done".to_vec() }))
    );
    assert!(verify(&path).unwrap().findings.into_iter().any(is_named));
}

#[test]
fn a_missing_truncated_or_outdated_index_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = in_a_directory(directory.path());
    let (yesterday, other) = (directory.path().join("yesterday"), directory.path().join("other"));
    copy(&path, &yesterday);
    in_a_directory(&other);
    // The same log continued differently, to the same length.
    let fork = directory.path().join("fork");
    copy(&path, &fork);
    let log = open(&fork, &Options::default()).unwrap();
    log.append(one(stream(1), 4, b"other")).unwrap();
    log.close().unwrap();
    let log = open(&path, &Options::default()).unwrap();
    log.append(one(stream(1), 4, b"fifth")).unwrap();
    let killed = directory.path().join("killed");
    copy(&path, &killed);
    log.close().unwrap();
    for today in [&path, &killed] {
        let original = Original::of(&*open_reader(today).unwrap());
        let harms: [&dyn Fn(&Path); 8] = [
            &|index| fs::remove_dir_all(index).unwrap(),
            &|index| fs::remove_file(index.join("db")).unwrap(),
            &|index| fs::remove_file(index.join("conf")).unwrap(),
            &|index| fs::write(index.join("db"), []).unwrap(),
            &|index| {
                let db = fs::read(index.join("db")).unwrap();
                fs::write(index.join("db"), &db[..db.len() / 2]).unwrap();
            },
            &|index| {
                fs::remove_dir_all(index).unwrap();
                copy(&yesterday.join("index"), index);
            },
            &|index| {
                fs::remove_dir_all(index).unwrap();
                copy(&other.join("log/index"), index);
            },
            &|index| {
                fs::remove_dir_all(index).unwrap();
                copy(&fork.join("index"), index);
            },
        ];
        for (number, harm) in harms.iter().enumerate() {
            let damaged = directory.path().join("damaged");
            copy(today, &damaged);
            harm(&damaged.join("index"));
            let what = format!("harm {number} to {}", today.display());
            let log = open(&damaged, &Options::default()).unwrap();
            original.assert_nothing_wrong(&log, original.end(), &what);
            assert_eq!(log.verify().findings, [], "{what}");
            log.append(one(stream(1), 5, b"sixth")).unwrap();
            log.close().unwrap();
            assert_eq!(verify(&damaged).unwrap().findings, [], "{what}");
            let log = open(&damaged, &Options::default()).unwrap();
            assert_eq!(log.stream(stream(1)).unwrap().records, 6, "{what}");
            drop(log);
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
}

//! The index is disposable: whatever happens to it, no event is lost, hidden or changed, and a rebuild is reported.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cloacina_store::log::{Batch, Definition, Durability, EventLog, LogReader, OpenError, StreamEntry, StreamFilter};
use cloacina_store::record::{Record, StreamId};
use cloacina_store::{MemoryDisk, MemoryLog, Options, SledLog, open, open_reader, seal, verify};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::suite::{batch, closed_label, frame, one, open_label, stream};

/// Collects the warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn warned<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let warnings = Warnings::default();
    let done = tracing::subscriber::with_default(warnings.clone(), work);
    let collected = warnings.0.lock().unwrap().clone();
    (done, collected)
}

fn definition() -> Definition {
    Definition { fingerprint: seal::fingerprint(b"source"), bytes: b"source".as_slice().into() }
}

/// Appends to some streams, and closes some of them.
fn append_some(log: &dyn EventLog, round: u64) {
    log.append(Batch { definitions: vec![definition()], ..one(stream(1), round, b"on and on") }).unwrap();
    for number in 0..60 {
        let id = stream(u128::from(1_000 * (round + 1) + number));
        log.append(batch(vec![frame(id, 0, &[b"a", &[number as u8; 300]], open_label("runs"))])).unwrap();
        if number % 3 > 0 {
            log.append(batch(vec![frame(id, 2, &[b"end"], closed_label("over"))])).unwrap();
        }
    }
}

/// Everything that can be read from a log, except its own stream, which records when it was opened.
#[derive(Debug, PartialEq)]
struct Content {
    records: Vec<Record>,
    listed: Vec<StreamEntry>,
    open: Vec<StreamId>,
    by_stream: Vec<Vec<Record>>,
    definition: Option<Arc<[u8]>>,
}

impl Content {
    fn of(log: &dyn LogReader) -> Self {
        let all = StreamFilter { limit: usize::MAX, ..StreamFilter::default() };
        let is_others = |id: StreamId| id != StreamId::LOG;
        let listed: Vec<_> = log.streams(&all).unwrap().into_iter().filter(|entry| is_others(entry.stream)).collect();
        let open = log.streams(&StreamFilter { open_only: true, ..all }).unwrap();
        listed.iter().for_each(|entry| assert_eq!(log.stream(entry.stream).as_ref(), Ok(entry)));
        Self {
            records: log.tail(0, usize::MAX).unwrap().into_iter().filter(|record| is_others(record.stream)).collect(),
            by_stream: listed.iter().map(|entry| log.read(entry.stream, 0, usize::MAX).unwrap()).collect(),
            open: open.iter().map(|entry| entry.stream).filter(|id| is_others(*id)).collect(),
            listed,
            definition: log.definition(definition().fingerprint).unwrap(),
        }
    }
}

struct World {
    directory: tempfile::TempDir,
    /// Contains an older copy of a log, the log after an orderly close, the log of a killed process, and another log.
    content: Content,
    of_killed: Content,
}

/// The logs that are copied for each damage.
const LOGS: [&str; 2] = ["closed", "killed"];

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let log = writable(&path("log")).unwrap();
        append_some(&log, 0);
        log.close().unwrap();
        copy(&path("log"), &path("yesterday"));
        let log = writable(&path("log")).unwrap();
        append_some(&log, 1);
        log.close().unwrap();
        let content = Content::of(&*open_reader(&path("log")).unwrap());
        copy(&path("log"), &path("closed"));
        let log = writable(&path("log")).unwrap();
        append_some(&log, 2);
        copy(&path("log"), &path("killed"));
        let of_killed = Content::of(&log);
        log.close().unwrap();
        let other = writable(&path("other")).unwrap();
        append_some(&other, 0);
        append_some(&other, 1);
        other.close().unwrap();
        drop(log);
        Self { directory, content, of_killed }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Damages the index of a log; returns the warnings of the next open, which must be the only effect.
    fn open_damaged(&self, name: &str, what: &str, damage: impl Fn(&Path)) -> Vec<String> {
        let copied = self.path("copy");
        copy(&self.path(name), &copied);
        damage(&copied.join("index"));
        let expected = if name == "closed" { &self.content } else { &self.of_killed };
        assert_eq!(&Content::of(&*open_reader(&copied).unwrap()), expected, "{name}, {what}: to a reader");
        let (log, warnings) = warned(|| writable(&copied));
        let log = log.unwrap();
        assert_eq!(&Content::of(&log), expected, "{name}, {what}");
        assert_eq!(log.verify().findings, [], "{name}, {what}");
        log.append(one(stream(1), log.stream(stream(1)).unwrap().records, b"another")).unwrap();
        log.close().unwrap();
        // The open after that warns of nothing.
        let (log, again) = warned(|| writable(&copied));
        assert_eq!((again, log.unwrap().verify().findings), (vec![], vec![]), "{name}, {what}");
        fs::remove_dir_all(&copied).unwrap();
        assert!(warnings.iter().all(|warning| warning.contains("rebuil")), "{name}, {what}: {warnings:?}");
        warnings
    }
}

fn writable(path: &Path) -> Result<SledLog, OpenError> {
    open(path, &Options::default())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

fn replace(index: &Path, other: &Path) {
    fs::remove_dir_all(index).unwrap();
    copy(&other.join("index"), index);
}

#[test]
fn an_intact_index_opens_without_a_warning() {
    let world = World::new();
    assert_eq!(world.open_damaged("closed", "not at all", |_| ()), [""; 0]);
    assert_eq!(world.open_damaged("killed", "not at all", |_| ()), [""; 0]);
}

#[test]
fn a_missing_empty_or_foreign_index_is_rebuilt_with_a_warning() {
    let world = World::new();
    for name in LOGS {
        let remove = |index: &Path| fs::remove_dir_all(index).unwrap();
        assert_eq!(world.open_damaged(name, "removed", remove).len(), 1, "{name}");
        let empty = |index: &Path| {
            remove(index);
            fs::create_dir(index).unwrap();
        };
        assert_eq!(world.open_damaged(name, "emptied", empty).len(), 1, "{name}");
        let exchange = |index: &Path| replace(index, &world.path("other"));
        let warnings = world.open_damaged(name, "of another log", exchange);
        assert!(warnings[0].contains("another log"), "{name}: {warnings:?}");
        let file = |index: &Path| {
            remove(index);
            fs::write(index, "no directory").unwrap();
        };
        assert_eq!(world.open_damaged(name, "a file", file).len(), 1, "{name}");
    }
}

/// A restored backup, or a backup that was copied file by file while the log was written.
#[test]
fn an_outdated_index_is_brought_up_to_date() {
    let world = World::new();
    for name in LOGS {
        world.open_damaged(name, "from yesterday", |index| replace(index, &world.path("yesterday")));
        // Today's index, with one file of yesterday's.
        for file in files(&world.path("yesterday/index")) {
            world.open_damaged(name, "partly from yesterday", |index| {
                fs::copy(&file, index.join(file.file_name().unwrap())).unwrap();
            });
        }
    }
}

#[test]
fn an_index_that_was_cut_or_torn_anywhere_hides_nothing() {
    let world = World::new();
    let mut rebuilds = 0;
    for name in LOGS {
        for file in files(&world.path(name).join("index")) {
            let file_name = file.file_name().unwrap();
            let whole = fs::read(&file).unwrap();
            for kept in [0, whole.len() / 3, whole.len().saturating_sub(1)] {
                let cut = |index: &Path| fs::write(index.join(file_name), &whole[..kept]).unwrap();
                rebuilds += world.open_damaged(name, &format!("{file_name:?} cut at {kept}"), cut).len();
            }
            let remove = |index: &Path| fs::remove_file(index.join(file_name)).unwrap();
            rebuilds += world.open_damaged(name, &format!("without {file_name:?}"), remove).len();
        }
    }
    assert!(rebuilds > 0, "no damage was done");
}

/// sled takes damage for the end of its file or for an empty one, or it panics.
#[test]
fn a_flipped_byte_anywhere_in_the_index_hides_nothing() {
    let world = World::new();
    let (mut rebuilds, mut panics) = (0, 0);
    for name in LOGS {
        for file in files(&world.path(name).join("index")) {
            let file_name = file.file_name().unwrap();
            let whole = fs::read(&file).unwrap();
            let used = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            let places = if file_name == "db" { 12 } else { 3 };
            for number in 0..places {
                let place = (number * used / places + 13 * number) % used.min(whole.len()).max(1);
                let damage = |index: &Path| {
                    let mut damaged = whole.clone();
                    match number % 3 {
                        // A flipped byte, a sector of garbage, a sector of zeros.
                        0 => damaged[place] ^= 0x40,
                        1 => damaged.iter_mut().skip(place).take(512).for_each(|byte| *byte = 0xA5),
                        _ => damaged.iter_mut().skip(place).take(512).for_each(|byte| *byte = 0),
                    }
                    fs::write(index.join(file_name), damaged).unwrap();
                };
                if whole.is_empty() {
                    continue;
                }
                let warnings = world.open_damaged(name, &format!("{file_name:?} at byte {place}"), damage);
                rebuilds += warnings.len();
                panics += warnings.iter().filter(|warning| warning.contains("sled crashed")).count();
            }
        }
    }
    assert!(rebuilds > 0, "no damage was done");
    // sled may panic or not: this is only for information.
    eprintln!("sled panicked in {panics} of {rebuilds} rebuilds");
}

/// sled reads an entry from its file once it is out of its cache.
#[test]
fn an_index_that_is_emptied_while_the_log_is_open_is_rebuilt_and_readers_do_not_notice() {
    let world = World::new();
    let path = world.path("closed");
    let log = open(&path, &Options { cache_capacity: 1, ..Options::default() }).unwrap();
    let reader = open_reader(&path).unwrap();
    for file in files(&path.join("index")) {
        fs::write(file, "").unwrap();
    }
    assert_eq!(Content::of(&log), world.content);
    assert_eq!(Content::of(&*reader), world.content);
    append_some(&log, 2);
    for file in files(&path.join("index")) {
        fs::remove_file(file).unwrap();
    }
    let content = Content::of(&log);
    assert_eq!(Content::of(&*reader), content);
    assert_eq!(log.verify().findings, []);
    log.close().unwrap();
    assert_eq!(Content::of(&*open_reader(&path).unwrap()), content);
    let log = writable(&path).unwrap();
    assert_eq!(Content::of(&log), content);
    assert_eq!(log.verify().findings, []);
}

/// With durability `os` the index can reach the disk before the log does: after a power cut it reaches further than the log.
#[test]
fn an_index_that_reaches_further_than_the_log_after_a_power_cut_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let options = Options { durability: Durability::Os, ..Options::default() };
    let log = open(&path("log"), &options).unwrap();
    append_some(&log, 0);
    log.close().unwrap();
    let log = open(&path("log"), &options).unwrap();
    append_some(&log, 1);
    let content = Content::of(&log);
    copy(&path("log"), &path("cut"));
    copy(&path("log"), &path("gone on"));
    append_some(&log, 2);
    log.close().unwrap();
    // A copy that continued differently, with frames of the same lengths.
    let log = open(&path("gone on"), &options).unwrap();
    log.append(one(stream(1), 2, b"otherwise")).unwrap();
    append_some(&log, 3);
    let otherwise = Content::of(&log);
    copy(&path("gone on"), &path("otherwise"));
    log.close().unwrap();
    for (name, expected) in [("cut", content), ("otherwise", otherwise)] {
        replace(&path(name).join("index"), &path("log"));
        let (log, warnings) = warned(|| open(&path(name), &options));
        let log = log.unwrap();
        assert_eq!(Content::of(&log), expected, "{name}");
        assert!(warnings.iter().any(|warning| warning.contains("rebuil")), "{name}: {warnings:?}");
        let next = log.stream(stream(1)).unwrap().records;
        log.append(one(stream(1), next, b"another")).unwrap();
        assert_eq!(log.verify().findings, [], "{name}");
        log.close().unwrap();
        assert_eq!(verify(&path(name)).unwrap().findings, [], "{name}");
    }
}

fn contents(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

/// Regression: an engine silently opened a log whose process had died and whose last acknowledged records were missing.
#[test]
fn a_log_with_a_missing_or_empty_segment_is_refused_and_not_changed() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for seq in 0..50 {
        log.append(one(stream(1), seq, &[7; 100_000])).unwrap();
    }
    let killed = disk.after_kill();
    log.close().unwrap();
    for (what, disk) in [("killed", killed), ("closed", disk)] {
        // Undamaged, it opens.
        let log = MemoryLog::open(&disk.after_kill()).unwrap();
        assert_eq!(log.read(stream(1), 0, 99).unwrap().len(), 50, "{what}");
        let segments: Vec<String> = disk.names().into_iter().filter(|name| name.starts_with("segments/")).collect();
        assert!(segments.len() > 3, "{segments:?}");
        for (at, name) in segments.iter().enumerate() {
            let whole = disk.content(name).unwrap();
            let others = disk.content(&segments[(at + 1) % segments.len()]).unwrap();
            // The last segment existed when the head was written; its first 60 bytes are an incomplete header.
            for left in [None, Some(&whole[..0]), Some(&whole[..60]), Some(&whole[..84]), Some(&others[..])] {
                let damaged = disk.after_kill();
                damaged.damage(name, left);
                let before = contents(&damaged);
                let opened = MemoryLog::open(&damaged).map(drop);
                let is_lost = left.is_none_or(|left| left.len() != 84 || at + 1 < segments.len() || what == "closed");
                if is_lost {
                    let length = left.map(<[u8]>::len);
                    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{what}, {name} {length:?}: {opened:?}");
                    assert_eq!(contents(&damaged), before, "{what}, {name}");
                }
            }
        }
    }
}

/// Regression: a log was refused whose process had died just after it had begun a segment, or had first written to it: the head pointed to
/// the start of that segment, and the walk to it met the first group of the segment earlier.
#[test]
fn a_log_that_is_killed_while_a_segment_begins_opens() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for seq in 0..30 {
        // Now and then a group without a record.
        let text: Arc<[u8]> = seq.to_string().into_bytes().into();
        let definition = Definition { fingerprint: seal::fingerprint(&text), bytes: text };
        log.append(Batch { definitions: vec![definition], frames: Vec::new() }).unwrap();
        log.append(one(stream(1), seq, &[7; 100_000])).unwrap();
        for left in [disk.after_kill(), disk.after_power_cut()] {
            let after = MemoryLog::open(&left).unwrap();
            assert_eq!(after.read(stream(1), 0, 99).unwrap().len() as u64, seq + 1);
            after.append(one(stream(1), seq + 1, b"another")).unwrap();
            assert_eq!(after.verify().findings, []);
            drop(after);
            MemoryLog::open(&left.after_kill()).unwrap();
        }
    }
}

//! A compacted log: it is shorter, with the same contents.

use std::fs;
use std::path::{Path, PathBuf};

use cloacina_store::archive::{Selected, open_archive, write_archive};
use cloacina_store::checkpoint::{grow, last, sign};
use cloacina_store::keeper::{Change, Erase, Import, Keeper, Prune};
use cloacina_store::log::{Definition, EventLog, LogHead, LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::log_event::Checkpoint;
use cloacina_store::merkle::{Tree, includes, is_consistent, prove_consistency, prove_inclusion};
use cloacina_store::record::{Hash, Record, StreamId, Timestamp};
use cloacina_store::{Options, SledLog, compact, open, open_reader, seal, verify};

use crate::suite::{batch, closed_label, frame, open_label, stream};

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> (Self, SledLog) {
        let directory = tempfile::tempdir().unwrap();
        let world = Self { directory };
        let log = world.open();
        (world, log)
    }

    fn open(&self) -> SledLog {
        open(&self.log(), &Options::default()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(self.log().join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().map(|name| fs::read(name).unwrap()).collect()
    }

    fn length(&self) -> usize {
        self.segments().iter().map(Vec::len).sum()
    }
}

/// A change to a log between two compactions.
type Step<'a> = &'a dyn Fn(&SledLog);

/// Appends closed streams, each in three frames that alternate with those of the others.
fn append(log: &SledLog, numbers: std::ops::Range<u128>, body: usize) {
    let source = format!("source of {numbers:?}").into_bytes();
    let definition = Definition { fingerprint: seal::fingerprint(&source), bytes: source.into() };
    for step in 0..3_u64 {
        for number in numbers.clone() {
            let listing = if step == 2 { closed_label("over") } else { open_label("runs") };
            let (text, long) = (format!("SECRET-{number}-{step}"), vec![number as u8; body]);
            let mut batch = batch(vec![frame(stream(number), step * 2, &[text.as_bytes(), &long], listing)]);
            batch.definitions.push(definition.clone());
            log.append(batch).unwrap();
        }
    }
}

fn prune(log: &SledLog, numbers: impl IntoIterator<Item = u128>) {
    let streams: Vec<(StreamId, Hash)> =
        numbers.into_iter().map(|number| (stream(number), log.stream(stream(number)).unwrap().head)).collect();
    log.change(Change::Prune(Prune { streams, archive: None, reason: "old".to_owned(), by: "ann".to_owned() }))
        .unwrap();
}

fn erase(log: &SledLog, number: u128) {
    let records = vec![(1, b"a note".to_vec()), (4, b"a note".to_vec())];
    let (reason, by) = ("asked to".to_owned(), "ann".to_owned());
    log.change(Change::Erase(Erase { stream: stream(number), records, reason, by })).unwrap();
}

/// Imports an archive; returns the number of streams.
fn import(log: &SledLog, import: &Import) -> u64 {
    log.change(Change::Import(import.clone())).unwrap().streams
}

fn signed(log: &SledLog) -> Checkpoint {
    let checkpoint = sign(log, &[7; 32], Timestamp(5)).unwrap();
    log.change(Change::Sign(checkpoint.clone())).unwrap();
    checkpoint
}

/// Everything that can be read from a closed log.
#[derive(Debug, PartialEq)]
struct Content {
    head: LogHead,
    records: Vec<Record>,
    listed: Vec<StreamEntry>,
    by_stream: Vec<Result<Vec<Record>, ReadError>>,
    erasures: Vec<usize>,
    definition: bool,
}

impl Content {
    fn of(path: &Path, numbers: std::ops::Range<u128>) -> Self {
        assert_eq!(verify(path).unwrap().findings, []);
        let log = open_reader(path).unwrap();
        let streams = || numbers.clone().map(stream);
        Self {
            head: log.head().unwrap(),
            records: log.tail(0, usize::MAX).unwrap(),
            listed: log.streams(&StreamFilter { limit: usize::MAX, ..StreamFilter::default() }).unwrap(),
            by_stream: streams().map(|id| log.read(id, 0, usize::MAX)).collect(),
            erasures: streams().map(|id| log.erasures(id).unwrap().len()).collect(),
            definition: log.definition(seal::fingerprint(b"source of 1..101")).unwrap().is_some(),
        }
    }
}

/// Pruned data is overwritten, and takes as much space as before until the log is compacted.
#[test]
fn a_log_with_one_of_a_hundred_streams_left_is_less_than_a_tenth_as_long() {
    let (world, log) = World::new();
    append(&log, 1..101, 2_000);
    log.close().unwrap();
    let whole = world.length();
    let log = world.open();
    prune(&log, (1..101).filter(|number| *number != 50));
    log.close().unwrap();
    assert!(world.length() >= whole);
    assert!(world.segments().iter().all(|segment| !segment.windows(10).any(|window| window == b"SECRET-49-")));
    let before = Content::of(&world.log(), 1..101);
    let done = compact(&world.log()).unwrap();
    assert_eq!((done.after, done.left), (world.length() as u64, None));
    assert!(world.length() * 10 < whole, "{} of {whole}", world.length());
    assert_eq!(Content::of(&world.log(), 1..101), before);
    let log = world.open();
    assert_eq!(log.read(stream(50), 0, 99).unwrap().len(), 6);
    assert_eq!(log.read(stream(49), 0, 99), Err(ReadError::Pruned { stream: stream(49), records: 6 }));
}

/// No hash of the log changes, so it still verifies against checkpoints that were kept elsewhere.
#[test]
fn a_compacted_log_keeps_its_hashes_and_proofs() {
    let (world, log) = World::new();
    append(&log, 1..21, 50);
    let early = signed(&log);
    // Most of the following is pruned; the checkpoint in the middle stays valid.
    append(&log, 21..60, 50);
    let middle = signed(&log);
    append(&log, 60..101, 50);
    let late = signed(&log);
    prune(&log, (1..101).filter(|number| ![3, 40, 41, 77].contains(number)));
    erase(&log, 40);
    log.close().unwrap();
    let before = Content::of(&world.log(), 1..101);

    for round in 0..2 {
        compact(&world.log()).unwrap();
        assert_eq!(Content::of(&world.log(), 1..101), before, "round {round}");
        let log = open_reader(&world.log()).unwrap();
        assert_eq!(last(&*log, |_| true).unwrap().as_ref(), Some(&late));
        let LogHead { position: end, hash, .. } = log.head().unwrap();
        assert_eq!(grow(&*log, Tree::default(), end).unwrap().root(), hash, "the hash of the log is that of its tree");
        let nodes = |from, limit| log.tree(from, limit);
        for checkpoint in [&early, &middle, &late] {
            let Checkpoint { size, root, .. } = *checkpoint;
            assert_eq!(checkpoint.check(), Ok(()));
            assert_eq!(grow(&*log, Tree::default(), size).unwrap().root(), root, "at {size}");
            let proof = prove_consistency(size, end, nodes).unwrap();
            assert!(is_consistent((size, &root), (end, &hash), &proof), "at {size}");
        }
        let survivors: Vec<&Record> = before.records.iter().filter(|record| record.stream != StreamId::LOG).collect();
        assert_eq!(survivors.len(), 4 * 6);
        for record in survivors {
            for (size, root) in [(late.size, &late.root), (end, &hash)] {
                let proof = prove_inclusion(record.position, size, nodes).unwrap();
                assert!(includes(root, size, record.position, &record.hash, &proof), "at {}", record.position);
            }
        }
    }
    // The log can be appended to and signed again.
    let log = world.open();
    append(&log, 101..105, 50);
    let next = signed(&log);
    let proof = prove_consistency(middle.size, next.size, |from, limit| log.tree(from, limit)).unwrap();
    assert!(is_consistent((middle.size, &middle.root), (next.size, &next.root), &proof));
    assert_eq!(log.verify().findings, []);
}

#[test]
fn a_log_that_is_compacted_twice_is_the_same_as_once() {
    let (world, log) = World::new();
    append(&log, 1..101, 300);
    prune(&log, 20..90);
    erase(&log, 3);
    log.close().unwrap();
    compact(&world.log()).unwrap();
    let once = world.segments();
    let done = compact(&world.log()).unwrap();
    assert_eq!((done.before, done.after), (world.length() as u64, world.length() as u64));
    let twice = world.segments();
    assert_eq!(twice.iter().map(Vec::len).collect::<Vec<_>>(), once.iter().map(Vec::len).collect::<Vec<_>>());
    // A second compaction changes no gap, also after more was pruned in between.
    let log = world.open();
    prune(&log, (1..20).filter(|number| *number != 3));
    log.close().unwrap();
    let before = Content::of(&world.log(), 1..101);
    compact(&world.log()).unwrap();
    compact(&world.log()).unwrap();
    assert_eq!(Content::of(&world.log(), 1..101), before);
    assert!(world.length() < once.iter().map(Vec::len).sum());
}

/// Streams are imported from another log, reimported after they were pruned, and pruned again: the log can be compacted in each state.
#[test]
fn compacting_keeps_streams_that_were_imported_erased_and_pruned_again() {
    let (world, log) = World::new();
    append(&log, 1..101, 300);
    let archive = |name: &str, numbers: std::ops::Range<u128>| {
        let path = world.directory.path().join(name);
        let selected: Vec<Selected> = numbers.map(|number| Selected::stream(stream(number))).collect();
        let archived = write_archive(&log, &selected, &path, Timestamp(9)).unwrap();
        Import { archive: path, digest: archived.digest }
    };
    let own = archive("own.cloaca", 10..40);
    let other = open(&world.directory.path().join("other"), &Options::default()).unwrap();
    append(&other, 200..220, 300);
    let foreign = {
        let path = world.directory.path().join("foreign.cloaca");
        let selected: Vec<Selected> = (200..220).map(|number| Selected::stream(stream(number))).collect();
        let archived = write_archive(&other, &selected, &path, Timestamp(9)).unwrap();
        Import { archive: path, digest: archived.digest }
    };
    other.close().unwrap();
    prune(&log, 10..40);
    log.close().unwrap();

    let steps: [(&str, Step<'_>); 5] = [
        ("imported", &|log| assert_eq!(import(log, &foreign), 20)),
        ("reimported", &|log| assert_eq!(import(log, &own), 30)),
        ("erased", &|log| [11, 205, 50].into_iter().for_each(|number| erase(log, number))),
        ("pruned", &|log| prune(log, (15..30).chain(200..205).chain([11]))),
        ("reimported again", &|log| assert_eq!(import(log, &own), 16)),
    ];
    for (what, step) in steps {
        let log = world.open();
        step(&log);
        log.close().unwrap();
        let before = Content::of(&world.log(), 1..220);
        compact(&world.log()).unwrap();
        let after = Content::of(&world.log(), 1..220);
        assert_eq!(after, before, "{what}");
    }
    let log = world.open();
    let archived = open_archive(&own.archive).unwrap();
    assert_eq!(log.read(stream(20), 0, 99), archived.read(stream(20), 0, 99), "as it was sealed");
    assert_eq!(log.read(stream(11), 1, 1).unwrap()[0].body.bytes(), None, "an erased body does not come back");
    assert_eq!(log.erasures(stream(205)).unwrap().len(), 2);
    assert!(matches!(log.read(stream(200), 0, 9), Err(ReadError::Pruned { .. })));
    assert_eq!(log.verify().findings, []);
}

//! What sled wrote is read here as sled reads it.

use std::collections::BTreeMap;
use std::path::Path;

use ::bytes::Bytes;
use proptest::prelude::*;

use super::SledFile;
use super::message::tests::written;
use super::salvage::Salvage;
use crate::backend::sled::write_snapshot;
use crate::backend::{Backend, Changes, Direction, Entry, KeyRange};
use crate::layout::keys;
use crate::record::StreamId;
use crate::sled_log::open_sled;

const CACHE: u64 = 1 << 20;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Puts and deletes, some of them together, and from time to time a close.
#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<(u16, Option<u16>)>),
    /// Pages that have become small are put together.
    Clear(u16, u16),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..400_u16, prop::option::weighted(0.8, 0..3_000_u16));
    let step = prop_oneof![
        12 => prop::collection::vec(change, 1..40).prop_map(Step::Batch),
        2 => (0..400_u16, 1..200_u16).prop_map(|(from, count)| Step::Clear(from, count)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// Keys of frames: long, and much alike.
fn key(number: u16) -> Vec<u8> {
    keys::frame(StreamId::from_bytes([u8::try_from(number % 7).unwrap(); 16]), u64::from(number) * 3, 0)
}

fn value(length: u16) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn run(directory: &Path, steps: &[Step]) -> Map {
    let open = || open_sled(directory, directory, CACHE).unwrap();
    let mut backend = open();
    let mut map = Map::new();
    for step in steps {
        match step {
            Step::Batch(batch) => {
                let mut changes = Changes::default();
                for (number, length) in batch {
                    match length {
                        Some(length) => {
                            changes.put(key(*number), value(*length));
                            map.insert(key(*number), value(*length));
                        }
                        None => {
                            changes.delete(key(*number));
                            map.remove(&key(*number));
                        }
                    }
                }
                backend.apply(&changes).unwrap();
                backend.write_out().unwrap();
            }
            Step::Clear(from, count) => {
                let mut changes = Changes::default();
                for number in *from..from + count {
                    if map.remove(&key(number)).is_some() {
                        changes.delete(key(number));
                    }
                }
                backend.apply(&changes).unwrap();
                backend.write_out().unwrap();
            }
            Step::Reopen => {
                backend.close().unwrap();
                write_snapshot(directory, CACHE);
                backend = open();
            }
        }
    }
    backend.close().unwrap();
    map
}

fn everything() -> KeyRange {
    KeyRange { from: vec![0], below: vec![255; 40] }
}

fn part(from: u16, below: u16) -> KeyRange {
    KeyRange { from: key(from), below: key(below) }
}

fn scanned(map: &Map, range: &KeyRange, limit: usize, direction: Direction) -> Vec<Entry> {
    if range.from >= range.below {
        return Vec::new();
    }
    let found = map
        .range(range.from.clone()..range.below.clone())
        .map(|(key, value)| (key.clone().into(), value.clone().into()));
    match direction {
        Direction::Up => found.take(limit).collect(),
        Direction::Down => found.rev().take(limit).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Against a map, with and without the snapshot that an orderly close leaves.
    #[test]
    fn whatever_was_written_is_read(steps in steps(), numbers in prop::collection::vec((0..400_u16, 0..400_u16, 0..50_usize), 20), snapshot: bool) {
        let directory = tempfile::tempdir().unwrap();
        let map = run(directory.path(), &steps);
        if snapshot {
            write_snapshot(directory.path(), CACHE);
        }
        let file = SledFile::open(directory.path()).unwrap();
        for direction in [Direction::Up, Direction::Down] {
            let all = everything();
            prop_assert_eq!(file.scan(&all, usize::MAX, direction).unwrap(), scanned(&map, &all, usize::MAX, direction));
            for (from, below, limit) in &numbers {
                let range = part(*from, *below);
                prop_assert_eq!(file.scan(&range, *limit, direction).unwrap(), scanned(&map, &range, *limit, direction));
            }
        }
        for (number, _, _) in &numbers {
            prop_assert_eq!(file.get(&key(*number)).unwrap(), map.get(&key(*number)).cloned().map(Bytes::from));
        }
    }

    /// Nothing is missing from what is gathered of a sound database; what was deleted may still lie about.
    #[test]
    fn all_that_is_there_is_gathered(steps in steps(), snapshot: bool) {
        let directory = tempfile::tempdir().unwrap();
        let map = run(directory.path(), &steps);
        if snapshot {
            write_snapshot(directory.path(), CACHE);
        }
        let gathered = Salvage::gather(directory.path()).unwrap();
        for (key, value) in &map {
            prop_assert_eq!(gathered.get(key).unwrap(), Some(value.clone().into()));
        }
    }
}

/// A database of one segment, with the page that says where the tree begins (page 3) and the given ones.
fn forged(nodes: &[(u8, &[u8])]) -> (tempfile::TempDir, SledFile) {
    let directory = tempfile::tempdir().unwrap();
    let conf = b"segment_size: 1024\nuse_compression: false\nversion: 0.34\n";
    let conf = [&conf[..], &crc32fast::hash(conf).to_le_bytes()].concat();
    std::fs::write(directory.path().join("conf"), conf).unwrap();
    let start = [&i64::MAX.to_le_bytes()[..], &[0; 8]].concat();
    let mut data = [&(crc32fast::hash(&start) ^ u32::MAX).to_le_bytes()[..], &start].concat();
    data.extend(written(6, 0, 0, &[&[15][..], super::DEFAULT_TREE, &[3]].concat()));
    for (page, node) in nodes {
        data.extend(written(8, 0, *page, node));
    }
    std::fs::write(directory.path().join(super::DATA_FILE), data).unwrap();
    let file = SledFile::open(directory.path()).unwrap();
    (directory, file)
}

/// Reading such a database had no end.
#[test]
fn pages_that_lead_back_are_read_once() {
    let below = |below: &[u8]| KeyRange { from: Vec::new(), below: below.to_vec() };
    // The next page, no merge, nothing shared, low, high, a leaf, one key, its value.
    let one = [4, 0, 0, 0, 0, 1, b'm', 0, 1, 1, b'a', 1, b'v'];
    let back = [3, 0, 0, 0, 0, 1, b'b', 0, 0];
    let (_directory, file) = forged(&[(3, &one), (4, &back)]);
    assert_eq!(file.get(b"a").unwrap(), Some(b"v".as_slice().into()));
    let error = file.scan(&below(b"z"), 10, Direction::Up).unwrap_err();
    assert!(error.to_string().contains("page 4"), "{error}");
    // It begins behind what is looked for in it.
    let behind = [0, 0, 0, 0, 1, b'z', 0, 0, 0];
    let (_directory, file) = forged(&[(3, &behind)]);
    let error = file.scan(&below(b"q"), 10, Direction::Down).unwrap_err();
    assert!(error.to_string().contains("not in order"), "{error}");
}

/// One message with a page number far beyond the others took memory for all pages before it.
#[test]
fn a_page_far_beyond_the_others_takes_no_room_for_those_before_it() {
    let leaf = [0, 0, 0, 0, 0, 0, 0, 0];
    let mut data =
        [&[0, 0, 0, 0, 8][..], &[8], &[0], &[255, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &leaf].concat();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&leaf);
    hasher.update(&data[4..data.len() - leaf.len()]);
    let checksum = (hasher.finalize() ^ u32::MAX).to_le_bytes();
    data[..4].copy_from_slice(&checksum);
    let message = super::Message::read(&data).unwrap();
    assert_eq!(message.page, i64::MAX as u64);
    let (directory, _) = forged(&[(3, &leaf)]);
    let path = directory.path().join(super::DATA_FILE);
    let whole = [std::fs::read(&path).unwrap(), data].concat();
    std::fs::write(&path, whole).unwrap();
    let file = SledFile::open(directory.path()).unwrap();
    assert_eq!(file.pages.of(i64::MAX as u64).len(), 1);
}

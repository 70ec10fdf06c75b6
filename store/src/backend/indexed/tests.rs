// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::MemoryDisk;
use crate::backend::model::{Model, scanned};
use crate::backend::segments;
use crate::layout::run;
use crate::record::{Hash, StreamId, StreamKind};

mod damage;
mod erasing;
mod meanwhile;

type Change = (Vec<u8>, Option<Vec<u8>>);

/// A database in memory, and segments on the disk.
struct Ground {
    directory: TempDir,
    disk: MemoryDisk,
    indexed: Indexed<MemoryDisk>,
    model: Model,
}

impl Ground {
    fn new() -> Self {
        Self::with(&[])
    }

    /// Where an earlier version has put values into the database itself.
    fn with(earlier: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::new();
        earlier.iter().for_each(|(key, value)| disk.damage(key, Some(value)));
        let indexed = take_up(&directory, &disk, &[]).unwrap();
        Self { directory, disk, indexed, model: earlier.iter().cloned().collect() }
    }

    fn reopen(&mut self) {
        self.indexed.close().unwrap();
        self.indexed = take_up(&self.directory, &self.disk, &[]).unwrap();
    }

    /// Goes on with what a power cut leaves.
    fn cut_power(&mut self) {
        self.disk = self.disk.after_power_cut();
        self.reopen();
    }

    /// The same, and what the index may lack is brought again.
    fn cut_power_and_bring(&mut self, group: &[Change]) {
        self.disk = self.disk.after_power_cut();
        self.indexed.close().unwrap();
        self.indexed = take_up(&self.directory, &self.disk, &[changes(group)]).unwrap();
        self.count(group);
    }

    fn bring(&mut self, groups: &[Vec<Change>]) {
        self.indexed.bring(&groups.iter().map(|group| changes(group)).collect::<Vec<_>>()).unwrap();
        groups.iter().for_each(|group| self.count(group));
    }

    fn apply(&mut self, group: &[Change]) {
        self.indexed.apply(&changes(group)).unwrap();
        self.count(group);
    }

    fn sync(&self) {
        self.indexed.write_out().unwrap();
        self.indexed.sync().unwrap();
    }

    /// Puts a group into the model.
    fn count(&mut self, group: &[Change]) {
        for (key, value) in group.iter().cloned() {
            match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.indexed.get(key).unwrap().map(|value| value.to_vec())
    }

    /// That a range looks as in the model, with its values and without.
    fn check(&self, range: &KeyRange, limit: usize, direction: Direction) {
        let expected = scanned(&self.model, range, limit, direction);
        let found = self.indexed.keys(range, limit, direction).unwrap();
        let expected_keys: Vec<_> = expected.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(found, expected_keys, "the keys of {range:?}, {limit} {direction:?}");
        let found = self.indexed.scan(range, limit, direction).unwrap();
        assert!(found == expected, "the values of {range:?}, {limit} {direction:?}");
    }

    fn check_all(&self) {
        for direction in [Direction::Up, Direction::Down] {
            self.check(&everything(), usize::MAX, direction);
        }
        for (key, value) in &self.model {
            assert_eq!(self.get(key).as_ref(), Some(value), "{key:02x?}");
        }
    }

    /// The bytes of all segments.
    fn bytes(&self) -> Vec<u8> {
        let files = segments::files(self.directory.path()).unwrap();
        files.into_iter().flat_map(|file| fs::read(file).unwrap()).collect()
    }

    fn has(&self, body: &[u8]) -> bool {
        self.bytes().windows(body.len()).any(|part| part == body)
    }

    /// Changes a byte of the first segment.
    fn hurt(&self, at: u64) {
        let path = &segments::files(self.directory.path()).unwrap()[0];
        let byte = fs::read(path).unwrap()[usize::try_from(at).unwrap()];
        OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[!byte], at).unwrap();
    }

    /// The keys of the index that begin with these bytes, and how many places are under each.
    fn runs(&self, begin: &[u8]) -> Vec<usize> {
        let keys = self.disk.keys().into_iter().filter(|key| key.starts_with(begin));
        let rest = if begin[0] == b'f' { 10 } else { 8 };
        keys.map(|key| Run::decode(rest, &self.disk.value(&key).unwrap()).unwrap().len()).collect()
    }
}

fn take_up(directory: &TempDir, disk: &MemoryDisk, groups: &[Changes]) -> Result<Indexed<MemoryDisk>, BackendError> {
    let indexed = Indexed::over(disk.clone(), directory.path(), Path::new("a log"))?;
    indexed.check_end()?;
    indexed.begin(directory.path(), groups)?;
    Ok(indexed)
}

fn changes(group: &[Change]) -> Changes {
    let mut changes = Changes::default();
    for (key, value) in group.iter().cloned() {
        match value {
            Some(value) => changes.put(key, value),
            None => changes.delete(key),
        }
    }
    changes
}

/// As those who write a log anew ask for it.
fn everything() -> KeyRange {
    KeyRange { from: Vec::new(), below: vec![u8::MAX] }
}

/// The last one sorts behind all others.
fn stream(number: u8) -> StreamId {
    StreamId::from_bytes([if number == 2 { u8::MAX } else { number }; 16])
}

fn frame(number: u8, seq: u64) -> Vec<u8> {
    keys::frame(stream(number), seq, 0)
}

fn put(key: Vec<u8>, value: &[u8]) -> Change {
    (key, Some(value.to_vec()))
}

/// Frames of a stream, each with its `seq`.
fn frames(number: u8, seqs: impl IntoIterator<Item = u64>) -> Vec<Change> {
    seqs.into_iter().map(|seq| put(frame(number, seq), &seq.to_be_bytes())).collect()
}

fn is_placed(key: &[u8]) -> bool {
    Kept::of(key) != Kept::Here
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few, so that they are written again and deleted; of a stream more than an entry of the index takes.
    prop_oneof![
        8 => (0..3u8, 0..20u64, 0..3u16).prop_map(|(number, seq, chunk)| keys::frame(stream(number), seq, chunk)),
        3 => (0..50u64).prop_map(keys::group),
        1 => (any::<bool>(), 0..3u8).prop_map(|(open, number)| keys::listing(open, StreamKind::Execution, stream(number))),
        1 => (0..3u8, 0..2u16).prop_map(|(number, chunk)| keys::definition(Hash([number; 32]), chunk)),
    ]
}

/// Where a range begins or ends: at a key, next to it, between two streams, or between what is kept here and elsewhere.
fn bound() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => key(),
        1 => key().prop_map(|key| [&key[..], &[0]].concat()),
        1 => (key(), any::<prop::sample::Index>()).prop_map(|(key, length)| key[..length.index(key.len())].to_vec()),
        2 => prop::sample::select(b"\0BCDEFGOXYa\xff".to_vec()).prop_map(|byte| vec![byte]),
        1 => Just(Vec::new()),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        (bound(), bound()).prop_map(|(from, below)| KeyRange { from, below }),
        (0..3u8, 0..20u64, proptest::option::of(0..20u64)).prop_map(|(number, from, below)| keys::frames(
            stream(number),
            from,
            below
        )),
        (0..50u64, proptest::option::of(0..50u64)).prop_map(|(from, below)| keys::groups(from, below)),
        proptest::option::of(0..3u8).prop_map(|number| keys::frames_after(number.map(stream))),
        Just(everything()),
    ]
}

/// How long a value is; `None` for one that is deleted.
fn group() -> impl Strategy<Value = Vec<(Vec<u8>, Option<usize>)>> {
    let length = prop_oneof![8 => 0..40usize, 1 => 2_000..=4_000usize];
    vec((key(), proptest::option::weighted(0.75, length)), 0..40)
}

#[derive(Clone, Debug)]
enum Step {
    Bring(Vec<Vec<(Vec<u8>, Option<usize>)>>),
    Apply(Vec<(Vec<u8>, Option<usize>)>),
    Read(KeyRange, usize, bool),
    Get(Vec<u8>),
    Reopen,
    CutPower,
}

fn step() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![0..6usize, 20..60usize, Just(usize::MAX)];
    prop_oneof![
        4 => vec(group(), 0..4).prop_map(Step::Bring),
        3 => group().prop_map(Step::Apply),
        12 => (range(), limit, any::<bool>()).prop_map(|(range, limit, up)| Step::Read(range, limit, up)),
        6 => key().prop_map(Step::Get),
        1 => Just(Step::Reopen),
        1 => Just(Step::CutPower),
    ]
}

/// Gives each value a content that no other one has.
#[derive(Default)]
struct Values(u32);

impl Values {
    fn of(&mut self, group: Vec<(Vec<u8>, Option<usize>)>) -> Vec<Change> {
        let mut next = |length: usize| {
            self.0 += 1;
            let mut value = format!("<{}>", self.0).into_bytes();
            value.resize(value.len() + length, b'.');
            value
        };
        group.into_iter().map(|(key, length)| (key, length.map(&mut next))).collect()
    }
}

/// The numbers of the values that stand in the segments under keys of frames and commit entries.
fn standing(ground: &Ground) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let end = segments::end(ground.directory.path()).unwrap();
    segments::each_value(ground.directory.path(), End::default(), end, |_, key, value| {
        if let Some(value) = value.filter(|_| is_placed(key)) {
            found.insert(value.to_vec());
        }
    })
    .unwrap();
    found
}

proptest! {
    // Each of them waits for a disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the segments and whatever an earlier version has put into the database: it looks like one map, and what was
    /// replaced is in no segment.
    #[test]
    fn a_database_and_its_segments_look_like_one_map(
        earlier in prop_oneof![1 => Just(Vec::new()), 1 => vec((key(), 0..40usize), 0..40)],
        steps in vec(step(), 1..30),
    ) {
        let mut values = Values::default();
        let earlier = values.of(earlier.into_iter().map(|(key, length)| (key, Some(length))).collect());
        let earlier: Vec<_> = earlier.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
        let mut ground = Ground::with(&earlier);
        let earlier: BTreeSet<_> = earlier.into_iter().map(|(_, value)| value).collect();
        for step in steps {
            let is_change = matches!(step, Step::Bring(_) | Step::Apply(_));
            match step {
                Step::Bring(groups) => {
                    let groups: Vec<_> = groups.into_iter().map(|group| values.of(group)).collect();
                    ground.bring(&groups);
                }
                Step::Apply(group) => {
                    ground.apply(&values.of(group));
                    ground.check(&everything(), usize::MAX, Direction::Up);
                    ground.sync();
                }
                Step::Read(range, limit, true) => ground.check(&range, limit, Direction::Up),
                Step::Read(range, limit, false) => ground.check(&range, limit, Direction::Down),
                Step::Get(key) => prop_assert_eq!(ground.get(&key), ground.model.get(&key).cloned()),
                Step::Reopen => ground.reopen(),
                Step::CutPower => ground.cut_power(),
            }
            if is_change {
                let placed = ground.model.iter().filter(|(key, value)| is_placed(key) && !earlier.contains(*value));
                prop_assert_eq!(standing(&ground), placed.map(|(_, value)| value.clone()).collect::<BTreeSet<_>>());
            }
        }
        ground.check_all();
    }

    /// Whoever has the groups brings them again then, and nothing is missing that they do not name.
    #[test]
    fn what_was_brought_in_part_is_whole_once_it_is_brought_again(
        before in vec(group(), 1..4),
        groups in vec(group(), 1..4),
        filler in 0..70u16,
        nth in 1..5u64,
        is_sync: bool,
        again: bool,
    ) {
        let mut values = Values::default();
        let mut ground = Ground::new();
        ground.bring(&before.into_iter().map(|group| values.of(group)).collect::<Vec<_>>());
        let mut groups: Vec<_> = groups.into_iter().map(|group| values.of(group)).collect();
        // So much that the database takes it in several pieces.
        let definitions = (0..filler).map(|chunk| put(keys::definition(Hash([9; 32]), chunk), &[7; 4_000]));
        groups[0].extend(definitions);
        for nth in [nth, 1].into_iter().take(1 + usize::from(again)) {
            if is_sync { ground.disk.fail_sync(nth, "no power") } else { ground.disk.fail_write(nth, "no power") }
            let brought = ground.indexed.bring(&groups.iter().map(|group| changes(group)).collect::<Vec<_>>());
            prop_assert!(brought.is_ok() || brought == Err(BackendError::Failed("no power".to_owned())), "{brought:?}");
            ground.cut_power();
        }
        ground.bring(&groups);
        ground.check_all();
    }
}

#[test]
fn a_stream_has_at_most_32_places_in_an_entry_of_the_index() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..100), (0..70).map(|position| put(keys::group(position), b"entry")).collect()]);
    assert_eq!(ground.runs(b"f"), [32, 32, 32, 4]);
    assert_eq!(ground.runs(b"c"), [32, 32, 6]);
    ground.check_all();
    // One by one it comes to the same.
    for seq in 100..140 {
        ground.apply(&frames(1, [seq]));
    }
    ground.sync();
    assert_eq!(ground.runs(b"f"), [32, 32, 32, 32, 12]);
    assert!(ground.disk.keys().iter().all(|key| !is_placed(key)), "the database has only places");
    ground.check_all();
}

#[test]
fn what_comes_between_others_is_put_in_order() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, (100..300).step_by(2))]);
    ground.bring(&[frames(1, (101..300).step_by(2))]);
    ground.bring(&[frames(1, 0..50), frames(0, 7..9)]);
    ground.check_all();
    for seq in [0, 49, 50, 99, 100, 163, 164, 299, 300] {
        ground.check(&keys::frames(stream(1), seq, None), 3, Direction::Up);
        ground.check(&keys::frames(stream(1), 0, Some(seq)), 3, Direction::Down);
    }
    let deleted: Vec<Change> = (0..300).filter(|seq| seq % 33 != 0).map(|seq| (frame(1, seq), None)).collect();
    ground.bring(&[deleted]);
    ground.check_all();
    ground.bring(&[(0..300).map(|seq| (frame(1, seq), None)).collect()]);
    assert_eq!(ground.runs(&keys::run(&frame(1, 0))[..17]), [0; 0]);
    ground.check_all();
}

/// Nothing of it is kept: each place is looked up.
#[test]
fn a_stream_of_very_many_frames_is_read_like_others() {
    let mut ground = Ground::new();
    ground.bring(&[frames(0, 0..40), frames(1, 0..2_100), frames(2, 0..40)]);
    let alike = frame(1, 0)[..17].to_vec();
    assert_eq!(ground.runs(&keys::run(&alike)).len(), 66);
    assert!(ground.indexed.stream(&alike).unwrap().is_none());
    ground.check_all();
    let check = |ground: &Ground| {
        for (from, below, limit) in
            [(0, None, 3), (31, Some(33), 9), (1_000, Some(1_100), 70), (2_090, None, 99), (5, Some(5), 1)]
        {
            for direction in [Direction::Up, Direction::Down] {
                ground.check(&keys::frames(stream(1), from, below), limit, direction);
            }
        }
        ground.check(&keys::frames(stream(1), 0, None), usize::MAX, Direction::Down);
        assert_eq!(ground.get(&frame(1, 2_200)), None);
    };
    check(&ground);
    ground.bring(&[vec![put(frame(1, 31), b"other"), (frame(1, 1_050), None)], frames(1, 2_100..2_103)]);
    check(&ground);
    // What is just not too many.
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..64 * 32)]);
    assert!(ground.indexed.stream(&alike).unwrap().is_some());
    check(&ground);
    ground.bring(&[frames(1, [64 * 32])]);
    assert!(ground.indexed.stream(&alike).unwrap().is_none());
    check(&ground);
}

#[test]
fn what_was_read_before_a_change_is_not_read_after_it() {
    let mut ground = Ground::new();
    let all = keys::frames(stream(1), 0, None);
    // A stream that is not there is kept as well.
    ground.check(&all, 9, Direction::Up);
    assert_eq!(ground.get(&frame(1, 0)), None);
    ground.apply(&[put(frame(1, 0), b"first")]);
    ground.check(&all, 9, Direction::Up);
    assert_eq!(ground.get(&frame(1, 0)).unwrap(), b"first");
    ground.bring(&[vec![put(frame(1, 0), b"second"), put(frame(1, 1), b"more")]]);
    ground.check(&all, 9, Direction::Down);
    assert_eq!(ground.get(&frame(1, 0)).unwrap(), b"second");
    ground.apply(&[(frame(1, 0), None)]);
    ground.check(&all, 9, Direction::Up);
    assert_eq!(ground.get(&frame(1, 0)), None);
    // What somebody else has changed is seen by whoever opens it then.
    ground.sync();
    ground.reopen();
    ground.check(&all, 9, Direction::Up);
}

#[test]
fn what_an_earlier_version_has_put_is_found_between_what_is_in_segments() {
    let earlier: Vec<_> = [frame(1, 0), frame(1, 2), frame(1, 4), keys::group(0), keys::group(2)]
        .into_iter()
        .map(|key| (key, b"earlier".to_vec()))
        .collect();
    let mut ground = Ground::with(&earlier);
    ground.check_all();
    ground.bring(&[frames(1, [1, 3]), vec![put(keys::group(1), b"entry")]]);
    ground.check_all();
    for (limit, direction) in [(1, Direction::Up), (2, Direction::Up), (2, Direction::Down), (4, Direction::Down)] {
        ground.check(&keys::frames(stream(1), 0, None), limit, direction);
        ground.check(&keys::groups(0, None), limit, direction);
    }
    // A value that is replaced wins, and what it replaces is gone.
    ground.bring(&[vec![put(frame(1, 2), b"later"), put(keys::group(2), b"later")]]);
    ground.check_all();
    assert_eq!((ground.disk.value(&frame(1, 2)), ground.disk.value(&keys::group(2))), (None, None));
    // A delete removes what is here and what is there.
    let deleted = [frame(1, 2), frame(1, 4), frame(1, 1), keys::group(0), keys::group(1)];
    ground.apply(&deleted.map(|key| (key, None)));
    ground.sync();
    ground.check_all();
    assert_eq!(ground.model.keys().collect::<Vec<_>>(), [&keys::group(2), &frame(1, 0), &frame(1, 3)]);
    ground.cut_power();
    ground.check_all();
}

#[test]
fn the_index_says_how_far_it_goes() {
    let mut ground = Ground::new();
    let end = |ground: &Ground| End::decode(&ground.disk.after_power_cut().value(INDEXED).unwrap()).unwrap();
    assert_eq!(end(&ground), End { segment: 1, offset: 8 });
    ground.bring(&[frames(1, 0..9)]);
    assert_eq!(end(&ground), segments::end(ground.directory.path()).unwrap());
    // What was on its way when the power was cut is in no entry of it, and is not written over.
    let before = end(&ground);
    ground.disk.fail_write(1, "no power");
    assert!(ground.indexed.bring(&[changes(&frames(1, 9..12))]).is_err());
    assert_eq!(end(&ground), before);
    ground.cut_power();
    assert!(end(&ground) > before);
    assert_eq!(end(&ground), segments::end(ground.directory.path()).unwrap());
    ground.check_all();
}

#[test]
fn a_reader_changes_nothing() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..3)]);
    let before = (ground.disk.keys(), ground.bytes());
    let reader = Indexed::over(ground.disk.clone(), ground.directory.path(), Path::new("a log")).unwrap();
    reader.check_end().unwrap();
    reader.open_all().unwrap();
    assert_eq!(reader.get(&frame(1, 2)).unwrap().unwrap(), 2u64.to_be_bytes()[..]);
    assert_eq!(reader.apply(&changes(&frames(1, [3]))), Err(BackendError::Closed));
    assert_eq!(reader.bring(&[changes(&frames(1, [3]))]), Err(BackendError::Closed));
    assert_eq!((ground.disk.keys(), ground.bytes()), before);
}

#[test]
fn a_value_that_is_too_long_is_refused_before_anything_is_written() {
    let ground = Ground::new();
    let before = (ground.disk.keys(), ground.bytes());
    let group = changes(&[put(frame(1, 0), b"fits"), put(frame(1, 1), &[7; crate::layout::MAX_VALUE + 1])]);
    assert!(ground.indexed.apply(&group).is_err());
    assert_eq!((ground.disk.keys(), ground.bytes()), before);
}

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::MemoryDisk;
use crate::backend::model::{Model, scanned};
use crate::layout::group::FramePlace;
use crate::record::{Hash, StreamId, StreamKind};

/// A log's database in memory, behind a journal on the disk.
struct Ground {
    directory: TempDir,
    disk: MemoryDisk,
    journaled: Journaled<MemoryDisk>,
    model: Model,
    position: u64,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::new();
        let journaled = take_up(&directory, &disk, true).unwrap();
        Self { directory, disk, journaled, model: Model::new(), position: 0 }
    }

    /// Writes a group with these changes, and its commit entry. One that appends nothing has none.
    fn write(&mut self, changes: &[(Vec<u8>, Option<Vec<u8>>)], appends: bool) -> Result<(), BackendError> {
        let mut group = Changes::default();
        let mut all = changes.to_vec();
        if appends {
            all.push((keys::group(self.position), Some(commit_entry(self.position))));
            group.append(self.position..self.position + 1);
        }
        for (key, value) in &all {
            match value {
                Some(value) => group.put(key.clone(), value.clone()),
                None => group.delete(key.clone()),
            }
        }
        self.journaled.make_room(&group)?;
        self.journaled.apply(&group)?;
        self.journaled.write_out()?;
        self.journaled.sync()?;
        self.position += u64::from(appends);
        for (key, value) in all {
            match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
        }
        Ok(())
    }

    /// What a power cut leaves, taken up by somebody else.
    fn after_a_power_cut(&self) -> Journaled<MemoryDisk> {
        let found = Found::read(self.directory.path(), false).unwrap();
        let (journaled, damage) = Journaled::reading(self.disk.after_power_cut(), found).unwrap();
        assert_eq!(damage, Vec::<String>::new());
        journaled
    }
}

fn take_up(directory: &TempDir, disk: &MemoryDisk, is_new: bool) -> Result<Journaled<MemoryDisk>, BackendError> {
    journal::prepare(directory.path()).unwrap();
    let found = Found::read(directory.path(), is_new).unwrap();
    let (journaled, damage) = Journaled::reading(disk.clone(), found)?;
    assert_eq!(damage, Vec::<String>::new());
    journaled.begin(&OpenDirectory::open(directory.path()).unwrap(), directory.path(), |database, groups| {
        database.bring(groups)
    })
}

fn commit_entry(position: u64) -> Vec<u8> {
    let place = FramePlace {
        stream: StreamId::from_bytes([1; 16]),
        kind: StreamKind::Execution,
        first_seq: position,
        count: 1,
    };
    GroupEntry::seal(false, position, &Hash::ZERO, &[(place, Hash::ZERO)]).encode()
}

fn everything(backend: &impl Backend) -> Model {
    let all = KeyRange { from: Vec::new(), below: vec![u8::MAX] };
    let entries = backend.scan(&all, usize::MAX, Direction::Up).unwrap();
    entries.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        appends: bool,
    },
    /// Everything so far begins to be brought into the database.
    Turn,
    Scan {
        from: Vec<u8>,
        below: Vec<u8>,
        limit: usize,
        up: bool,
    },
    CutPower,
    Close,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few, so that they are written again and deleted.
    (0..12u8).prop_map(|number| vec![b'K', number])
}

fn step() -> impl Strategy<Value = Step> {
    let change = (key(), proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..600)));
    prop_oneof![
        6 => (proptest::collection::vec(change, 0..6), proptest::bool::weighted(0.9))
            .prop_map(|(changes, appends)| Step::Write { changes, appends }),
        1 => Just(Step::Turn),
        4 => (key(), key(), 0..6usize, any::<bool>())
            .prop_map(|(from, below, limit, up)| Step::Scan { from, below, limit, up }),
        1 => Just(Step::CutPower),
        1 => Just(Step::Close),
    ]
}

proptest! {
    // Each of them waits for a disk.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is in the journal, on its way, or in the database: readers see what was written last, and so does whoever takes
    /// it up after a power cut or a close.
    #[test]
    fn the_layers_look_like_one_map(steps in proptest::collection::vec(step(), 1..40)) {
        let mut ground = Ground::new();
        for step in steps {
            match step {
                Step::Write { changes, appends } => ground.write(&changes, appends).unwrap(),
                Step::Turn => {
                    ground.journaled.shared.turn().unwrap();
                    ground.journaled.with_writing(|writing| { writing.journal.turn(); Ok(()) }).unwrap();
                }
                Step::Scan { from, below, limit, up } => {
                    let (range, direction) = (KeyRange { from, below }, if up { Direction::Up } else { Direction::Down });
                    let found = ground.journaled.scan(&range, limit, direction).unwrap();
                    prop_assert_eq!(found, scanned(&ground.model, &range, limit, direction));
                }
                Step::CutPower => prop_assert_eq!(everything(&ground.after_a_power_cut()), ground.model.clone()),
                Step::Close => {
                    ground.journaled.close().unwrap();
                    prop_assert_eq!(everything(&ground.disk.after_power_cut()), ground.model.clone());
                    prop_assert_eq!(Found::read(ground.directory.path(), false).unwrap(), Found::default());
                    ground.journaled = take_up(&ground.directory, &ground.disk, true).unwrap();
                }
            }
            for number in 0..12 {
                let key = [b'K', number];
                prop_assert_eq!(ground.journaled.get(&key).unwrap(), ground.model.get(&key[..]).cloned().map(Bytes::from));
            }
        }
        prop_assert_eq!(everything(&ground.journaled), ground.model);
    }
}

#[test]
fn a_group_that_fits_no_half_comes_behind_all_that_the_journal_has() {
    let mut ground = Ground::new();
    ground.write(&[(b"Ka".to_vec(), Some(b"first".to_vec()))], true).unwrap();
    let many: Vec<_> =
        (0..300u16).map(|number| ([&b"L"[..], &number.to_be_bytes()].concat(), Some(vec![7; 4_000]))).collect();
    ground.write(&many, true).unwrap();
    assert_eq!(everything(&ground.disk.after_power_cut()), ground.model, "both are in the database");
    ground.write(&[(b"Ka".to_vec(), None)], true).unwrap();
    assert!(everything(&ground.disk.after_power_cut()).contains_key(&b"Ka"[..]), "the third is not there yet");
    assert_eq!(everything(&ground.after_a_power_cut()), ground.model);
}

/// A log whose database is missing is told from one that has not brought anything into it yet.
#[test]
fn the_first_group_of_all_goes_to_the_database_at_once() {
    let mut ground = Ground::new();
    ground.write(&[(b"Ka".to_vec(), Some(b"first".to_vec()))], true).unwrap();
    assert_eq!(everything(&ground.disk.after_power_cut()), ground.model);
    ground.write(&[(b"Ka".to_vec(), Some(b"second".to_vec()))], true).unwrap();
    assert_ne!(everything(&ground.disk.after_power_cut()), ground.model);
}

#[test]
fn more_than_both_halves_take_reaches_the_database_meanwhile() {
    let mut ground = Ground::new();
    for number in 0..200u8 {
        let changes = [b'J', b'K', b'L'].map(|letter| (vec![letter, number], Some(vec![number; 4_000])));
        ground.write(&changes, true).unwrap();
    }
    assert!(!everything(&ground.disk.after_power_cut()).is_empty(), "2.4 MB do not fit the journal");
    assert_eq!(everything(&ground.after_a_power_cut()), ground.model);
    assert_eq!(everything(&ground.journaled), ground.model);
}

/// What was acknowledged stays in the journal, and nothing more is acknowledged.
#[test]
fn a_database_that_fails_stops_the_next_group_and_keeps_the_others() {
    let mut ground = Ground::new();
    ground.write(&[], true).unwrap();
    ground.write(&[(b"Ka".to_vec(), Some(b"kept".to_vec()))], true).unwrap();
    ground.disk.fail_write(1, "the disk is gone");
    ground.journaled.shared.turn().unwrap();
    let why = BackendError::Failed("the disk is gone".to_owned());
    assert_eq!(ground.journaled.shared.wait_drained(), Err(why.clone()));
    assert_eq!(ground.write(&[(b"Kb".to_vec(), Some(b"refused".to_vec()))], true), Err(why.clone()));
    assert_eq!(ground.journaled.get(b"Ka").unwrap(), Some(Bytes::from_static(b"kept")), "it is still read");
    assert_eq!(ground.journaled.close(), Err(why));
    assert_eq!(everything(&ground.after_a_power_cut()), ground.model);
}

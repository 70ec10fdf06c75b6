//! What readers see while somebody writes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::*;

/// Values only grow here; each reader sees at the least what was brought before it asked.
#[test]
fn readers_meanwhile_see_no_older_value_than_was_brought() {
    const LAST: u32 = 60;
    let ground = Ground::new();
    let value = |number: u32| number.to_be_bytes().to_vec();
    let number = |value: &Bytes| u32::from_be_bytes(value[..].try_into().unwrap());
    let both = |at: u32| changes(&[(frame(1, 0), Some(value(at))), (keys::group(0), Some(value(at)))]);
    let brought = AtomicU32::new(0);
    ground.indexed.bring(&[both(0)]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 1..=LAST {
                ground.indexed.bring(&[both(at)]).unwrap();
                brought.store(at, Ordering::SeqCst);
            }
        });
        for key in [frame(1, 0), keys::group(0)] {
            let (indexed, brought) = (&ground.indexed, &brought);
            scope.spawn(move || {
                let range = KeyRange { from: key.clone(), below: [&key[..], &[0]].concat() };
                let mut last = 0;
                while last < LAST {
                    let least = brought.load(Ordering::SeqCst).max(last);
                    let found = number(&indexed.get(&key).unwrap().unwrap());
                    let entries = indexed.scan(&range, 1, Direction::Down).unwrap();
                    assert_eq!(entries.len(), 1);
                    last = number(&entries[0].1);
                    assert!(least <= found && found <= last, "{last} after {found}, {least} was brought");
                }
            });
        }
    });
}

/// A database whose changes are watched: there is a read right before each, and right behind it.
#[derive(Default)]
struct Watched {
    disk: MemoryDisk,
    reader: Mutex<Weak<Indexed<Watched>>>,
}

impl Watched {
    fn read(&self) {
        let reader = lock(&self.reader).upgrade();
        if let Some(reader) = reader {
            reader.get(&frame(1, 0)).unwrap();
        }
    }
}

impl Backend for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.disk.get(key)
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        self.disk.scan(range, limit, direction)
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        self.read();
        let applied = self.disk.apply(changes);
        self.read();
        applied
    }

    fn write_out(&self) -> Result<(), BackendError> {
        self.disk.write_out()
    }

    fn sync(&self) -> Result<(), BackendError> {
        self.disk.sync()
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        self.disk.load_head()
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        self.disk.save_head(head)
    }

    fn close(&self) -> Result<(), BackendError> {
        self.disk.close()
    }
}

#[test]
fn what_was_read_in_the_midst_of_a_change_is_not_read_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let indexed = Indexed::over(Watched::default(), directory.path(), Path::new("a log")).unwrap();
    indexed.begin(directory.path(), &[]).unwrap();
    let indexed = Arc::new(indexed);
    *lock(&indexed.index.reader) = Arc::downgrade(&indexed);
    for number in 0..6u8 {
        let group = changes(&[put(frame(1, 0), &[number])]);
        if number % 2 == 0 {
            indexed.apply(&group).unwrap()
        } else {
            indexed.bring(&[group]).unwrap()
        }
        assert_eq!(indexed.get(&frame(1, 0)).unwrap().unwrap(), [number][..]);
    }
}

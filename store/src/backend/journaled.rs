//! A database behind a [journal]: what was appended last is in memory and in the journal, and goes to the database in the
//! background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use ::bytes::Bytes;

use super::journal::{self, Found, Journal};
use super::overlay::{Overlay, merge, needed};
use super::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::bytes::Malformed;
use crate::directory::opened::OpenDirectory;
use crate::layout::group::GroupEntry;
use crate::layout::keys;
use crate::sync::{lock, read_lock, write_lock};

/// A database behind a journal.
pub(crate) struct Journaled<B> {
    shared: Arc<Shared<B>>,
    /// `None` for a reader, and once it was closed.
    writing: Mutex<Option<Writing>>,
}

/// What only the one who writes needs.
struct Writing {
    journal: Journal,
    directory: OpenDirectory,
    name: PathBuf,
    /// Whether the database has nothing: it gets the first group at once. So one that is empty has lost something.
    is_new: bool,
    next: Option<Next>,
    /// What was written and not synced.
    unsynced: Unsynced,
    drainer: Option<JoinHandle<()>>,
}

/// Where the next changes go.
enum Next {
    /// Into the journal: the first position and the bytes of their entry.
    Journal(u64, Bytes),
    /// Into the database at once.
    Database,
}

#[derive(Default)]
struct Unsynced {
    journal: bool,
    database: bool,
}

/// What readers, the one who writes and the thread that drains share.
struct Shared<B> {
    database: B,
    layers: RwLock<Layers>,
    drain: Mutex<Drain>,
    turned: Condvar,
}

/// What lies over the database, the newest first.
#[derive(Default)]
struct Layers {
    active: Overlay,
    draining: Option<Arc<Overlay>>,
}

#[derive(Default)]
struct Drain {
    over: bool,
    failed: Option<BackendError>,
}

impl<B: Backend> Journaled<B> {
    /// A database and the journal that was found beside it, for reading; and what is wrong with the journal.
    pub(crate) fn reading(database: B, found: Found) -> Result<(Self, Vec<String>), BackendError> {
        let (end, unknown) = match end_of(&database) {
            _ if found.groups.is_empty() => (0, None),
            Ok(end) => (end, None),
            // All that is in the journal can still be read.
            Err(BackendError::Damaged(what)) => (0, Some(what)),
            Err(error) => return Err(error),
        };
        let Found { groups, mut damage, .. } = found.behind(end);
        damage.extend(unknown);
        let mut active = Overlay::default();
        groups.into_iter().for_each(|group| active.add(group.changes));
        let shared = Shared {
            database,
            layers: RwLock::new(Layers { active, draining: None }),
            drain: Mutex::default(),
            turned: Condvar::new(),
        };
        Ok((Self { shared: Arc::new(shared), writing: Mutex::new(None) }, damage))
    }

    /// Goes on to write: has the database begin with what was found in the journal, and begins the journal in a directory anew.
    pub(crate) fn begin(
        self,
        directory: &OpenDirectory,
        name: &Path,
        begin: impl FnOnce(&B, &[Changes]) -> Result<(), BackendError>,
    ) -> Result<Self, BackendError> {
        let found = std::mem::take(&mut write_lock(&self.shared.layers).active);
        begin(&self.shared.database, found.groups())?;
        let is_new = end_of(&self.shared.database)? == 0;
        let failed = |doing: &str, error: &std::io::Error| failed(name, doing, error);
        let journal = Journal::open(directory.path()).map_err(|error| failed("opening", &error))?;
        let shared = Arc::clone(&self.shared);
        let drainer = thread::Builder::new()
            .name("cloacina-drain".to_owned())
            .spawn(move || shared.drain())
            .map_err(|error| failed("starting the thread that drains", &error))?;
        *lock(&self.writing) = Some(Writing {
            journal,
            directory: directory.clone(),
            name: name.to_owned(),
            is_new,
            next: None,
            unsynced: Unsynced::default(),
            drainer: Some(drainer),
        });
        Ok(self)
    }

    fn with_writing<T>(&self, work: impl FnOnce(&mut Writing) -> Result<T, BackendError>) -> Result<T, BackendError> {
        lock(&self.writing).as_mut().map_or(Err(BackendError::Closed), work)
    }
}

fn failed(name: &Path, doing: &str, error: &std::io::Error) -> BackendError {
    BackendError::Failed(format!("{doing} {}: {error}", name.join(journal::NAME).display()))
}

/// Up to which position a database has everything.
fn end_of(database: &impl Backend) -> Result<u64, BackendError> {
    let last = database.scan(&keys::groups(0, None), 1, Direction::Down)?;
    let Some((key, value)) = last.first() else { return Ok(0) };
    let Some(position) = keys::group_position(key) else { return Ok(0) };
    // Of one that is damaged nobody knows how far it goes. If the journal has it, it replaces the damaged one.
    Ok(GroupEntry::decode(value).map_or(position, |entry| position.saturating_add(entry.records())))
}

impl<B: Backend> Shared<B> {
    /// Brings what is to be drained into the database, until all is over.
    fn drain(&self) {
        while let Some(draining) = self.next_to_drain() {
            let brought = catch_unwind(AssertUnwindSafe(|| self.database.bring(draining.groups())));
            let brought =
                brought.unwrap_or_else(|_| Err(BackendError::Failed("the thread that drains panicked".to_owned())));
            let mut drain = lock(&self.drain);
            match brought {
                Ok(()) => write_lock(&self.layers).draining = None,
                // The journal still has it.
                Err(error) => drain.failed = Some(error),
            }
            self.turned.notify_all();
            if drain.failed.is_some() {
                return;
            }
        }
    }

    fn next_to_drain(&self) -> Option<Arc<Overlay>> {
        let mut drain = lock(&self.drain);
        loop {
            if let Some(draining) = &read_lock(&self.layers).draining {
                return Some(Arc::clone(draining));
            }
            if drain.over {
                return None;
            }
            drain = self.turned.wait(drain).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// That bringing has not failed.
    fn check(&self) -> Result<(), BackendError> {
        lock(&self.drain).failed.clone().map_or(Ok(()), Err)
    }

    /// Waits until nothing is drained any more.
    fn wait_drained(&self) -> Result<(), BackendError> {
        let mut drain = lock(&self.drain);
        loop {
            if let Some(error) = &drain.failed {
                return Err(error.clone());
            }
            if read_lock(&self.layers).draining.is_none() {
                return Ok(());
            }
            drain = self.turned.wait(drain).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has everything drained that is not in the database.
    fn turn(&self) -> Result<(), BackendError> {
        self.wait_drained()?;
        let _drain = lock(&self.drain);
        let mut layers = write_lock(&self.layers);
        let active = std::mem::take(&mut layers.active);
        layers.draining = Some(Arc::new(active)).filter(|active| !active.is_empty());
        self.turned.notify_all();
        Ok(())
    }

    /// Brings all that is left into the database, ends the thread that does it, and empties the journal.
    fn end(&self, writing: Writing) -> Result<(), BackendError> {
        let brought = self.turn().and_then(|()| self.wait_drained());
        let Writing { mut journal, name, .. } = self.end_draining(writing);
        brought?;
        journal.clear().map_err(|error| failed(&name, "emptying", &error))
    }

    /// What is in a range: what the layers say of it, over what the database does.
    fn laid_over(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
        below: impl FnOnce(&B, usize) -> Result<Vec<Entry>, BackendError>,
    ) -> Result<Vec<Entry>, BackendError> {
        if range.from >= range.below {
            return Ok(Vec::new());
        }
        let (active, draining) = {
            let layers = read_lock(&self.layers);
            let cover = |layer: &Overlay, limit| layer.cover(range, limit, direction);
            let active = cover(&layers.active, limit);
            let draining = layers.draining.as_ref().map(|layer| cover(layer, needed(limit, &active)));
            (active, draining.unwrap_or_default())
        };
        let wanted = needed(limit, &active);
        let below = below(&self.database, needed(wanted, &draining))?;
        Ok(merge(active, merge(draining, below, wanted, direction), limit, direction))
    }

    /// What the layers say of a key.
    fn layered(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let layers = read_lock(&self.layers);
        layers.active.get(key).or_else(|| layers.draining.as_ref()?.get(key))
    }
}

impl<B> Shared<B> {
    /// Ends the thread that drains. What it panicked of was caught.
    fn end_draining(&self, mut writing: Writing) -> Writing {
        lock(&self.drain).over = true;
        self.turned.notify_all();
        let _ = writing.drainer.take().map(JoinHandle::join);
        writing
    }
}

impl Writing {
    /// That what is written next is still in the log that was opened.
    fn check_in_place(&self) -> Result<(), BackendError> {
        let journal = (journal::NAME, self.journal.file());
        self.directory.check_in_place(Some(journal)).map_err(|error| BackendError::Failed(error.to_string()))
    }

    /// Decides where changes go, and makes room for them there.
    fn make_room<B: Backend>(&mut self, changes: &Changes, shared: &Shared<B>) -> Result<(), BackendError> {
        changes.check_lengths()?;
        shared.check()?;
        self.check_in_place()?;
        let follows = !self.unsynced.journal && !self.unsynced.database;
        let entry = journal::entry::encode(changes, follows)
            .filter(|(_, entry)| !self.is_new && Journal::can_take(entry.len()));
        self.is_new = false;
        self.next = Some(match entry {
            Some((start, entry)) => {
                if !self.journal.has_room(entry.len()) {
                    shared.turn()?;
                    self.journal.turn();
                }
                Next::Journal(start, entry.into())
            }
            None => {
                shared.turn()?;
                self.journal.turn();
                shared.wait_drained()?;
                Next::Database
            }
        });
        Ok(())
    }
}

impl<B: Backend> Backend for Journaled<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        // The layers first: what leaves them is in the database by then.
        self.shared.layered(key).map_or_else(|| self.shared.database.get(key), Ok)
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, BackendError> {
        // The layers first, as for one of them.
        let layered: Vec<_> = keys.iter().map(|key| self.shared.layered(key)).collect();
        let below: Vec<Bytes> =
            keys.iter().zip(&layered).filter(|(_, layered)| layered.is_none()).map(|(key, _)| key.clone()).collect();
        let mut below = self.shared.database.get_many(&below)?.into_iter();
        Ok(layered.into_iter().map(|layered| layered.unwrap_or_else(|| below.next().flatten())).collect())
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        self.shared.laid_over(range, limit, direction, |database, limit| database.scan(range, limit, direction))
    }

    fn keys(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Bytes>, BackendError> {
        let entries = self.shared.laid_over(range, limit, direction, |database, limit| {
            let keys = database.keys(range, limit, direction)?;
            Ok(keys.into_iter().map(|key| (key, Bytes::new())).collect())
        })?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    fn make_room(&self, changes: &Changes) -> Result<(), BackendError> {
        self.with_writing(|writing| writing.make_room(changes, &self.shared))
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        self.with_writing(|writing| {
            if writing.next.is_none() {
                writing.make_room(changes, &self.shared)?;
            }
            match &writing.next {
                Some(Next::Journal(start, entry)) => {
                    // The overlay shares the bytes of the entry: keys and values by themselves go back to where they came from.
                    let group = journal::entry::decode(*start, entry);
                    let group = group
                        .map_err(|Malformed(why)| BackendError::Failed(format!("a group cannot be kept: {why}")))?;
                    write_lock(&self.shared.layers).active.add(group.changes);
                    Ok(())
                }
                Some(Next::Database) | None => self.shared.database.apply(changes),
            }
        })
    }

    fn write_out(&self) -> Result<(), BackendError> {
        self.with_writing(|writing| match writing.next.take() {
            Some(Next::Journal(start, entry)) => {
                writing.unsynced.journal = true;
                writing.journal.write(start, &entry).map_err(|error| failed(&writing.name, "writing", &error))
            }
            Some(Next::Database) => {
                writing.unsynced.database = true;
                self.shared.database.write_out()
            }
            None => Ok(()),
        })
    }

    fn sync(&self) -> Result<(), BackendError> {
        // What was closed is in the database, and on the disk.
        let mut writing = lock(&self.writing);
        let Some(writing) = writing.as_mut() else { return Ok(()) };
        let Unsynced { journal, database } = std::mem::take(&mut writing.unsynced);
        if journal {
            writing.journal.sync().map_err(|error| failed(&writing.name, "syncing", &error))?;
        }
        if database { self.shared.database.sync() } else { Ok(()) }
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        self.shared.database.load_head()
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        self.with_writing(|writing| writing.check_in_place())?;
        self.shared.database.save_head(head)
    }

    /// Has everything drained first, and empties the journal. Where that fails, the journal keeps what it has.
    fn close(&self) -> Result<(), BackendError> {
        let closed = lock(&self.writing).take().map_or(Ok(()), |writing| self.shared.end(writing));
        self.shared.database.close().and(closed)
    }
}

impl<B> Drop for Journaled<B> {
    fn drop(&mut self) {
        // Of a log that was closed nothing is left; of one that was refused the thread that drains is, which has the database.
        if let Some(writing) = lock(&self.writing).take() {
            self.shared.end_draining(writing);
        }
    }
}

#[cfg(test)]
mod tests;

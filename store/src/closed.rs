//! A log that was closed in order, read where it lies.
//!
//! Whoever wants to write it need not wait for whoever reads it. So no lock is held: after each read, whether anybody has
//! opened the log meanwhile. If so, what was read counts for nothing, and is asked of whoever has the log now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use crate::backend::indexed::Indexed;
use crate::backend::journal;
use crate::backend::sled_file::{SledFile, Unreadable};
use crate::copy::{self, open_copy, wait_for_database};
use crate::core::Core;
use crate::core::open::open_for_reading;
use crate::core::recover::Care;
use crate::directory::{creation, head_file, lock_file};
use crate::log::{Erasure, LogHead, LogReader, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::reader::open_reader;
use crate::record::{Hash, Record, StreamId};
use crate::sync::{read_lock, write_lock};

/// How often a log may be opened by others during one read.
const TRIES: usize = 100;

/// What changes when somebody opens a log: he names himself in the lock file and saves the head anew, before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    lock: Option<(u64, SystemTime)>,
    head: Option<(u64, SystemTime)>,
}

impl Stamp {
    fn of(directory: &Path) -> Self {
        let lock = fs::metadata(directory.join(lock_file::NAME)).ok();
        let head = fs::metadata(directory.join(head_file::NAME)).ok();
        Self {
            lock: lock.and_then(|file| Some((file.len(), file.modified().ok()?))),
            head: head.and_then(|file| Some((file.ino(), file.modified().ok()?))),
        }
    }
}

/// A log that was found in order.
pub(crate) struct InPlace {
    core: Core<Indexed<SledFile>>,
    stamp: Stamp,
}

/// Takes up a log that nobody has, for reading, if it was closed in order and is found so. Whoever calls this holds the
/// log's lock, shared.
pub(crate) fn in_place(path: &Path) -> Option<InPlace> {
    let in_order = lock_file::was_left_in_order(path)
        && journal::is_removed(path)
        && matches!(creation::is_unfinished(path), Ok(false));
    if !in_order || creation::check_made(path).is_err() {
        return None;
    }
    let _database_lock = wait_for_database(path).ok()?;
    let stamp = Stamp::of(path);
    let file = match open_indexed(path) {
        Ok(file) => file,
        Err(why) => {
            tracing::debug!(log = %path.display(), why, "not read where it lies");
            return None;
        }
    };
    match open_for_reading(file, path.display().to_string(), Care::Groups) {
        Ok(core) => Some(InPlace { core, stamp }),
        Err(unfit) => {
            tracing::debug!(log = %path.display(), ?unfit, "not read where it lies");
            None
        }
    }
}

/// The database of a log, and its segments as far as the database leads into them; else why they are not read.
fn open_indexed(path: &Path) -> Result<Indexed<SledFile>, String> {
    let file = SledFile::open(path).map_err(|(Unreadable::Strange(why) | Unreadable::Failed(why))| why)?;
    let indexed = Indexed::over(file, path, path).map_err(|error| error.to_string())?;
    indexed.check_end().and_then(|()| indexed.open_all()).map_err(|error| error.to_string())?;
    Ok(indexed)
}

/// A reader of a log that was closed in order, and of what becomes of it.
pub(crate) struct ClosedLog {
    path: PathBuf,
    now: RwLock<Arc<Now>>,
    /// Whether it was tried to open a copy for what was found.
    doubted: AtomicBool,
}

/// How the log is read now.
enum Now {
    InPlace(Box<InPlace>),
    /// Somebody has opened it since.
    Reopened(Box<dyn LogReader>),
}

impl ClosedLog {
    pub(crate) fn new(path: &Path, log: InPlace) -> Self {
        Self {
            path: path.to_owned(),
            now: RwLock::new(Arc::new(Now::InPlace(Box::new(log)))),
            doubted: AtomicBool::new(false),
        }
    }

    /// Something is not as it should be: sled is to say so, too. Whether it can be asked; where it cannot open the log at
    /// all, the rest is still read from where it lies.
    fn doubt(&self) -> bool {
        if self.doubted.swap(true, Ordering::AcqRel) {
            return false;
        }
        let copied = lock_file::acquire_shared(&self.path).and_then(|lock| {
            let copied = copy::copy(&self.path);
            drop(lock);
            open_copy(&self.path, copied?, Care::Groups)
        });
        match copied {
            Ok(copied) => {
                *write_lock(&self.now) = Arc::new(Now::Reopened(Box::new(copied)));
                true
            }
            Err(error) => {
                tracing::debug!(log = %self.path.display(), %error, "no copy of the damaged log can be opened");
                false
            }
        }
    }

    fn ask<T>(&self, ask: impl Fn(&dyn LogReader) -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 0..TRIES {
            let now = Arc::clone(&read_lock(&self.now));
            match &*now {
                Now::InPlace(log) => {
                    let answer = ask(&log.core);
                    if log.stamp == Stamp::of(&self.path) {
                        match answer {
                            Err(error) if error.is_damage() && self.doubt() => continue,
                            answer => return answer,
                        }
                    }
                }
                Now::Reopened(reader) => match ask(&**reader) {
                    // Whoever had it has closed it again.
                    Err(ReadError::Gone) => {}
                    answer => return answer,
                },
            }
            let reader = open_reader(&self.path).map_err(|error| ReadError::Io(error.to_string()))?;
            *write_lock(&self.now) = Arc::new(Now::Reopened(reader));
        }
        Err(ReadError::Gone)
    }
}

impl LogReader for ClosedLog {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.ask(|reader| reader.read(stream, from, limit))
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.ask(|reader| reader.stream(stream))
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        self.ask(|reader| reader.streams(filter))
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.ask(|reader| reader.tail(from, limit))
    }

    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        self.ask(|reader| reader.streams_since(from, limit))
    }

    fn hashes(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        self.ask(|reader| reader.hashes(from, limit))
    }

    fn erasures(&self, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
        self.ask(|reader| reader.erasures(stream))
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        self.ask(|reader| reader.definition(fingerprint))
    }

    fn head(&self) -> Result<LogHead, ReadError> {
        self.ask(|reader| reader.head())
    }

    /// One that somebody has opened since is waited for.
    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        self.ask(|reader| reader.wait(after, patience))
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

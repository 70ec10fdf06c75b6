//! A reader that stays with its log while other processes open, close and change it.
//!
//! A reader takes no lock: a process that wants to write never waits for it. So each answer is checked for what happened
//! meanwhile. A process that closed the log answers no more; a log that a process has opened since is not read in place any
//! more. In both cases the answer counts for nothing, the log is opened again, and the question is asked again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use crate::closed::{self, InPlace, Stamp};
use crate::copy::{self, CopiedLog, open_copy};
use crate::core::recover::Care;
use crate::directory::lock_file;
use crate::log::{Erasure, LogHead, LogReader, Notices, OpenError, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::reader::{Reached, reach};
use crate::record::{Hash, Record, StreamId};
use crate::socket::client::SocketReader;
use crate::sync::{lock, read_lock, write_lock};

/// How often a log may be opened or closed by others during one read.
const TRIES: usize = 100;

/// What a reader says when others opened and closed the log in each of its [`TRIES`].
pub(crate) const RESTLESS: &str =
    "other processes open and close it faster than it can be read; read it again when they are done";

/// Reads the log at a path, whichever process holds it now.
pub(crate) struct ReopeningReader {
    path: PathBuf,
    access: RwLock<Arc<Access>>,
    /// Held while the log is opened again: of many threads, one opens it.
    reopening: Mutex<()>,
    /// Whether a copy was tried for damage that was found in place.
    doubted: AtomicBool,
}

/// How the log is read.
enum Access {
    /// By asking the process that holds it.
    Live(SocketReader),
    /// In place, as long as the stamp is the same.
    InPlace(Box<InPlace>, Stamp),
    /// Through a copy of the index and the segments in place, as long as the stamp is the same.
    Copied(Box<CopiedLog>, Stamp),
}

impl Access {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = match reach(path)? {
            Reached::Live(reader) => return Ok(Self::Live(reader)),
            Reached::Unheld(lock) => lock,
        };
        // Nobody changes it while the lock is held.
        let stamp = Stamp::of(path);
        if let Some(log) = closed::in_place(path) {
            return Ok(Self::InPlace(Box::new(log), stamp));
        }
        let copied = copy::copy(path)?;
        drop(lock);
        Ok(Self::Copied(Box::new(open_copy(path, copied, Care::Groups)?), stamp))
    }

    fn reader(&self) -> &dyn LogReader {
        match self {
            Self::Live(reader) => reader,
            Self::InPlace(log, _) => &**log,
            Self::Copied(log, _) => &**log,
        }
    }

    /// Whether an answer is one of the log as it is: no process closed or opened it before the answer was whole.
    fn still_holds<T>(&self, path: &Path, answer: &Result<T, ReadError>) -> bool {
        match self {
            Self::Live(_) => !matches!(answer, Err(ReadError::Gone)),
            Self::InPlace(_, stamp) | Self::Copied(_, stamp) => *stamp == Stamp::of(path),
        }
    }
}

impl ReopeningReader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let access = RwLock::new(Arc::new(Access::open(path)?));
        Ok(Self { path: path.to_owned(), access, reopening: Mutex::new(()), doubted: AtomicBool::new(false) })
    }

    fn ask<T>(&self, ask: impl Fn(&dyn LogReader) -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 0..TRIES {
            let access = Arc::clone(&read_lock(&self.access));
            let answer = ask(access.reader());
            if !access.still_holds(&self.path, &answer) {
                self.reopen(&access)?;
                continue;
            }
            match (&*access, answer) {
                (Access::InPlace(..), Err(error)) if error.is_damage() && self.doubt() => {}
                (_, answer) => return answer,
            }
        }
        Err(ReadError::Io(RESTLESS.to_owned()))
    }

    /// Opens the log again, unless another thread has done so.
    fn reopen(&self, stale: &Arc<Access>) -> Result<(), ReadError> {
        let _reopening = lock(&self.reopening);
        if Arc::ptr_eq(&read_lock(&self.access), stale) {
            let access = Access::open(&self.path).map_err(|error| match error {
                OpenError::Damaged { what, .. } => ReadError::DamagedLog(what),
                other => ReadError::Io(other.to_string()),
            })?;
            *write_lock(&self.access) = Arc::new(access);
            self.doubted.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Has damage that was found in place confirmed by sled, in a copy. Returns whether there is one to ask; where sled cannot
    /// open the log at all, the rest is still read in place.
    fn doubt(&self) -> bool {
        if self.doubted.swap(true, Ordering::AcqRel) {
            return false;
        }
        let copied = lock_file::acquire_shared(&self.path).and_then(|lock| {
            let (stamp, copied) = (Stamp::of(&self.path), copy::copy(&self.path));
            drop(lock);
            Ok(Access::Copied(Box::new(open_copy(&self.path, copied?, Care::Groups)?), stamp))
        });
        match copied {
            Ok(copied) => {
                *write_lock(&self.access) = Arc::new(copied);
                true
            }
            Err(error) => {
                tracing::debug!(log = %self.path.display(), %error, "no copy of the damaged log can be opened");
                false
            }
        }
    }
}

impl LogReader for ReopeningReader {
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

    /// Waits for the process that holds the log now. A log that no process holds gives its end at once.
    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        self.ask(|reader| reader.wait(after, patience))
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        self.ask(|reader| reader.notices())
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

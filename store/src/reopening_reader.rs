//! A reader that follows its log while other processes open, close and change it.
//!
//! A reader takes no lock, so a writer never waits for it. Instead, it checks after each answer whether the log changed
//! in the meantime: the process that held the log may have closed it, or a process may have opened a log that was read
//! directly. In both cases the reader discards the answer, reopens the log, and asks again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use crate::core::Core;
use crate::core::open::HEAD;
use crate::directory::lock_file;
use crate::log::{Erasure, LogHead, LogReader, Notices, OpenError, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::merkle::Node;
use crate::reader::{LogState, open_unheld, probe};
use crate::record::{Record, StreamId};
use crate::socket::client::SocketReader;
use crate::sync::{lock, read_lock, write_lock};

/// Identifies a state of a log's files. Opening a log for writing changes it: that writes the lock file and the head
/// before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    lock: Option<(u64, SystemTime)>,
    head: Option<(u64, SystemTime)>,
}

impl Stamp {
    pub(crate) fn of(directory: &Path) -> Self {
        let lock = fs::metadata(directory.join(lock_file::NAME)).ok();
        let head = fs::metadata(directory.join(HEAD)).ok();
        Self {
            lock: lock.and_then(|file| Some((file.len(), file.modified().ok()?))),
            head: head.and_then(|file| Some((file.ino(), file.modified().ok()?))),
        }
    }
}

/// How often other processes may open or close a log during one read.
const TRIES: usize = 100;

/// The error text if the log was opened or closed in each of the [`TRIES`].
pub(crate) const TOO_MANY_CHANGES: &str =
    "other processes open and close it faster than it can be read; read it again when they are done";

/// Reads the log at a path, whichever process holds it.
pub(crate) struct ReopeningReader {
    path: PathBuf,
    source: RwLock<Arc<Source>>,
    /// Held while the log is reopened, so that only one thread does it.
    reopening: Mutex<()>,
}

/// How the log is read.
enum Source {
    /// Through the process that holds it.
    Live(SocketReader),
    /// Directly, valid as long as the stamp does not change.
    Unheld(Box<Core>, Stamp),
}

impl Source {
    fn open(path: &Path) -> Result<Self, OpenError> {
        loop {
            // The lock is not held during the scan: a process that opens the log for writing must not wait for a
            // reader.
            let stamp = match probe(path)? {
                LogState::Live(reader) => return Ok(Self::Live(reader)),
                LogState::Unheld(_lock) => Stamp::of(path),
            };
            let opened = open_unheld(path);
            if stamp == Stamp::of(path) {
                return Ok(Self::Unheld(Box::new(opened?), stamp));
            }
        }
    }

    fn reader(&self) -> &dyn LogReader {
        match self {
            Self::Live(reader) => reader,
            Self::Unheld(log, _) => &**log,
        }
    }

    /// Whether an answer is valid: no process closed or opened the log before it was complete.
    fn is_valid<T>(&self, path: &Path, answer: &Result<T, ReadError>) -> bool {
        match self {
            Self::Live(_) => !matches!(answer, Err(ReadError::Gone)),
            Self::Unheld(_, stamp) => *stamp == Stamp::of(path),
        }
    }
}

impl ReopeningReader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let source = RwLock::new(Arc::new(Source::open(path)?));
        Ok(Self { path: path.to_owned(), source, reopening: Mutex::new(()) })
    }

    fn query<T>(&self, query: impl Fn(&dyn LogReader) -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 0..TRIES {
            let source = Arc::clone(&read_lock(&self.source));
            let answer = query(source.reader());
            if source.is_valid(&self.path, &answer) {
                return answer;
            }
            self.reopen(&source)?;
        }
        Err(ReadError::Io(TOO_MANY_CHANGES.to_owned()))
    }

    /// Reopens the log, unless another thread has done so.
    fn reopen(&self, stale: &Arc<Source>) -> Result<(), ReadError> {
        let _reopening = lock(&self.reopening);
        if Arc::ptr_eq(&read_lock(&self.source), stale) {
            let source = Source::open(&self.path).map_err(|error| match error {
                OpenError::Damaged { what, .. } => ReadError::DamagedLog(what),
                other => ReadError::Io(other.to_string()),
            })?;
            *write_lock(&self.source) = Arc::new(source);
        }
        Ok(())
    }
}

impl LogReader for ReopeningReader {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.query(|reader| reader.read(stream, from, limit))
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.query(|reader| reader.stream(stream))
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        self.query(|reader| reader.streams(filter))
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.query(|reader| reader.tail(from, limit))
    }

    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        self.query(|reader| reader.streams_since(from, limit))
    }

    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        self.query(|reader| reader.tree(from, limit))
    }

    fn erasures(&self, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
        self.query(|reader| reader.erasures(stream))
    }

    fn definition(&self, fingerprint: crate::record::Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        self.query(|reader| reader.definition(fingerprint))
    }

    fn head(&self) -> Result<LogHead, ReadError> {
        self.query(|reader| reader.head())
    }

    /// Waits on the process that holds the log now. Without one, returns at once.
    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        self.query(|reader| reader.wait(after, patience))
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        self.query(|reader| reader.notices())
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

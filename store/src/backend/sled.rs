//! sled, used in the one way that was measured to keep what it acknowledged.
//!
//! - `flush` alone does not sync on Linux: it leaves metadata and the drive's cache out. So [`Backend::sync`] is our own
//!   fdatasync of sled's data file (a sync is per inode, so any descriptor of it does).
//! - Large leaves go to files that nobody syncs. So no value is longer than 4 KiB (checked in [`Backend::apply`]).
//! - Damage can make it panic. So everything that asks it something runs under `catch_unwind`, and so does letting go of
//!   it: at its end sled unwraps a last sync.
//! - A write that fails on one of its threads can leave it asleep for ever. See [`patience`](super::patience).

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ::bytes::Bytes;

use super::patience::Patience;
use super::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::descriptors::reserve_standard_streams;
use crate::directory::files::{self, Access};
use crate::directory::{head_file, is_snapshot};
use crate::sync::{read_lock, write_lock};
use crate::threads;

/// The file of a directory that sled keeps its data in.
pub(crate) const DATA_FILE: &str = "db";

/// A sled database in a directory, and the head file beside it.
pub(crate) struct SledBackend {
    database: RwLock<Option<::sled::Db>>,
    /// Wakes it where it sleeps for ever; `None` once it was closed.
    patience: RwLock<Option<Patience>>,
    /// Our own descriptor of sled's data file, to sync it with.
    data: File,
    directory: PathBuf,
    /// What it is called in messages.
    name: PathBuf,
}

/// Why sled cannot be opened.
#[derive(Debug)]
pub(crate) enum SledOpenError {
    /// Somebody (perhaps a process that is just ending) has its lock.
    Busy,
    /// The operating system refused.
    Io(std::io::Error),
    /// What is there cannot be read.
    Damaged(String),
}

impl SledBackend {
    /// Opens, or makes, the database in a directory. In messages it has another name where it is a copy.
    pub(crate) fn open(directory: &Path, name: &Path, cache_capacity: u64) -> Result<Self, SledOpenError> {
        let database = open_database(directory, cache_capacity)?;
        let opened = give_to_owner(directory)
            .and_then(|()| files::to_read(&directory.join(DATA_FILE)))
            .and_then(|data| Patience::with(database.clone()).map(|patience| (data, patience)));
        match opened {
            Ok((data, patience)) => Ok(Self {
                database: RwLock::new(Some(database)),
                patience: RwLock::new(Some(patience)),
                data,
                directory: directory.to_owned(),
                name: name.to_owned(),
            }),
            Err(error) => {
                let_go(database, directory);
                Err(SledOpenError::Io(error))
            }
        }
    }

    /// Has something written, of which only one is at a time.
    fn write(
        &self,
        doing: &str,
        work: impl FnOnce(&::sled::Db) -> Result<(), ::sled::Error>,
    ) -> Result<(), BackendError> {
        match read_lock(&self.patience).as_ref() {
            Some(patience) => patience.during(|| self.with(doing, work)),
            None => Err(BackendError::Closed),
        }
    }

    fn with<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&::sled::Db) -> Result<T, ::sled::Error>,
    ) -> Result<T, BackendError> {
        let guard = read_lock(&self.database);
        let database = guard.as_ref().ok_or(BackendError::Closed)?;
        match catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(doing, error)),
            // The text is sled's, for those who look into it.
            Err(panic) => Err(BackendError::Damaged(format!(
                "{doing} {}: the database gave up: {}",
                self.name.display(),
                panic_text(&*panic)
            ))),
        }
    }

    fn failed(&self, doing: &str, error: ::sled::Error) -> BackendError {
        let place = self.name.display();
        match error {
            ::sled::Error::Io(error) => BackendError::Failed(format!("{doing} {place}: {}", system_error(error))),
            ::sled::Error::Corruption { .. } => {
                BackendError::Damaged(format!("{doing} {place}: a checksum of the database does not fit"))
            }
            other => BackendError::Failed(format!("{doing} {place}: {other}")),
        }
    }
}

/// The other file that sled makes, and its directory.
const OTHERS: [&str; 2] = ["conf", "blobs"];

/// Makes what sled would make in a new database, for those alone whom the log is for: sled asks nobody for whom it makes files.
fn prepare(directory: &Path) -> io::Result<()> {
    let access = Access::of(directory)?;
    let is_there = |made: io::Result<()>| match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    is_there(files::create_directory(&directory.join("blobs"), access))?;
    ["conf", DATA_FILE].iter().try_for_each(|name| is_there(files::create(&directory.join(name), access).map(drop)))
}

/// Gives what sled has made to those whom the log is for.
fn give_to_owner(directory: &Path) -> io::Result<()> {
    let access = Access::of(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_snapshot(&name) || name == DATA_FILE || OTHERS.iter().any(|other| name == *other) {
            files::give(&entry.path(), access)?;
        }
    }
    Ok(())
}

/// The threads that sled keeps for all databases of a process, from the first on.
const POOL: usize = 7;

/// The threads that one open log has beside those: sled's that flushes, the one that looks after sled, the one that drains, the
/// log's writer, the one that takes readers, and for a moment one that lets go of a database.
const OF_A_LOG: usize = 6;

/// The process in which sled has its threads; 0 before the first database.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// That sled can work in this process: it waits for ever for threads that it could not start, and for those that a fork does not
/// have.
pub(crate) fn check_process() -> io::Result<()> {
    let this = std::process::id();
    match STARTED_IN.load(Ordering::SeqCst) {
        0 => threads::check(POOL + OF_A_LOG)?,
        process if process == this => return threads::check(OF_A_LOG),
        parent => {
            return Err(io::Error::other(format!(
                "this process is a fork of process {parent}, which had opened a log before, and the threads that work on one \
                 are missing in a fork. Fork before the first log is opened, or start the process anew (with multiprocessing: \
                 the start method 'spawn' or 'forkserver')"
            )));
        }
    }
    STARTED_IN.store(this, Ordering::SeqCst);
    Ok(())
}

fn open_database(directory: &Path, cache_capacity: u64) -> Result<::sled::Db, SledOpenError> {
    check_process()
        .and_then(|()| reserve_standard_streams())
        .and_then(|()| prepare(directory))
        .map_err(SledOpenError::Io)?;
    let config = ::sled::Config::new()
        .path(directory)
        .cache_capacity(cache_capacity)
        // It also drives sled's garbage collection.
        .flush_every_ms(Some(500));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|panic| SledOpenError::Damaged(panic_text(&*panic)))?
        .map_err(classify)
}

/// Lets sled write a snapshot of where everything is in a database that was closed: it does so at an open, and only then.
/// The next open is the faster for it. And where the database is damaged, what lies elsewhere can still be read: without
/// a snapshot sled reads it from the beginning, and no further than the first damaged place.
pub(crate) fn write_snapshot(directory: &Path, cache_capacity: u64) {
    match open_database(directory, cache_capacity) {
        Ok(database) => {
            let_go(database, directory);
            if let Err(error) = give_to_owner(directory) {
                tracing::warn!(directory = %directory.display(), %error, "the snapshot keeps its mode");
            }
        }
        Err(error) => tracing::warn!(directory = %directory.display(), ?error, "no snapshot could be written"),
    }
}

/// The system's error, in its own words: sled keeps the first one and passes on a text of its fields, such as
/// `Os { code: 28, kind: StorageFull, message: "No space left on device" }`.
fn system_error(error: io::Error) -> io::Error {
    let code = error
        .get_ref()
        .map(ToString::to_string)
        .and_then(|text| text.strip_prefix("Os { code: ")?.split_once(',').and_then(|(code, _)| code.parse().ok()));
    code.map_or(error, io::Error::from_raw_os_error)
}

/// How long sled may take to let go of a database. All that was acknowledged is on the disk by then.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Lets go of a database: it flushes, and where that fails it may panic, or wait for ever.
fn let_go(database: ::sled::Db, directory: &Path) {
    let (done, waiting) = crossbeam_channel::bounded(1);
    let let_go = move || {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(database)));
        // Nobody waits any more where it took too long.
        let _ = done.send(dropped.is_ok());
    };
    // Where there can be no thread the closure is dropped, and the database with it.
    let spawned = catch_unwind(AssertUnwindSafe(|| {
        thread::Builder::new().name("cloacina-letting-go".to_owned()).spawn(let_go).is_ok()
    }));
    if !spawned.unwrap_or(false) || waiting.recv_timeout(LETTING_GO) != Ok(true) {
        tracing::warn!(directory = %directory.display(), "the database could not be closed in order");
    }
}

fn classify(error: ::sled::Error) -> SledOpenError {
    match error {
        // sled wraps the refused flock in an error of its own making.
        ::sled::Error::Io(error)
            if error.kind() == std::io::ErrorKind::WouldBlock
                || error.to_string().contains("could not acquire lock") =>
        {
            SledOpenError::Busy
        }
        ::sled::Error::Io(error) => SledOpenError::Io(system_error(error)),
        ::sled::Error::Corruption { .. } => SledOpenError::Damaged("a checksum does not fit".to_owned()),
        other => SledOpenError::Damaged(other.to_string()),
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it could not be read".to_owned())
}

impl Backend for SledBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.with("reading", |database| Ok(database.get(key)?.map(Bytes::from_owner)))
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        if range.from >= range.below {
            return Ok(Vec::new());
        }
        self.with("reading", |database| {
            let entries = database.range(&range.from[..]..&range.below[..]);
            let copy = |entry: Result<(::sled::IVec, ::sled::IVec), ::sled::Error>| {
                entry.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value)))
            };
            match direction {
                Direction::Up => entries.take(limit).map(copy).collect(),
                Direction::Down => entries.rev().take(limit).map(copy).collect(),
            }
        })
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        changes.check_lengths()?;
        let mut batch = ::sled::Batch::default();
        for (key, value) in changes.iter() {
            match value {
                Some(value) => batch.insert(&key[..], &value[..]),
                None => batch.remove(&key[..]),
            }
        }
        self.write("writing", |database| database.apply_batch(batch))
    }

    fn write_out(&self) -> Result<(), BackendError> {
        self.write("flushing", |database| database.flush().map(drop))
    }

    fn sync(&self) -> Result<(), BackendError> {
        self.data
            .sync_data()
            .map_err(|error| BackendError::Failed(format!("syncing {}: {error}", self.name.join(DATA_FILE).display())))
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        head_file::load(&self.directory).map_err(|error| BackendError::Failed(error.to_string()))
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        head_file::save(&self.directory, head).map_err(|error| BackendError::Failed(error.to_string()))
    }

    fn close(&self) -> Result<(), BackendError> {
        // First, for it has the database too.
        drop(write_lock(&self.patience).take());
        if let Some(database) = write_lock(&self.database).take() {
            let_go(database, &self.directory);
        }
        Ok(())
    }
}

impl Drop for SledBackend {
    fn drop(&mut self) {
        // It cannot fail.
        let _ = self.close();
    }
}

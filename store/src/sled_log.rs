//! A log in a directory: segments, an index in sled, a writer thread, a lock, and a socket for readers.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use rand::RngCore;

use crate::changes;
use crate::core::Core;
use crate::core::change::Work;
use crate::core::open::{LoadedLog, WriterOptions, create, load, load_head, open_for_writing};
use crate::core::scan::LoadError;
use crate::core::writer::{Job, Writer};
use crate::descriptors::reserve_standard_streams;
use crate::directory::detect::{Presence, detect};
use crate::directory::lock_file::{self, DirectoryLock, host_name};
use crate::directory::open_directory::OpenDirectory;
use crate::directory::{creation, io_error};
use crate::disk::Disk;
use crate::disk::directory::DirectoryDisk;
use crate::index::process;
use crate::index::store::{self, IndexError, Store};
use crate::keeper::{Change, ChangeError, Changed, Keeper};
use crate::layout::head::{Head, LogId};
use crate::leftover;
use crate::log::{Acknowledge, AppendError, Batch, Durability, EventLog, LogReader, OpenError};
use crate::log_event::Opened;
use crate::record::{StreamId, Timestamp};
use crate::segments::appender::MAX_SEGMENT;
use crate::socket::server::Server;
use crate::sync::lock;
use crate::writer_thread::{self, Message};

/// Options for opening a log in a directory.
///
/// # Examples
/// ```
/// use cloacina_store::Options;
/// use cloacina_store::log::Durability;
///
/// let options = Options { durability: Durability::Interval(20), ..Options::default() };
/// assert!(options.create);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// When an append is acknowledged.
    pub durability: Durability,
    /// Whether to create a log if there is none.
    pub create: bool,
    /// The size of sled's cache for the index in bytes (sled overshoots it about twofold).
    pub cache_capacity: u64,
    /// Whether other processes can read the log while this one holds it.
    pub serve_readers: bool,
    /// The clock for the log's own events; the system clock by default. For tests.
    pub clock: Option<LogClock>,
}

/// A clock for the log's own events: opened, changed, closed.
#[derive(Clone)]
pub struct LogClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl LogClock {
    /// Creates a clock from a function that returns the current time.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl std::fmt::Debug for LogClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogClock({:?})", (self.0)())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            create: true,
            cache_capacity: 32 * 1024 * 1024,
            serve_readers: true,
            clock: None,
        }
    }
}

/// A log in a directory, open for writing. No other process can write to it until it is closed or dropped.
///
/// Dropping it without [`EventLog::close`] writes all appends, but records no clean shutdown.
pub struct SledLog {
    core: Arc<Core>,
    path: PathBuf,
    /// `None` after the log was closed.
    running: Mutex<Option<Running>>,
    messages: Sender<Message>,
}

/// The parts to shut down at the end, in this order.
struct Running {
    server: Option<Server>,
    writer: JoinHandle<()>,
    lock: DirectoryLock,
}

/// Opens the log in a directory for writing, or creates it.
///
/// # Errors
/// [`OpenError`]. Nothing was created if the path is taken, and nothing changed in a damaged log.
///
/// # Examples
/// ```
/// use cloacina_store::log::{EventLog, LogReader};
/// use cloacina_store::{Options, open};
///
/// let directory = tempfile::tempdir()?;
/// let log = open(&directory.path().join("log"), &Options::default())?;
/// assert_eq!(log.head()?.position, 1, "it has recorded that it was opened");
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(path: &Path, options: &Options) -> Result<SledLog, OpenError> {
    let failed = |doing: &'static str| move |error: std::io::Error| io_error(path, doing, &error);
    reserve_standard_streams().map_err(failed("reserving the standard streams"))?;
    let found = detect(path)?;
    // Before anything is created or locked.
    process::check(process::LOG_THREADS).map_err(failed("starting its threads"))?;
    if found == Presence::Absent {
        if !options.create {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        creation::make_directory(path)?;
    }
    let mut tries = TRIES;
    loop {
        let directory = OpenDirectory::open(path).map_err(failed("opening the directory"))?;
        match open_in(&directory, path, options) {
            // The log was rewritten and swapped while this process waited for its lock.
            Err(_) if tries > 0 && directory.check_in_place().is_err() => tries -= 1,
            opened => return opened.map_err(|error| error.with_path(directory.path(), path)),
        }
    }
}

/// How often the open is retried if the directory is replaced in the meantime.
const TRIES: usize = 3;

/// Opens the log in an open directory. `name` is the user's path of it; whatever is at that path now is not touched.
fn open_in(directory: &OpenDirectory, name: &Path, options: &Options) -> Result<SledLog, OpenError> {
    let path = directory.path();
    // If several processes find no log, one creates it and the others open it.
    let lock = lock_file::acquire(path, |path| {
        directory.check_in_place().map_err(|error| io_error(path, "opening it", &error))?;
        if detect(path)? == Presence::Absent { creation::begin(path) } else { Ok(()) }
    })?;
    remove_leftover(name);
    let disk: Arc<dyn Disk> = Arc::new(DirectoryDisk::writing(directory, &lock));
    let refuse = |error: LoadError| error.at(path);
    let head = if creation::is_unfinished(path)? {
        creation::clear(path)?;
        creation::sync_parents(name)?;
        create(&disk, new_id()).map_err(refuse)?
    } else {
        load_head(&*disk).map_err(refuse)?.ok_or_else(|| creation::missing_head(path))?
    };
    let found = load_with_index(&disk, path, name, &head, options).map_err(refuse)?;
    let writer_options = WriterOptions {
        location: name.display().to_string(),
        durability: options.durability,
        opened: Opened::new(host_name(), std::process::id(), options.durability),
        now: clock_fn(options.clock.clone()),
        max_segment: MAX_SEGMENT,
    };
    let (core, writer) = open_for_writing(&disk, found, writer_options).map_err(refuse)?;
    creation::finish(path)?;
    start((directory, name), options, core, writer, lock)
}

/// A new, unique log id.
pub(crate) fn new_id() -> LogId {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    LogId(id)
}

/// Loads a log with its index if that is usable, otherwise with a rebuilt one.
fn load_with_index(
    disk: &Arc<dyn Disk>,
    path: &Path,
    name: &Path,
    head: &Head,
    options: &Options,
) -> Result<LoadedLog, LoadError> {
    let directory = path.join(store::DIRECTORY);
    let is_new = std::fs::read_dir(&directory).map_or(true, |mut files| files.next().is_none());
    match open_index(&directory, head, options.cache_capacity) {
        Ok(store) if store.end().tip.position > 0 => match load(disk, head.clone(), Some(store), true) {
            // The index may be the part that is wrong.
            Err(LoadError::Index(why) | LoadError::Damaged(why)) => warn_index_lost(name, &why),
            found => return found,
        },
        Ok(store) if is_new || head.tip.position == 0 => {
            if head.tip.position > 0 {
                warn_index_lost(name, "it is missing");
            }
            return load(disk, head.clone(), Some(store), true);
        }
        Ok(_) if head.closed => warn_index_lost(name, "it is empty"),
        // A killed process may not have flushed any of the index: no reason for a warning.
        Ok(_) => tracing::info!(log = %name.display(), "the index is empty; rebuilding it from the log"),
        Err(IndexError(why)) => warn_index_lost(name, &why),
    }
    let failed = |error: std::io::Error| LoadError::Failed(format!("removing its index: {error}"));
    store::remove(&directory).map_err(failed)?;
    match Store::open(&directory, head.log, options.cache_capacity) {
        Ok(store) => load(disk, head.clone(), Some(store), true),
        Err(IndexError(why)) => {
            tracing::warn!(log = %name.display(), why, "cannot create an index on disk; keeping it in memory");
            load(disk, head.clone(), None, true)
        }
    }
}

fn warn_index_lost(name: &Path, why: &str) {
    tracing::warn!(log = %name.display(), why, "the index cannot be used; rebuilding it from the log");
}

/// Opens the index of a log. After a clean close, the checksum of its files validates it; otherwise all entries are
/// counted.
fn open_index(directory: &Path, head: &Head, cache: u64) -> Result<Store, IndexError> {
    let is_unchanged = head.closed && head.index != 0 && store::checksum(directory).is_ok_and(|sum| sum == head.index);
    let store = Store::open(directory, head.log, cache)?;
    if !is_unchanged {
        store.check()?;
    }
    Ok(store)
}

/// Removes what an interrupted `compact` left beside the log. A failure does not prevent opening the log.
fn remove_leftover(name: &Path) {
    if let Err(error) = name.canonicalize().and_then(|log| leftover::remove(&log)) {
        tracing::warn!(log = %name.display(), %error, "cannot remove the directory that an interrupted compact left beside the log");
    }
}

/// Starts the threads.
fn start(
    (directory, name): (&OpenDirectory, &Path),
    options: &Options,
    core: Arc<Core>,
    writer: Writer,
    lock: DirectoryLock,
) -> Result<SledLog, OpenError> {
    let (messages, waiting) = crossbeam_channel::unbounded();
    let index = directory.path().join(store::DIRECTORY);
    let writer = spawn_writer(writer, waiting, options, index)
        .map_err(|error| io_error(name, "starting its writer thread", &error))?;
    let server = if options.serve_readers { serve((directory, name), &core, &messages) } else { None };
    Ok(SledLog { core, path: name.to_owned(), running: Mutex::new(Some(Running { server, writer, lock })), messages })
}

fn spawn_writer(
    writer: Writer,
    waiting: Receiver<Message>,
    options: &Options,
    index: PathBuf,
) -> std::io::Result<JoinHandle<()>> {
    let (durability, now) = (options.durability, clock_fn(options.clock.clone()));
    let checksum = move || store::checksum(&index).unwrap_or(0);
    thread::Builder::new()
        .name("cloacina-log".to_owned())
        .spawn(move || writer_thread::run(writer, &waiting, durability, now, checksum))
}

/// Starts the server for readers. A failure is worth a warning; the log opens all the same.
fn serve((directory, name): (&OpenDirectory, &Path), core: &Arc<Core>, messages: &Sender<Message>) -> Option<Server> {
    match Server::start(directory.path(), Arc::clone(core), messages.clone()) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(log = %name.display(), %error, "readers in other processes cannot be served while this process holds the log");
            None
        }
    }
}

/// A function that returns the time of a clock (by default the system's), but never a time before the log's last
/// record.
fn clock_fn(clock: Option<LogClock>) -> impl Fn(Timestamp) -> Timestamp {
    move |last| {
        let now = clock.as_ref().map_or_else(system_time, |LogClock(now)| now());
        now.max(last)
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl SledLog {
    /// The directory of the log.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Has the writer thread do a piece of work.
    pub(crate) fn work(&self, work: Work) -> Result<Changed, ChangeError> {
        changes::work(&self.messages, work)
    }

    /// Verifies the whole log, record by record. Appending continues in the meantime.
    #[must_use]
    pub fn verify(&self) -> crate::Verified {
        crate::core::verify::verify(&self.core)
    }

    /// Ends the threads, then releases the lock.
    fn shut_down(&self, running: Running, last: Message) -> thread::Result<()> {
        let Running { server, writer, lock } = running;
        self.core.tip_watch.close();
        if let Some(server) = server {
            server.stop();
        }
        // The send fails only if the thread has already ended.
        let _ = self.messages.send(last);
        // An acknowledgement that drops the log runs on the writer thread, which cannot join itself.
        let ended = if writer.thread().id() == thread::current().id() { Ok(()) } else { writer.join() };
        self.core.closed.store(true, Ordering::Release);
        self.core.index.close();
        if !self.core.failed.load(Ordering::Acquire)
            && let Err(error) = lock.clear_holder()
        {
            tracing::debug!(log = self.core.location(), %error, "the lock file still names this process");
        }
        ended
    }
}

impl LogReader for SledLog {
    crate::read_through!(self => self.core);
}

impl Keeper for SledLog {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        changes::on_thread(&self.messages, change)
    }
}

impl EventLog for SledLog {
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge) {
        self.append_all_then(vec![(batch, acknowledge)]);
    }

    fn append_all_then(&self, batches: Vec<(Batch, Acknowledge)>) {
        let jobs = batches.into_iter().map(|(batch, acknowledge)| Job::new(batch, acknowledge)).collect();
        // If the send fails, dropping the job acknowledges it with `Closed`.
        let _ = self.messages.send(Message::Append(jobs));
    }

    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        self.core.post(stream, notice);
    }

    fn flushes(&self) -> u64 {
        self.core.flushes.load(Ordering::Relaxed)
    }

    fn close(&self) -> Result<(), AppendError> {
        let Some(running) = lock(&self.running).take() else {
            return Ok(());
        };
        let (reply, closed) = crossbeam_channel::bounded(1);
        let ended = self.shut_down(running, Message::Close(reply));
        match (closed.try_recv(), ended) {
            (Ok(result), _) => result,
            (Err(_), _) => Err(AppendError::Failed("the writer thread ended without an answer".to_owned())),
        }
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        if let Some(running) = lock(&self.running).take() {
            // There is no caller to report an error to.
            let _ = self.shut_down(running, Message::Stop);
        }
    }
}

//! The log in a directory: sled, a writer thread, a lock, and a socket for readers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};

use crate::backend::indexed::Indexed;
use crate::backend::journal::{self, Found as FoundJournal};
use crate::backend::journaled::Journaled;
use crate::backend::sled::{self, DATA_FILE, SledBackend, SledOpenError};
use crate::backend::{Backend, BackendError};
use crate::changes;
use crate::copy;
use crate::core::Core;
use crate::core::change::Work;
use crate::core::open::open_for_writing;
use crate::core::recover::Unfit;
use crate::core::writer::{Job, Writer};
use crate::descriptors::reserve_standard_streams;
use crate::directory::lock_file::{self, DirectoryLock, LINGER, host_name};
use crate::directory::opened::OpenDirectory;
use crate::directory::{self, Found, Snapshots, creation, io_error};
use crate::keeper::{Change, ChangeError, Changed, Keeper};
use crate::leftover;
use crate::log::{Acknowledge, AppendError, Batch, Durability, EventLog, LogReader, OpenError, ReadError};
use crate::log_event::Opened;
use crate::record::{StreamId, Timestamp};
use crate::socket::server::Server;
use crate::sync::lock;
use crate::writer_thread::{self, Message};

/// How a log in a directory is opened.
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
    /// Whether a new log is made where there is none.
    pub create: bool,
    /// The bytes that sled may keep in memory of what is on the disk (it overshoots about twofold).
    pub cache_capacity: u64,
    /// Whether other processes may read while this one has the log.
    pub serve_readers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Sync, create: true, cache_capacity: 64 * 1024 * 1024, serve_readers: true }
    }
}

/// Where a log in a directory is kept.
pub(crate) type Disk = Journaled<Indexed<SledBackend>>;

/// A log in a directory, open for writing. Nobody else can write to it until it is closed or dropped.
///
/// Dropping it without [`EventLog::close`] writes what was appended, and leaves no note that it was closed in order.
pub struct SledLog {
    core: Arc<Core<Disk>>,
    directory: OpenDirectory,
    path: PathBuf,
    /// `None` once the log was closed.
    held: Mutex<Option<Held>>,
    messages: Sender<Message>,
    cache_capacity: u64,
}

/// The longest database that is tried in a copy after its process has died: copying it takes a fraction of a second.
const LONGEST_TRIED: u64 = 256 * 1024 * 1024;

/// What is let go of at the end, in this order.
struct Held {
    server: Option<Server>,
    writer: JoinHandle<()>,
    lock: DirectoryLock,
}

/// Opens the log in a directory for writing, or makes it.
///
/// # Errors
/// [`OpenError`]; nothing is made where something else stands. Of a log that is damaged nothing is changed where that can
/// be told without sled, or from a copy, in which a log whose process died is tried first if it is not too large.
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
    let cannot = |doing: &'static str| move |error: std::io::Error| io_error(path, doing, &error);
    reserve_standard_streams().map_err(cannot("reserving the standard streams"))?;
    let found = directory::look(path)?;
    // Before anything is made or locked.
    sled::check_process().map_err(cannot("starting its threads"))?;
    if found == Found::Nothing {
        if !options.create {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        creation::make_directory(path)?;
    }
    let mut tries = TRIES;
    loop {
        let directory = OpenDirectory::open(path).map_err(cannot("opening the directory"))?;
        match open_in(&directory, path, options) {
            // While its lock was waited for, the log was written anew.
            Err(_) if tries > 0 && directory.check_in_place(None).is_err() => tries -= 1,
            opened => return opened.map_err(|error| error.of(directory.path(), path)),
        }
    }
}

/// How often a directory is opened that is replaced meanwhile.
const TRIES: usize = 3;

/// Opens the log in an open directory. Its path is what the user calls it; whatever stands there now, nothing of it is touched.
fn open_in(directory: &OpenDirectory, name: &Path, options: &Options) -> Result<SledLog, OpenError> {
    let path = directory.path();
    // Of processes that find no log at once, one makes it, and all others find it.
    let lock = lock_file::acquire(path, |path| {
        directory.check_in_place(None).map_err(|error| io_error(path, "opening it", &error))?;
        if directory::look(path)? == Found::Nothing {
            creation::begin(path)?;
        }
        journal::prepare(path).map_err(|error| io_error(path, "preparing its journal", &error))
    })?;
    remove_leftover(name);
    let is_new = creation::is_unfinished(path)?;
    if is_new {
        creation::clear(path)?;
        creation::sync_parents(name)?;
    } else {
        creation::check_made(path)?;
        look_before_opening(path, &lock)?;
    }
    let backend = open_for_good(directory, name, options.cache_capacity, is_new || lock.was_left_in_order)?;
    // Also for sled's files that were lost and made anew; it costs an open little.
    creation::sync_files(path)?;
    let opened = Opened::new(host_name(), std::process::id(), options.durability);
    let location = name.display().to_string();
    let (core, writer) =
        open_for_writing(backend, location, options.durability, opened, now).map_err(|unfit| unfit.refuse(path))?;
    creation::finish(path)?;
    start((directory, name), options, core, writer, lock)
}

/// What a `compact` has left beside the log is no reason not to open it.
fn remove_leftover(name: &Path) {
    if let Err(error) = name.canonicalize().and_then(|log| leftover::remove(&log)) {
        tracing::warn!(log = %name.display(), %error, "what was left when the log was written anew is still beside it");
    }
}

/// Starts the threads.
fn start(
    (directory, name): (&OpenDirectory, &Path),
    options: &Options,
    core: Arc<Core<Disk>>,
    writer: Writer<Disk>,
    lock: DirectoryLock,
) -> Result<SledLog, OpenError> {
    let (messages, waiting) = crossbeam_channel::unbounded();
    let writer = spawn_writer(writer, waiting, options.durability)
        .map_err(|error| io_error(name, "starting its writer thread", &error))?;
    let server = if options.serve_readers { serve((directory, name), &core, &messages) } else { None };
    Ok(SledLog {
        core,
        directory: directory.clone(),
        path: name.to_owned(),
        held: Mutex::new(Some(Held { server, writer, lock })),
        messages,
        cache_capacity: options.cache_capacity,
    })
}

fn spawn_writer(
    writer: Writer<Disk>,
    waiting: Receiver<Message>,
    durability: Durability,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("cloacina-log".to_owned())
        .spawn(move || writer_thread::run(writer, &waiting, durability, now))
}

/// A log that cannot be read by others meanwhile is worth a warning, not a refusal.
fn serve(
    (directory, name): (&OpenDirectory, &Path),
    core: &Arc<Core<Disk>>,
    messages: &Sender<Message>,
) -> Option<Server> {
    match Server::start(directory.path(), Arc::clone(core), messages.clone()) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(log = %name.display(), %error, "readers cannot be served while this process has the log");
            None
        }
    }
}

/// What can be found out before sled opens the database. Where it finds an end that was not finished, it writes over what
/// lies behind; it takes damage for such an end, and what it cannot read too.
fn look_before_opening(path: &Path, lock: &DirectoryLock) -> Result<(), OpenError> {
    directory::read_through(path)?;
    let length = std::fs::metadata(path.join(DATA_FILE)).map_or(0, |database| database.len());
    if lock.was_left_in_order || length > LONGEST_TRIED {
        return Ok(());
    }
    match copy::try_in_a_copy(path) {
        // There may be no room for a copy, and that must not be in the way of opening the log.
        Err(error @ OpenError::Io { .. }) => {
            tracing::warn!(log = %path.display(), %error, "the log is opened without having been tried in a copy");
            Ok(())
        }
        tried => tried,
    }
}

/// Opens the database of a log to write to it, and brings into it what only the journal has.
fn open_for_good(
    directory: &OpenDirectory,
    name: &Path,
    cache_capacity: u64,
    was_left_in_order: bool,
) -> Result<Disk, OpenError> {
    let path = directory.path();
    let found = find_journal(path, was_left_in_order)?;
    let damaged = |what| OpenError::Damaged { path: path.to_owned(), what };
    // Before sled writes anything.
    if let Some(what) = found.damage.first() {
        return Err(damaged(what.clone()));
    }
    let cannot = |error: BackendError| Unfit::from(ReadError::from(error)).refuse(path);
    let database = Indexed::over(open_database(path, name, cache_capacity)?, path, name).map_err(cannot)?;
    database.check_end().map_err(cannot)?;
    let (journaled, damage) = Journaled::reading(database, found).map_err(cannot)?;
    if let Some(what) = damage.into_iter().next() {
        return Err(damaged(what));
    }
    journaled.begin(directory, name, |database, groups| database.begin(path, groups)).map_err(cannot)
}

/// What the journal in the directory of a log has.
pub(crate) fn find_journal(path: &Path, was_left_in_order: bool) -> Result<FoundJournal, OpenError> {
    FoundJournal::read(path, was_left_in_order).map_err(|error| io_error(path, "reading its journal", &error))
}

/// Opens the database of a log to write to it. A damaged snapshot is left out: sled reads it before anything else.
fn open_database(path: &Path, name: &Path, cache_capacity: u64) -> Result<SledBackend, OpenError> {
    let remove = |which| {
        directory::remove_snapshots(path, which).map_err(|error| io_error(path, "removing a snapshot of sled", &error))
    };
    remove(Snapshots::Unfinished)?;
    match open_sled(path, name, cache_capacity) {
        // The copy is opened without the snapshot, if need be. Where even that does not help, nothing is touched.
        Err(OpenError::Damaged { what, .. }) if copy::try_in_a_copy(path).is_ok() && remove(Snapshots::All)? => {
            tracing::warn!(log = %name.display(), what, "opening the log without sled's snapshot");
            open_sled(path, name, cache_capacity)
        }
        opened => opened,
    }
}

/// Opens sled in the directory of the log at a path, or of its copy. Its own lock can linger for a moment after the process
/// that held it has ended.
pub(crate) fn open_sled(directory: &Path, path: &Path, cache_capacity: u64) -> Result<SledBackend, OpenError> {
    let until = Instant::now() + LINGER;
    loop {
        match SledBackend::open(directory, path, cache_capacity) {
            Ok(backend) => return Ok(backend),
            Err(SledOpenError::Busy) if Instant::now() < until => {
                thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(SledOpenError::Busy) => {
                return Err(database_left_locked(directory, path));
            }
            Err(SledOpenError::Io(error)) => {
                return Err(io_error(path, "opening its database", &error));
            }
            Err(SledOpenError::Damaged(what)) => {
                let what = format!("its database cannot be read: {what}");
                return Err(OpenError::Damaged { path: path.to_owned(), what });
            }
        }
    }
}

/// The refusal of a log of which sled's own lock is held, while ours is free.
fn database_left_locked(directory: &Path, path: &Path) -> OpenError {
    match File::open(directory.join(DATA_FILE)) {
        Ok(database) => lock_file::left_locked(path, &database, 0),
        Err(error) => io_error(path, "opening its database", &error),
    }
}

/// The time by the system's clock, or the log's last where that is later.
fn now(last: Timestamp) -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).max(last)
}

impl SledLog {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Has the writer do a piece of work.
    pub(crate) fn work(&self, work: Work) -> Result<Changed, ChangeError> {
        changes::work(&self.messages, work)
    }

    /// Checks the whole log, record by record. Appending goes on meanwhile.
    #[must_use]
    pub fn verify(&self) -> crate::Verified {
        crate::core::verify::verify(&self.core)
    }

    /// Opens the closed database once more, for its snapshot. As before any other open, it is read through first: where a
    /// read failed, sled would take what it could not read for something that was never finished, and write over it.
    fn write_snapshot(&self) {
        match directory::read_through(self.directory.path()) {
            Ok(()) => sled::write_snapshot(self.directory.path(), self.cache_capacity),
            Err(error) => tracing::warn!(log = self.core.location(), %error, "closed without a snapshot"),
        }
    }

    /// Ends the threads, then lets go of the lock. Once.
    fn let_go(&self, held: Held, last: Message) -> thread::Result<()> {
        let Held { server, writer, lock } = held;
        self.core.moving.end();
        if let Some(server) = server {
            server.stop();
        }
        let closed = matches!(last, Message::Close(_));
        // It fails only where the thread has ended by itself.
        let _ = self.messages.send(last);
        // An acknowledgement that drops the log runs on the writer thread, which cannot wait for itself.
        let ended = if writer.thread().id() == thread::current().id() { Ok(()) } else { writer.join() };
        if let Err(error) = self.core.backend.close() {
            tracing::error!(log = self.core.location(), %error, "the log could not be closed in order");
            self.core.failed.store(true, Ordering::Release);
        }
        if !self.core.failed.load(Ordering::Acquire) {
            if closed {
                self.write_snapshot();
            }
            // The name first: a log that has one and no journal has lost it.
            if let Err(error) = lock.forget_holder().and_then(|()| journal::remove(self.directory.path())) {
                tracing::debug!(log = self.core.location(), %error, "closed without taking back the room of the journal");
            }
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
        // Where nobody takes it, dropping the job says that the log is closed.
        let _ = self.messages.send(Message::Append(jobs));
    }

    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        self.core.post(stream, notice);
    }

    fn flushes(&self) -> u64 {
        self.core.flushes.load(Ordering::Relaxed)
    }

    fn close(&self) -> Result<(), AppendError> {
        let Some(held) = lock(&self.held).take() else {
            return Ok(());
        };
        let (reply, closed) = crossbeam_channel::bounded(1);
        let ended = self.let_go(held, Message::Close(reply));
        match (closed.try_recv(), ended) {
            (Ok(result), _) => result,
            (Err(_), _) => Err(AppendError::Failed("the writer thread ended without an answer".to_owned())),
        }
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.held).take() {
            // Nobody is left to be told how it went.
            let _ = self.let_go(held, Message::Leave);
        }
    }
}

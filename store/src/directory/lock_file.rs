//! The lock of a log: held by the process that writes, and containing its name.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

use super::files::{self, Access};
use super::holders::{self, Process};
use super::open_directory::{OpenDirectory, displaced};
use super::{io_error, sync_directory};
use crate::forks::CloseInForks;
use crate::log::OpenError;

pub(crate) const NAME: &str = "lock";

/// How long to wait for a lock whose holder is gone: it can linger for some milliseconds after a process has ended.
pub(crate) const LINGER: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// How often the lock is taken anew if its file is removed in the meantime.
const TRIES: u32 = 10;

/// The maximum length of a lock file's content.
const MAX_LENGTH: u64 = 512;

/// A held lock. Dropping the last clone releases the lock.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryLock {
    /// The lock belongs to the descriptor.
    file: Arc<LockFile>,
}

/// A lock of this process, for code that checks it and must not keep it.
#[derive(Debug)]
pub(crate) struct WeakLock(Weak<LockFile>);

impl WeakLock {
    pub(crate) fn upgrade(&self) -> Option<DirectoryLock> {
        self.0.upgrade().map(|file| DirectoryLock { file })
    }
}

/// An open lock file. A fork shares the descriptor, and with it the lock. So the descriptor is registered for closing
/// in forks, and the process unlocks the file explicitly, even if others still have the descriptor.
#[derive(Debug)]
struct LockFile {
    /// Unregisters the descriptor before it is closed.
    _kept_out: CloseInForks,
    file: File,
    /// The process that opened it: a fork must not unlock the file of its parent.
    process: u32,
}

impl LockFile {
    fn new(file: File) -> Self {
        Self { _kept_out: CloseInForks::new(&file), file, process: std::process::id() }
    }

    fn open_to_read(directory: &Path) -> io::Result<Self> {
        files::open_read(&directory.join(NAME)).map(Self::new)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // Fails on file systems without locks; closing the file does the rest.
            let _ = self.file.unlock();
        }
    }
}

/// The process that holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The process, 0 if unknown.
    pub(crate) pid: u32,
    pub(crate) host: String,
}

impl Holder {
    fn this_process() -> Self {
        Self { pid: std::process::id(), host: host_name() }
    }

    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(MAX_LENGTH).read_to_string(&mut text).map(drop));
        let mut words = text.split_whitespace();
        match (read, words.next().and_then(|word| word.parse().ok()), words.next()) {
            (Ok(()), Some(pid), Some(host)) => Self { pid, host: host.to_owned() },
            _ => Self::default(),
        }
    }

    /// Whether waiting is pointless: the holder is running, or is on another host. A process with the holder's id that
    /// does not have the lock file open is a different one.
    fn is_alive(&self, lock: &File) -> bool {
        if self.host.is_empty() {
            return false;
        }
        self.host != host_name() || (is_running(self.pid) && holders::has_open(self.pid, lock) != Some(false))
    }
}

/// The host name of this machine.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // The lock file holds it as one word.
    if name.trim().is_empty() { "localhost".to_owned() } else { name.split_whitespace().collect() }
}

/// Whether a process exists and is not exiting (a zombie's other threads may hold the lock for a moment longer).
fn is_running(pid: u32) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    let exists = !matches!(test_kill_process(process), Err(rustix::io::Errno::SRCH));
    exists && !matches!(holders::state(pid), Some('Z' | 'X'))
}

/// The mode of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// For writing: exclusive, with this process named in the file.
    Exclusive,
    /// For reading: shared with other readers.
    Shared,
}

/// Takes the exclusive lock, calls `prepare`, and durably writes this process into the lock file.
pub(crate) fn acquire(
    directory: &Path,
    prepare: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<DirectoryLock, OpenError> {
    let doing = "taking its lock";
    let failed = |error: io::Error| io_error(directory, doing, &error);
    let path = directory.join(NAME);
    let mut tries = TRIES;
    let mut lock = loop {
        let opened = Access::of(directory).and_then(|access| files::open_or_create(&path, access));
        let mut lock = opened.map(LockFile::new).map_err(failed)?;
        wait_for(&mut lock.file, Mode::Exclusive, directory)?;
        // It may have been removed while this process waited; then the lock keeps nobody out.
        let Some(what) = displaced(&lock.file, fs::symlink_metadata(&path)) else { break lock };
        tries -= 1;
        if tries == 0 {
            return Err(failed(io::Error::other(format!(
                "the file `{NAME}` {what} again and again; stop what does that"
            ))));
        }
    };
    prepare(directory)?;
    let file = &mut lock.file;
    let holder = Holder::this_process();
    let named = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{} {}", holder.pid, holder.host))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(directory));
    named.map_err(failed)?;
    Ok(DirectoryLock { file: Arc::new(lock) })
}

/// The process (0 if none) and host in the lock file.
pub(crate) fn holder(directory: &Path) -> (u32, String) {
    let Holder { pid, host } =
        files::open_read(&directory.join(NAME)).map(|mut file| Holder::read(&mut file)).unwrap_or_default();
    (pid, host)
}

/// Whether a process holds the log now.
pub(crate) fn is_held(directory: &Path) -> bool {
    LockFile::open_to_read(directory)
        .is_ok_and(|lock| matches!(lock.file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Takes the shared lock, if the log has a lock file: a reader creates no files.
pub(crate) fn acquire_shared(directory: &Path) -> Result<Option<DirectoryLock>, OpenError> {
    let mut lock = match LockFile::open_to_read(directory) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(directory, "taking its lock", &error)),
    };
    wait_for(&mut lock.file, Mode::Shared, directory)?;
    Ok(Some(DirectoryLock { file: Arc::new(lock) }))
}

fn wait_for(file: &mut File, mode: Mode, directory: &Path) -> Result<(), OpenError> {
    let until = Instant::now() + LINGER;
    loop {
        let taken = match mode {
            Mode::Exclusive => file.try_lock(),
            Mode::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(io_error(directory, "taking its lock", &holders::explain_unsupported(error)));
            }
        }
        let holder = Holder::read(file);
        if holder.is_alive(file) {
            return Err(OpenError::Locked { path: directory.to_owned(), pid: holder.pid, host: holder.host });
        }
        if Instant::now() >= until {
            return Err(left_locked(directory, file, holder.pid));
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// The error for a lock that is still held although its owner is gone or unknown.
pub(crate) fn left_locked(directory: &Path, file: &File, owner: u32) -> OpenError {
    OpenError::OrphanedLock { path: directory.to_owned(), owner, holders: holders::of(file) }
}

/// The process in the lock file if it may still hold the lock, otherwise the processes that have the lock file
/// open.
pub(crate) fn current_holders(directory: &Path) -> Vec<Process> {
    let Ok(mut lock) = LockFile::open_to_read(directory) else { return Vec::new() };
    let holder = Holder::read(&mut lock.file);
    if holder.host == host_name() && holder.is_alive(&lock.file) {
        return vec![Process::with_id(holder.pid)];
    }
    if holder.is_alive(&lock.file) { Vec::new() } else { holders::of(&lock.file) }
}

impl DirectoryLock {
    pub(crate) fn downgrade(&self) -> WeakLock {
        WeakLock(Arc::downgrade(&self.file))
    }

    /// Checks that the lock file is still in the directory.
    ///
    /// # Errors
    /// It was removed, moved or replaced, so another process can take the lock.
    pub(crate) fn check_in_place(&self, directory: &OpenDirectory) -> io::Result<()> {
        directory.check_lock(NAME, &self.file.file)
    }

    /// Durably removes this process from the lock file: the log was closed cleanly.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn clear_holder(&self) -> io::Result<()> {
        self.file.file.set_len(0)?;
        self.file.file.sync_all()
    }
}

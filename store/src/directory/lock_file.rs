//! The lock of a log: who writes holds it, and is named in it.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

use super::files::{self, Access};
use super::holders::{self, Process};
use super::{io_error, sync_directory};
use crate::forks::KeptOut;
use crate::log::OpenError;

pub(crate) const NAME: &str = "lock";

/// How long a lock is waited for whose holder is gone: it can linger some milliseconds after a process has ended.
pub(crate) const LINGER: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// A process is named in a few bytes.
const LONGEST: u64 = 512;

/// A lock that is held. Dropping it lets go of it.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// The lock goes with the descriptor.
    file: LockFile,
}

/// A lock file that is open. A fork of this process shares the descriptor, and with it the lock: it is kept out of forks, and
/// what this process has locked it unlocks itself, whoever else has the descriptor.
#[derive(Debug)]
struct LockFile {
    /// Forgets the descriptor before it is closed.
    _kept_out: KeptOut,
    file: File,
    /// The process that opened it: a fork of it must not unlock what is its parent's.
    process: u32,
}

impl LockFile {
    fn new(file: File) -> Self {
        Self { _kept_out: KeptOut::new(&file), file, process: std::process::id() }
    }

    fn open_to_read(directory: &Path) -> io::Result<Self> {
        files::to_read(&directory.join(NAME)).map(Self::new)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // It fails where there are no locks; closing the file does the rest.
            let _ = self.file.unlock();
        }
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    /// 0 if nobody is named.
    pub(crate) pid: u32,
    pub(crate) host: String,
}

impl Holder {
    fn this() -> Self {
        Self { pid: std::process::id(), host: host_name() }
    }

    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(LONGEST).read_to_string(&mut text).map(drop));
        let mut words = text.split_whitespace();
        match (read, words.next().and_then(|word| word.parse().ok()), words.next()) {
            (Ok(()), Some(pid), Some(host)) => Self { pid, host: host.to_owned() },
            _ => Self::default(),
        }
    }

    /// Whether waiting is in vain: the holder runs, or is on a host where that cannot be seen. A process that has not
    /// opened the lock file only has the id of one that is gone.
    fn is_alive(&self, lock: &File) -> bool {
        if self.host.is_empty() {
            return false;
        }
        self.host != host_name() || (is_running(self.pid) && holders::has_open(self.pid, lock) != Some(false))
    }
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // It is one word in the lock file.
    if name.trim().is_empty() { "localhost".to_owned() } else { name.split_whitespace().collect() }
}

/// Whether a process exists and is not on its way out (a zombie's other threads may hold the lock for a moment more).
fn is_running(pid: u32) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    let exists = !matches!(test_kill_process(process), Err(rustix::io::Errno::SRCH));
    exists && !matches!(holders::state(pid), Some('Z' | 'X'))
}

/// How a lock is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// To write: alone, and named in it.
    Exclusive,
    /// To copy: with others who do.
    Shared,
}

/// Takes the lock to write, prepares for it, and names this process in it, durably.
pub(crate) fn acquire(
    directory: &Path,
    prepare: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<DirectoryLock, OpenError> {
    let doing = "taking its lock";
    let mut lock = Access::of(directory)
        .and_then(|access| files::to_read_and_write(&directory.join(NAME), access))
        .map(LockFile::new)
        .map_err(|error| io_error(directory, doing, &error))?;
    wait_for(&mut lock.file, Mode::Exclusive, directory)?;
    prepare(directory)?;
    let file = &mut lock.file;
    let holder = Holder::this();
    let named = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{} {}", holder.pid, holder.host))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(directory));
    named.map_err(|error| io_error(directory, doing, &error))?;
    Ok(DirectoryLock { file: lock })
}

/// Who is named in the lock: the process, 0 if none is, and its host.
pub(crate) fn holder(directory: &Path) -> (u32, String) {
    let Holder { pid, host } =
        files::to_read(&directory.join(NAME)).map(|mut file| Holder::read(&mut file)).unwrap_or_default();
    (pid, host)
}

/// Whether a process has the log now.
pub(crate) fn is_held(directory: &Path) -> bool {
    LockFile::open_to_read(directory)
        .is_ok_and(|lock| matches!(lock.file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Takes the lock to copy, if the log has a lock file: nothing is made in the directory of a log that is only read.
pub(crate) fn acquire_shared(directory: &Path) -> Result<Option<DirectoryLock>, OpenError> {
    let mut lock = match LockFile::open_to_read(directory) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(directory, "taking its lock", &error)),
    };
    wait_for(&mut lock.file, Mode::Shared, directory)?;
    Ok(Some(DirectoryLock { file: lock }))
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
                return Err(io_error(directory, "taking its lock", &holders::unsupported(error)));
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

/// The refusal of a log whose owner is gone, or names itself nowhere, while a lock on one of its files is still held.
pub(crate) fn left_locked(directory: &Path, file: &File, owner: u32) -> OpenError {
    OpenError::LeftLocked { path: directory.to_owned(), owner, holders: holders::of(file) }
}

/// What is known of the process that is named in the lock: it alone if it may still have it, else those that have the lock
/// file open.
pub(crate) fn kept_by(directory: &Path) -> Vec<Process> {
    let Ok(mut lock) = LockFile::open_to_read(directory) else { return Vec::new() };
    let holder = Holder::read(&mut lock.file);
    if holder.host == host_name() && holder.is_alive(&lock.file) {
        return vec![Process::with_id(holder.pid)];
    }
    if holder.is_alive(&lock.file) { Vec::new() } else { holders::of(&lock.file) }
}

impl DirectoryLock {
    /// Names nobody any more, durably: the log was closed in order.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn forget_holder(&self) -> io::Result<()> {
        self.file.file.set_len(0)?;
        self.file.file.sync_all()
    }
}

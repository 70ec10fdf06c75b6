//! Opening a log for reading, whether or not a process holds it.
//!
//! A process that holds the log answers readers through its socket: it knows which records are durable and where they
//! are. Without such a process, the reader scans the segments once and reads them directly. Reading never modifies the
//! log and works on a read-only disk. [`ReopeningReader`] switches between the two when the log is opened or closed.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::archive::{is_archive, open_archive};
use crate::core::Core;
use crate::core::open::{create, open_for_reading, open_for_verifying};
use crate::core::verify::{self, Verified};
use crate::descriptors::reserve_standard_streams;
use crate::directory::detect::{Presence, detect};
use crate::directory::lock_file::{self, DirectoryLock, LINGER};
use crate::directory::{self, creation};
use crate::disk::Disk;
use crate::disk::directory::DirectoryDisk;
use crate::disk::memory::MemoryDisk;
use crate::layout::head::LogId;
use crate::log::{LogReader, OpenError, ReadError};
use crate::reopening_reader::{ReopeningReader, Stamp, TOO_MANY_CHANGES};
use crate::socket::client::SocketReader;

/// Opens the log in a directory for reading, whether or not a process is writing it, and changes nothing there.
///
/// The reader follows its log: it reopens the log when a process opens, closes or changes it. So it never fails with
/// [`ReadError::Gone`], and it reports damage only if the log did not change during the read.
///
/// Asks the process that holds the log. Without one, scans the segments once, which takes a tenth of a second
/// per million records. The path may also be that of an [archive](crate::archive).
///
/// # Errors
/// [`OpenError::Missing`] and [`OpenError::NotALog`] if there is no log; [`OpenError::Damaged`] if it is shorter than
/// it should be. Damaged records are reported when they are read, not here.
///
/// # Examples
/// ```
/// use cloacina_store::{Options, open, open_reader};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("log");
/// let log = open(&path, &Options::default())?;
/// let reader = open_reader(&path)?; // Asks `log`, as another process would.
/// assert_eq!(reader.head()?.position, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_reader(path: &Path) -> Result<Box<dyn LogReader>, OpenError> {
    reserve(path)?;
    if is_archive(path) {
        return open_archive(path).map(|archive| Box::new(archive) as _);
    }
    ReopeningReader::open(path).map(|reader| Box::new(reader) as _)
}

/// Opens a log that no process holds for reading, damaged or not: damage is reported when it is read, not here. For
/// tools that report what is intact; everything else uses [`open_reader`], which reports the damage.
///
/// # Errors
/// [`OpenError`] if there is no log, nothing of it can be read, or a process holds it.
pub fn open_damaged(path: &Path) -> Result<Box<dyn LogReader>, OpenError> {
    reserve(path)?;
    open_damaged_log(path).map(|damaged| Box::new(damaged.core) as _)
}

/// How often other processes may open or close a log while it is verified.
const CHECKS: usize = 20;

/// Verifies a whole log, record by record, also while a process is writing it, and changes nothing there. Starts again
/// if a process opens or closes the log in the meantime.
///
/// # Errors
/// [`OpenError`] if there is no log, or nothing of it can be read. Damage inside the log is not an error of this
/// function: it is in the findings.
pub fn verify(path: &Path) -> Result<Verified, OpenError> {
    reserve(path)?;
    let by_holder = |reason: String| OpenError::Io {
        path: path.to_owned(),
        doing: "having the process that holds it verify it".to_owned(),
        reason,
    };
    for _ in 0..CHECKS {
        match probe(path)? {
            LogState::Live(reader) => match reader.verify() {
                // The log was closed before the verification ended.
                Err(ReadError::Gone) => {}
                answer => return answer.map_err(|error| by_holder(error.to_string())),
            },
            LogState::Unheld(lock) => {
                let stamp = Stamp::of(path);
                // A process that opens the log for writing must not wait for a reader.
                drop(lock);
                let found = open_lenient(path).map(|DamagedLog { core, mut findings }| {
                    let mut verified = verify::verify(&core);
                    // Findings of the open are often found again.
                    verified.findings.retain(|finding| !findings.contains(finding));
                    findings.append(&mut verified.findings);
                    Verified { findings, ..verified }
                });
                let is_sound = found.as_ref().is_ok_and(|verified| verified.findings.is_empty());
                // Apparent damage may be a change by a process that has opened the log in the meantime.
                if is_sound || stamp == Stamp::of(path) {
                    return found;
                }
            }
        }
    }
    Err(OpenError::Io { path: path.to_owned(), doing: "verifying it".to_owned(), reason: TOO_MANY_CHANGES.to_owned() })
}

fn reserve(path: &Path) -> Result<(), OpenError> {
    reserve_standard_streams().map_err(|error| directory::io_error(path, "reserving the standard streams", &error))
}

/// The files of a log that no process holds, as a disk. An unfinished creation counts as an empty log.
fn disk_of(path: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    if creation::is_unfinished(path)? {
        let empty: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        create(&empty, LogId([0; 16])).map_err(|error| error.at(path))?;
        return Ok(empty);
    }
    Ok(Arc::new(DirectoryDisk::reading(path)))
}

/// Opens a log that no process holds, for reading. A concurrent change can look like damage; the caller checks for
/// that.
pub(crate) fn open_unheld(path: &Path) -> Result<Core, OpenError> {
    open_for_reading(&disk_of(path)?, path.display().to_string()).map_err(|error| error.at(path))
}

/// A log that may be damaged, opened as far as possible.
pub(crate) struct DamagedLog {
    pub(crate) core: Core,
    /// The damage for which a regular open would reject the log.
    pub(crate) findings: Vec<ReadError>,
}

/// Opens a log that no process holds, damaged or not.
pub(crate) fn open_damaged_log(path: &Path) -> Result<DamagedLog, OpenError> {
    match probe(path)? {
        LogState::Unheld(_lock) => open_lenient(path),
        LogState::Live(_) => {
            // The process opened the log, so there is no damage that prevents opening it.
            let (pid, host) = lock_file::holder(path);
            Err(OpenError::Locked { path: path.to_owned(), pid, host })
        }
    }
}

fn open_lenient(path: &Path) -> Result<DamagedLog, OpenError> {
    let opened = open_for_verifying(&disk_of(path)?, path.display().to_string());
    let (core, findings) = opened.map_err(|error| error.at(path))?;
    Ok(DamagedLog { core, findings })
}

/// How a log can be read now.
pub(crate) enum LogState {
    Live(SocketReader),
    /// No process holds the log, nor can one take it while this lock is held. `None` if the log has no lock file.
    Unheld(Option<DirectoryLock>),
}

/// Finds out whether a process holds a log.
pub(crate) fn probe(path: &Path) -> Result<LogState, OpenError> {
    if detect(path)? == Presence::Absent {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    // A process that just opened the log has no socket yet; one that is closing it has already removed it.
    let until = Instant::now() + LINGER;
    loop {
        let (pid, host) = match lock_file::acquire_shared(path) {
            Ok(lock) => return Ok(LogState::Unheld(lock)),
            Err(OpenError::Locked { pid, host, .. }) => (pid, host),
            Err(other) => return Err(other),
        };
        match SocketReader::connect(path) {
            Ok(reader) => return Ok(LogState::Live(reader)),
            // The error already says what to do, and a retry would time out again.
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(does_not_answer(path, &error)),
            Err(error) if Instant::now() >= until => {
                return Err(OpenError::Io {
                    path: path.to_owned(),
                    doing: format!("contacting process {pid} on host {host}, which holds it"),
                    reason: format!("{error}; read it on that host and as that user, or stop the process"),
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The error for a log whose process does not answer.
pub(crate) fn does_not_answer(path: &Path, error: &io::Error) -> OpenError {
    let doing = "contacting the process that holds it".to_owned();
    OpenError::Io { path: path.to_owned(), doing, reason: error.to_string() }
}

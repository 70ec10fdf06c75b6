//! Opening a log for reading, whoever holds it.
//!
//! While a process holds the log, it is asked through its socket: it knows what is durable, and where everything stands. The segments of a
//! log that nobody holds are gone through once, and read where they lie. What is read is thus never altered, also on a disk that
//! cannot be written to. [`ReopeningReader`] goes from one to the other when the log is opened or closed.

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
use crate::directory::lock_file::{self, DirectoryLock, LINGER};
use crate::directory::looking::{Found, look};
use crate::directory::{self, creation};
use crate::disk::Disk;
use crate::disk::directory::DirectoryDisk;
use crate::disk::memory::MemoryDisk;
use crate::layout::head::LogId;
use crate::log::{LogReader, OpenError, ReadError};
use crate::reopening::{RESTLESS, ReopeningReader, Stamp};
use crate::socket::client::SocketReader;

/// Opens the log in a directory for reading, whether or not a process is writing it, and changes nothing there.
///
/// The reader stays with its log: when a process opens, closes or changes the log meanwhile, the reader opens it again. So it
/// never fails with [`ReadError::Gone`], and it reports damage only of a log that nobody changed while it was read.
///
/// While a process holds the log, that process is asked. Otherwise the segments are gone through once, which takes a tenth of a second
/// for a million records. An [archive](crate::archive) is read in place of a log.
///
/// # Errors
/// [`OpenError::Missing`] and [`OpenError::NotALog`] if there is no log; [`OpenError::Damaged`] if it ends earlier than it
/// should. A record that is damaged is not found here, but when it is read.
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

/// Opens a log that nobody holds for reading, damaged or not: damage is an error where it is read, and not here. For those who tell what
/// is still whole; everybody else is told of the damage by [`open_reader`].
///
/// # Errors
/// [`OpenError`] if there is no log, nothing of it can be read, or a process holds it.
pub fn open_damaged(path: &Path) -> Result<Box<dyn LogReader>, OpenError> {
    reserve(path)?;
    open_broken(path).map(|broken| Box::new(broken.core) as _)
}

/// How often a log may be opened or closed by others while it is checked.
const CHECKS: usize = 20;

/// Checks a whole log, record by record, also while a process is writing it, and changes nothing there. When a process opens or
/// closes the log meanwhile, it is checked again.
///
/// # Errors
/// [`OpenError`] if there is no log, or nothing of it can be read. What is wrong inside is not an error of this call: it
/// is in the findings.
pub fn verify(path: &Path) -> Result<Verified, OpenError> {
    reserve(path)?;
    let by_holder = |reason: String| OpenError::Io {
        path: path.to_owned(),
        doing: "having it checked by the process that holds it".to_owned(),
        reason,
    };
    for _ in 0..CHECKS {
        match reach(path)? {
            Reached::Live(reader) => match reader.verify() {
                // It was closed before all was checked.
                Err(ReadError::Gone) => {}
                answer => return answer.map_err(|error| by_holder(error.to_string())),
            },
            Reached::Unheld(lock) => {
                let stamp = Stamp::of(path);
                // Whoever opens it to write does not wait for a reader.
                drop(lock);
                let found = open_whatever(path).map(|Broken { core, mut findings }| {
                    let mut verified = verify::verify(&core);
                    // What was found at the open is often found again.
                    verified.findings.retain(|finding| !findings.contains(finding));
                    findings.append(&mut verified.findings);
                    Verified { findings, ..verified }
                });
                let is_sound = found.as_ref().is_ok_and(|verified| verified.findings.is_empty());
                // What looks like damage may be what a process has changed that opened the log since.
                if is_sound || stamp == Stamp::of(path) {
                    return found;
                }
            }
        }
    }
    Err(OpenError::Io { path: path.to_owned(), doing: "checking it".to_owned(), reason: RESTLESS.to_owned() })
}

fn reserve(path: &Path) -> Result<(), OpenError> {
    reserve_standard_streams().map_err(|error| directory::io_error(path, "reserving the standard streams", &error))
}

/// The files of a log that nobody has, as a disk. What an unfinished creation has left is nothing yet: then it is an empty log.
fn disk_of(path: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    if creation::is_unfinished(path)? {
        let empty: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        create(&empty, LogId([0; 16])).map_err(|unfit| unfit.refuse(path))?;
        return Ok(empty);
    }
    Ok(Arc::new(DirectoryDisk::reading(path)))
}

/// Opens a log that nobody has, for reading. What a process changes meanwhile can look like damage: whoever calls this finds out.
pub(crate) fn open_unheld(path: &Path) -> Result<Core, OpenError> {
    open_for_reading(&disk_of(path)?, path.display().to_string()).map_err(|unfit| unfit.refuse(path))
}

/// A log that may be damaged, opened as far as it can be.
pub(crate) struct Broken {
    pub(crate) core: Core,
    /// What an open would refuse it for.
    pub(crate) findings: Vec<ReadError>,
}

/// Opens a log that nobody has, damaged or not.
pub(crate) fn open_broken(path: &Path) -> Result<Broken, OpenError> {
    match reach(path)? {
        Reached::Unheld(_lock) => open_whatever(path),
        Reached::Live(_) => {
            // Whoever has it knows of no damage that is in the way.
            let (pid, host) = lock_file::holder(path);
            Err(OpenError::Locked { path: path.to_owned(), pid, host })
        }
    }
}

fn open_whatever(path: &Path) -> Result<Broken, OpenError> {
    let opened = open_for_verifying(&disk_of(path)?, path.display().to_string());
    let (core, findings) = opened.map_err(|unfit| unfit.refuse(path))?;
    Ok(Broken { core, findings })
}

/// How a log can be read.
pub(crate) enum Reached {
    Live(SocketReader),
    /// Nobody has it, nor will anybody while this lock is held; a log that has no lock file has none.
    Unheld(Option<DirectoryLock>),
}

/// Asks who holds a log.
pub(crate) fn reach(path: &Path) -> Result<Reached, OpenError> {
    if look(path)? == Found::Nothing {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    // A process that just opened the log has no socket yet; one that is closing it has none any more.
    let until = Instant::now() + LINGER;
    loop {
        let (pid, host) = match lock_file::acquire_shared(path) {
            Ok(lock) => return Ok(Reached::Unheld(lock)),
            Err(OpenError::Locked { pid, host, .. }) => (pid, host),
            Err(other) => return Err(other),
        };
        match SocketReader::connect(path) {
            Ok(reader) => return Ok(Reached::Live(reader)),
            // It says who does not answer, and what to do; asking again would be as much in vain.
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(does_not_answer(path, &error)),
            Err(error) if Instant::now() >= until => {
                return Err(OpenError::Io {
                    path: path.to_owned(),
                    doing: format!("asking process {pid} on host {host}, which has it"),
                    reason: format!("{error}; read it on that host and as that user, or stop the process"),
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The refusal of a log whose process says nothing.
pub(crate) fn does_not_answer(path: &Path, error: &io::Error) -> OpenError {
    let doing = "asking the process that has it".to_owned();
    OpenError::Io { path: path.to_owned(), doing, reason: error.to_string() }
}

//! Opening a log for reading, whoever has it.
//!
//! Two processes cannot have a sled database open at once, and sled has no read-only mode. So while a process holds the
//! log, it is asked through its socket; a log that was closed in order is read where it lies, without sled; and any other
//! log has sled's files copied, and the [copy] opened with sled. What is read is thus never altered, also on a disk that cannot be
//! written to.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::archive::{is_archive, open_archive};
use crate::backend::Backend;
use crate::backend::indexed::Indexed;
use crate::backend::journal;
use crate::backend::journaled::Journaled;
use crate::backend::sled_file::SledFile;
use crate::backend::sled_file::salvage::Salvage;
use crate::closed::{self, ClosedLog};
use crate::copy::{self, Copied, open_copy};
use crate::core::Core;
use crate::core::behind;
use crate::core::open::open_for_verifying;
use crate::core::recover::{Care, Unfit};
use crate::core::verify::{self, Verified};
use crate::directory::lock_file::{self, DirectoryLock, LINGER};
use crate::directory::{self, Found};
use crate::log::{LogReader, OpenError, ReadError};
use crate::socket::client::SocketReader;

/// Opens the log in a directory for reading, whether or not a process is writing it, and changes nothing there.
///
/// A log that was closed in order is read where it lies, and a process may open and write it meanwhile: from then on
/// that process is asked. Of a log whose process died the index is copied into the directory for temporary files, which takes
/// some hundredths of the space of the log and is removed when the reader is dropped. An [archive](crate::archive) is read in place of a
/// log.
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
    if is_archive(path) {
        return open_archive(path).map(|archive| Box::new(archive) as _);
    }
    match reach(path)? {
        Reached::Live(reader) => Ok(Box::new(reader)),
        Reached::Unheld(lock) => match closed::in_place(path) {
            Some(log) => Ok(Box::new(ClosedLog::new(path, log))),
            None => {
                let copied = copy::copy(path)?;
                drop(lock);
                Ok(Box::new(open_copy(path, copied, Care::Groups)?))
            }
        },
    }
}

/// Checks a whole log, record by record, also while a process is writing it, and changes nothing there.
///
/// # Errors
/// [`OpenError`] if there is no log, or nothing of it can be read. What is wrong inside is not an error of this call: it
/// is in the findings.
pub fn verify(path: &Path) -> Result<Verified, OpenError> {
    match reach(path)? {
        Reached::Live(reader) => reader.verify().map_err(|error| OpenError::Io {
            path: path.to_owned(),
            doing: "having it checked by the process that has it".to_owned(),
            reason: match error {
                ReadError::Gone => "that process closed it before all was checked; check it again".to_owned(),
                other => other.to_string(),
            },
        }),
        Reached::Unheld(lock) => {
            let Broken { core, mut findings, .. } = open_whatever(path, lock)?;
            let mut verified = verify::verify(&core);
            findings.append(&mut verified.findings);
            Ok(Verified { findings, ..verified })
        }
    }
}

/// A log that may be damaged, opened as far as it can be.
pub(crate) struct Broken {
    pub(crate) core: Core<Box<dyn Backend>>,
    /// What an open would refuse it for.
    pub(crate) findings: Vec<ReadError>,
    /// What the journal has.
    pub(crate) journal: journal::Found,
    /// Removed with it. It stands after the core: sled is closed first.
    pub(crate) copy: TempDir,
}

/// Opens a log that nobody has, damaged or not, in a copy.
pub(crate) fn open_broken(path: &Path) -> Result<Broken, OpenError> {
    match reach(path)? {
        Reached::Unheld(lock) => open_whatever(path, lock),
        Reached::Live(_) => {
            // Whoever has it knows of no damage that is in the way.
            let (pid, host) = lock_file::holder(path);
            Err(OpenError::Locked { path: path.to_owned(), pid, host })
        }
    }
}

/// Opens a log with sled, as whoever writes it next will. Where sled gives it up, it is read without sled.
fn open_whatever(path: &Path, lock: Option<DirectoryLock>) -> Result<Broken, OpenError> {
    let Copied { directory: copy, journal, written } = copy::copy(path)?;
    drop(lock);
    // sled writes to it, and removes a snapshot that could be of use.
    let (backend, refused): (Box<dyn Backend>, _) = match copy::open_damaged(path, copy.path()) {
        Ok(backend) => (backend, None),
        Err(OpenError::Damaged { path: refused, what }) => match read_without_sled(path) {
            Some(backend) => (backend, Some(ReadError::DamagedLog(what))),
            None => return Err(OpenError::Damaged { path: refused, what }),
        },
        Err(other) => return Err(other),
    };
    let (backend, damage) = over(backend, journal.clone()).map_err(|error| Unfit::from(error).refuse(path))?;
    let (core, found) = open_for_verifying(backend, path.display().to_string());
    let mut findings: Vec<_> = refused.into_iter().chain(damage.into_iter().map(ReadError::DamagedLog)).collect();
    findings.extend(found);
    findings.extend(behind::check(&core, path, written).err().map(ReadError::from));
    Ok(Broken { core, findings, journal, copy })
}

/// A database, and what its journal has, as far as it is whole.
pub(crate) fn over(
    database: Box<dyn Backend>,
    journal: journal::Found,
) -> Result<(Box<dyn Backend>, Vec<String>), ReadError> {
    let (journaled, damage) = Journaled::reading(database, journal)?;
    Ok((Box::new(journaled), damage))
}

/// The database of a log that sled gives up: where its pages are known, from there, else from whatever is whole.
fn read_without_sled(path: &Path) -> Option<Box<dyn Backend>> {
    match SledFile::open(path) {
        Ok(file) => Indexed::over(file, path, path).ok().map(|indexed| Box::new(indexed) as _),
        Err(_) => Salvage::gather(path).ok().map(|salvage| Box::new(salvage) as _),
    }
}

/// How a log can be read.
enum Reached {
    Live(SocketReader),
    /// Nobody has it, nor will anybody while this lock is held; a log that has no lock file has none.
    Unheld(Option<DirectoryLock>),
}

fn reach(path: &Path) -> Result<Reached, OpenError> {
    if directory::look(path)? == Found::Nothing {
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
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(OpenError::Io {
                    path: path.to_owned(),
                    doing: "asking the process that has it".to_owned(),
                    reason: error.to_string(),
                });
            }
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

//! Opening a log for reading: through the process that writes it, or from a copy.
//!
//! sled has no read-only mode: opening a database writes to it, may repair it, and a damaged one may come up empty. And
//! two processes cannot have it open at once. So a reader never opens the log itself. While a process holds the log, it
//! is asked through its socket; a log that nobody holds is copied into a private directory (its lock held meanwhile, so
//! that nobody begins to write), and the copy is opened. What is read is thus never altered, also on a disk that
//! cannot be written to.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::archive::{is_archive, open_archive};
use crate::backend::sled::{DATA_FILE, SledBackend};
use crate::core::Core;
use crate::core::behind;
use crate::core::open::{open_for_reading, open_for_verifying};
use crate::core::recover::Care;
use crate::core::verify::{self, Verified};
use crate::directory::lock_file::{self, LINGER, host_name};
use crate::directory::{self, Found, Snapshots, creation, io_error, is_snapshot};
use crate::layout::group::FramePlace;
use crate::log::{LogReader, OpenError, ReadError};
use crate::sled_log::open_sled;
use crate::socket::client::SocketReader;

/// How much of a copy sled may keep in memory.
const CACHE: u64 = 64 * 1024 * 1024;

/// A log that nobody has, as it was when it was opened.
struct CopiedLog {
    core: Core<SledBackend>,
    /// Removed with it. It stands after the core: sled is closed first.
    _copy: TempDir,
}

impl LogReader for CopiedLog {
    crate::read_through!(self => self.core);
}

/// Opens the log in a directory for reading, whether or not a process is writing it, and changes nothing there.
///
/// Where nobody has the log, it is read from a copy in the directory for temporary files, which needs as much space as
/// the log and is removed when the reader is dropped. An [archive](crate::archive) is read in place of a log.
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
        Reached::Copy(copy) => Ok(Box::new(open_copy(path, copy, Care::Groups)?)),
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
            doing: "asking the process that has it".to_owned(),
            reason: error.to_string(),
        }),
        Reached::Copy(copy) => {
            let Broken { core, mut findings, .. } = open_whatever(path, copy)?;
            let mut verified = verify::verify(&core);
            findings.append(&mut verified.findings);
            Ok(Verified { findings, ..verified })
        }
    }
}

/// A log that may be damaged, opened as far as it can be.
pub(crate) struct Broken {
    pub(crate) core: Core<SledBackend>,
    /// What an open would refuse it for.
    pub(crate) findings: Vec<ReadError>,
    /// Removed with it. It stands after the core: sled is closed first.
    _copy: TempDir,
}

/// Opens a log that nobody has, damaged or not, in a copy.
pub(crate) fn open_broken(path: &Path) -> Result<Broken, OpenError> {
    match reach(path)? {
        Reached::Copy(copy) => open_whatever(path, copy),
        Reached::Live(_) => {
            // Whoever has it knows of no damage that is in the way.
            let (pid, host) = lock_file::holder(path);
            Err(OpenError::Locked { path: path.to_owned(), pid, host })
        }
    }
}

fn open_whatever(path: &Path, copy: Copied) -> Result<Broken, OpenError> {
    let directory = copy.directory.path();
    let backend = match open_copied_sled(path, directory) {
        Err(OpenError::Damaged { .. }) if directory::remove_snapshots(directory, Snapshots::All).unwrap_or(false) => {
            open_copied_sled(path, directory)?
        }
        other => other?,
    };
    let (core, mut findings) = open_for_verifying(backend, path.display().to_string());
    findings.extend(behind::check(&core, &copy.written).err().map(ReadError::from));
    Ok(Broken { core, findings, _copy: copy.directory })
}

/// Takes up a log in a copy, to see whether it can be. Whoever calls this holds the log's lock.
///
/// # Errors
/// [`OpenError::Damaged`], and nothing was changed; [`OpenError::Io`] where it could not be copied.
pub(crate) fn try_in_a_copy(path: &Path) -> Result<(), OpenError> {
    open_copy(path, copy(path)?, Care::Frames).map(drop)
}

/// How a log can be read.
enum Reached {
    Live(SocketReader),
    Copy(Copied),
}

/// The files of a log, copied.
struct Copied {
    directory: TempDir,
    /// What the data file has, of a log that was not closed: see [`behind`].
    written: Vec<FramePlace>,
}

fn reach(path: &Path) -> Result<Reached, OpenError> {
    if directory::look(path)? == Found::Nothing {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    // A process that just opened the log has no socket yet; one that is closing it has none any more.
    let until = Instant::now() + LINGER;
    loop {
        let (pid, host) = match lock_file::acquire_shared(path) {
            Ok(_lock) => return copy(path).map(Reached::Copy),
            Err(OpenError::Locked { pid, host, .. }) => (pid, host),
            Err(other) => return Err(other),
        };
        match SocketReader::connect(path) {
            Ok(reader) => return Ok(Reached::Live(reader)),
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

/// Opens a copy. sled's snapshot only makes opening faster; where it is damaged, the data is still there.
fn open_copy(path: &Path, copied: Copied, care: Care) -> Result<CopiedLog, OpenError> {
    let Copied { directory: copy, written } = copied;
    let open = |copy: &Path| {
        let backend = open_copied_sled(path, copy)?;
        open_for_reading(backend, path.display().to_string(), care)
            .and_then(|core| behind::check(&core, &written).map(|()| core))
            .map_err(|unfit| unfit.refuse(path))
    };
    let core = match open(copy.path()) {
        Err(OpenError::Damaged { .. }) if directory::remove_snapshots(copy.path(), Snapshots::All).unwrap_or(false) => {
            open(copy.path())?
        }
        other => other?,
    };
    Ok(CopiedLog { core, _copy: copy })
}

fn open_copied_sled(path: &Path, copy: &Path) -> Result<SledBackend, OpenError> {
    open_sled(copy, path, CACHE).map_err(|error| match error {
        // The log is meant, not the copy, which nobody knows of.
        OpenError::Damaged { what, .. } => OpenError::Damaged { path: path.to_owned(), what },
        other => other,
    })
}

/// Copies a log that nobody may write to meanwhile.
fn copy(path: &Path) -> Result<Copied, OpenError> {
    let failed = |error: &io::Error| io_error(path, "copying it into the directory for temporary files", error);
    let _database_lock = wait_for_database(path)?;
    let copy = tempfile::Builder::new().prefix("cloacina-").tempdir().map_err(|error| failed(&error))?;
    // What an unfinished creation has left is nothing yet: the copy is an empty log.
    if !creation::is_unfinished(path)? {
        creation::check_made(path)?;
        copy_files(path, copy.path()).map_err(|error| failed(&error))?;
    }
    let written = if lock_file::was_left_in_order(path) {
        Vec::new()
    } else {
        match File::open(copy.path().join(DATA_FILE)).and_then(behind::written_groups) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            written => written.map_err(|error| failed(&error))?,
        }
    };
    Ok(Copied { directory: copy, written })
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let wanted = is_snapshot(&name) || ["conf", DATA_FILE, "format", "head"].iter().any(|wanted| name == *wanted);
        if name == "blobs" {
            let blobs = to.join("blobs");
            fs::create_dir(&blobs)?;
            for blob in fs::read_dir(entry.path())? {
                let blob = blob?;
                copy_file(&blob.path(), &blobs.join(blob.file_name()))?;
            }
        } else if wanted {
            copy_file(&entry.path(), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Copies content alone: a file that cannot be written to would make a copy that sled cannot open.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
}

/// Waits for sled's own lock, which a process that has just ended can hold for a moment more than ours.
fn wait_for_database(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match File::open(path.join(DATA_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, "reading its database", &error)),
    };
    let until = Instant::now() + LINGER;
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: path.to_owned(), pid: 0, host: host_name() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(io_error(path, "locking its database", &error));
            }
        }
    }
}

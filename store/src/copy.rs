//! A log in a copy: what sled may write to.
//!
//! sled cannot open a database without writing to it. So a log that was not closed in order, and one that is damaged, is
//! copied into a private directory (its lock held meanwhile, so that nobody begins to write), and the copy is opened. What
//! sled does not touch is read where it lies: the segments, which only grow.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::backend::indexed::Indexed;
use crate::backend::journal::Found;
use crate::backend::journaled::Journaled;
use crate::backend::segments;
use crate::backend::sled::{DATA_FILE, SledBackend};
use crate::core::Core;
use crate::core::behind;
use crate::core::open::open_for_reading;
use crate::core::recover::{Care, Unfit};
use crate::directory::files;
use crate::directory::lock_file::{self, LINGER};
use crate::directory::{self, Snapshots, creation, io_error, is_snapshot};
use crate::layout::run::End;
use crate::log::{LogReader, OpenError, ReadError};
use crate::scratch::Scratch;
use crate::sled_log::{Disk, find_journal, open_sled};

/// How much of a copy sled may keep in memory.
const CACHE: u64 = 64 * 1024 * 1024;

/// A log that nobody has, as it was when it was opened.
pub(crate) struct CopiedLog {
    core: Core<Disk>,
    /// Removed with it. It stands after the core: sled is closed first.
    _copy: Scratch,
}

impl LogReader for CopiedLog {
    crate::read_through!(self => self.core);
}

/// The files of a log, copied.
pub(crate) struct Copied {
    pub(crate) directory: Scratch,
    /// What the journal has, of a log that was not closed.
    pub(crate) journal: Found,
    /// Where the segments ended, of a log that was not closed: see [`behind`].
    pub(crate) written: Option<End>,
}

/// Takes up a log in a copy, to see whether it can be. Whoever calls this holds the log's lock.
///
/// # Errors
/// [`OpenError::Damaged`], and nothing was changed; [`OpenError::Io`] where it could not be copied.
pub(crate) fn try_in_a_copy(path: &Path) -> Result<(), OpenError> {
    open_copy(path, copy(path)?, Care::Frames).map(drop)
}

/// Opens a copy. sled's snapshot only makes opening faster; where it is damaged, the data is still there.
pub(crate) fn open_copy(path: &Path, copied: Copied, care: Care) -> Result<CopiedLog, OpenError> {
    let Copied { directory: copy, journal, written } = copied;
    // No other look at the database helps.
    if let Some(what) = journal.damage.first() {
        return Err(OpenError::Damaged { path: path.to_owned(), what: what.clone() });
    }
    let open = |copy: &Path| {
        let cannot = |error| Unfit::from(ReadError::from(error)).refuse(path);
        let database = Indexed::over(open_copied_sled(path, copy)?, path, path).map_err(cannot)?;
        database.check_end().and_then(|()| database.open_all()).map_err(cannot)?;
        let (backend, damage) = Journaled::reading(database, journal.clone()).map_err(cannot)?;
        if let Some(what) = damage.into_iter().next() {
            return Err(OpenError::Damaged { path: path.to_owned(), what });
        }
        open_for_reading(backend, path.display().to_string(), care)
            .and_then(|core| behind::check(&core, path, written).map(|()| core))
            .map_err(|unfit| unfit.refuse(path))
    };
    let core = match open(copy.path()) {
        Err(OpenError::Damaged { .. }) if directory::remove_snapshots(copy.path(), Snapshots::All).unwrap_or(false) => {
            open(copy.path())?
        }
        other => other?,
    };
    copy.remove_names();
    Ok(CopiedLog { core, _copy: copy })
}

/// Opens the database of a copy, damaged or not, as far as sled can.
pub(crate) fn open_damaged(path: &Path, copy: &Path) -> Result<Box<dyn Backend>, OpenError> {
    let opened = match open_copied_sled(path, copy) {
        Err(OpenError::Damaged { .. }) if directory::remove_snapshots(copy, Snapshots::All).unwrap_or(false) => {
            open_copied_sled(path, copy)
        }
        other => other,
    };
    let cannot = |error| Unfit::from(ReadError::from(error)).refuse(path);
    Ok(Box::new(Indexed::over(opened?, path, path).map_err(cannot)?))
}

fn open_copied_sled(path: &Path, copy: &Path) -> Result<SledBackend, OpenError> {
    open_sled(copy, path, CACHE).map_err(|error| match error {
        // The log is meant, not the copy, which nobody knows of.
        OpenError::Damaged { what, .. } => OpenError::Damaged { path: path.to_owned(), what },
        OpenError::Io { doing, reason, .. } => cannot_copy(path, &format!("{doing}: {reason}")),
        other => other,
    })
}

/// Copies a log that nobody may write to meanwhile.
pub(crate) fn copy(path: &Path) -> Result<Copied, OpenError> {
    let failed = |error: &io::Error| io_error(path, "looking at its files", error);
    let _database_lock = wait_for_database(path)?;
    let copy = Scratch::new().map_err(|error| cannot_copy(path, &error))?;
    if creation::is_unfinished(path)? {
        // What it has left is nothing yet: the copy is an empty log.
        return Ok(Copied { directory: copy, journal: Found::default(), written: None });
    }
    creation::check_made(path)?;
    copy_files(path, copy.path()).map_err(|error| cannot_copy(path, &error))?;
    let was_left_in_order = lock_file::was_left_in_order(path);
    let journal = find_journal(path, was_left_in_order)?;
    let written = if was_left_in_order { None } else { Some(segments::end(path).map_err(|error| failed(&error))?) };
    Ok(Copied { directory: copy, journal, written })
}

/// Where there is no room for a copy, the disk of the log is not to blame.
fn cannot_copy(path: &Path, error: &dyn std::fmt::Display) -> OpenError {
    let doing = "copying its index into the directory for temporary files".to_owned();
    OpenError::Io { path: path.to_owned(), doing, reason: Scratch::explain(error) }
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
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut files::to_read(from)?, &mut copy).map(drop)
}

/// Waits for sled's own lock, which a process that has just ended can hold for a moment more than ours.
pub(crate) fn wait_for_database(path: &Path) -> Result<Option<File>, OpenError> {
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
                return Err(lock_file::left_locked(path, &file, 0));
            }
            Err(TryLockError::Error(error)) => {
                return Err(io_error(path, "locking its database", &error));
            }
        }
    }
}

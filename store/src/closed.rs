//! A log that was closed in order, read in place, without sled.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::backend::indexed::Indexed;
use crate::backend::journal;
use crate::backend::sled_file::{SledFile, Unreadable};
use crate::copy::wait_for_database;
use crate::core::Core;
use crate::core::open::open_for_reading;
use crate::core::recover::Care;
use crate::directory::{creation, head_file, lock_file};

/// What changes when a process opens a log: it names itself in the lock file and saves the head anew, before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    lock: Option<(u64, SystemTime)>,
    head: Option<(u64, SystemTime)>,
}

impl Stamp {
    pub(crate) fn of(directory: &Path) -> Self {
        let lock = fs::metadata(directory.join(lock_file::NAME)).ok();
        let head = fs::metadata(directory.join(head_file::NAME)).ok();
        Self {
            lock: lock.and_then(|file| Some((file.len(), file.modified().ok()?))),
            head: head.and_then(|file| Some((file.ino(), file.modified().ok()?))),
        }
    }
}

/// A log that was found in order.
pub(crate) type InPlace = Core<Indexed<SledFile>>;

/// Opens a log that no process holds, for reading, if it was closed in order and is found so. The caller holds the log's
/// lock, shared.
pub(crate) fn in_place(path: &Path) -> Option<InPlace> {
    let in_order = lock_file::was_left_in_order(path)
        && journal::is_removed(path)
        && matches!(creation::is_unfinished(path), Ok(false));
    if !in_order || creation::check_made(path).is_err() {
        return None;
    }
    let _database_lock = wait_for_database(path).ok()?;
    let file = match open_indexed(path) {
        Ok(file) => file,
        Err(why) => {
            tracing::debug!(log = %path.display(), why, "not read where it lies");
            return None;
        }
    };
    match open_for_reading(file, path.display().to_string(), Care::Groups) {
        Ok(core) => Some(core),
        Err(unfit) => {
            tracing::debug!(log = %path.display(), ?unfit, "not read where it lies");
            None
        }
    }
}

/// The database of a log, and its segments as far as the database leads into them; else why they are not read.
fn open_indexed(path: &Path) -> Result<Indexed<SledFile>, String> {
    let file = SledFile::open(path).map_err(|(Unreadable::Strange(why) | Unreadable::Failed(why))| why)?;
    let indexed = Indexed::over(file, path, path).map_err(|error| error.to_string())?;
    indexed.check_end().and_then(|()| indexed.open_all()).map_err(|error| error.to_string())?;
    Ok(indexed)
}

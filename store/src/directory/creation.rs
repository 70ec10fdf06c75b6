//! Making a log so that whatever stops it, and whenever, leaves none or a whole one.
//!
//! A file `creating` stands in the directory from before anything else until the head file does. A directory with the one
//! and without the other holds nothing that was ever acknowledged: what is in it may be torn, and the creation begins
//! again. A directory with neither was a log, and has lost something.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::files::{self, Access};
use super::{format_file, head_file, io_error, is_snapshot, sync_directory};
use crate::backend::journal;
use crate::backend::segments;
use crate::backend::sled::DATA_FILE;
use crate::log::OpenError;

pub(super) const NAME: &str = "creating";

/// Makes the directory, where there is none: for this user alone. The directories above it are nobody's secret.
pub(crate) fn make_directory(path: &Path) -> Result<(), OpenError> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let made = above.map_or(Ok(()), fs::create_dir_all).and_then(|()| DirBuilder::new().mode(0o700).create(path));
    match made {
        // What stands there is looked at when it is locked.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(path, "making the directory", &error)),
        _ => Ok(()),
    }
}

/// Says in the directory what it is and that it is not finished. Whoever calls this holds the log's lock, and has found no log.
pub(crate) fn begin(path: &Path) -> Result<(), OpenError> {
    mark(path).map_err(|error| io_error(path, "writing into the new directory", &error))?;
    format_file::write(path).map_err(|error| io_error(path, "writing its format file", &error))
}

fn mark(path: &Path) -> io::Result<()> {
    files::create_anew(&path.join(NAME), Access::of(path)?)?.sync_all()?;
    sync_directory(path)
}

/// Whether a creation was stopped before it was finished.
pub(crate) fn is_unfinished(path: &Path) -> Result<bool, OpenError> {
    let is_there = |name: &str| {
        path.join(name).try_exists().map_err(|error| io_error(path, &format!("looking for its file {name}"), &error))
    };
    Ok(is_there(NAME)? && !is_there(head_file::NAME)?)
}

/// Removes what an unfinished creation has left. Whoever calls this holds the log's lock.
pub(crate) fn clear(path: &Path) -> Result<(), OpenError> {
    let clear = || -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == "blobs" || name == segments::DIRECTORY {
                fs::remove_dir_all(entry.path())?;
            } else if name == "conf" || name == DATA_FILE || is_snapshot(&name) {
                fs::remove_file(entry.path())?;
            } else if name == journal::NAME {
                journal::remove(path)?;
                journal::prepare(path)?;
            }
        }
        Ok(())
    };
    clear().map_err(|error| io_error(path, "removing what an unfinished creation has left", &error))
}

/// Syncs the files that sled makes: one that a creation has just made, or an open in place of a lost one.
pub(crate) fn sync_files(path: &Path) -> Result<(), OpenError> {
    let sync = || -> io::Result<()> {
        for name in ["conf", DATA_FILE, "blobs"] {
            match files::to_read(&path.join(name)) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_directory(path)
    };
    sync().map_err(|error| io_error(path, "syncing its files", &error))
}

/// Syncs the directories above a new log: its name is not durable before its parent is, which may have been made with it,
/// and so on.
pub(crate) fn sync_parents(path: &Path) -> Result<(), OpenError> {
    // A path of one part has its parent where the process is.
    path.canonicalize()
        .and_then(|path| path.ancestors().skip(1).try_for_each(sync_ancestor))
        .map_err(|error| io_error(path, "syncing the directories above it", &error))
}

/// One that this user may not read, or that lies on a disk that cannot be written to, was not made here.
fn sync_ancestor(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
        Ok(opened) => match opened.sync_all() {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::ReadOnlyFilesystem) => Ok(()),
            synced => synced,
        },
    }
}

/// Says that the log is whole from here on: it has its head file.
pub(crate) fn finish(path: &Path) -> Result<(), OpenError> {
    if is_unfinished(path)? {
        return Ok(());
    }
    match fs::remove_file(path.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io_error(path, "removing the mark of its creation", &error))
        }
        _ => Ok(()),
    }
}

/// That the files are there which a log has that was made: sled would make an empty database in place of a lost one. What
/// can be told without sled is told before it.
pub(crate) fn check_made(path: &Path) -> Result<(), OpenError> {
    let damaged = |what: &str| Err(OpenError::Damaged { path: path.to_owned(), what: what.to_owned() });
    let head = head_file::load(path).map_err(|error| io_error(path, "reading its head file", &error))?;
    if head.is_none() {
        return damaged(
            "its head file (`head`), which says how far it goes, is missing. One of an earlier time from a backup of this \
             log will do",
        );
    }
    match fs::symlink_metadata(path.join(DATA_FILE)) {
        Ok(database) if database.len() > 0 => Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(path, "looking at its database", &error)),
        _ => damaged("its database (the file `db`) is missing or empty, though its head file says that there was one"),
    }
}

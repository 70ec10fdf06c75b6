//! Creating a log so that an interruption at any point leaves either no log or a complete one.
//!
//! A file `creating` is in the directory from before anything else until the head file is. A directory with `creating`
//! and without a head contains nothing that was acknowledged: its contents may be torn, and the creation starts again.
//! A directory with neither was a log that has lost its head.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::files::{self, Access};
use super::{format_file, io_error, sync_directory};
use crate::core::open::HEAD;
use crate::index::store;
use crate::log::OpenError;
use crate::segments;

pub(super) const NAME: &str = "creating";

/// Creates the directory if it does not exist, accessible to this user alone. Its parents get the default mode.
pub(crate) fn make_directory(path: &Path) -> Result<(), OpenError> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let made = above.map_or(Ok(()), fs::create_dir_all).and_then(|()| DirBuilder::new().mode(0o700).create(path));
    match made {
        // Whatever exists at the path is inspected after it is locked.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(path, "creating the directory", &error)),
        _ => Ok(()),
    }
}

/// Marks the directory as an unfinished log. The caller holds the log's lock and has found no log.
pub(crate) fn begin(path: &Path) -> Result<(), OpenError> {
    mark(path).map_err(|error| io_error(path, "writing into the new directory", &error))?;
    format_file::write(path).map_err(|error| io_error(path, "writing its format file", &error))
}

fn mark(path: &Path) -> io::Result<()> {
    files::create_anew(&path.join(NAME), Access::of(path)?)?.sync_all()?;
    sync_directory(path)
}

/// Whether a creation was interrupted.
pub(crate) fn is_unfinished(path: &Path) -> Result<bool, OpenError> {
    let is_there = |name: &str| {
        path.join(name).try_exists().map_err(|error| io_error(path, &format!("looking for its file {name}"), &error))
    };
    Ok(is_there(NAME)? && !is_there(HEAD)?)
}

/// Removes the leftovers of an unfinished creation. The caller holds the log's lock.
pub(crate) fn clear(path: &Path) -> Result<(), OpenError> {
    let clear = || -> io::Result<()> {
        for directory in [segments::DIRECTORY, store::DIRECTORY] {
            store::remove(&path.join(directory))?;
        }
        Ok(())
    };
    clear().map_err(|error| io_error(path, "removing the leftovers of an unfinished creation", &error))
}

/// Syncs the directories above a new log. Its name is durable only once its parent is, which may be just as new, and so
/// on.
pub(crate) fn sync_parents(path: &Path) -> Result<(), OpenError> {
    // The parent of a one-part path is the current directory.
    path.canonicalize()
        .and_then(|path| path.ancestors().skip(1).try_for_each(sync_ancestor))
        .map_err(|error| io_error(path, "syncing the directories above it", &error))
}

/// Syncs a directory. Ignores unreadable and read-only ones: this process did not create them.
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

/// Marks the creation as finished if the head file exists.
pub(crate) fn finish(path: &Path) -> Result<(), OpenError> {
    if is_unfinished(path)? {
        return Ok(());
    }
    match fs::remove_file(path.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io_error(path, "removing the file that marks its creation", &error))
        }
        _ => Ok(()),
    }
}

/// The error for a log without a head file.
pub(crate) fn missing_head(path: &Path) -> OpenError {
    let what = "its head file (`head`), which records how far it goes, is missing. An older one from a backup of this \
                    log will do";
    OpenError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

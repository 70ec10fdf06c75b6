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
use super::{format_file, io_error, sync_directory};
use crate::core::open::HEAD;
use crate::index::store;
use crate::log::OpenError;
use crate::segments;

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
    Ok(is_there(NAME)? && !is_there(HEAD)?)
}

/// Removes what an unfinished creation has left. Whoever calls this holds the log's lock.
pub(crate) fn clear(path: &Path) -> Result<(), OpenError> {
    let clear = || -> io::Result<()> {
        for directory in [segments::DIRECTORY, store::DIRECTORY] {
            store::remove(&path.join(directory))?;
        }
        Ok(())
    };
    clear().map_err(|error| io_error(path, "removing what an unfinished creation has left", &error))
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

/// The refusal of a log without a head file.
pub(crate) fn no_head(path: &Path) -> OpenError {
    let what = "its head file (`head`), which says how far it goes, is missing. One of an earlier time from a backup of this \
                log will do";
    OpenError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

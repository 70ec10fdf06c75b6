//! The directory that an interrupted [`compact`](crate::compact) leaves beside a log: an incomplete new log, or the old
//! one.
//!
//! Both have the same name. The process that works on the directory holds a lock on it, so an unlocked one
//! belongs to a process that died.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::compact::files_of;
use crate::directory::files;
use crate::directory::sync_directory;

/// The suffix of the directory's name.
const SUFFIX: &str = ".cloaca-compact";

/// The path of the directory beside a log while that log is rewritten.
pub(crate) fn path_of(log: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(log.file_name().unwrap_or_default());
    name.push(SUFFIX);
    log.with_file_name(name)
}

/// Whether a path is that of the directory which [`compact`](crate::compact) creates beside a log. Such a directory may
/// be incomplete and must not be read.
///
/// # Examples
/// ```
/// use std::path::Path;
///
/// assert!(cloacina_store::is_left_by_compact(Path::new("runs/.log.cloaca-compact")));
/// assert!(!cloacina_store::is_left_by_compact(Path::new("runs/log")));
/// ```
#[must_use]
pub fn is_left_by_compact(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
}

/// Locks a directory for this process, until the file is closed.
pub(crate) fn claim(directory: &File) -> io::Result<()> {
    directory.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process is removing it"),
        TryLockError::Error(error) => error,
    })
}

/// Removes the leftover directory beside a log, unless there is none or a process works on it. The path of the log must
/// contain no symbolic link. The caller holds the log's lock.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    let path = path_of(log);
    let left = match files::open_directory(&path) {
        Ok(left) => left,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    claim(&left)?;
    wipe(&path)
}

/// Overwrites all segments of the log in a directory, and removes it. The caller has claimed it.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    // The new log's name must be durable first: a power failure must not bring back a log that was overwritten.
    sync_directory(parent)?;
    files_of(path).iter().try_for_each(|file| overwrite_with_zeros(file))?;
    fs::remove_dir_all(path)?;
    sync_directory(parent)
}

/// Overwrites a file with zeros, durably, if it exists.
fn overwrite_with_zeros(path: &Path) -> io::Result<()> {
    let mut file = match files::open_write(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut left = file.metadata()?.len();
    let zeros = vec![0; 1 << 20];
    while left > 0 {
        let part = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&zeros[..part])?;
        left -= part as u64;
    }
    file.sync_all()
}

//! What a [`compact`](crate::compact) that was stopped has left beside a log: a new one that is not whole, or the old one.
//!
//! It stands under one name, in either case. Whoever works on it holds a lock of that directory; so one that is free belongs to a
//! process that has died.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::compact::files_of;
use crate::directory::files;
use crate::directory::sync_directory;

/// What its name ends with.
const SUFFIX: &str = ".cloaca-compact";

/// Where the other log stands while a log is written anew.
pub(crate) fn path_of(log: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(log.file_name().unwrap_or_default());
    name.push(SUFFIX);
    log.with_file_name(name)
}

/// Whether a path is that of the other log, which is nobody's to read, while [`compact`](crate::compact) writes a log anew or after it
/// was stopped.
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

/// Makes a directory this process's own, until it is closed.
pub(crate) fn claim(directory: &File) -> io::Result<()> {
    directory.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process removes it"),
        TryLockError::Error(error) => error,
    })
}

/// Removes what was left beside a log, if something was and no process is at it. The path of the log leads through no symbolic link.
/// Whoever calls this holds the log's lock.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    let path = path_of(log);
    let left = match files::directory(&path) {
        Ok(left) => left,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    claim(&left)?;
    wipe(&path)
}

/// Writes over all that was in the log in a directory, and removes it. Whoever calls this has claimed it.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    // A power cut must not bring the old one back after it was written over.
    sync_directory(parent)?;
    files_of(path).iter().try_for_each(|file| write_over(file))?;
    fs::remove_dir_all(path)?;
    sync_directory(parent)
}

/// Writes zeros over a file, down to the disk, if it is there.
fn write_over(path: &Path) -> io::Result<()> {
    let mut file = match files::to_write(path) {
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

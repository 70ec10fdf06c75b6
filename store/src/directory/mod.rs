//! The directory that a log is kept in.
//!
//! ```text
//! creating   stands here while the log is being made
//! format     what this is, written as a whole
//! lock       held by whoever writes; names the process
//! segments/  the log: what was appended, one behind the other
//! index/     sled's: where in the segments what is; it can be removed
//! head       how far the log is known to go
//! socket     where readers ask while a process holds the log
//! ```
//!
//! Whoever writes does so through the [open directory](opened), and no symbolic link in it is [followed](files).

pub(crate) mod creation;
pub(crate) mod files;
pub(crate) mod format_file;
pub(crate) mod holders;
pub(crate) mod lock_file;
pub(crate) mod opened;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::log::OpenError;

/// The error for what the operating system refused, with what to do about it.
pub(crate) fn io_error(path: &Path, doing: &str, error: &io::Error) -> OpenError {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "; give this user access to it, or choose another path",
        ErrorKind::ReadOnlyFilesystem => "; a log is written to: choose a path on a writable disk",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space and open it again",
        ErrorKind::NotADirectory => "; a part of the path is a file",
        _ => "",
    };
    OpenError::Io { path: path.to_owned(), doing: doing.to_owned(), reason: format!("{error}{advice}") }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or a directory with nothing in it.
    Nothing,
    /// A log (its format file says so).
    Log,
}

/// Looks at a path, and changes nothing.
pub(crate) fn look(path: &Path) -> Result<Found, OpenError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io_error(path, "looking at it", &error)),
    };
    if !metadata.is_dir() {
        return Err(OpenError::NotALog { path: path.to_owned(), found: describe_file(path) });
    }
    files::check_no_links(path).map_err(|error| io_error(path, "looking at it", &error))?;
    if format_file::check(path)? {
        return Ok(Found::Log);
    }
    let entries = fs::read_dir(path).map_err(|error| io_error(path, "listing it", &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error(path, "listing it", &error))?;
        // What a creation leaves that was stopped in its first steps.
        if ![lock_file::NAME, format_file::TEMPORARY, creation::NAME].iter().any(|left| entry.file_name() == *left) {
            // Somebody else may be making the log.
            if format_file::check(path)? {
                return Ok(Found::Log);
            }
            let found =
                format!("a directory with other files in it, such as {}", Path::new(&entry.file_name()).display());
            return Err(OpenError::NotALog { path: path.to_owned(), found });
        }
    }
    Ok(Found::Nothing)
}

/// What a file is, as far as it concerns somebody who took it for a log.
fn describe_file(path: &Path) -> String {
    const SQLITE: &[u8] = b"SQLite format 3\0";

    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        // Opening a pipe waits for somebody who writes to it.
        return "a pipe, socket or device (a log is a directory)".to_owned();
    }
    let mut start = Vec::new();
    let read = File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, SQLITE.len() as u64), &mut start));
    if read.is_ok() && start == SQLITE {
        "an SQLite database (another Cloacina may have written it; a log is a directory)".to_owned()
    } else {
        "a file (a log is a directory)".to_owned()
    }
}

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a small file so that after a crash it has the old content or the new one, and durably.
pub(crate) fn write_whole(directory: &Path, name: &str, temporary: &str, content: &[u8]) -> io::Result<()> {
    let path = directory.join(temporary);
    let mut file = files::create_anew(&path, files::Access::of(directory)?)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    fs::rename(&path, directory.join(name))?;
    sync_directory(directory)
}

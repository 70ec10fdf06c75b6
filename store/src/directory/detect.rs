//! Detects whether there is a log at a path.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{creation, files, format_file, io_error, lock_file};
use crate::log::OpenError;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nothing, or an empty directory.
    Absent,
    /// A log, according to its format file.
    Log,
}

/// Inspects a path without changing anything.
pub(crate) fn detect(path: &Path) -> Result<Presence, OpenError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Presence::Absent),
        Err(error) => return Err(io_error(path, "reading its metadata", &error)),
    };
    if !metadata.is_dir() {
        return Err(OpenError::NotALog { path: path.to_owned(), found: describe_file(path) });
    }
    files::check_no_links(path).map_err(|error| io_error(path, "checking its files", &error))?;
    if format_file::check(path)? {
        return Ok(Presence::Log);
    }
    let entries = fs::read_dir(path).map_err(|error| io_error(path, "listing it", &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error(path, "listing it", &error))?;
        // Files of a creation that was interrupted in its first steps do not count.
        if ![lock_file::NAME, format_file::TEMPORARY, creation::NAME].iter().any(|left| entry.file_name() == *left) {
            // Another process may be creating the log.
            if format_file::check(path)? {
                return Ok(Presence::Log);
            }
            let found =
                format!("a directory with other files in it, such as {}", Path::new(&entry.file_name()).display());
            return Err(OpenError::NotALog { path: path.to_owned(), found });
        }
    }
    Ok(Presence::Absent)
}

/// Describes a file that is not a log.
fn describe_file(path: &Path) -> String {
    const SQLITE: &[u8] = b"SQLite format 3\0";

    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        // Opening a pipe would block until a process writes to it.
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

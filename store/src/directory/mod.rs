//! The directory of a log.
//!
//! ```text
//! creating   present while the log is being created
//! format     identifies the directory as a log, and its format; written atomically
//! lock       held by the process that writes, and names it
//! segments/  the log itself: all appends, in order
//! index/     sled's index of the segments; can be removed
//! head       how far the log is known to go
//! socket     where readers connect while a process holds the log
//! ```
//!
//! Writers go through the [open directory](open_directory). Symbolic links in it are not [followed](files).

pub(crate) mod creation;
pub(crate) mod detect;
pub(crate) mod files;
pub(crate) mod format_file;
pub(crate) mod holders;
pub(crate) mod lock_file;
pub(crate) mod open_directory;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::log::OpenError;

/// The error for a failed system call, with advice.
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

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a small file atomically and durably.
pub(crate) fn replace_file(directory: &Path, name: &str, temporary: &str, content: &[u8]) -> io::Result<()> {
    let path = directory.join(temporary);
    let mut file = files::create_anew(&path, files::Access::of(directory)?)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    fs::rename(&path, directory.join(name))?;
    sync_directory(directory)
}

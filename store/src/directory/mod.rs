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
pub(crate) mod looking;
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

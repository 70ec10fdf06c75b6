//! Archives: streams in one portable file.
//!
//! An archive holds whole streams as they were sealed (salts, commitments and hashes included), the definitions that
//! they refer to, what was erased from them, and where they came from. [`write_archive`] makes one from any
//! [`LogReader`](crate::log::LogReader), [`open_archive`] reads it in place of a log. `FORMAT.md` says what each byte
//! means.

mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod index;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{ArchiveReader, open_archive};
pub use write::{ArchiveError, Archived, Selected, write_archive};

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Whether a file begins as an archive of any version does.
#[must_use]
pub fn is_archive(path: &Path) -> bool {
    let mut start = [0; format::BEGINNING.len()];
    // A pipe is not looked into.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *format::BEGINNING
}

//! Archives: streams in a portable file.
//!
//! An archive contains complete streams as they were sealed (with salts, commitments and hashes), the definitions that
//! they refer to, their erasures, and their origin. [`write_archive`] makes one from any
//! [`LogReader`](crate::log::LogReader), [`open_archive`] reads it like a log. `FORMAT.md` defines each
//! byte.

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

/// Whether a file begins like an archive of any version.
#[must_use]
pub fn is_archive(path: &Path) -> bool {
    let mut start = [0; format::BEGINNING.len()];
    // Opening a pipe could block.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *format::BEGINNING
}

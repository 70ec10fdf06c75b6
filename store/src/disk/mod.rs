//! The storage interface of a log: files with random access, and a few names.
//!
//! Everything else about a log (order, sealing, conflicts, the listing, recovery) is implemented once, on top of these
//! two traits. The directory of a log is one disk, [`MemoryDisk`](crate::MemoryDisk) another, which tears, loses and
//! fails on command; `tests/suite` tests a log on a new one. Methods can be called in any order.

pub(crate) mod directory;
pub(crate) mod memory;

use std::io;
use std::sync::Arc;

/// A file of a log.
pub trait DiskFile: Send + Sync {
    /// Reads at an offset. Returns fewer bytes than requested only at the end of the file.
    ///
    /// # Errors
    /// Of the operating system, as for all methods.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset, without waiting for the disk.
    ///
    /// # Errors
    /// Of the operating system; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The length of the file.
    ///
    /// # Errors
    /// Of the operating system.
    fn length(&self) -> io::Result<u64>;

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// Of the operating system.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Waits until all writes and the length survive a power failure.
    ///
    /// # Errors
    /// Of the operating system. Everything that was written since the last sync may be lost then.
    fn sync(&self) -> io::Result<()>;
}

/// The files of a log. A name is one word, or two with a slash between them: a file in a directory.
pub trait Disk: Send + Sync {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it does not exist; others of the operating system.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it does not exist; others of the operating system.
    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file, and the directory in its name; replaces an existing file. The name is durable.
    ///
    /// # Errors
    /// Of the operating system.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file durably. Succeeds if it does not exist.
    ///
    /// # Errors
    /// Of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Replaces a small file atomically and durably.
    ///
    /// # Errors
    /// Of the operating system; the old file is unchanged then.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// The names of the files in a directory, unsorted and without the directory. Empty if it does not exist.
    ///
    /// # Errors
    /// Of the operating system.
    fn names(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Checks that writes still go to the path where the log was opened, and not to files that were moved or removed.
    ///
    /// # Errors
    /// A description of what happened to the log's files.
    fn check_in_place(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a small file; `None` if it does not exist.
pub(crate) fn content(disk: &dyn Disk, name: &str, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX).min(longest);
    let mut content = vec![0; length];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}

//! What a log needs of a disk: a few files that are read and written at places, and a few names.
//!
//! All that makes a log (order, sealing, conflicts, the listing, recovery) is written once over these two traits. The
//! directory of a log is one disk, [`MemoryDisk`](crate::MemoryDisk) another, which tears, loses and
//! fails on command; `tests/suite` says whether a log on a new one is a good one. Methods can be called in any order.

pub(crate) mod directory;
pub(crate) mod memory;

use std::io;
use std::sync::Arc;

/// A file of a log.
pub trait DiskFile: Send + Sync {
    /// Reads at a place; fewer bytes than there is room for only where the file ends.
    ///
    /// # Errors
    /// Of the system, as for all of these.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at a place, and does not wait for the disk.
    ///
    /// # Errors
    /// Of the system; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// How long it is.
    ///
    /// # Errors
    /// Of the system.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it, or lengthens it with zeros.
    ///
    /// # Errors
    /// Of the system.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Waits until all that was written, and its length, survive a power cut.
    ///
    /// # Errors
    /// Of the system, and nothing that was written since the last sync may be relied on then.
    fn sync(&self) -> io::Result<()>;
}

/// Where the files of a log are. A name is one word, or two with a slash between them: a file in a directory.
pub trait Disk: Send + Sync {
    /// Opens a file to read it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none; of the system.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read and write it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none; of the system.
    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, in the place of one that is there, and the directory in its name. The name is durable.
    ///
    /// # Errors
    /// Of the system.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file, durably. One that is not there is no error.
    ///
    /// # Errors
    /// Of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Puts a small file in the place of the one of that name: after a crash there is the old one or the new one. It is durable.
    ///
    /// # Errors
    /// Of the system; the old one is still there.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// The names of the files in a directory, which need not be there, in no order and without the directory.
    ///
    /// # Errors
    /// Of the system.
    fn names(&self, directory: &str) -> io::Result<Vec<String>>;

    /// That what is written next still goes to where the log was opened, and not to files that were moved or removed.
    ///
    /// # Errors
    /// What has become of the log's files, in words.
    fn check_in_place(&self) -> io::Result<()> {
        Ok(())
    }
}

/// All that is in a small file; `None` if there is none.
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

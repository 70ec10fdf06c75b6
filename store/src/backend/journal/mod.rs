//! The journal: where a group is written before the database has it.
//!
//! sled needs two threads to wake for a flush, and writes a page anew for a few small entries. So a group is written to a
//! file of fixed length first, with one write and one fdatasync, and acknowledged; it reaches the database later, together
//! with others. The file has two halves. One takes entries; when it is full, and the groups of the other one are on the disk
//! in the database, they change places. A group that fits no half goes to the database at once.
//!
//! While nobody has the log, the file has no length: whoever takes the log up makes room before he names himself in the lock
//! file, and it is taken back after his name. So a log that was not left in order has its journal, or has lost it.
//!
//! An entry stands in sectors that carry checksums. A crash leaves sectors that are old or new, never one that is neither:
//! that is damage. Which entries count is told by positions: those that the database has already do not.

pub(crate) mod entry;
mod found;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod sector;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) use found::Found;

use self::sector::SECTOR;
use crate::directory::files::{self, Access};

/// The file, in the directory of a log.
pub(crate) const NAME: &str = "journal";

/// What is wrong with a log whose process died and that has no journal.
pub(crate) const MISSING: &str = "its journal (the file `journal`) is missing: what was written last is in it";

/// The sectors of a half: enough for some three hundred decisions of four events.
const HALF: usize = 2_048;
const LENGTH: u64 = (2 * HALF * SECTOR) as u64;

/// Makes room for the journal in the directory of a log that is taken up. Of a log that was closed it has no length; one that has
/// is left as it is.
pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
    let file = files::to_read_and_write(&directory.join(NAME), Access::of(directory)?)?;
    if file.metadata()?.len() == 0 {
        // A hole, which reads as zeros: what is never written takes no space.
        file.set_len(LENGTH)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Takes the room back, of a log that was closed.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    files::to_write(&directory.join(NAME))?.set_len(0)
}

/// Whether a log has no journal, as one that was closed.
pub(crate) fn is_removed(directory: &Path) -> bool {
    fs::symlink_metadata(directory.join(NAME)).map_or(true, |journal| journal.len() == 0)
}

/// Whether a journal has nothing.
fn is_zero(directory: &Path) -> io::Result<bool> {
    Ok(files::content(&directory.join(NAME))?.chunks(SECTOR).all(|sector| sector == sector::EMPTY))
}

/// A journal that is written.
pub(crate) struct Journal {
    file: File,
    /// The half that takes entries, and its first sector that is free.
    half: usize,
    next: usize,
    /// How many sectors of each half may have something in them.
    used: [usize; 2],
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a directory, which was prepared. What is in it counts no more: the database has all of it.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let file = files::to_write(&directory.join(NAME))?;
        file.set_len(LENGTH)?;
        let mut journal = Self { file, half: 0, next: 0, used: [HALF; 2], buffer: Vec::new() };
        if is_zero(directory)? {
            journal.used = [0; 2];
        }
        Ok(journal)
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether an entry of so many bytes can be in it at all.
    pub(crate) fn can_take(length: usize) -> bool {
        sector::count_for(length) <= HALF
    }

    /// Whether there is room for an entry in this half.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.next + sector::count_for(length) <= HALF
    }

    /// Writes an entry, for which there is room, and does not wait for the disk.
    pub(crate) fn write(&mut self, start: u64, entry: &[u8]) -> io::Result<()> {
        let first = (self.half * HALF + self.next) as u64;
        self.buffer.clear();
        sector::write(first, start, entry, &mut self.buffer);
        self.next += sector::count_for(entry.len());
        self.used[self.half] = self.used[self.half].max(self.next);
        self.file.write_all_at(&self.buffer, first * SECTOR as u64)
    }

    /// Waits until all that was written is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Goes on in the other half, from its beginning: the database has what was in it.
    pub(crate) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.next = 0;
    }

    /// Writes zeros over all entries: the database has them.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        for (half, used) in self.used.into_iter().enumerate() {
            self.file.write_all_at(&vec![0; used * SECTOR], (half * HALF * SECTOR) as u64)?;
        }
        self.used = [0; 2];
        self.sync()
    }
}

#[cfg(test)]
mod tests;

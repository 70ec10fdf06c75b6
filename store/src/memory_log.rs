//! A log in memory: the same logic as the one in a directory, on a disk that tests can make fail.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::changes;
use crate::core::Core;
use crate::core::open::{WriterOptions, create, load, load_head, open_for_writing};
use crate::core::scan::LoadError;
use crate::core::writer::{Job, Writer};
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::keeper::{Change, ChangeError, Changed, Keeper};
use crate::layout::segment::HEADER;
use crate::log::{Acknowledge, AppendError, Batch, Durability, EventLog, LogReader, OpenError};
use crate::log_event::Opened;
use crate::record::StreamId;
use crate::segments::{name_of, numbers};
use crate::sled_log::new_id;
use crate::sync::lock;

/// The maximum length of a segment; short, so that tests have several.
const MAX_SEGMENT: u32 = 1024 * 1024;

/// A log in memory, for tests, simulations, and callers that want no files.
///
/// It has no thread and no clock. An append does all work on the caller's thread and calls its acknowledgement before
/// it returns; the log's own records get the time of the previous record. So a simulation that supplies the times is
/// deterministic, except for the salts and the hashes. The log stays readable after it was closed.
pub struct MemoryLog {
    core: Arc<Core>,
    writer: Mutex<Writer>,
}

impl MemoryLog {
    /// Opens the log on a disk in memory, or creates it if the disk is empty. Acknowledges as [`Durability::Sync`].
    ///
    /// # Errors
    /// [`OpenError::Damaged`] if what is on the disk is not what was written; [`OpenError::Io`] if the disk fails.
    pub fn open(disk: &MemoryDisk) -> Result<Self, OpenError> {
        Self::open_with(disk, Durability::Sync)
    }

    /// Opens the log with another durability mode. With [`Durability::Interval`] and [`Durability::Os`], only closing
    /// syncs: there is no thread to do it later.
    ///
    /// # Errors
    /// As for [`MemoryLog::open`].
    pub fn open_with(disk: &MemoryDisk, durability: Durability) -> Result<Self, OpenError> {
        let location = "memory".to_owned();
        let opened = Opened::new(location.clone(), 0, durability);
        let open = || {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let head = match load_head(&*disk)? {
                Some(head) => head,
                None if has_appends(&*disk)? => {
                    return Err(LoadError::Damaged("its head file (`head`) is missing".to_owned()));
                }
                None => create(&disk, new_id())?,
            };
            let found = load(&disk, head, None, false)?;
            let (location, max_segment) = (location.clone(), MAX_SEGMENT);
            open_for_writing(
                &disk,
                found,
                WriterOptions { location, durability, opened, now: |last| last, max_segment },
            )
        };
        let (core, writer) = open().map_err(|error| error.at(Path::new(&location)))?;
        Ok(Self { core, writer: Mutex::new(writer) })
    }

    /// Verifies the whole log, record by record.
    #[must_use]
    pub fn verify(&self) -> crate::Verified {
        crate::core::verify::verify(&self.core)
    }
}

/// Whether anything was appended: an interrupted creation leaves only the header of a segment.
fn has_appends(disk: &dyn Disk) -> Result<bool, LoadError> {
    let failed = |error: std::io::Error| LoadError::Failed(format!("looking at its segments: {error}"));
    let numbers = numbers(disk).map_err(failed)?;
    let lengths = numbers.iter().map(|number| disk.open(&name_of(*number))?.length());
    let lengths: Vec<u64> = lengths.collect::<std::io::Result<_>>().map_err(failed)?;
    Ok(lengths.iter().any(|length| *length > HEADER as u64))
}

impl LogReader for MemoryLog {
    crate::read_through!(self => self.core);
}

impl Keeper for MemoryLog {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        changes::perform(change, |work| {
            let mut writer = lock(&self.writer);
            let time = writer.last_time();
            let changed = writer.change(work, time);
            writer.notify_readers();
            changed
        })
    }
}

impl EventLog for MemoryLog {
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge) {
        let outcomes = lock(&self.writer).commit(vec![Job::new(batch, acknowledge)]);
        // After the writer is unlocked: an acknowledgement may append.
        outcomes.into_iter().for_each(|outcome| outcome.acknowledge());
        self.core.tip_watch.notify();
    }

    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        self.core.post(stream, notice);
    }

    fn flushes(&self) -> u64 {
        self.core.flushes.load(Ordering::Relaxed)
    }

    fn close(&self) -> Result<(), AppendError> {
        if self.core.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut writer = lock(&self.writer);
        let time = writer.last_time();
        let closed = writer.close(time, || 0);
        self.core.tip_watch.close();
        closed
    }
}

//! A disk in memory that can fail, tear writes and lose data on command.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};
use crate::sync::lock;

/// The unit that a power failure keeps or loses as a whole.
const SECTOR: usize = 512;

/// A disk in memory. Clones share it: keep one beside the log to make it fail, or to see what a crash leaves.
///
/// # Examples
/// A log that loses power keeps what it acknowledged:
/// ```
/// use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader};
/// use cloacina_store::record::{StreamId, StreamKind, Timestamp};
/// use cloacina_store::{MemoryDisk, MemoryLog};
///
/// let disk = MemoryDisk::new();
/// let log = MemoryLog::open(&disk)?;
/// let stream = StreamId::from_bytes([1; 16]);
/// let frame = Frame {
///     stream,
///     kind: StreamKind::Execution,
///     expected_seq: 0,
///     time: Timestamp(0),
///     bodies: vec![b"started".to_vec()],
///     listing: Listing::Open(b"a label".to_vec()),
/// };
/// log.append(Batch { definitions: Vec::new(), frames: vec![frame] })?;
///
/// let after = MemoryLog::open(&disk.after_power_cut())?;
/// assert_eq!(after.read(stream, 0, 10)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<String, Content>,
    faults: Faults,
}

/// A file: its current content, and what a power failure would leave.
#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    read: Fault,
    write: Fault,
    sync: Fault,
}

/// Fails once its counter reaches zero, and from then on.
#[derive(Clone, Debug, Default)]
struct Fault(Option<(u64, String)>);

impl Fault {
    fn trigger(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Some((left, reason)) if *left <= 1 => Err(io::Error::other(reason.clone())),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `nth` write from now on fail (1: the next), and every later one. Half of the data is written, as on a
    /// real disk.
    pub fn fail_write(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.write = Fault(Some((nth, reason.to_owned())));
    }

    /// Makes the `nth` sync from now on fail (1: the next), and every later one.
    pub fn fail_sync(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.sync = Fault(Some((nth, reason.to_owned())));
    }

    /// Makes the `nth` read from now on fail (1: the next), and every later one.
    pub fn fail_read(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.read = Fault(Some((nth, reason.to_owned())));
    }

    /// Removes all faults.
    pub fn mend(&self) {
        lock(&self.state).faults = Faults::default();
    }

    /// A copy of the disk after a power failure that loses everything that was not synced.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        self.after_torn_power_cut(|_| false)
    }

    /// A copy of the disk after a power failure that keeps some unsynced sectors: those for which `is_kept` returns
    /// true. It is called with a running number for each of them.
    #[must_use]
    pub fn after_torn_power_cut(&self, mut is_kept: impl FnMut(usize) -> bool) -> Self {
        let mut asked = 0;
        self.copy_with(|content| {
            let mut left = content.synced.clone();
            for (at, sector) in content.written.chunks(SECTOR).enumerate() {
                let (from, to) = (at * SECTOR, at * SECTOR + sector.len());
                if content.synced.get(from..to) == Some(sector) {
                    continue;
                }
                asked += 1;
                if is_kept(asked - 1) {
                    left.resize(left.len().max(to), 0);
                    left[from..to].copy_from_slice(sector);
                }
            }
            left
        })
    }

    /// A copy of the disk after the process was killed: all writes are kept.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.copy_with(|content| content.written.clone())
    }

    fn copy_with(&self, mut content_of: impl FnMut(&Content) -> Vec<u8>) -> Self {
        let state = lock(&self.state);
        let files = state.files.iter().map(|(name, content)| {
            let left = content_of(content);
            (name.clone(), Content { written: left.clone(), synced: left })
        });
        Self { state: Arc::new(Mutex::new(State { files: files.collect(), faults: Faults::default() })) }
    }

    /// The names of all files, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// The content of a file; `None` if it does not exist.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.state).files.get(name).map(|content| content.written.clone())
    }

    /// Damages the disk: replaces the content of a file, or removes it.
    pub fn damage(&self, name: &str, content: Option<&[u8]>) {
        let mut state = lock(&self.state);
        match content {
            Some(content) => {
                let content = Content { written: content.to_vec(), synced: content.to_vec() };
                state.files.insert(name.to_owned(), content);
            }
            None => drop(state.files.remove(name)),
        }
    }
}

/// A file of a disk in memory.
struct MemoryFile {
    disk: MemoryDisk,
    name: String,
}

impl MemoryFile {
    fn with<T>(&self, work: impl FnOnce(&mut Content, &mut Faults) -> io::Result<T>) -> io::Result<T> {
        let State { files, faults } = &mut *lock(&self.disk.state);
        match files.get_mut(&self.name) {
            Some(content) => work(content, faults),
            None => Err(io::Error::other("the file was removed")),
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content, faults| {
            faults.read.trigger()?;
            let rest = content.written.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let read = rest.len().min(bytes.len());
            bytes[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|content, faults| {
            let triggered = faults.write.trigger();
            let bytes = if triggered.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
            let from = usize::try_from(offset).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
            let to = from + bytes.len();
            content.written.resize(content.written.len().max(to), 0);
            content.written[from..to].copy_from_slice(bytes);
            triggered
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|content, _| Ok(content.written.len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.with(|content, faults| {
            faults.write.trigger()?;
            content.written.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|content, faults| {
            faults.sync.trigger()?;
            content.synced.clone_from(&content.written);
            Ok(())
        })
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.faults.read.trigger()?;
        match state.files.contains_key(name) {
            true => Ok(Arc::new(MemoryFile { disk: self.clone(), name: name.to_owned() })),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.faults.write.trigger()?;
        state.faults.sync.trigger()?;
        state.files.insert(name.to_owned(), Content::default());
        Ok(Arc::new(MemoryFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.faults.write.trigger()?;
        state.files.remove(name);
        Ok(())
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.faults.write.trigger()?;
        state.faults.sync.trigger()?;
        let content = Content { written: content.to_vec(), synced: content.to_vec() };
        state.files.insert(name.to_owned(), content);
        Ok(())
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut state = lock(&self.state);
        state.faults.read.trigger()?;
        let inside = |name: &String| name.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned);
        Ok(state.files.keys().filter_map(inside).collect())
    }
}

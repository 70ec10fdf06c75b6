//! A disk in memory that can fail and crash on command.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use ::bytes::Bytes;

use super::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::sync::lock;

type Map = BTreeMap<Vec<u8>, Bytes>;
type Change = (Vec<u8>, Option<Bytes>);

/// A disk in memory. Clones are the same disk: keep one beside the log to make it fail, or to see what a crash leaves.
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
    /// What readers see.
    seen: Map,
    /// What survives a power cut.
    durable: Map,
    /// What was applied since then, in order; the first `written` of them survive a killed process.
    pending: Vec<Vec<Change>>,
    written: usize,
    head: Option<Vec<u8>>,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    read: Option<(u64, String)>,
    apply: Option<(u64, String)>,
    sync: Option<(u64, String)>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` write from now on fail (1: the next), and every one after it. Half of it may have happened, as on
    /// a real disk: none of it will be seen.
    pub fn fail_write(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.apply = Some((nth, reason.to_owned()));
    }

    /// Lets the `nth` sync from now on fail (1: the next), and every one after it.
    pub fn fail_sync(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.sync = Some((nth, reason.to_owned()));
    }

    /// Lets the `nth` read from now on fail (1: the next), and every one after it.
    pub fn fail_read(&self, nth: u64, reason: &str) {
        lock(&self.state).faults.read = Some((nth, reason.to_owned()));
    }

    /// Lets nothing fail any more.
    pub fn mend(&self) {
        lock(&self.state).faults = Faults::default();
    }

    /// Another disk with what a power cut would leave of this one: what was synced.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let state = lock(&self.state);
        Self::with(state.durable.clone(), state.head.clone())
    }

    /// Another disk with what a killed process would leave of this one: what was handed to the operating system.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = lock(&self.state);
        let mut map = state.durable.clone();
        apply_all(&mut map, state.pending.iter().take(state.written));
        Self::with(map, state.head.clone())
    }

    /// Another disk with all that this one has, durable or not: also what was written and never acknowledged.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = lock(&self.state);
        Self::with(state.seen.clone(), state.head.clone())
    }

    /// All keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Vec<u8>> {
        lock(&self.state).seen.keys().cloned().collect()
    }

    /// The value under a key.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        lock(&self.state).seen.get(key).map(|value| value.to_vec())
    }

    /// Damages the disk: puts another value under a key, or removes it.
    pub fn damage(&self, key: &[u8], value: Option<&[u8]>) {
        let mut state = lock(&self.state);
        let change = [(key.to_vec(), value.map(Bytes::copy_from_slice))];
        apply_all(&mut state.seen, [&change]);
        apply_all(&mut state.durable, [&change]);
    }

    fn with(map: Map, head: Option<Vec<u8>>) -> Self {
        let state = State { seen: map.clone(), durable: map, head, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

fn apply_all<'a, List: AsRef<[Change]> + 'a>(map: &mut Map, lists: impl IntoIterator<Item = &'a List>) {
    for (key, value) in lists.into_iter().flat_map(|list| list.as_ref()) {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

/// Counts a fault down; it strikes at one, and stays.
fn strike(fault: &mut Option<(u64, String)>) -> Result<(), BackendError> {
    match fault {
        Some((left, reason)) if *left <= 1 => Err(BackendError::Failed(reason.clone())),
        Some((left, _)) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl Backend for MemoryDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let mut state = lock(&self.state);
        strike(&mut state.faults.read)?;
        Ok(state.seen.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        if range.from >= range.below {
            return Ok(Vec::new());
        }
        let mut state = lock(&self.state);
        strike(&mut state.faults.read)?;
        let bounds = (Bound::Included(&range.from[..]), Bound::Excluded(&range.below[..]));
        let entries = state.seen.range::<[u8], _>(bounds);
        let copy = |(key, value): (&Vec<u8>, &Bytes)| (Bytes::copy_from_slice(key), value.clone());
        Ok(match direction {
            Direction::Up => entries.take(limit).map(copy).collect(),
            Direction::Down => entries.rev().take(limit).map(copy).collect(),
        })
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        changes.check_lengths()?;
        let mut state = lock(&self.state);
        strike(&mut state.faults.apply)?;
        let changes: Vec<Change> = changes.iter().map(|(key, value)| (key.to_vec(), value.cloned())).collect();
        apply_all(&mut state.seen, [&changes]);
        state.pending.push(changes);
        Ok(())
    }

    fn write_out(&self) -> Result<(), BackendError> {
        let mut state = lock(&self.state);
        state.written = state.pending.len();
        Ok(())
    }

    fn sync(&self) -> Result<(), BackendError> {
        let mut state = lock(&self.state);
        strike(&mut state.faults.sync)?;
        let written = std::mem::take(&mut state.written);
        let synced: Vec<_> = state.pending.drain(..written).collect();
        apply_all(&mut state.durable, &synced);
        Ok(())
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(lock(&self.state).head.clone())
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        lock(&self.state).head = Some(head.to_vec());
        Ok(())
    }

    /// A log in memory can be read after it was closed: that is what tests look at.
    fn close(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

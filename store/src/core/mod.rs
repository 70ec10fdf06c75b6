//! A log on any disk: the state shared by its readers and its writer.
//!
//! The writer makes a group durable before it adds the group to the index. So the index never shows anything that a
//! power failure could take back.

pub(crate) mod change;
pub(crate) mod fold;
pub(crate) mod group;
pub(crate) mod import;
pub(crate) mod open;
pub(crate) mod prepared;
pub(crate) mod read;
mod rewrites;
pub(crate) mod scan;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod tip_watch;
pub(crate) mod verify;
pub(crate) mod wiping;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::core::rewrites::Rewrites;
use crate::core::scan::GroupScan;
use crate::core::tip_watch::TipWatch;
use crate::core::wiping::PendingErasures;
use crate::index::{Index, IndexError};
use crate::layout::head::Tip;
use crate::log::{Durability, Notices, ReadError};
use crate::record::StreamId;
use crate::segments::{SegmentError, Segments};
use crate::sync::lock;

/// The maximum size of a notice; larger ones are ignored.
const MAX_NOTICE: usize = 64 * 1024;

/// A log, as its readers use it.
pub(crate) struct Core {
    pub(crate) segments: Segments,
    pub(crate) index: Index,
    /// Held while the index is rebuilt, so that only one thread does it.
    rebuilding: Mutex<()>,
    /// How appends are acknowledged; `None` for a reader.
    pub(crate) durability: Option<Durability>,
    pub(crate) location: String,
    pub(crate) flushes: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Whether a write failed and the log has stopped.
    pub(crate) failed: AtomicBool,
    /// Where readers wait for the log to grow.
    pub(crate) tip_watch: Arc<TipWatch>,
    /// The notices of the process that writes.
    notices: Mutex<Notices>,
    rewrites: Rewrites,
    /// Erasures that are recorded but not complete. A reader shows them as complete, since the next writer completes
    /// them first.
    pub(crate) pending: PendingErasures,
    /// Streams with a frame that does not match its checksum: its first seq, and why. Only known to a reader.
    pub(crate) damaged: BTreeMap<StreamId, (u64, String)>,
}

impl Core {
    pub(crate) fn new(segments: Segments, index: Index, durability: Option<Durability>, location: String) -> Self {
        Self {
            segments,
            index,
            rebuilding: Mutex::default(),
            durability,
            location,
            flushes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            tip_watch: Arc::default(),
            notices: Mutex::default(),
            rewrites: Rewrites::default(),
            pending: PendingErasures::default(),
            damaged: BTreeMap::new(),
        }
    }

    /// The end of the durable log.
    pub(crate) fn tip(&self) -> Tip {
        self.index.tip()
    }

    /// Queries the index, and rebuilds it from the log if it is damaged.
    pub(crate) fn query<T>(&self, query: impl Fn(&Index) -> Result<T, IndexError>) -> Result<T, ReadError> {
        if self.index.is_closed() {
            return Err(ReadError::Gone);
        }
        if let Ok(answer) = query(&self.index) {
            return Ok(answer);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(ReadError::Gone);
        }
        let _rebuilding = lock(&self.rebuilding);
        match query(&self.index) {
            Ok(answer) => Ok(answer),
            Err(IndexError(why)) => {
                tracing::warn!(log = self.location, why, "the index is damaged; rebuilding it from the log");
                self.index.replace(|tip, place| GroupScan::index_up_to(&self.segments, tip, place))?;
                query(&self.index).map_err(|IndexError(why)| ReadError::Io(format!("the index is damaged: {why}")))
            }
        }
    }

    /// Publishes or withdraws a notice about a stream.
    pub(crate) fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        let mut notices = lock(&self.notices);
        let known = match notice.filter(|notice| notice.len() <= MAX_NOTICE) {
            Some(notice) => notices.insert(stream, notice),
            None => notices.remove(&stream),
        };
        drop(known);
    }

    /// The notices of the process that writes.
    pub(crate) fn posted(&self) -> Notices {
        if self.closed.load(Ordering::Acquire) { Notices::new() } else { lock(&self.notices).clone() }
    }
}

impl From<SegmentError> for ReadError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged(what) => Self::DamagedLog(what),
            SegmentError::Failed(why) => Self::Io(why),
        }
    }
}

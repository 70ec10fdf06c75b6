//! A log over any backend: what its readers and its writer share.
//!
//! sled shows a batch to readers as soon as it is applied, before it is durable. So every reader goes by the [`View`]:
//! frames from its position on do not exist yet, and the listing entries and definitions that the unfinished group
//! touches are taken as they were before.

pub(crate) mod ahead;
pub(crate) mod behind;
pub(crate) mod change;
pub(crate) mod ends;
pub(crate) mod frames;
pub(crate) mod group;
pub(crate) mod import;
pub(crate) mod listing;
pub(crate) mod moving;
pub(crate) mod open;
mod part;
pub(crate) mod read;
pub(crate) mod ready;
pub(crate) mod recent;
pub(crate) mod recover;
mod rewrites;
pub(crate) mod tail;
pub(crate) mod verify;
pub(crate) mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::backend::{Backend, BackendError};
use crate::bytes::Malformed;
use crate::core::ends::Ends;
use crate::core::moving::Moving;
use crate::core::recent::{Recent, Written};
use crate::core::rewrites::Rewrites;
use crate::layout::frame::FrameHeader;
use crate::layout::head::Tip;
use crate::layout::listing::ListingEntry;
use crate::log::{Durability, ListingKey, Notices, ReadError};
use crate::record::{Hash, StreamId, StreamKind};
use crate::sync::{lock, read_lock, write_lock};

/// A longer notice is not taken.
const LONGEST_NOTICE: usize = 64 * 1024;

/// A log, for its readers.
pub(crate) struct Core<B> {
    pub(crate) backend: B,
    view: RwLock<View>,
    /// Where the log ends with the unfinished group: a frame beyond it was never written. Unknown until it was opened.
    end: AtomicU64,
    /// How appends are acknowledged; `None` for a reader.
    pub(crate) durability: Option<Durability>,
    pub(crate) location: String,
    pub(crate) flushes: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Whether writing failed: the log has stopped.
    pub(crate) failed: AtomicBool,
    /// Where readers wait until it moves.
    pub(crate) moving: Arc<Moving>,
    ends: Ends,
    /// What the process that writes says of streams.
    notices: Mutex<Notices>,
    rewrites: Rewrites,
}

/// What of the backend may be shown.
pub(crate) struct View {
    /// Where the durable log ends.
    pub(crate) tip: Tip,
    /// What the unfinished group hides.
    pub(crate) hidden: Hidden,
    /// The durable log's last frames.
    pub(crate) recent: Recent,
}

/// What an unfinished group has changed besides appending frames, as it was before.
#[derive(Default)]
pub(crate) struct Hidden {
    /// Streams' entries in the listing; `None` for a stream that is new.
    pub(crate) listings: HashMap<StreamId, Option<Listed>>,
    /// Definitions that are new.
    pub(crate) definitions: HashSet<Hash>,
    /// A stream that is being imported: its frames have no positions that would tell.
    pub(crate) imported: Option<StreamId>,
}

/// A stream's place and entry in the listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) stream: StreamId,
    pub(crate) kind: StreamKind,
    pub(crate) open: bool,
    pub(crate) entry: ListingEntry,
}

impl Listed {
    /// Its place in the listing.
    pub(crate) fn key(&self) -> ListingKey {
        ListingKey { started: self.entry.started, stream: self.stream }
    }
}

impl<B: Backend> Core<B> {
    pub(crate) fn new(backend: B, tip: Tip, durability: Option<Durability>, location: String) -> Self {
        Self {
            backend,
            view: RwLock::new(View { tip, hidden: Hidden::default(), recent: Recent::default() }),
            end: AtomicU64::new(u64::MAX),
            durability,
            location,
            flushes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            moving: Arc::default(),
            ends: Ends::default(),
            notices: Mutex::default(),
            rewrites: Rewrites::default(),
        }
    }

    /// Where the durable log ends.
    pub(crate) fn tip(&self) -> Tip {
        read_lock(&self.view).tip
    }

    /// Says something of a stream, or no longer.
    pub(crate) fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        let mut notices = lock(&self.notices);
        let known = match notice.filter(|notice| notice.len() <= LONGEST_NOTICE) {
            Some(notice) => notices.insert(stream, notice),
            None => notices.remove(&stream),
        };
        drop(known);
    }

    /// What the process that writes says of streams.
    pub(crate) fn posted(&self) -> Notices {
        if self.closed.load(Ordering::Acquire) { Notices::new() } else { lock(&self.notices).clone() }
    }

    /// That a frame can be: a wrong position would make it look like one that is not durable yet.
    pub(crate) fn check_position(&self, stream: StreamId, seq: u64, frame: &FrameHeader) -> Result<(), ReadError> {
        let end = self.end.load(Ordering::Acquire);
        if frame.first_position < end {
            return Ok(());
        }
        let what = format!("its position is {}, the log ends at {end}", frame.first_position);
        Err(ReadError::Damaged { stream, seq, what })
    }

    /// Does something while no group becomes visible or durable.
    pub(crate) fn with_view<T>(&self, work: impl FnOnce(&View) -> T) -> T {
        work(&read_lock(&self.view))
    }

    /// Applies a group so that no reader sees any of it yet. One that changes what was written before it is `rewriting`.
    pub(crate) fn apply_hidden(
        &self,
        hidden: Hidden,
        rewriting: bool,
        end: u64,
        apply: impl FnOnce(&B) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let mut view = write_lock(&self.view);
        view.hidden = hidden;
        if rewriting {
            self.rewrites.begin();
            view.recent.clear();
        }
        self.end.store(end, Ordering::Release);
        apply(&self.backend)
    }

    /// Shows the group that was hidden: it is durable.
    pub(crate) fn show(&self, tip: Tip, written: Written) {
        let _oldest = {
            let mut view = write_lock(&self.view);
            view.tip = tip;
            self.end.store(tip.position, Ordering::Release);
            view.hidden = Hidden::default();
            view.recent.add(written)
        };
        self.rewrites.end();
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<BackendError> for ReadError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Closed => Self::Gone,
            BackendError::Failed(reason) => Self::Io(reason),
            BackendError::Damaged(what) => Self::DamagedLog(what),
        }
    }
}

/// Damage that no single record can be named for.
pub(crate) fn damaged_log(what: &str, Malformed(why): Malformed) -> ReadError {
    ReadError::DamagedLog(format!("{what}: {why}"))
}

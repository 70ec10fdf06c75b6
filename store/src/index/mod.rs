//! The index: the streams, the places of their frames, and the listing.
//!
//! It can be rebuilt from the segments. Recent entries are in memory ([`Part`]); when they become many, a background
//! thread flushes them to sled ([`Store`]). Readers and logs in memory keep all of it in memory.

mod entries;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod part;
pub(crate) mod process;
mod state;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

pub(crate) use self::part::Part;
pub(crate) use self::state::{FrameAt, StreamState};
pub(crate) use self::store::{IndexError, Store};
use crate::layout::head::Tip;
use crate::layout::segment::Place;
use crate::log::{ListingKey, StreamFilter};
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::Span;
use crate::sync::{lock, read_lock, write_lock};

/// The size in bytes at which entries are flushed to sled, and the size at which the writer waits for that.
const FLUSH_SIZE: usize = 24 * 1024 * 1024;
const STALL_SIZE: usize = 4 * FLUSH_SIZE;

/// The maximum number of streams in a page of the listing.
const PAGE: usize = 256;

/// The index of a log.
pub(crate) struct Index {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    layers: RwLock<Layers>,
    store: RwLock<Option<Store>>,
    flush_state: Mutex<FlushState>,
    flush_changed: Condvar,
    closed: AtomicBool,
}

/// The entries in memory.
struct Layers {
    newest: Part,
    /// Entries that are being flushed to sled, and the end of the log that they cover.
    flushing: Option<Arc<(Part, Tip, Place)>>,
    tip: Tip,
    place: Place,
}

#[derive(Default)]
struct FlushState {
    is_over: bool,
    failed: Option<IndexError>,
}

impl Index {
    /// The index of a log up to an end: entries in memory, and sled's entries for everything before them.
    pub(crate) fn new(newest: Part, tip: Tip, place: Place, store: Option<Store>) -> Self {
        let layers = RwLock::new(Layers { newest, flushing: None, tip, place });
        let (store, flush_state, flush_changed) = (RwLock::new(store), Mutex::default(), Condvar::new());
        Self {
            shared: Arc::new(Shared { layers, store, flush_state, flush_changed, closed: AtomicBool::new(false) }),
            flusher: Mutex::new(None),
        }
    }

    /// Starts the thread that flushes entries to sled.
    pub(crate) fn start_flusher(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("cloacina-index".to_owned()).spawn(move || shared.run_flusher())?;
        *lock(&self.flusher) = Some(thread);
        Ok(())
    }

    /// The end of the log.
    pub(crate) fn tip(&self) -> Tip {
        read_lock(&self.shared.layers).tip
    }

    /// The place of the next group.
    pub(crate) fn place(&self) -> Place {
        read_lock(&self.shared.layers).place
    }

    /// Adds the entries of a group at the end of the log.
    pub(crate) fn append(&self, part: Part, tip: Tip, place: Place) {
        let size = {
            let mut layers = write_lock(&self.shared.layers);
            layers.newest.append(part);
            (layers.tip, layers.place) = (tip, place);
            layers.newest.size()
        };
        if size > FLUSH_SIZE && lock(&self.flusher).is_some() {
            self.shared.rotate(size > STALL_SIZE);
        }
    }

    /// The state of a stream.
    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, IndexError> {
        let layers = read_lock(&self.shared.layers);
        let known = layers.parts().find_map(|part| part.streams.get(&stream).map(|delta| delta.state.clone()));
        match known {
            Some(state) => Ok(Some(state)),
            None => self.shared.query_store(|store| store.stream(stream)),
        }
    }

    /// Whether a stream was appended to since the log was opened, or recently.
    pub(crate) fn is_in_memory(&self, stream: StreamId) -> bool {
        read_lock(&self.shared.layers).parts().any(|part| part.streams.contains_key(&stream))
    }

    /// Frames of a stream, starting with the one that contains a `seq`: more than `limit` if there are as many,
    /// otherwise all.
    pub(crate) fn frames(&self, stream: StreamId, seq: u64, limit: usize) -> Result<Vec<FrameAt>, IndexError> {
        let layers = read_lock(&self.shared.layers);
        let (mut later, mut is_reset): (Vec<&[FrameAt]>, bool) = (Vec::new(), false);
        for delta in layers.parts().filter_map(|part| part.streams.get(&stream)) {
            if !is_reset {
                later.push(&delta.frames);
                is_reset |= delta.is_reset;
            }
        }
        later.retain(|some| !some.is_empty());
        // The newest part that contains the frame or one before it; older parts only have earlier frames.
        let begin = later.iter().position(|some| some[0].first_seq <= seq);
        let mut frames = if is_reset || begin.is_some() {
            Vec::new()
        } else {
            self.shared.query_store(|store| store.frames(stream, seq, limit).map(Some))?.unwrap_or_default()
        };
        frames.drain(..frames_before(&frames, seq));
        later.truncate(begin.map_or(later.len(), |begin| begin + 1));
        for some in later.into_iter().rev() {
            let passed = if frames.is_empty() { frames_before(some, seq) } else { 0 };
            let wanted = limit.saturating_add(1).saturating_sub(frames.len());
            frames.extend(some[passed..].iter().take(wanted));
        }
        Ok(frames)
    }

    /// The place of a definition.
    pub(crate) fn definition(&self, fingerprint: Hash) -> Result<Option<Span>, IndexError> {
        let layers = read_lock(&self.shared.layers);
        match layers.parts().find_map(|part| part.definitions.get(&fingerprint)) {
            Some(span) => Ok(Some(*span)),
            None => self.shared.query_store(|store| store.definition(fingerprint)),
        }
    }

    /// The place of a group at or before a position.
    pub(crate) fn group_before(&self, position: u64) -> Result<Option<Place>, IndexError> {
        let layers = read_lock(&self.shared.layers);
        match layers.parts().find_map(|part| part.group_before(position)) {
            Some(place) => Ok(Some(place)),
            None => self.shared.query_store(|store| store.group_before(position)),
        }
    }

    /// The streams with records from a position on, each with the position after its last record, sorted by it. `None`
    /// if some of these entries are no longer in memory.
    pub(crate) fn since(&self, from: u64) -> Result<Option<Vec<(u64, StreamId)>>, IndexError> {
        let layers = read_lock(&self.shared.layers);
        let stored = self.shared.query_store(|store| Ok(Some(store.end().tip.position)))?;
        if stored.is_some_and(|stored| from < stored) {
            return Ok(None);
        }
        let mut since = BTreeMap::new();
        for part in layers.parts() {
            for (stream, delta) in part.streams.iter().filter(|(_, delta)| delta.state.end > from) {
                since.entry(*stream).or_insert(delta.state.end);
            }
        }
        let mut since: Vec<_> = since.into_iter().map(|(stream, end)| (end, stream)).collect();
        since.sort_unstable();
        Ok(Some(since))
    }

    /// The streams that match a filter, newest first.
    pub(crate) fn list(&self, filter: &StreamFilter) -> Result<Vec<(StreamId, StreamState)>, IndexError> {
        let mut shown = Vec::new();
        let mut before = filter.before;
        while shown.len() < filter.limit {
            let (page, next) = self.page(filter, before, filter.limit - shown.len())?;
            shown.extend(page);
            match next {
                Some(_) => before = next,
                None => break,
            }
        }
        shown.truncate(filter.limit);
        Ok(shown)
    }

    /// A page of the streams that match a filter, and where the next page begins.
    #[expect(clippy::type_complexity, reason = "a page, and where the next one begins")]
    fn page(
        &self,
        filter: &StreamFilter,
        before: Option<ListingKey>,
        wanted: usize,
    ) -> Result<(Vec<(StreamId, StreamState)>, Option<ListingKey>), IndexError> {
        let layers = read_lock(&self.shared.layers);
        let page = wanted.clamp(1, PAGE);
        let mut keys: BTreeMap<ListingKey, StreamKind> = BTreeMap::new();
        // Below this key, one of the sources has streams that were not read.
        let mut known_down_to = None;
        let mut take = |kind: StreamKind, found: Vec<ListingKey>| {
            if found.len() == page {
                known_down_to = known_down_to.max(found.last().copied());
            }
            keys.extend(found.into_iter().map(|key| (key, kind)));
        };
        for kind in StreamKind::ALL.into_iter().filter(|one| filter.kind.is_none_or(|kind| kind == *one)) {
            for part in layers.parts() {
                take(kind, part.keys_before(kind, before).take(page).collect());
            }
            let stored =
                self.shared.query_store(|store| store.keys_before(filter.open_only, kind, before, page).map(Some))?;
            take(kind, stored.unwrap_or_default());
        }
        let mut shown = Vec::new();
        for (key, kind) in keys.into_iter().rev() {
            if known_down_to.is_some_and(|down_to| key < down_to) {
                break;
            }
            let known = layers.parts().find_map(|part| part.streams.get(&key.stream).map(|delta| delta.state.clone()));
            let state = match known {
                Some(state) => Some(state),
                None => self.shared.query_store(|store| store.stream(key.stream))?,
            };
            let state = state.ok_or_else(|| IndexError(format!("it lists {}, but has no entry for it", key.stream)))?;
            let is_listed = !state.pruned && state.key(key.stream) == key && state.kind == kind;
            if is_listed && (state.open || !filter.open_only) {
                shown.push((key.stream, state));
            }
        }
        Ok((shown, known_down_to))
    }

    /// All streams, including pruned ones, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<(StreamId, StreamState)> {
        let layers = read_lock(&self.shared.layers);
        let mut all = BTreeMap::new();
        for part in layers.parts() {
            for (stream, delta) in &part.streams {
                all.entry(*stream).or_insert_with(|| delta.state.clone());
            }
        }
        all.into_iter().collect()
    }

    /// The fingerprints of all definitions in memory.
    pub(crate) fn definitions(&self) -> Vec<Hash> {
        let layers = read_lock(&self.shared.layers);
        let mut all: Vec<Hash> = layers.parts().flat_map(|part| part.definitions.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Replaces the index with one that `rebuild` builds from the segments, and drops sled's. Nothing is appended
    /// during the call.
    pub(crate) fn replace<Error>(&self, rebuild: impl FnOnce(Tip, Place) -> Result<Part, Error>) -> Result<(), Error> {
        let mut layers = write_lock(&self.shared.layers);
        let newest = rebuild(layers.tip, layers.place)?;
        (layers.newest, layers.flushing) = (newest, None);
        drop(write_lock(&self.shared.store).take());
        Ok(())
    }

    /// Whether the index was closed together with its log.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Flushes all entries to sled and closes it, once. Returns whether sled then has the complete index.
    pub(crate) fn close(&self) -> bool {
        if std::mem::replace(&mut lock(&self.shared.flush_state).is_over, true) {
            return false;
        }
        self.shared.flush_changed.notify_all();
        // A panic of the thread was already caught and reported.
        if let Some(flusher) = lock(&self.flusher).take() {
            let _ = flusher.join();
            self.shared.closed.store(true, Ordering::Release);
        }
        let store = read_lock(&self.shared.store);
        let Some(store) = store.as_ref() else { return false };
        let mut layers = write_lock(&self.shared.layers);
        let taken = lock(&self.shared.flush_state).failed.clone().map_or(Ok(()), Err).and_then(|()| {
            let Layers { newest, tip, place, .. } = &*layers;
            if store.end().tip != *tip || !newest.is_empty() { store.apply(newest, *tip, *place) } else { Ok(()) }
        });
        if let Err(IndexError(why)) = &taken {
            tracing::warn!(why, "the index was not brought up to date; it will be rebuilt when the log is opened");
        }
        let is_whole = store.close() && taken.is_ok();
        layers.flushing = None;
        is_whole
    }
}

/// The number of frames before the one that contains a `seq`.
fn frames_before(frames: &[FrameAt], seq: u64) -> usize {
    frames.partition_point(|frame| frame.first_seq <= seq).saturating_sub(1)
}

impl Layers {
    /// The parts in memory, the newest first.
    fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.newest), self.flushing.as_ref().map(|flushing| &flushing.0)].into_iter().flatten()
    }
}

impl Shared {
    fn query_store<T>(
        &self,
        ask: impl FnOnce(&Store) -> Result<Option<T>, IndexError>,
    ) -> Result<Option<T>, IndexError> {
        read_lock(&self.store).as_ref().map_or(Ok(None), ask)
    }

    /// Starts flushing the entries in memory, unless a flush is in progress. Then, if `wait` is set, waits for it
    /// first.
    fn rotate(&self, wait: bool) {
        let mut flush_state = lock(&self.flush_state);
        loop {
            if flush_state.is_over || flush_state.failed.is_some() {
                return;
            }
            let mut layers = write_lock(&self.layers);
            if layers.flushing.is_none() {
                let newest = std::mem::take(&mut layers.newest);
                layers.flushing = Some(Arc::new((newest, layers.tip, layers.place)));
                self.flush_changed.notify_all();
                return;
            }
            drop(layers);
            if !wait {
                return;
            }
            flush_state = self.flush_changed.wait(flush_state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Flushes entries until the index is closed.
    fn run_flusher(&self) {
        while let Some(flushing) = self.next_flush() {
            let (part, tip, place) = &*flushing;
            let taken = read_lock(&self.store).as_ref().map_or(Ok(()), |store| store.apply(part, *tip, *place));
            let mut flush_state = lock(&self.flush_state);
            match taken {
                Ok(()) => write_lock(&self.layers).flushing = None,
                // The entries stay in memory.
                Err(lost) => {
                    tracing::warn!(
                        why = lost.0,
                        "the index can no longer be written; it will be rebuilt when the log is opened"
                    );
                    flush_state.failed = Some(lost);
                }
            }
            self.flush_changed.notify_all();
            if flush_state.failed.is_some() {
                return;
            }
        }
    }

    fn next_flush(&self) -> Option<Arc<(Part, Tip, Place)>> {
        let mut flush_state = lock(&self.flush_state);
        loop {
            if let Some(flushing) = &read_lock(&self.layers).flushing {
                return Some(Arc::clone(flushing));
            }
            if flush_state.is_over {
                return None;
            }
            flush_state = self.flush_changed.wait(flush_state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

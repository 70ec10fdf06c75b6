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
pub(crate) use self::store::{Lost, Store};
use crate::layout::head::Tip;
use crate::layout::segment::Place;
use crate::log::{ListingKey, StreamFilter};
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::Span;
use crate::sync::{lock, read_lock, write_lock};

/// The size in bytes at which entries are flushed to sled, and the size at which the writer waits for that.
const MUCH: usize = 24 * 1024 * 1024;
const TOO_MUCH: usize = 4 * MUCH;

/// The maximum number of streams in a page of the listing.
const PAGE: usize = 256;

/// The index of a log.
pub(crate) struct Index {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    layers: RwLock<Layers>,
    store: RwLock<Option<Store>>,
    turn: Mutex<Turn>,
    turned: Condvar,
    let_go: AtomicBool,
}

/// The entries in memory.
struct Layers {
    newest: Part,
    /// Entries that are being flushed to sled, and the end of the log that they cover.
    leaving: Option<Arc<(Part, Tip, Place)>>,
    tip: Tip,
    place: Place,
}

#[derive(Default)]
struct Turn {
    over: bool,
    failed: Option<Lost>,
}

impl Index {
    /// The index of a log up to an end: entries in memory, and sled's entries for everything before them.
    pub(crate) fn new(newest: Part, tip: Tip, place: Place, store: Option<Store>) -> Self {
        let layers = RwLock::new(Layers { newest, leaving: None, tip, place });
        let (store, turn, turned) = (RwLock::new(store), Mutex::default(), Condvar::new());
        Self {
            shared: Arc::new(Shared { layers, store, turn, turned, let_go: AtomicBool::new(false) }),
            keeper: Mutex::new(None),
        }
    }

    /// Starts the thread that flushes entries to sled.
    pub(crate) fn keep(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("cloacina-index".to_owned()).spawn(move || shared.keep())?;
        *lock(&self.keeper) = Some(thread);
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
        if size > MUCH && lock(&self.keeper).is_some() {
            self.shared.turn(size > TOO_MUCH);
        }
    }

    /// The state of a stream.
    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, Lost> {
        let layers = read_lock(&self.shared.layers);
        let known = layers.parts().find_map(|part| part.streams.get(&stream).map(|touched| touched.state.clone()));
        match known {
            Some(state) => Ok(Some(state)),
            None => self.shared.stored(|store| store.stream(stream)),
        }
    }

    /// Whether a stream was appended to since the log was opened, or recently.
    pub(crate) fn is_in_memory(&self, stream: StreamId) -> bool {
        read_lock(&self.shared.layers).parts().any(|part| part.streams.contains_key(&stream))
    }

    /// Frames of a stream, starting with the one that contains a `seq`: more than `limit` if there are as many,
    /// otherwise all.
    pub(crate) fn frames(&self, stream: StreamId, seq: u64, limit: usize) -> Result<Vec<FrameAt>, Lost> {
        let layers = read_lock(&self.shared.layers);
        let (mut later, mut anew): (Vec<&[FrameAt]>, bool) = (Vec::new(), false);
        for touched in layers.parts().filter_map(|part| part.streams.get(&stream)) {
            if !anew {
                later.push(&touched.frames);
                anew |= touched.anew;
            }
        }
        later.retain(|some| !some.is_empty());
        // The newest part that contains the frame or one before it; older parts only have earlier frames.
        let begin = later.iter().position(|some| some[0].first_seq <= seq);
        let mut frames = if anew || begin.is_some() {
            Vec::new()
        } else {
            self.shared.stored(|store| store.frames(stream, seq, limit).map(Some))?.unwrap_or_default()
        };
        frames.drain(..passed_by(&frames, seq));
        later.truncate(begin.map_or(later.len(), |begin| begin + 1));
        for some in later.into_iter().rev() {
            let passed = if frames.is_empty() { passed_by(some, seq) } else { 0 };
            let wanted = limit.saturating_add(1).saturating_sub(frames.len());
            frames.extend(some[passed..].iter().take(wanted));
        }
        Ok(frames)
    }

    /// The place of a definition.
    pub(crate) fn definition(&self, fingerprint: Hash) -> Result<Option<Span>, Lost> {
        let layers = read_lock(&self.shared.layers);
        match layers.parts().find_map(|part| part.definitions.get(&fingerprint)) {
            Some(span) => Ok(Some(*span)),
            None => self.shared.stored(|store| store.definition(fingerprint)),
        }
    }

    /// The place of a group at or before a position.
    pub(crate) fn group_before(&self, position: u64) -> Result<Option<Place>, Lost> {
        let layers = read_lock(&self.shared.layers);
        match layers.parts().find_map(|part| part.group_before(position)) {
            Some(place) => Ok(Some(place)),
            None => self.shared.stored(|store| store.group_before(position)),
        }
    }

    /// The streams with records from a position on, each with the position after its last record, sorted by it. `None`
    /// if some of these entries are no longer in memory.
    pub(crate) fn since(&self, from: u64) -> Result<Option<Vec<(u64, StreamId)>>, Lost> {
        let layers = read_lock(&self.shared.layers);
        let stored = self.shared.stored(|store| Ok(Some(store.end().tip.position)))?;
        if stored.is_some_and(|stored| from < stored) {
            return Ok(None);
        }
        let mut since = BTreeMap::new();
        for part in layers.parts() {
            for (stream, touched) in part.streams.iter().filter(|(_, touched)| touched.state.end > from) {
                since.entry(*stream).or_insert(touched.state.end);
            }
        }
        let mut since: Vec<_> = since.into_iter().map(|(stream, end)| (end, stream)).collect();
        since.sort_unstable();
        Ok(Some(since))
    }

    /// The streams that match a filter, newest first.
    pub(crate) fn list(&self, filter: &StreamFilter) -> Result<Vec<(StreamId, StreamState)>, Lost> {
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
    ) -> Result<(Vec<(StreamId, StreamState)>, Option<ListingKey>), Lost> {
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
                take(kind, part.before(kind, before).take(page).collect());
            }
            let stored = self.shared.stored(|store| store.before(filter.open_only, kind, before, page).map(Some))?;
            take(kind, stored.unwrap_or_default());
        }
        let mut shown = Vec::new();
        for (key, kind) in keys.into_iter().rev() {
            if known_down_to.is_some_and(|down_to| key < down_to) {
                break;
            }
            let known =
                layers.parts().find_map(|part| part.streams.get(&key.stream).map(|touched| touched.state.clone()));
            let state = match known {
                Some(state) => Some(state),
                None => self.shared.stored(|store| store.stream(key.stream))?,
            };
            let state = state.ok_or_else(|| Lost(format!("it lists {}, but has no entry for it", key.stream)))?;
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
            for (stream, touched) in &part.streams {
                all.entry(*stream).or_insert_with(|| touched.state.clone());
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

    /// Replaces the index with one that `anew` builds from the segments, and drops sled's. Nothing is appended
    /// during the call.
    pub(crate) fn replace<Error>(&self, anew: impl FnOnce(Tip, Place) -> Result<Part, Error>) -> Result<(), Error> {
        let mut layers = write_lock(&self.shared.layers);
        let newest = anew(layers.tip, layers.place)?;
        (layers.newest, layers.leaving) = (newest, None);
        drop(write_lock(&self.shared.store).take());
        Ok(())
    }

    /// Whether the index was closed together with its log.
    pub(crate) fn is_let_go(&self) -> bool {
        self.shared.let_go.load(Ordering::Acquire)
    }

    /// Flushes all entries to sled and closes it, once. Returns whether sled then has the complete index.
    pub(crate) fn close(&self) -> bool {
        if std::mem::replace(&mut lock(&self.shared.turn).over, true) {
            return false;
        }
        self.shared.turned.notify_all();
        // A panic of the thread was already caught and reported.
        if let Some(keeper) = lock(&self.keeper).take() {
            let _ = keeper.join();
            self.shared.let_go.store(true, Ordering::Release);
        }
        let store = read_lock(&self.shared.store);
        let Some(store) = store.as_ref() else { return false };
        let mut layers = write_lock(&self.shared.layers);
        let taken = lock(&self.shared.turn).failed.clone().map_or(Ok(()), Err).and_then(|()| {
            let Layers { newest, tip, place, .. } = &*layers;
            if store.end().tip != *tip || !newest.is_empty() { store.take(newest, *tip, *place) } else { Ok(()) }
        });
        if let Err(Lost(why)) = &taken {
            tracing::warn!(why, "the index was not brought up to date; it will be rebuilt when the log is opened");
        }
        let is_whole = store.close() && taken.is_ok();
        layers.leaving = None;
        is_whole
    }
}

/// The number of frames before the one that contains a `seq`.
fn passed_by(frames: &[FrameAt], seq: u64) -> usize {
    frames.partition_point(|frame| frame.first_seq <= seq).saturating_sub(1)
}

impl Layers {
    /// The parts in memory, the newest first.
    fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.newest), self.leaving.as_ref().map(|leaving| &leaving.0)].into_iter().flatten()
    }
}

impl Shared {
    fn stored<T>(&self, ask: impl FnOnce(&Store) -> Result<Option<T>, Lost>) -> Result<Option<T>, Lost> {
        read_lock(&self.store).as_ref().map_or(Ok(None), ask)
    }

    /// Starts flushing the entries in memory, unless a flush is in progress. Then, if `must` is set, waits for it
    /// first.
    fn turn(&self, must: bool) {
        let mut turn = lock(&self.turn);
        loop {
            if turn.over || turn.failed.is_some() {
                return;
            }
            let mut layers = write_lock(&self.layers);
            if layers.leaving.is_none() {
                let newest = std::mem::take(&mut layers.newest);
                layers.leaving = Some(Arc::new((newest, layers.tip, layers.place)));
                self.turned.notify_all();
                return;
            }
            drop(layers);
            if !must {
                return;
            }
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Flushes entries until the index is closed.
    fn keep(&self) {
        while let Some(leaving) = self.next_to_leave() {
            let (part, tip, place) = &*leaving;
            let taken = read_lock(&self.store).as_ref().map_or(Ok(()), |store| store.take(part, *tip, *place));
            let mut turn = lock(&self.turn);
            match taken {
                Ok(()) => write_lock(&self.layers).leaving = None,
                // The entries stay in memory.
                Err(lost) => {
                    tracing::warn!(
                        why = lost.0,
                        "the index can no longer be written; it will be rebuilt when the log is opened"
                    );
                    turn.failed = Some(lost);
                }
            }
            self.turned.notify_all();
            if turn.failed.is_some() {
                return;
            }
        }
    }

    fn next_to_leave(&self) -> Option<Arc<(Part, Tip, Place)>> {
        let mut turn = lock(&self.turn);
        loop {
            if let Some(leaving) = &read_lock(&self.layers).leaving {
                return Some(Arc::clone(leaving));
            }
            if turn.over {
                return None;
            }
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

//! Where the frames of some streams are: of those that were asked for last.
//!
//! Whoever reads a stream asks for its first frame, for its last one, for some from here on, and whether there are more behind. Each of
//! that is a way through sled's tree; to go backwards there takes it several times as long. So all that the index has of a stream is
//! read once, and kept until the index has other places of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ::bytes::Bytes;
use rustc_hash::FxHashMap;

use super::update::MOST_PLACES;
use super::{Indexed, Placed};
use crate::backend::{Backend, BackendError, Changes, Direction, KeyRange};
use crate::bytes::Malformed;
use crate::layout::keys;
use crate::layout::segment::Place;
use crate::sync::lock;

/// A stream of more frames than about thirty times this is not kept: what is wanted of it is looked up.
const MOST_RUNS: usize = 64;
/// How many places are kept, about: some megabytes.
const KEPT: usize = 100_000;

/// What is left of the key of a frame behind what those of all frames of its stream begin with: its first `seq` and its chunk.
type Rest = [u8; 10];

/// What sorts as it does, and is compared sooner.
fn number(rest: &Rest) -> u128 {
    let mut bytes = [0; 16];
    bytes[6..].copy_from_slice(rest);
    u128::from_be_bytes(bytes)
}

/// All places of a stream, in order.
#[derive(Debug)]
pub(super) struct Stream {
    alike: Bytes,
    places: Vec<(Rest, Place)>,
}

impl Stream {
    pub(super) fn place(&self, rest: &[u8]) -> Option<Place> {
        let wanted = number(&Rest::try_from(rest).ok()?);
        let found = self.places.binary_search_by_key(&wanted, |(rest, _)| number(rest));
        found.ok().map(|at| self.places[at].1)
    }

    /// The first places of a range of keys, all of which are the stream's.
    pub(super) fn places(&self, range: &KeyRange, limit: usize, direction: Direction) -> Placed {
        let (from, below) = (&range.from[self.alike.len()..], &range.below[self.alike.len()..]);
        let first = self.places.partition_point(|(rest, _)| rest[..] < *from);
        let end = self.places.partition_point(|(rest, _)| rest[..] < *below).max(first);
        let all = &self.places[first..end];
        match direction {
            Direction::Up => self.with_keys(&all[..limit.min(all.len())], false),
            Direction::Down => self.with_keys(&all[all.len() - limit.min(all.len())..], true),
        }
    }

    /// Places with their keys, which share their memory.
    fn with_keys(&self, places: &[(Rest, Place)], backwards: bool) -> Placed {
        let length = self.alike.len() + size_of::<Rest>();
        let mut keys = Vec::with_capacity(places.len() * length);
        for (rest, _) in places {
            keys.extend_from_slice(&self.alike);
            keys.extend_from_slice(rest);
        }
        let mut keys = Bytes::from(keys);
        let mut placed: Placed = places.iter().map(|(_, place)| (keys.split_to(length), *place)).collect();
        if backwards {
            placed.reverse();
        }
        placed
    }
}

/// The streams that are kept.
#[derive(Default)]
pub(super) struct Streams {
    /// How often the index was changed.
    changes: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// `None` of one that is too long.
    streams: FxHashMap<Bytes, Option<Arc<Stream>>>,
    places: usize,
}

/// What a stream counts for among those that are kept.
fn weight(stream: Option<&Arc<Stream>>) -> usize {
    1 + stream.map_or(0, |stream| stream.places.len())
}

impl Streams {
    /// The index was changed, and this is what became of it: what was read of those streams before counts no more.
    pub(super) fn change(&self, changes: &Changes) {
        // First: what is being read now is not kept.
        self.changes.fetch_add(1, Ordering::AcqRel);
        let mut kept = lock(&self.kept);
        for alike in changes.iter().filter_map(|(key, _)| keys::stream_of_run(key)) {
            if let Some(stream) = kept.streams.remove(&alike[..]) {
                kept.places -= weight(stream.as_ref());
            }
        }
    }

    fn get(&self, alike: &[u8]) -> Option<Option<Arc<Stream>>> {
        lock(&self.kept).streams.get(alike).cloned()
    }

    /// Keeps what was read since the index had changed so often, unless it has changed again.
    fn keep(&self, changes: u64, alike: Bytes, stream: Option<Arc<Stream>>) {
        let mut kept = lock(&self.kept);
        if self.changes.load(Ordering::Acquire) != changes {
            return;
        }
        let more = weight(stream.as_ref());
        if kept.places + more > KEPT {
            *kept = Kept::default();
        }
        kept.places += more;
        if let Some(before) = kept.streams.insert(alike, stream) {
            kept.places -= weight(before.as_ref());
        }
    }
}

impl<B: Backend> Indexed<B> {
    /// All that the index has of the stream whose keys begin so, unless that is a lot.
    pub(super) fn stream(&self, alike: &[u8]) -> Result<Option<Arc<Stream>>, BackendError> {
        if let Some(stream) = self.streams.get(alike) {
            return Ok(stream);
        }
        let changes = self.streams.changes.load(Ordering::Acquire);
        let from = keys::run(alike);
        let below = [&from[..], &[u8::MAX; 11]].concat();
        let runs = self.index.scan(&KeyRange { from, below }, MOST_RUNS + 1, Direction::Up)?;
        let stream = if runs.len() > MOST_RUNS {
            None
        } else {
            let mut places = Vec::with_capacity(runs.len() * MOST_PLACES);
            for (key, value) in &runs {
                let (_, run) = self.run(key, alike.len(), value)?;
                for (rest, place) in run.iter() {
                    let rest = Rest::try_from(rest)
                        .map_err(|_| self.damaged("some places", &Malformed::new("their keys are none of frames")))?;
                    places.push((rest, place));
                }
            }
            Some(Arc::new(Stream { alike: Bytes::copy_from_slice(alike), places }))
        };
        self.streams.keep(changes, Bytes::copy_from_slice(alike), stream.clone());
        Ok(stream)
    }
}

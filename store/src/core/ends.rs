//! Where streams stood after frames that were read lately.
//!
//! Whoever reads on at the end of the log reads, of many streams, one frame each. What it must go on from stands in the frame
//! before it, which costs two more ways through sled's tree. Most often that one was read a moment ago, by the same reader or
//! by another one. What is remembered of a frame never changes: neither erasing nor pruning touches its last hash or what its
//! header counts.

use std::collections::VecDeque;
use std::sync::Mutex;

use rustc_hash::FxHashMap;

use super::read::Before;
use crate::record::StreamId;
use crate::sync::lock;

/// How many frames are remembered: a megabyte, and what is written in some tenths of a second at the most.
const REMEMBERED: usize = 8_192;

/// A stream, and the `seq` after a frame of it.
type End = (StreamId, u64);

/// What the next frame of a stream goes on from, of the frames that were read last.
#[derive(Default)]
pub(crate) struct Ends(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    known: FxHashMap<End, Before>,
    /// The oldest first.
    order: VecDeque<End>,
}

impl Ends {
    /// What a frame that begins at a `seq` goes on from, if it is remembered.
    pub(crate) fn get(&self, stream: StreamId, seq: u64) -> Option<Before> {
        lock(&self.0).known.get(&(stream, seq)).copied()
    }

    /// Remembers what the frame that begins at a `seq` goes on from, and forgets the oldest where there are too many.
    pub(crate) fn remember(&self, stream: StreamId, seq: u64, before: Before) {
        let Remembered { known, order } = &mut *lock(&self.0);
        if known.insert((stream, seq), before).is_none() {
            order.push_back((stream, seq));
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

/// The same while some frames are read: only the last end of each stream goes to the others.
pub(crate) struct PageEnds<'a> {
    all: &'a Ends,
    page: FxHashMap<StreamId, (u64, Before)>,
}

impl<'a> PageEnds<'a> {
    pub(crate) fn of(all: &'a Ends) -> Self {
        Self { all, page: FxHashMap::default() }
    }

    /// What a frame that begins at a `seq` goes on from, if it is known.
    pub(crate) fn get(&self, stream: StreamId, seq: u64) -> Option<Before> {
        let here = self.page.get(&stream).filter(|(end, _)| *end == seq);
        here.map(|(_, before)| *before).or_else(|| self.all.get(stream, seq))
    }

    /// Keeps what the frame that begins at a `seq` goes on from.
    pub(crate) fn remember(&mut self, stream: StreamId, seq: u64, before: Before) {
        self.page.insert(stream, (seq, before));
    }
}

impl Drop for PageEnds<'_> {
    fn drop(&mut self) {
        self.page.drain().for_each(|(stream, (seq, before))| self.all.remember(stream, seq, before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_that_were_remembered_last_are_known() {
        let ends = Ends::default();
        let stream = StreamId::from_bytes([7; 16]);
        for seq in 0..=REMEMBERED as u64 {
            ends.remember(stream, seq, Before::START);
            ends.remember(stream, seq, Before::START);
        }
        assert!(ends.get(stream, 0).is_none());
        assert!(ends.get(stream, 1).is_some());
        assert!(ends.get(stream, REMEMBERED as u64).is_some());
        assert!(ends.get(StreamId::LOG, 1).is_none());
        assert_eq!(lock(&ends.0).known.len(), REMEMBERED);
    }
}

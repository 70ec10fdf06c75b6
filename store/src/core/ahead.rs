//! Reading ahead: frames of a stream, and commit entries, one after the other.
//!
//! To ask for each alone costs a way from the root of sled's tree each time, so some are read ahead of those that are wanted. What was read
//! ahead is only a faster way to the same bytes. Where it does not hold the next one (it was appended since, or is missing, or something
//! further on cannot be read), the database is asked for that one itself.

use std::collections::VecDeque;

use ::bytes::Bytes;

use super::Core;
use super::frames::joined;
use super::tail::check_named;
use crate::backend::{Backend, Direction, Entry};
use crate::bytes::Malformed;
use crate::layout::frame::{self, StoredFrame};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::{chunk_count, keys};
use crate::log::ReadError;
use crate::record::StreamId;

/// Commit entries one after the other.
pub(crate) struct GroupsAhead<'a, B> {
    core: &'a Core<B>,
    entries: VecDeque<(u64, GroupEntry)>,
}

impl<'a, B: Backend> GroupsAhead<'a, B> {
    /// A group has a frame or some hundreds.
    const MOST: usize = 16;

    pub(crate) fn new(core: &'a Core<B>) -> Self {
        Self { core, entries: VecDeque::new() }
    }

    /// The first commit entry behind the one that begins at a position, and where it begins.
    pub(crate) fn after(&mut self, position: u64) -> Result<Option<(u64, GroupEntry)>, ReadError> {
        if self.entries.is_empty() {
            let read = |limit| self.core.groups_from(position + 1, u64::MAX, limit);
            // An error here is one of what lies ahead: it is told when that is wanted.
            self.entries = read(Self::MOST).or_else(|_| read(1))?.into();
        }
        Ok(self.entries.pop_front())
    }
}

/// A frame that a commit entry names, and its first position.
pub(crate) type Named = (FramePlace, u64);

/// Frames that commit entries name, one after the other.
pub(crate) struct NamedAhead<'a, B> {
    core: &'a Core<B>,
    /// Those that are not read ahead yet.
    named: &'a [Named],
    /// The first chunks of those that come next.
    firsts: VecDeque<Option<Bytes>>,
}

impl<'a, B: Backend> NamedAhead<'a, B> {
    /// More than this at once would only take memory: a chunk has up to 4 KiB.
    const MOST: usize = 1_024;

    pub(crate) fn new(core: &'a Core<B>, named: &'a [Named]) -> Self {
        Self { core, named, firsts: VecDeque::new() }
    }

    /// The next one, which begins at a position.
    pub(crate) fn load(&mut self, place: &FramePlace, position: u64) -> Result<StoredFrame, ReadError> {
        if self.firsts.is_empty() {
            let (next, left) = self.named.split_at(self.named.len().min(Self::MOST));
            let keys = keys::first_chunks(next.iter().map(|(place, _)| place));
            // An error here is one of what lies ahead: it is told when that is wanted.
            self.firsts = self.core.backend.get_many(&keys).unwrap_or_else(|_| vec![None; keys.len()]).into();
            self.named = left;
        }
        // One of several chunks is read by itself.
        let whole = self.firsts.pop_front().flatten().and_then(|bytes| frame::decode(&bytes).ok());
        match whole {
            Some(frame) => check_named(place, position, frame),
            None => self.core.load_named(place, position),
        }
    }
}

/// The frames of a stream one after the other.
pub(crate) struct FramesAhead<'a, B> {
    core: &'a Core<B>,
    stream: StreamId,
    chunks: VecDeque<Entry>,
    /// How many chunks are read ahead the next time.
    ahead: usize,
}

impl<'a, B: Backend> FramesAhead<'a, B> {
    /// More than this at once would only take memory: chunks have up to 4 KiB.
    const MOST: usize = 512;

    /// For a reader that wants about so many records.
    pub(crate) fn new(core: &'a Core<B>, stream: StreamId, wanted: usize) -> Self {
        Self { core, stream, chunks: VecDeque::new(), ahead: wanted.min(Self::MOST) }
    }

    /// The frame that begins at a `seq`, if there is one.
    pub(crate) fn load(&mut self, first_seq: u64) -> Result<Option<StoredFrame>, ReadError> {
        if self.chunks.is_empty() && self.ahead > 1 {
            self.read_ahead(first_seq);
        }
        match self.take(first_seq) {
            Some(bytes) => frame::decode(&bytes).map(Some).map_err(|Malformed(what)| ReadError::Damaged {
                stream: self.stream,
                seq: first_seq,
                what,
            }),
            None => {
                self.chunks.clear();
                self.core.load_frame(self.stream, first_seq)
            }
        }
    }

    /// An error here is one of what lies ahead: it is told when that is wanted.
    fn read_ahead(&mut self, first_seq: u64) {
        let range = keys::frames(self.stream, first_seq, None);
        match self.core.backend.scan(&range, self.ahead, Direction::Up) {
            Ok(entries) => self.chunks = entries.into(),
            // So that a damaged place is not tried again and again.
            Err(_) => self.ahead = 0,
        }
    }

    /// The whole frame that begins at a `seq`, if all of it was read ahead.
    fn take(&mut self, first_seq: u64) -> Option<Bytes> {
        let (key, first) = self.chunks.front()?;
        if *key != keys::frame(self.stream, first_seq, 0) {
            return None;
        }
        let length = frame::decode_header(first).ok()?.length;
        let chunks = chunk_count(length).ok()?;
        let (_, first) = self.chunks.pop_front()?;
        let mut more = Vec::new();
        for chunk in 1..chunks {
            let (key, found) = self.chunks.pop_front()?;
            if key != keys::frame(self.stream, first_seq, chunk) {
                return None;
            }
            more.push(found);
        }
        let bytes = joined(first, &more);
        (bytes.len() == length).then_some(bytes)
    }
}

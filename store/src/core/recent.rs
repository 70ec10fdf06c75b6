//! What was appended last, as it was written.
//!
//! Whoever reads beside the one who writes reads, most often, what was written a moment ago: the frames of many streams, one of each.
//! To find a frame through the index and to read it from its segment takes several times as long as to write it, on the same
//! processors. So the writer leaves what it has made durable here until there is newer. It is only a faster way to the same bytes:
//! the frames have no gap and reach the end of the log, and a change of what was written before empties this.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Core;
use super::frames::Located;
use super::read::Budget;
use crate::backend::Backend;
use crate::bytes::Malformed;
use crate::layout::encoded::EncodedFrame;
use crate::layout::frame::FrameHeader;
use crate::log::ReadError;
use crate::record::{Record, StreamId};

/// How many bytes are kept: at 300,000 events of 200 bytes in a second, what was written in the last 150 ms.
const KEPT: usize = 16 * 1024 * 1024;
/// What a frame takes besides its bytes, and a group besides its frames, about.
const OVERHEAD: usize = 256;

/// A frame that was written.
#[derive(Debug)]
pub(crate) struct WrittenFrame {
    pub(crate) encoded: EncodedFrame,
    pub(crate) header: FrameHeader,
}

impl WrittenFrame {
    /// The position after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.header.first_position + u64::from(self.header.count)
    }
}

/// The frames of a group, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Written {
    frames: Vec<WrittenFrame>,
    bytes: usize,
}

impl Written {
    pub(crate) fn add(&mut self, frame: WrittenFrame) {
        self.bytes += frame.encoded.bytes.len() + OVERHEAD;
        self.frames.push(frame);
    }

    fn from(&self) -> u64 {
        self.frames.first().map_or(0, |frame| frame.header.first_position)
    }
}

/// The groups that were written last.
#[derive(Default)]
pub(crate) struct Recent {
    /// The oldest first, none empty.
    groups: VecDeque<Arc<Written>>,
    bytes: usize,
    /// Where the last frame of a stream is: the position of its group, and which one of it.
    last: FxHashMap<StreamId, (u64, usize)>,
}

impl Recent {
    /// Adds what was written behind everything else; returns the oldest groups where there is too much. To free them takes time:
    /// whoever holds a lock may do so later.
    pub(crate) fn add(&mut self, written: Written) -> Vec<Arc<Written>> {
        let mut oldest = Vec::new();
        if written.frames.is_empty() {
            return oldest;
        }
        let from = written.from();
        for (at, frame) in written.frames.iter().enumerate() {
            self.last.insert(frame.encoded.stream, (from, at));
        }
        self.bytes += written.bytes + OVERHEAD;
        self.groups.push_back(Arc::new(written));
        while self.bytes > KEPT
            && let Some(group) = self.groups.pop_front()
        {
            self.bytes -= group.bytes + OVERHEAD;
            self.forget(&group);
            oldest.push(group);
        }
        oldest
    }

    fn forget(&mut self, group: &Written) {
        for (at, frame) in group.frames.iter().enumerate() {
            if self.last.get(&frame.encoded.stream) == Some(&(group.from(), at)) {
                self.last.remove(&frame.encoded.stream);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The groups with the records from a position on, as far as another one or a little beyond; `None` if they do not reach back so far.
    fn between(&self, from: u64, below: u64) -> Option<Vec<Arc<Written>>> {
        let first = self.groups.partition_point(|group| group.from() <= from).checked_sub(1)?;
        Some(self.groups.range(first..).take_while(|group| group.from() < below).cloned().collect())
    }

    /// The last frame of a stream, if it is here.
    pub(crate) fn last(&self, stream: StreamId) -> Option<Located> {
        let (from, at) = *self.last.get(&stream)?;
        let group = self.groups.partition_point(|group| group.from() < from);
        let frame = self.groups.get(group)?.frames.get(at)?;
        Some((frame.encoded.first_seq, frame.header.clone()))
    }
}

/// What was written last from a position on.
pub(crate) struct WrittenFrom {
    groups: Vec<Arc<Written>>,
    from: u64,
    below: u64,
}

impl WrittenFrom {
    /// The frames with records of that part of the log.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &WrittenFrame> {
        let frames = self.groups.iter().flat_map(|group| &group.frames);
        frames.skip_while(|frame| frame.end() <= self.from).take_while(|frame| frame.header.first_position < self.below)
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.frames().last().map_or(self.from, WrittenFrame::end)
    }

    /// Its frames, as they are stored: those with which there are so many bytes.
    pub(crate) fn encoded(&self, bytes: u64) -> Vec<EncodedFrame> {
        let mut taken = 0;
        let frames = self.frames().take_while(|frame| {
            let wanted = taken < bytes;
            taken += frame.encoded.bytes.len() as u64;
            wanted
        });
        frames.map(|frame| frame.encoded.clone()).collect()
    }

    /// The records of its frames, as far as there is room for them. Their hashes were made from these very bytes: nobody checks them.
    pub(crate) fn records(&self, budget: Budget) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::with_capacity(budget.room());
        let mut bytes = 0;
        for WrittenFrame { encoded, .. } in self.frames() {
            if bytes >= budget.bytes {
                break;
            }
            let (stream, seq) = (encoded.stream, encoded.first_seq);
            let damaged = |Malformed(what)| ReadError::Damaged { stream, seq, what };
            bytes += encoded.records_into(&mut records).map_err(damaged)?;
        }
        Ok(records)
    }
}

impl<B: Backend> Core<B> {
    /// About so many records from a position on, if they were all written lately.
    pub(crate) fn written_from(&self, from: u64, enough: usize) -> Option<WrittenFrom> {
        let below = from.saturating_add(enough as u64);
        let groups = self.with_view(|view| view.recent.between(from, below))?;
        Some(WrittenFrom { groups, from, below })
    }
}

#[cfg(test)]
mod tests {
    use ::bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::layout::frame::Standing;
    use crate::record::{Hash, StreamKind, Timestamp};

    fn frame(stream: u8, first_seq: u64, first_position: u64, count: u32, length: usize) -> WrittenFrame {
        let bytes = Bytes::from(vec![0; length]);
        let header = FrameHeader {
            standing: Standing::Own,
            length,
            kind: StreamKind::Execution,
            first_position,
            time: Timestamp(0),
            count,
            bytes: 0,
            head: Hash::ZERO,
        };
        let encoded = EncodedFrame { stream: id(stream), first_seq, previous: Hash::ZERO, bytes };
        WrittenFrame { encoded, header }
    }

    fn id(stream: u8) -> StreamId {
        StreamId::from_bytes([stream; 16])
    }

    fn positions(written: &WrittenFrom) -> Vec<u64> {
        written.frames().map(|frame| frame.header.first_position).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A group: of each frame its stream, how many records, and how many hundreds of kilobytes.
        Write(Vec<(u8, u32, usize)>),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            9 => vec((0..5u8, 1..4u32, 0..30usize), 0..4).prop_map(Step::Write),
            1 => Just(Step::Clear),
        ]
    }

    /// All groups since the last rewrite, and of those the newest that have room.
    #[derive(Default)]
    struct Naive(Vec<Vec<(u8, u64, u32, usize)>>);

    impl Naive {
        fn kept(&self) -> &[Vec<(u8, u64, u32, usize)>] {
            let size = |group: &Vec<(u8, u64, u32, usize)>| {
                OVERHEAD + group.iter().map(|(.., length)| length + OVERHEAD).sum::<usize>()
            };
            let from = (0..=self.0.len()).find(|from| self.0[*from..].iter().map(size).sum::<usize>() <= KEPT);
            &self.0[from.unwrap_or_default()..]
        }
    }

    proptest! {
        #[test]
        fn the_newest_groups_are_there_without_a_gap(steps in vec(step(), 0..60)) {
            let (mut recent, mut naive) = (Recent::default(), Naive::default());
            let mut position = 7;
            for step in steps {
                match step {
                    Step::Clear => {
                        recent.clear();
                        naive = Naive::default();
                    }
                    Step::Write(frames) => {
                        let mut written = Written::default();
                        let mut group = Vec::new();
                        for (stream, count, size) in frames {
                            let length = size * 100_000;
                            written.add(frame(stream, position, position, count, length));
                            group.push((stream, position, count, length));
                            position += u64::from(count);
                        }
                        recent.add(written);
                        naive.0.extend((!group.is_empty()).then_some(group));
                    }
                }
                let kept: Vec<_> = naive.kept().concat();
                for stream in 0..5 {
                    let last = kept.iter().rev().find(|(of, ..)| *of == stream).map(|(_, first, ..)| *first);
                    prop_assert_eq!(recent.last(id(stream)).map(|(first_seq, _)| first_seq), last);
                }
                for from in 0..position + 2 {
                    for below in [from, from + 1, from + 4, u64::MAX] {
                        let found = recent.between(from, below).map(|groups| WrittenFrom { groups, from, below });
                        let reaches = kept.first().is_some_and(|(_, first, ..)| *first <= from);
                        prop_assert_eq!(found.is_some(), reaches);
                        let Some(found) = found else { continue };
                        let wanted = |(_, first, count, _): &&(u8, u64, u32, usize)| {
                            first + u64::from(*count) > from && *first < below
                        };
                        let expected: Vec<u64> = kept.iter().filter(wanted).map(|(_, first, ..)| *first).collect();
                        prop_assert_eq!(positions(&found), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn frames_are_handed_out_up_to_so_many_bytes() {
        let mut written = Written::default();
        (0..5).for_each(|at| written.add(frame(1, at, at, 1, 10)));
        let mut recent = Recent::default();
        recent.add(written);
        let from = WrittenFrom { groups: recent.between(1, u64::MAX).unwrap(), from: 1, below: u64::MAX };
        let taken = |bytes| from.encoded(bytes).iter().map(|frame| frame.first_seq).collect::<Vec<_>>();
        assert_eq!((taken(0), taken(1), taken(10), taken(11)), (vec![], vec![1], vec![1], vec![1, 2]));
        assert_eq!(taken(u64::MAX), [1, 2, 3, 4]);
        assert_eq!(from.end(), 5);
    }
}

//! Reading the log in the order of positions, which is the order of its files.

use super::Core;
use super::read::Budget;
use crate::layout::frame::{FrameOrigin, StoredFrame};
use crate::layout::segment::{HEADER, Place};
use crate::log::{ReadError, StreamsSince};
use crate::merkle::Node;
use crate::record::Record;
use crate::segments::walk::{Item, LocatedItem, Walk};
use crate::streams_since;

/// A walk through the items of the durable log.
pub(crate) struct LogWalk<'a> {
    walk: Walk<'a>,
    segments: Vec<u32>,
    /// Groups that end before this position are skipped.
    from: u64,
    /// The end of the log at the start of the walk.
    end: u64,
    position: u64,
    /// The end of the current group.
    group_end: Option<Place>,
}

impl LogWalk<'_> {
    /// The next item; `None` at the end of the log.
    pub(crate) fn next(&mut self) -> Result<Option<LocatedItem>, ReadError> {
        loop {
            if let Some(end) = self.group_end {
                match self.walk.item(end)? {
                    None => self.group_end = None,
                    found => return Ok(found),
                }
            }
            if self.position >= self.end {
                return Ok(None);
            }
            self.enter()?;
        }
    }

    /// Enters the next group, or skips it if it ends before the requested position.
    fn enter(&mut self) -> Result<(), ReadError> {
        if let Some((header, end)) = self.walk.enter()? {
            self.position = self.position.max(header.end);
            match header.end <= self.from {
                true => self.walk.place = end,
                false => self.group_end = Some(end),
            }
            return Ok(());
        }
        match self.walk.next_segment(&self.segments) {
            Some(header) => Ok(header.map(drop)?),
            None => {
                let what = format!("it ends at position {}, but should go to {}", self.position, self.end);
                Err(ReadError::DamagedLog(what))
            }
        }
    }
}

impl Core {
    /// Starts a walk at the beginning of the group that contains a position.
    pub(crate) fn walk_from(&self, from: u64) -> Result<LogWalk<'_>, ReadError> {
        let first = Place { segment: 1, offset: HEADER as u32 };
        let place = self.query(|index| index.group_before(from))?.unwrap_or(first);
        let (end, last) = (self.tip().position, self.index.place().segment);
        let position = if place == first { 0 } else { from.min(end) };
        let segments = (1..=last).collect();
        Ok(LogWalk { walk: Walk::new(&self.segments, place), segments, from, end, position, group_end: None })
    }

    /// Visits the frames with records from a position on, in order, until `visit` returns `false`.
    fn each_frame_from(
        &self,
        from: u64,
        stop_after: usize,
        mut visit: impl FnMut(StoredFrame) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        if from >= self.tip().position || stop_after == 0 {
            return Ok(());
        }
        let mut walk = self.walk_from(from)?;
        while let Some(found) = walk.next()? {
            let place = found.place;
            let is_wanted =
                |frame: &StoredFrame| frame.header.origin == FrameOrigin::Appended && frame.header.end() > from;
            if let Some(frame) = found.into_frame().filter(is_wanted)
                && !visit(self.pending.apply_to(place, frame))?
            {
                break;
            }
        }
        Ok(())
    }

    /// Frames of the log from a position on, within a budget and not verified. Skips pruned ones.
    pub(crate) fn tail_frames(&self, from: u64, budget: Budget) -> Result<Vec<StoredFrame>, ReadError> {
        let mut frames = Vec::new();
        self.tail_frames_into(&mut frames, from, budget)?;
        Ok(frames)
    }

    /// The same, but keeps the frames before the first error.
    fn tail_frames_into(&self, frames: &mut Vec<StoredFrame>, from: u64, budget: Budget) -> Result<(), ReadError> {
        let (mut records, mut bytes) = (0_u64, 0_u64);
        self.each_frame_from(from, budget.stop_after, |frame| {
            if !frame.header.pruned {
                records += frame.header.end() - frame.header.first_position.max(from);
                bytes += frame.bytes().len() as u64;
                frames.push(frame);
            }
            Ok(records < budget.stop_after as u64 && bytes < budget.bytes)
        })
    }

    /// Records of the log from a position on, verified.
    pub(crate) fn tail_within(&self, from: u64, budget: Budget) -> Result<Vec<Record>, ReadError> {
        let mut frames = Vec::new();
        let walked = self.tail_frames_into(&mut frames, from, budget);
        // Report the damage of an earlier record before that of a later one.
        let skipped = frames.first().map_or(0, |first| from.saturating_sub(first.header.first_position));
        let mut records = super::read::checked_records(&frames, skipped)?;
        walked?;
        records.truncate(budget.records);
        Ok(records)
    }

    /// The nodes of the log's tree from a position on: the leaves of records, and the remaining nodes of pruned ones.
    pub(crate) fn nodes_within(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        let mut nodes = Vec::new();
        if from >= self.tip().position {
            return Ok(nodes);
        }
        let mut walk = self.walk_from(from)?;
        while nodes.len() < limit
            && let Some(found) = walk.next()?
        {
            match &found.item {
                Item::Frame(header) if header.origin == FrameOrigin::Appended && header.end() > from => {
                    let frame = found.frame().map(|frame| self.pending.apply_to(found.place, frame));
                    if let Some(frame) = frame.filter(|frame| !frame.header.pruned) {
                        super::read::checked_records(std::slice::from_ref(&frame), 0)?;
                    }
                    let hashes = found.hashes()?;
                    let leaves = (header.first_position..).zip(&hashes).map(|(at, hash)| Node::of_record(at, hash));
                    nodes.extend(leaves.filter(|node| node.first >= from));
                }
                Item::Gap(_, end) if *end > from => {
                    nodes.extend(found.gap()?.nodes.into_iter().filter(|node| node.first >= from));
                }
                _ => {}
            }
        }
        nodes.truncate(limit);
        Ok(nodes)
    }

    /// Streams with records from a position on, each in its current state.
    pub(crate) fn streams_since_within(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        if limit == 0 {
            return Ok(StreamsSince { streams: Vec::new(), next: from });
        }
        let end = self.tip().position;
        if let Some(written) = self.query(|index| index.since(from))? {
            return streams_since::streams_of(self, from, limit, &written, end);
        }
        let mut frames = Vec::new();
        let enough = from.saturating_add(streams_since::MAX_RECORDS as u64);
        self.each_frame_from(from, streams_since::MAX_RECORDS, |frame| {
            frames.push((frame.header.end(), frame.header.stream));
            Ok(frame.header.end() < enough)
        })?;
        // After the last visited frame, either the log ends or the limit was reached.
        let reached = frames.last().map(|(end, _)| *end).filter(|reached| *reached >= enough).unwrap_or(end);
        streams_since::streams_of(self, from, limit, &streams_since::last_written(frames.into_iter()), reached)
    }
}

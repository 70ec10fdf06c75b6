//! Reading the log in the order of its positions, by the commit entries: each names the frames of a group.

use super::Core;
use super::ahead::{GroupsAhead, Named, NamedAhead};
use super::ends::PageEnds;
use super::read::{Budget, Hashes};
use crate::backend::Backend;
use crate::layout::frame::{Standing, StoredFrame};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::log::{ReadError, StreamsSince};
use crate::record::{Hash, Record};
use crate::since;

impl<B: Backend> Core<B> {
    /// Records of the log from a position on.
    pub(crate) fn tail_within(&self, from: u64, budget: Budget) -> Result<Vec<Record>, ReadError> {
        let mut records = match self.written_from(from, budget.enough) {
            Some(written) => written.records(budget)?,
            None => self.records_named(&self.named_from(from, budget.enough)?, budget)?,
        };
        let passed = records.partition_point(|record| record.position < from);
        records.drain(..passed);
        records.truncate(budget.records);
        Ok(records)
    }

    /// The frames with the records from a position on, some of them, each with its first position.
    fn named_from(&self, from: u64, enough: usize) -> Result<Vec<Named>, ReadError> {
        let tip = self.tip().position;
        let mut named = Vec::new();
        if from >= tip || enough == 0 {
            return Ok(named);
        }
        let (mut position, mut entry) = self.group_before(from + 1)?.ok_or_else(|| no_group(from))?;
        let mut groups = GroupsAhead::new(self);
        let enough = from.saturating_add(enough as u64);
        loop {
            let first = position;
            for place in &entry.frames {
                let after = position + u64::from(place.count);
                if after > from && position < enough {
                    named.push((*place, position));
                }
                position = after;
            }
            if position <= from {
                return Err(no_group(from));
            }
            if position >= tip || position >= enough {
                return Ok(named);
            }
            entry = next_group(&mut groups, first, position)?;
        }
    }

    /// The hashes of the log's records from a position on, also of those that were pruned. Each that is there is checked.
    pub(crate) fn hashes_within(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        let named = self.named_from(from, limit)?;
        let mut frames = NamedAhead::new(self, &named);
        let mut ends = PageEnds::of(&self.ends);
        let mut hashes = Vec::new();
        for (place, position) in &named {
            let frame = frames.load(place, *position)?;
            let passed = usize::try_from(from.saturating_sub(*position)).unwrap_or(usize::MAX);
            hashes.extend(frame.hashes().into_iter().skip(passed));
            let mut records = Vec::new();
            self.records_of(&mut records, place, frame, &mut ends)?;
            self.check_hashes(&records, Hashes::Checked).map_err(|(_, error)| error)?;
        }
        hashes.truncate(limit);
        Ok(hashes)
    }

    /// Streams that have records from a position on, each as it is now: by what was written last, or by the commit entries.
    pub(crate) fn streams_since_within(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        if limit > 0
            && let Some(written) = self.written_from(from, usize::MAX)
        {
            let named = written.frames().map(|frame| (frame.encoded.stream, frame.header.first_position));
            return since::streams_of(self, from, limit, named, written.end());
        }
        let enough = if limit == 0 { 0 } else { since::MOST_RECORDS };
        let named = self.named_from(from, enough)?;
        let end = named.last().map_or(from, |(place, position)| position + u64::from(place.count));
        since::streams_of(self, from, limit, named.iter().map(|(place, position)| (place.stream, *position)), end)
    }

    /// The frame that a commit entry names, if it is the one.
    pub(crate) fn load_named(&self, place: &FramePlace, position: u64) -> Result<StoredFrame, ReadError> {
        let FramePlace { stream, first_seq, .. } = *place;
        let missing = "the log names its frame, and it is missing".to_owned();
        let frame =
            self.load_frame(stream, first_seq)?.ok_or(ReadError::Damaged { stream, seq: first_seq, what: missing })?;
        check_named(place, position, frame)
    }
}

/// That a frame is the one that a commit entry names.
pub(super) fn check_named(place: &FramePlace, position: u64, frame: StoredFrame) -> Result<StoredFrame, ReadError> {
    let FramePlace { stream, kind, first_seq, count } = *place;
    let differs = |what: String| ReadError::Damaged { stream, seq: first_seq, what };
    if frame.header.standing == Standing::Imported {
        return Err(differs("the log names its frame, and one from an archive stands there".to_owned()));
    }
    let found = (frame.header.kind, frame.header.count, frame.header.first_position);
    if found == (kind, count, position) {
        Ok(frame)
    } else {
        Err(differs(format!(
            "the log says {kind:?}, {count} records from position {position}; its frame says {:?}, {} from {}",
            found.0, found.1, found.2
        )))
    }
}

/// The commit entry that must begin where the one at `previous` ended.
fn next_group<B: Backend>(
    groups: &mut GroupsAhead<'_, B>,
    previous: u64,
    position: u64,
) -> Result<GroupEntry, ReadError> {
    match groups.after(previous)? {
        Some((found, entry)) if found == position => Ok(entry),
        Some((found, _)) => Err(ReadError::DamagedLog(format!(
            "the commit entry at position {previous} ends at {position}, the next begins at {found}"
        ))),
        None => Err(no_group(position)),
    }
}

fn no_group(position: u64) -> ReadError {
    ReadError::DamagedLog(format!("no commit entry has position {position}, though later ones were acknowledged"))
}

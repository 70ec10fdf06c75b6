//! Whether a log that was not closed goes on behind its end.
//!
//! sled takes a damaged place for the end of a log that was cut by a crash, and forgets what lies behind. The head file
//! says how far a closed log goes; of one whose process died it knows little. But there, the segments tell: what they have behind
//! the end of the index is in the journal as well, or is of a group that fits no journal and goes to the database at once. The next
//! group is only written when that one is on the disk. So at most one group can lie behind the end, and it begins there. Where
//! there are more, or one begins later, acknowledged ones were lost.

use std::path::Path;

use super::Core;
use super::recover::Unfit;
use crate::backend::segments::each_value;
use crate::backend::{Backend, BackendError};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::keys::{self, INDEXED};
use crate::layout::run::End;
use crate::log::{Durability, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::record::StreamId;

/// A group that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WrittenGroup {
    /// Its first frame.
    first: FramePlace,
    position: u64,
}

/// The groups that are in the segments in a directory behind what the index knows, up to an end.
fn written_groups<B: Backend>(core: &Core<B>, directory: &Path, end: End) -> Result<Vec<WrittenGroup>, Unfit> {
    let indexed = core.backend.get(INDEXED).map_err(ReadError::from)?;
    let indexed = indexed.map_or(Ok(End::default()), |bytes| End::decode(&bytes));
    let indexed = indexed.map_err(|why| Unfit::Damaged(format!("where its segments end: {why}")))?;
    let mut found = Vec::new();
    each_value(directory, indexed, end, |_, key, value| {
        found.extend(value.and_then(|value| written_group(key, value)))
    })
    .map_err(|error| ReadError::from(BackendError::Failed(format!("reading its segments: {error}"))))?;
    Ok(found)
}

/// The group whose first commit entry a value is.
fn written_group(key: &[u8], value: &[u8]) -> Option<WrittenGroup> {
    let position = keys::group_position(key)?;
    let entry = GroupEntry::decode(value).ok().filter(|entry| !entry.continues)?;
    Some(WrittenGroup { first: *entry.frames.first()?, position })
}

/// That no more than an unfinished group lies behind the end.
pub(crate) fn check<B: Backend>(core: &Core<B>, directory: &Path, written: Option<End>) -> Result<(), Unfit> {
    let Some(written) = written else { return Ok(()) };
    if !was_synced(core)? {
        return Ok(());
    }
    let end = core.tip().position;
    let mut lost: Vec<FramePlace> = Vec::new();
    for group in written_groups(core, directory, written)? {
        if !lost.contains(&group.first) && !core.has_frame(&group.first)? {
            lost.push(group.first);
            if lost.len() > 1 || group.position > end {
                return Err(beyond(end, &lost));
            }
        }
    }
    Ok(())
}

fn beyond(end: u64, lost: &[FramePlace]) -> Unfit {
    let such: Vec<String> = lost.iter().map(|place| format!("{} seq {}", place.stream, place.first_seq)).collect();
    let such = such.join(" and ");
    Unfit::Damaged(format!(
        "it ends at position {end}, but later records of it are in its database, such as {such}: what lies between was damaged"
    ))
}

/// Whether whoever had the log last acknowledged only what was on the disk.
fn was_synced<B: Backend>(core: &Core<B>) -> Result<bool, ReadError> {
    let records = match core.stream(StreamId::LOG) {
        Ok(entry) => core.read(StreamId::LOG, entry.records.saturating_sub(1), 1)?,
        Err(ReadError::NoStream(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let body = records.first().and_then(|record| record.body.bytes());
    Ok(match body.map(LogEvent::decode) {
        Some(Ok(LogEvent::Opened(opened))) => opened.durability() == Some(Durability::Sync),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Hash, StreamKind};

    fn place(number: u8) -> FramePlace {
        FramePlace { stream: StreamId::from_bytes([number; 16]), kind: StreamKind::Execution, first_seq: 0, count: 1 }
    }

    fn entry(continues: bool) -> Vec<u8> {
        let pairs = [place(1), place(2)].map(|place| (place, Hash([1; 32])));
        GroupEntry::seal(continues, 0, &Hash::ZERO, &pairs).encode()
    }

    #[test]
    fn a_commit_entry_tells_its_first_frame_and_its_position() {
        let group = WrittenGroup { first: place(1), position: 7 };
        assert_eq!(written_group(&keys::group(7), &entry(false)), Some(group));
    }

    #[test]
    fn a_later_part_of_a_group_and_what_has_another_key_do_not_count() {
        assert_eq!(written_group(&keys::group(7), &entry(true)), None);
        assert_eq!(written_group(&keys::frame(StreamId::LOG, 0, 0), &entry(false)), None);
        assert_eq!(written_group(&keys::group(7), b"C, C and C"), None);
    }
}

//! Whether a log that was not closed goes on behind its end.
//!
//! sled takes a damaged place for the end of a log that was cut by a crash, and forgets what lies behind. The head file
//! says how far a closed log goes; of one whose process died it knows little. But there, the data file tells: the next
//! group is only written when the one before it is on the disk. So at most one group can lie behind the end, and it begins
//! there. Where there are more, or one begins later, acknowledged ones were lost.

use std::io;
use std::path::Path;

use super::Core;
use super::recover::Unfit;
use crate::backend::Backend;
use crate::backend::sled_file::written::{Written, each_segment};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::keys;
use crate::log::{Durability, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::record::StreamId;

/// How many of the last commit entries of each segment are kept. Where a log goes on behind its end, all of them do.
const KEPT: usize = 4;

/// A group that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrittenGroup {
    /// Its first frame.
    first: FramePlace,
    /// Its first position, where that is known.
    position: Option<u64>,
}

/// Some groups that are in the data file of a directory, whether or not sled still finds them.
pub(crate) fn written_groups(directory: &Path) -> io::Result<Vec<WrittenGroup>> {
    let mut found = Vec::new();
    each_segment(directory, |values| found.extend(values.filter_map(|value| written_group(&value)).take(KEPT)))?;
    Ok(found)
}

/// The group whose first commit entry a value is.
fn written_group(written: &Written) -> Option<WrittenGroup> {
    let position = match &written.key {
        Some(key) => Some(keys::group_position(key)?),
        None => None,
    };
    let entry = GroupEntry::decode(&written.value).ok().filter(|entry| !entry.continues)?;
    Some(WrittenGroup { first: *entry.frames.first()?, position })
}

/// That no more than an unfinished group lies behind the end.
pub(crate) fn check<B: Backend>(core: &Core<B>, written: &[WrittenGroup]) -> Result<(), Unfit> {
    if !was_synced(core)? {
        return Ok(());
    }
    let end = core.tip().position;
    let mut lost: Vec<FramePlace> = Vec::new();
    for group in written {
        if !lost.contains(&group.first) && !core.has_frame(&group.first)? {
            lost.push(group.first);
            if lost.len() > 1 || group.position.is_some_and(|position| position > end) {
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

    fn written(key: Option<Vec<u8>>, continues: bool) -> Written {
        let pairs = [place(1), place(2)].map(|place| (place, Hash([1; 32])));
        let value = GroupEntry::seal(continues, 0, &Hash::ZERO, &pairs).encode().into();
        Written { key: key.map(Into::into), value }
    }

    #[test]
    fn a_commit_entry_tells_its_first_frame_and_its_position_where_its_key_is_known() {
        let group = |position| Some(WrittenGroup { first: place(1), position });
        assert_eq!(written_group(&written(Some(keys::group(7)), false)), group(Some(7)));
        assert_eq!(written_group(&written(None, false)), group(None));
    }

    #[test]
    fn a_later_part_of_a_group_and_what_has_another_key_do_not_count() {
        assert_eq!(written_group(&written(Some(keys::group(7)), true)), None);
        assert_eq!(written_group(&written(Some(keys::frame(StreamId::LOG, 0, 0)), false)), None);
        assert_eq!(written_group(&Written { key: None, value: b"C, C and C".to_vec().into() }), None);
    }
}

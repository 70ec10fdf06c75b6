//! Whether a log that was not closed goes on behind its end.
//!
//! sled takes a damaged place for the end of a log that was cut by a crash, and forgets what lies behind. The head file
//! says how far a closed log goes; of one whose process died it knows little. But there, the data file tells: the next
//! group is only written when the one before it is on the disk. So at most one group can lie behind the end. Where there
//! are more, acknowledged ones were lost.

use std::io;
use std::path::Path;

use super::Core;
use super::recover::Unfit;
use crate::backend::Backend;
use crate::backend::sled_file::written::each_segment;
use crate::layout::group::{FramePlace, GroupEntry, MAX_FRAMES};
use crate::log::{Durability, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::record::StreamId;

/// How many of the last commit entries of each segment are kept. Where a log goes on behind its end, all of them do.
const KEPT: usize = 4;

/// The first frames of some groups that are in the data file of a directory, whether or not sled still finds them.
pub(crate) fn written_groups(directory: &Path) -> io::Result<Vec<FramePlace>> {
    let mut found = Vec::new();
    each_segment(directory, |contents| found.extend(last_groups(contents)))?;
    Ok(found)
}

/// The first frames of the last groups in the contents of a segment.
fn last_groups(contents: &[&[u8]]) -> Vec<FramePlace> {
    let mut places: Vec<FramePlace> = contents.iter().flat_map(|content| entries(content)).collect();
    places.split_off(places.len().saturating_sub(KEPT))
}

/// What looks like a commit entry, by its first frame.
fn entries(bytes: &[u8]) -> Vec<FramePlace> {
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'C').map(|at| from + at) {
        from = at + 1;
        // A full entry may be one of several of a group.
        if let Some(entry) = GroupEntry::decode_beginning(&bytes[at..])
            && entry.frames.len() < MAX_FRAMES
        {
            places.extend(entry.frames.first().copied());
        }
    }
    places
}

/// That no more than an unfinished group lies behind the end.
pub(crate) fn check<B: Backend>(core: &Core<B>, written: &[FramePlace]) -> Result<(), Unfit> {
    if !was_synced(core)? {
        return Ok(());
    }
    let mut lost: Vec<FramePlace> = Vec::new();
    for place in written {
        if !lost.contains(place) && !core.has_frame(place)? {
            lost.push(*place);
        }
        if lost.len() > 1 {
            let end = core.tip().position;
            let [first, second] = [lost[0], *place];
            return Err(Unfit::Damaged(format!(
                "it ends at position {end}, but later records of it are in its database, such as {} seq {} and {} seq {}: \
                 what lies between was damaged",
                first.stream, first.first_seq, second.stream, second.first_seq
            )));
        }
    }
    Ok(())
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

    fn entry(places: &[FramePlace]) -> Vec<u8> {
        let pairs: Vec<_> = places.iter().map(|place| (*place, Hash([1; 32]))).collect();
        GroupEntry::seal(0, &Hash::ZERO, &pairs).encode()
    }

    #[test]
    fn commit_entries_are_found_wherever_they_stand() {
        let behind = [b"C, C and C".to_vec(), entry(&[place(1), place(2)]), vec![0; 100]].concat();
        assert_eq!(last_groups(&[b"Commit", &behind]), [place(1)]);
    }

    #[test]
    fn a_part_of_a_group_and_what_looks_like_an_entry_do_not_count() {
        let full = entry(&vec![place(1); MAX_FRAMES]);
        let cut = &entry(&[place(2)])[..50];
        assert_eq!(last_groups(&[&full, cut]), []);
    }

    #[test]
    fn the_last_entries_of_each_segment_are_kept() {
        let entries: Vec<Vec<u8>> = (0..10).map(|number| entry(&[place(number)])).collect();
        let contents: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        assert_eq!(last_groups(&contents), [6, 7, 8, 9].map(place));
    }
}

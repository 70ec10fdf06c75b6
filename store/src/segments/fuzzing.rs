//! See [`crate::fuzzing`].

use std::sync::Arc;

use super::walk::{Item, Walk, WalkStep};
use super::{Segments, name_of};
use crate::MemoryDisk;
use crate::bytes::usize_of;
use crate::disk::Disk;
use crate::layout::fuzzing::{LOG, with_place_checksum};
use crate::layout::head::Tip;
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::layout::{CHECKSUM_AT, group, put_checksum};

/// The content of a segment after its header; also with all checksums corrected, as far as groups and items can be
/// parsed.
pub fn segment(bytes: &[u8]) {
    walk(bytes);
    walk(&resealed(bytes));
}

/// Walks through the segment like a reader, and continues after damage like a verification.
fn walk(bytes: &[u8]) {
    let disk = MemoryDisk::new();
    let header = SegmentHeader { number: 1, log: LOG, before: Tip::empty(), length_before: 0 };
    disk.damage(&name_of(1), Some(&[&header.encode()[..], bytes].concat()));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let segments = Segments::new(disk, LOG);
    assert_eq!(segments.header(1), Ok(header));
    let first = Place { segment: 1, offset: HEADER as u32 };
    let mut walk = Walk::new(&segments, first);
    let mut from = first;
    loop {
        match walk.step() {
            WalkStep::Group(group) => {
                assert!(group.place >= from && group.end() > group.place, "it goes forward");
                from = group.end();
                let mut inside = group.place;
                for found in group.items().flatten() {
                    assert!(found.place > inside && found.place < from, "an item is inside its group");
                    inside = found.place;
                    match &found.item {
                        Item::Frame(header) => {
                            if let Some(frame) = found.frame() {
                                assert_eq!(&frame.header, header);
                            }
                        }
                        Item::Gap(..) => drop(found.gap()),
                        Item::Definition => {}
                    }
                }
                let _ = group.check();
            }
            WalkStep::End => return,
            WalkStep::Invalid(_) => match walk.search() {
                Ok(Some(_)) => assert!(walk.place > from || from == first, "it continues after the damage"),
                _ => return,
            },
        }
    }
}

/// The same bytes with valid checksums.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let mut at = 0;
    while let Some(length) = length_at(&sealed, at).filter(|length| *length >= group::HEADER) {
        let Some(header) = sealed.get(at..at + group::HEADER) else { break };
        let place = Place { segment: 1, offset: u32::try_from(HEADER + at).unwrap_or(u32::MAX) };
        let header = with_place_checksum(header, LOG, place);
        sealed[at..at + group::HEADER].copy_from_slice(&header);
        let end = at.saturating_add(length).min(sealed.len());
        let mut item = at + group::HEADER;
        while let Some(length) = length_at(&sealed, item).filter(|length| *length >= CHECKSUM_AT + 4) {
            match sealed[..end].get_mut(item..item.saturating_add(length)) {
                Some(bytes) => put_checksum(bytes, &[]),
                None => break,
            }
            item += length;
        }
        at = at.saturating_add(length);
    }
    sealed
}

/// The length that follows the first four bytes of a layout.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at.checked_add(4)?..at.checked_add(8)?)?;
    Some(usize_of(u32::from_be_bytes(length.try_into().ok()?)))
}

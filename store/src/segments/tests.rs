//! Tests of walks through intact and damaged segments.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::appender::Appender;
use super::walk::{Walk, WalkStep};
use super::*;
use crate::disk::memory::MemoryDisk;
use crate::layout::definition;
use crate::layout::group::{self, GroupHeader};
use crate::layout::head::Tip;
use crate::record::{Hash, Timestamp};

const LOG: LogId = LogId([5; 16]);
const FIRST: Place = Place { segment: 1, offset: HEADER as u32 };

/// A group of definitions with the given texts.
fn group_at(place: Place, number: u64, texts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; group::HEADER];
    texts.iter().for_each(|text| definition::put(&mut bytes, crate::seal::fingerprint(text), text));
    let header = GroupHeader {
        length: bytes.len(),
        items: texts.len() as u32,
        first: number,
        end: number + 1,
        time: Timestamp(0),
        synced: Place::default(),
        before: Hash::ZERO,
        after: Hash::ZERO,
    };
    header.write(&mut bytes, LOG, place);
    bytes
}

/// Writes groups, and returns their places. Starts a new segment when one is full.
fn write(disk: &MemoryDisk, groups: &[Vec<Vec<u8>>], longest: u32) -> Vec<Place> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let header = |number, length_before| SegmentHeader { number, log: LOG, before: Tip::empty(), length_before };
    let mut appender = Appender::begin(disk, &header(1, 0), longest).unwrap();
    let mut places = Vec::new();
    for (number, texts) in groups.iter().enumerate() {
        if appender.is_full() {
            let end = appender.end();
            appender.roll(&header(end.segment + 1, end.offset)).unwrap();
        }
        places.push(appender.end());
        appender.write(&group_at(appender.end(), number as u64, texts)).unwrap();
    }
    places
}

/// All groups up to the first invalid data, and whether that is the end of the log.
fn walk(disk: &MemoryDisk) -> (Vec<Place>, bool) {
    let segments = Segments::new(Arc::new(disk.clone()), LOG);
    let numbers = segments.open_all().unwrap();
    let mut walk = Walk::new(&segments, FIRST);
    let mut places = Vec::new();
    loop {
        match walk.step() {
            WalkStep::Group(group) => {
                assert_eq!(group.header.first, places.len() as u64);
                group.check().unwrap();
                places.push(group.place);
            }
            WalkStep::Invalid(_) => return (places, false),
            WalkStep::End => match walk.next_segment(&numbers) {
                Some(header) => assert!(header.is_ok()),
                None => return (places, true),
            },
        }
    }
}

fn any_groups() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    // With many bytes that look like the beginning of a group.
    let text = vec(prop_oneof![Just(b'G'), Just(0), any::<u8>()], 0..300);
    vec(vec(text, 1..4), 1..12)
}

proptest! {
    #[test]
    fn all_groups_of_all_segments_are_found_in_order(groups in any_groups(), longest in 100..3_000u32) {
        let disk = MemoryDisk::new();
        let places = write(&disk, &groups, longest);
        prop_assert_eq!(walk(&disk), (places, true));
    }

    #[test]
    fn behind_damage_the_next_group_is_found(groups in any_groups(), at: prop::sample::Index, byte in 0..group::HEADER, change in 1..=255u8) {
        let disk = MemoryDisk::new();
        let places = write(&disk, &groups, u32::MAX);
        let damaged = at.index(places.len());
        let name = name_of(1);
        let mut content = disk.content(&name).unwrap();
        content[places[damaged].offset as usize + byte] ^= change;
        disk.damage(&name, Some(&content));
        prop_assert_eq!(walk(&disk), (places[..damaged].to_vec(), false));
        let segments = Segments::new(Arc::new(disk), LOG);
        let mut walk = Walk::new(&segments, places[damaged]);
        let found = walk.search().unwrap().map(|header| (header.first, walk.place));
        let next = places.get(damaged + 1).map(|place| (damaged as u64 + 1, *place));
        prop_assert_eq!(found, next);
    }
}

/// A body can contain any bytes, even those of a group of this log.
#[test]
fn what_looks_like_a_group_and_stands_elsewhere_is_none() {
    let disk = MemoryDisk::new();
    let copy = group_at(FIRST, 0, &[b"text".to_vec()]);
    let places = write(&disk, &[vec![copy.clone()], vec![copy.clone(), copy.clone()], vec![b"end".to_vec()]], u32::MAX);
    assert_eq!(walk(&disk), (places.clone(), true));
    let segments = Segments::new(Arc::new(disk), LOG);
    let mut walk = Walk::new(&segments, places[0]);
    for (number, place) in places.iter().enumerate().skip(1) {
        assert_eq!(walk.search().unwrap().map(|header| header.first), Some(number as u64));
        assert_eq!(walk.place, *place);
    }
    assert!(walk.search().unwrap().is_none());
    let other = Segments::new(Arc::clone(segments.disk()), LogId([6; 16]));
    assert!(matches!(Walk::new(&other, places[0]).step(), WalkStep::Invalid(_)), "nor is one of another log");
}

/// A search works in windows, and a group may span two of them.
#[test]
fn a_group_is_found_however_far_behind_the_damage_it_is() {
    for length in (98_000..98_600).step_by(7).chain([3_000_000]) {
        let disk = MemoryDisk::new();
        let places = write(&disk, &[vec![vec![b'G'; length]], vec![b"next".to_vec()]], u32::MAX);
        let segments = Segments::new(Arc::new(disk), LOG);
        let mut walk = Walk::new(&segments, places[0]);
        assert_eq!(walk.search().unwrap().map(|header| header.first), Some(1), "{length}");
        assert_eq!(walk.place, places[1]);
    }
}

/// An attacker can write a header with any length and a valid checksum.
#[test]
fn a_hostile_length_of_a_group_is_no_group_and_makes_no_room() {
    let disk = MemoryDisk::new();
    write(&disk, &[vec![b"text".to_vec()]], u32::MAX);
    let name = name_of(1);
    let content = disk.content(&name).unwrap();
    for length in [u32::MAX, u32::MAX - HEADER as u32, 1 << 31, group::HEADER as u32 - 1, 0] {
        let mut hostile = content.clone();
        let mut header = group_at(FIRST, 0, &[]);
        header[4..8].copy_from_slice(&length.to_be_bytes());
        let place = [&LOG.0[..], &1_u32.to_be_bytes(), &FIRST.offset.to_be_bytes()].concat();
        crate::layout::put_checksum(&mut header, &place);
        hostile[HEADER..HEADER + group::HEADER].copy_from_slice(&header);
        disk.damage(&name, Some(&hostile));
        assert_eq!(walk(&disk), (Vec::new(), false), "{length}");
        let segments = Segments::new(Arc::new(disk.clone()), LOG);
        let read = segments.read_up_to(FIRST, length as usize).unwrap();
        assert_eq!(read.len(), (content.len() - HEADER).min(length as usize));
    }
}

#[test]
fn a_segment_says_which_one_it_is_and_of_which_log() {
    let disk = MemoryDisk::new();
    write(&disk, &[vec![vec![1; 500]], vec![vec![2; 500]], vec![vec![3; 500]]], 100);
    let segments = Segments::new(Arc::new(disk.clone()), LOG);
    assert_eq!(segments.open_all().unwrap(), [1, 2, 3]);
    assert_eq!(segments.header(2).map(|header| header.number), Ok(2));
    assert_eq!(segments.header(3).unwrap().length_before, disk.content(&name_of(2)).unwrap().len() as u32);
    let is_damage =
        |error: SegmentError, said: &str| matches!(error, SegmentError::Damaged(what) if what.contains(said));
    assert!(is_damage(segments.header(4).unwrap_err(), "is missing"));
    let other = Segments::new(Arc::new(disk.clone()), LogId([6; 16]));
    assert!(is_damage(other.header(2).unwrap_err(), "belongs to another log"));
    disk.damage(&name_of(2), disk.content(&name_of(3)).as_deref());
    assert!(is_damage(segments.header(2).unwrap_err(), "contains segment 3"));
    disk.damage(&name_of(2), Some(b"S"));
    assert!(is_damage(segments.header(2).unwrap_err(), "ends before byte 80"));
}

#[test]
fn files_with_other_names_are_no_segments() {
    let disk = MemoryDisk::new();
    write(&disk, &[vec![vec![1; 500]]], u32::MAX);
    for name in ["1", "00000000002", "000000000a", "0000000003.new", "+000000004"] {
        disk.damage(&format!("{DIRECTORY}/{name}"), Some(b""));
    }
    assert_eq!(numbers(&disk).unwrap(), [1]);
}

#[test]
fn whoever_goes_on_cuts_off_what_stands_behind_and_takes_back_the_room_at_the_end() {
    let disk = MemoryDisk::new();
    let (one, two) = (vec![vec![1; 500]], vec![vec![2; 500]]);
    let places = write(&disk, &[one, two], u32::MAX);
    let end = places[1].offset as usize + group_at(places[1], 1, &[vec![2; 500]]).len();
    let length = disk.content(&name_of(1)).unwrap().len();
    assert!(length > end + 200_000, "{length}");
    let mut appender =
        Appender::resume(Arc::new(disk.clone()), Place { segment: 1, offset: end as u32 }, u32::MAX).unwrap();
    assert_eq!(disk.content(&name_of(1)).unwrap().len(), end, "data after it is cut off");
    appender.write(&group_at(appender.end(), 2, &[vec![3; 500]])).unwrap();
    appender.finish().unwrap();
    assert_eq!(disk.content(&name_of(1)).unwrap().len(), appender.end().offset as usize);
    assert_eq!(walk(&disk).0.len(), 3);
}

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::entry::Group;
use super::sector::{SECTOR, count_for};
use super::*;
use crate::backend::Changes;

/// A group of one change, with a value of so many bytes, which appends one position.
fn group(position: u64, length: usize, follows: bool) -> Group {
    let mut changes = Changes::default();
    changes.put(position.to_be_bytes().to_vec(), vec![7; length]);
    changes.append(position..position + 1);
    Group { positions: position..position + 1, follows, changes }
}

fn write(journal: &mut Journal, group: &Group) {
    let (start, entry) = entry::encode(&group.changes, group.follows).unwrap();
    assert!(journal.has_room(entry.len()));
    journal.write(start, &entry).unwrap();
}

/// The position of the first group that [`written`] writes: older ones lie before it.
const FIRST: u64 = 100;

/// The bytes of a journal with groups of these lengths, and the first sector behind each of them.
fn written(lengths: &[usize], follows: bool) -> (Vec<u8>, Vec<Group>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path()).unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let groups: Vec<Group> =
        (FIRST..).zip(lengths).map(|(position, length)| group(position, *length, follows)).collect();
    let mut ends = Vec::new();
    for group in &groups {
        write(&mut journal, group);
        ends.push(journal.next);
    }
    (std::fs::read(directory.path().join(NAME)).unwrap(), groups, ends)
}

fn behind(bytes: &[u8], end: u64) -> (Vec<Group>, Vec<String>) {
    let Found { groups, damage, .. } = Found::of(bytes).behind(end);
    (groups, damage)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..1_500usize, 1..8)
}

proptest! {
    #[test]
    fn what_was_written_is_found_behind_what_the_database_has(lengths in lengths(), has in 0..9u64) {
        let (bytes, groups, _) = written(&lengths, true);
        let has = FIRST + has.min(lengths.len() as u64);
        let expected: Vec<Group> = groups.into_iter().filter(|group| group.positions.start >= has).collect();
        prop_assert_eq!(behind(&bytes, has), (expected, Vec::new()));
    }

    /// A power cut leaves any of the last entry's sectors as they were before: with nothing, or with an older entry.
    #[test]
    fn an_entry_that_was_not_finished_is_none(lengths in lengths(), kept in any::<u64>(), older in any::<bool>()) {
        let (mut bytes, mut groups, ends) = written(&lengths, true);
        let last = groups.pop().unwrap();
        let first = ends.iter().rev().nth(1).copied().unwrap_or(0);
        let count = ends[ends.len() - 1] - first;
        // An entry of an older round, of the same length and in the same place.
        let mut before = Vec::new();
        let (_, entry) = entry::encode(&group(0, lengths[lengths.len() - 1], true).changes, true).unwrap();
        sector::write(first as u64, 0, &entry, &mut before);
        let mut lost = 0;
        for sector in (0..count).filter(|sector| kept >> (sector % 64) & 1 == 0) {
            let place = (first + sector) * SECTOR..(first + sector + 1) * SECTOR;
            let old = if older { before[sector * SECTOR..(sector + 1) * SECTOR].to_vec() } else { vec![0; SECTOR] };
            bytes[place].copy_from_slice(&old);
            lost += 1;
        }
        if lost == 0 {
            groups.push(last);
        }
        prop_assert_eq!(behind(&bytes, FIRST), (groups, Vec::new()));
    }

    #[test]
    fn a_flipped_bit_is_damage(lengths in lengths(), place in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let (mut bytes, _, ends) = written(&lengths, true);
        let place = place.index(ends[ends.len() - 1] * SECTOR);
        bytes[place] ^= 1 << bit;
        let (_, damage) = behind(&bytes, FIRST);
        prop_assert!(damage[0].starts_with(&format!("sector {} of its journal", place / SECTOR)), "{damage:?}");
    }

    /// Each entry was on the disk before the next one was written. So one that is missing was lost.
    #[test]
    fn an_entry_that_is_missing_between_others_is_damage(lengths in proptest::collection::vec(0..1_500usize, 3..8)) {
        let (mut bytes, groups, ends) = written(&lengths, true);
        bytes[ends[0] * SECTOR..ends[1] * SECTOR].fill(0);
        let (found, damage) = behind(&bytes, FIRST);
        prop_assert_eq!(damage, ["the records from position 101 to 102 are in no entry of its journal"]);
        prop_assert_eq!(found.len(), groups.len() - 1);
    }

    /// What is acknowledged before it is on the disk can be lost in any order: what lies before the first hole counts.
    #[test]
    fn what_did_not_wait_for_the_disk_ends_before_the_first_hole(lengths in proptest::collection::vec(0..1_500usize, 3..8)) {
        let (mut bytes, groups, ends) = written(&lengths, false);
        bytes[ends[0] * SECTOR..ends[1] * SECTOR].fill(0);
        prop_assert_eq!(behind(&bytes, FIRST), (groups[..1].to_vec(), Vec::new()));
    }
}

#[test]
fn an_entry_takes_a_sector_for_each_492_bytes() {
    assert_eq!([1, 492, 493, 984, 985].map(count_for), [1, 1, 2, 2, 3]);
    let (bytes, _, ends) = written(&[0], true);
    assert_eq!(ends, [1]);
    assert_eq!(&bytes[4..8], [b'J', 0, 1, 1]);
    assert_eq!(bytes.len(), 2_097_152);
}

#[test]
fn the_other_half_goes_on_where_this_one_is_full() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path()).unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let mut position = 0;
    // Twice around: what was in a half is in the database when it is written again.
    for _ in 0..4 {
        let first = position;
        while journal.has_room(4_000 + 64) {
            write(&mut journal, &group(position, 4_000, true));
            position += 1;
        }
        assert!(position - first > 100);
        let found = Found::read(directory.path(), false).unwrap().behind(first);
        assert_eq!((found.groups.len() as u64, found.damage), (position - first, Vec::new()));
        journal.turn();
    }
    journal.clear().unwrap();
    assert_eq!(Found::read(directory.path(), false).unwrap(), Found::default());
}

#[test]
fn a_sector_of_a_newer_version_is_refused_by_its_format() {
    let (mut bytes, ..) = written(&[10], true);
    bytes[6] = 2;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&0u64.to_be_bytes());
    hasher.update(&bytes[4..SECTOR]);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    let (_, damage) = behind(&bytes, FIRST);
    assert_eq!(damage, ["sector 0 of its journal: it has format 2, this version reads up to 1; upgrade to read it"]);
}

//! Tests of every layout: it round-trips, its bytes are stable, each of its bytes matters, and arbitrary bytes are
//! decoded safely.

use ::bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::{self, Content, FrameHeader, FrameOrigin, FramePlace, ListingChange, StoredFrame};
use super::gap::Gap;
use super::group::GroupHeader;
use super::head::{Head, LogId, Tip};
use super::segment::{Place, SegmentHeader};
use super::{MAX_ITEM, MAX_LABEL, check_sum, definition, group, peek_item, put_checksum, segment};
use crate::bytes::Malformed;
use crate::codec;
use crate::log::{Durability, Listing};
use crate::log_event::{LogEvent, Opened};
use crate::merkle::{Node, Tree};
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::seal;

const LOG: LogId = LogId([0xaa; 16]);
const PLACE: Place = Place { segment: 3, offset: 0x1234 };

fn frame_place() -> FramePlace {
    FramePlace {
        stream: StreamId::from_bytes([7; 16]),
        kind: StreamKind::Execution,
        first_seq: 5,
        first_position: 80,
        time: Timestamp(9),
        previous: Hash([3; 32]),
        bytes: 100,
    }
}

fn sealed(bodies: &[Vec<u8>], listing: &Listing) -> (Vec<u8>, FrameHeader) {
    Content::new(bodies, listing, || [0x11; 16]).unwrap().seal(&frame_place(), |_| {}).unwrap()
}

fn decode(bytes: &[u8]) -> Result<StoredFrame, Malformed> {
    StoredFrame::decode(Bytes::copy_from_slice(bytes))
}

fn records_of(frame: &StoredFrame) -> Result<Vec<Record>, Malformed> {
    let mut records = Vec::new();
    frame.records_into(&mut records, 0)?;
    Ok(records)
}

fn tree(size: u8) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|number| tree.push(&Hash([number; 32])));
    tree
}

fn segment_header() -> SegmentHeader {
    let before = Tip { position: 6, time: Timestamp(7), hash: Hash([8; 32]) };
    SegmentHeader { number: 4, log: LOG, before, length_before: 0x0100_0000 }
}

fn group_header() -> GroupHeader {
    let (before, after) = (Hash([1; 32]), Hash([2; 32]));
    GroupHeader {
        length: group::HEADER,
        items: 0,
        first: 80,
        end: 82,
        time: Timestamp(9),
        synced: Place { segment: 3, offset: 70 },
        before,
        after,
    }
}

fn group_bytes() -> Vec<u8> {
    let mut bytes = vec![0; group::HEADER];
    group_header().write(&mut bytes, LOG, PLACE);
    bytes
}

fn gap() -> Gap {
    let node = |first, size, byte| Node { first, size, hash: Hash([byte; 32]) };
    Gap { first: 3, end: 9, nodes: vec![node(3, 1, 1), node(4, 4, 2), node(8, 1, 3)] }
}

fn gap_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    gap().put(&mut bytes);
    bytes
}

fn definition_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    definition::put(&mut bytes, seal::fingerprint(b"xy"), b"xy");
    bytes
}

fn head(closed: bool) -> Head {
    let tree = tree(3);
    let tip = Tip { position: 3, time: Timestamp(2), hash: tree.root() };
    Head { closed, log: LOG, tip, place: PLACE, wiped: 1, index: 0x0102_0304, tree }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checksum, which follows the length.
fn sum_of(bytes: &[u8]) -> String {
    hex(&bytes[8..12])
}

#[test]
fn a_frame_of_format_1_has_these_bytes() {
    let long = vec![0x77; 17];
    let (bytes, header) = sealed(&[b"ab".to_vec(), long], &Listing::Open(b"L".to_vec()));
    let hashes = decode(&bytes).unwrap().hashes().unwrap();
    let expected = [
        "46000100",
        "000000f0",
        &sum_of(&bytes),
        // An execution whose listing changes to open, with a label of one byte.
        "01",
        "01",
        "0001",
        &"07".repeat(16),
        "0000000000000005",
        "0000000000000050",
        "0000000000000009",
        "00000002",
        // 100 bytes before, and 19.
        "0000000000000077",
        &"03".repeat(32),
        &header.head.to_string(),
        "4c",
        // The first record: its hash, that its body is present, its length, salt and body, and zeros up to 32 bytes.
        &hashes[0].to_string(),
        "00",
        "00000002",
        &"11".repeat(16),
        "6162",
        &"00".repeat(14),
        // The second one, whose hash is the head. With its salt it needs no zeros.
        "00",
        "00000011",
        &"11".repeat(16),
        &"77".repeat(17),
    ];
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(hashes[1], header.head);
}

#[test]
fn what_is_imported_erased_and_pruned_is_told_by_the_sort_of_its_frame() {
    let (own, _) = sealed(&[b"ab".to_vec(), b"c".to_vec()], &Listing::Keep);
    let records = records_of(&decode(&own).unwrap()).unwrap();
    let imported = frame::imported(&records, 103, &Listing::Closed(b"L".to_vec())).unwrap();
    let begin = |bytes: &[u8]| hex(&bytes[..4]);
    let pruned = |bytes: &[u8]| decode(bytes).unwrap().pruned_bytes().unwrap();
    assert_eq!(begin(&own), "46000100");
    assert_eq!(begin(&imported), "46000101");
    assert_eq!(begin(&pruned(&own)), "46000102");
    assert_eq!(begin(&pruned(&imported)), "46000103");
    let read = decode(&imported).unwrap();
    assert_eq!((read.header.origin, read.header.listing), (FrameOrigin::Imported, ListingChange::Closed));
    assert_eq!((records_of(&read), read.label()), (Ok(records), &b"L"[..]));
    for (whole, left) in [(&own, pruned(&own)), (&imported, pruned(&imported))] {
        let left = decode(&left).unwrap();
        assert_eq!(left.bytes().len(), whole.len(), "it keeps its place");
        assert_eq!(left.hashes(), decode(whole).unwrap().hashes());
        assert_eq!((left.check(), records_of(&left)), (Ok(()), Ok(Vec::new())));
        assert!(!left.bytes().windows(2).any(|part| part == b"ab"));
    }
}

#[test]
fn a_segment_begins_with_these_bytes() {
    let bytes = segment_header().encode();
    let expected = [
        "53000100",
        "00000004",
        &sum_of(&bytes),
        &"aa".repeat(16),
        "0000000000000006",
        "0000000000000007",
        &"08".repeat(32),
        "01000000",
    ];
    assert_eq!((hex(&bytes), bytes.len()), (expected.concat(), segment::HEADER));
    assert_eq!(SegmentHeader::decode(&bytes), Ok(segment_header()));
}

#[test]
fn a_group_of_format_1_begins_with_these_bytes() {
    let bytes = group_bytes();
    let expected = [
        "47000100",
        "00000070",
        &sum_of(&bytes),
        "00000000",
        "0000000000000050",
        "0000000000000052",
        "0000000000000009",
        "0000000300000046",
        &"01".repeat(32),
        &"02".repeat(32),
    ];
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(GroupHeader::decode(&bytes, LOG, PLACE), Ok(group_header()));
}

#[test]
fn definitions_gaps_and_heads_of_format_1_have_these_bytes() {
    let bytes = definition_bytes();
    let expected = ["44000100", "0000002e", &sum_of(&bytes), &seal::fingerprint(b"xy").to_string(), "7879"];
    assert_eq!(hex(&bytes), expected.concat());

    let bytes = gap_bytes();
    let nodes = ["00", &"01".repeat(32), "02", &"02".repeat(32), "00", &"03".repeat(32)].concat();
    let expected = ["4e000100", "0000007f", &sum_of(&bytes), "0000000000000003", "0000000000000009", &nodes];
    assert_eq!(hex(&bytes), expected.concat());

    for (closed, sort) in [(false, "48000100"), (true, "48000101")] {
        let bytes = head(closed).encode();
        let expected = [
            sort,
            &"aa".repeat(16),
            "0000000000000003",
            "0000000000000002",
            &tree(3).root().to_string(),
            "00000003",
            "00001234",
            "0000000000000001",
            "01020304",
            "02",
            &tree(3).peaks()[0].to_string(),
            &tree(3).peaks()[1].to_string(),
        ]
        .concat();
        assert_eq!(hex(&bytes[..bytes.len() - 8]), expected);
        assert_eq!(bytes[bytes.len() - 8..], seal::fingerprint(&bytes[..bytes.len() - 8]).0[..8]);
        assert_eq!(Head::decode(&bytes), Ok(head(closed)));
    }
}

#[test]
fn events_of_the_logs_own_stream_begin_with_these_bytes() {
    let mut opened = Opened::new("h".to_owned(), 300, Durability::Interval(20));
    opened.version = "1".to_owned();
    let bytes = LogEvent::Opened(opened).encode().unwrap();
    assert_eq!(hex(&bytes), "4c01010100".to_owned() + "0131" + "0168" + "fb2c01" + "01" + "14");
    assert_eq!(hex(&LogEvent::Closed.encode().unwrap()), "4c01010200");
}

/// A name, a valid encoding, and whether a decoder accepts some bytes.
type Layout = (&'static str, Vec<u8>, fn(&[u8]) -> bool);

fn layouts() -> Vec<Layout> {
    let (frame, _) = sealed(&[b"one".to_vec(), b"two".to_vec()], &Listing::Closed(b"label".to_vec()));
    let records = records_of(&decode(&frame).unwrap()).unwrap();
    let imported = frame::imported(&records, 6, &Listing::Keep).unwrap();
    let stored = decode(&frame).unwrap();
    let erased = stored.erased_bytes(|seq| (seq == 5).then(|| records[0].body.commitment())).unwrap();
    let is_frame: fn(&[u8]) -> bool = |bytes| decode(bytes).and_then(|frame| frame.check()).is_ok();
    vec![
        ("a frame", frame, is_frame),
        ("an imported frame", imported, is_frame),
        ("a frame with an erased body", erased, is_frame),
        ("a pruned frame", stored.pruned_bytes().unwrap(), is_frame),
        ("a segment", segment_header().encode(), |bytes| SegmentHeader::decode(bytes).is_ok()),
        ("a group", group_bytes(), |bytes| GroupHeader::decode(bytes, LOG, PLACE).is_ok()),
        ("a definition", definition_bytes(), |bytes| definition::decode(&Bytes::copy_from_slice(bytes)).is_ok()),
        ("a gap", gap_bytes(), |bytes| Gap::decode(bytes).is_ok()),
        ("a head", head(true).encode(), |bytes| Head::decode(bytes).is_ok()),
    ]
}

#[test]
fn every_byte_of_every_layout_counts() {
    for (what, whole, is_taken) in layouts() {
        assert!(is_taken(&whole), "{what}");
        for at in 0..whole.len() {
            for change in 1..=255 {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                assert!(!is_taken(&damaged), "byte {at} of {what}, changed by {change:#04x}");
            }
            assert!(!is_taken(&whole[..at]), "the first {at} bytes of {what}");
        }
        // Others follow after these.
        if what != "a segment" && what != "a group" {
            assert!(!is_taken(&[&whole[..], &[0]].concat()), "{what}, and a byte");
        }
    }
}

#[test]
fn a_group_is_one_in_its_place_in_its_log_alone() {
    let bytes = group_bytes();
    assert!(GroupHeader::decode(&bytes, LogId([0xab; 16]), PLACE).is_err());
    for other in [Place { segment: 4, ..PLACE }, Place { offset: PLACE.offset + 1, ..PLACE }] {
        assert!(GroupHeader::decode(&bytes, LOG, other).is_err());
    }
}

#[test]
fn an_erased_body_leaves_the_chain_whole() {
    let long = vec![b's'; 40];
    for secret in [b"secret".to_vec(), long, Vec::new()] {
        let (bytes, _) = sealed(&[secret.clone(), b"c".to_vec()], &Listing::Keep);
        let commitment = seal::commitment(&[0x11; 16], &secret);
        let erased = decode(&bytes).unwrap().erased_bytes(|seq| (seq == 5).then_some(commitment)).unwrap();
        assert_eq!(erased.len(), bytes.len(), "it keeps its place");
        assert!(secret.is_empty() || !erased.windows(6).any(|part| part == &secret[..6]));
        let frame = decode(&erased).unwrap();
        assert_eq!(frame.check(), Ok(()));
        let records = records_of(&frame).unwrap();
        let length = u32::try_from(secret.len()).unwrap();
        assert_eq!(records[0].body, Body::Erased { commitment, length });
        assert_eq!(records[1].body.bytes(), Some(&b"c"[..]));
        assert_eq!(seal::check_all(&records), Ok(()));
        assert_eq!(frame.own_bytes(), Ok(u64::from(length) + 1));
        let again = frame.erased_bytes(|seq| (seq == 5).then_some(commitment)).unwrap();
        assert_eq!(again, erased, "erasing again changes nothing");
    }
}

/// An attacker can write any count or length with a valid checksum.
#[test]
fn a_hostile_length_allocates_nothing() {
    let (whole, _) = sealed(&[b"ab".to_vec(), b"c".to_vec()], &Listing::Keep);
    // The number of records, then the lengths of the label, of the frame, and of the first body, after its hash.
    let first_body = frame::HEADER + 32 + 1;
    let changes: [(usize, &[u8]); 9] = [
        (56, &[0xff; 4]),
        (56, &[0, 0, 0, 1]),
        (56, &[0, 0, 0, 3]),
        (56, &[0; 4]),
        (14, &[0xff; 2]),
        (14, &[0, 1]),
        (4, &[0xff; 4]),
        (first_body, &[0xff; 4]),
        (first_body, &[0, 0, 0, 17]),
    ];
    for (at, hostile) in changes {
        let mut bytes = whole.clone();
        bytes[at..at + hostile.len()].copy_from_slice(hostile);
        put_checksum(&mut bytes, &[]);
        let read = decode(&bytes).and_then(|frame| records_of(&frame));
        assert!(read.is_err(), "{hostile:02x?} at byte {at}");
    }
    // Subtrees that no tree has, and too many of them.
    for power in [1, 63, 64, 255] {
        let mut bytes = gap_bytes();
        bytes[28] = power;
        put_checksum(&mut bytes, &[]);
        assert!(Gap::decode(&bytes).is_err());
    }
    // Missing peaks.
    let mut bytes = head(false).encode();
    let peaks = bytes.len() - 8 - 2 * 32 - 1;
    bytes[peaks] = 0xff;
    let (content, check) = bytes.split_at_mut(peaks + 1 + 2 * 32);
    check.copy_from_slice(&seal::fingerprint(content).0[..8]);
    assert!(Head::decode(&bytes).is_err());
    // A text of 2^63 bytes.
    assert!(codec::decode::<String>(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80]).is_err());
}

#[test]
fn what_is_too_long_is_refused_before_it_is_made() {
    let content = |bodies: &[Vec<u8>], listing: &Listing| Content::new(bodies, listing, || [0; 16]).map(drop);
    let longest = Listing::Open(vec![1; MAX_LABEL]);
    assert!(content(&[Vec::new()], &longest).is_ok());
    assert!(content(&[Vec::new()], &Listing::Open(vec![1; MAX_LABEL + 1])).is_err());
    assert!(content(&[vec![0; MAX_ITEM - 300]], &Listing::Keep).is_ok());
    assert!(content(&[vec![0; MAX_ITEM]], &Listing::Keep).is_err());
    let mut item = definition_bytes();
    item[4..8].copy_from_slice(&u32::try_from(MAX_ITEM + 1).unwrap().to_be_bytes());
    assert!(peek_item(&item).is_err());
}

/// The format file already rejects a newer log before any of these is decoded; each reports it on its own all the same.
#[test]
fn every_layout_of_a_newer_format_says_which_and_what_to_do() {
    type Refuse = fn(&[u8]) -> Malformed;
    let (frame, _) = sealed(&[b"ab".to_vec()], &Listing::Keep);
    let layouts: [(Vec<u8>, Refuse); 6] = [
        (frame, |bytes| decode(bytes).unwrap_err()),
        (group_bytes(), |bytes| GroupHeader::decode(bytes, LOG, PLACE).unwrap_err()),
        (segment_header().encode(), |bytes| SegmentHeader::decode(bytes).unwrap_err()),
        (definition_bytes(), |bytes| definition::decode(&Bytes::copy_from_slice(bytes)).unwrap_err()),
        (gap_bytes(), |bytes| Gap::decode(bytes).unwrap_err()),
        (head(true).encode(), |bytes| Head::decode(bytes).unwrap_err()),
    ];
    for (mut bytes, refuse) in layouts {
        bytes[2] += 1;
        assert_eq!(refuse(&bytes).0, "it has format 2, this version reads up to 1; upgrade to read it");
        bytes[2] = 0;
        assert!(!refuse(&bytes).0.contains("upgrade"));
    }
    let mut closed = LogEvent::Closed.encode().unwrap();
    closed[2] += 1;
    let why = LogEvent::decode(&closed).unwrap_err().to_string();
    assert!(why.contains("kind 2 in format 2 is not known; upgrade to read it"), "{why}");
    closed[1] += 1;
    let why = LogEvent::decode(&closed).unwrap_err().to_string();
    assert!(why.contains("codec 2, this version knows 1; upgrade to read it"), "{why}");
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let label = || vec(any::<u8>(), 0..50);
    prop_oneof![Just(Listing::Keep), label().prop_map(Listing::Open), label().prop_map(Listing::Closed)]
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went_in(bodies in vec(vec(any::<u8>(), 0..100), 1..6), salt: [u8; 16], listing in any_listing()) {
        let mut hashes = Vec::new();
        let content = Content::new(&bodies, &listing, || salt).unwrap();
        prop_assert_eq!(content.count(), bodies.len());
        let (bytes, header) = content.seal(&frame_place(), |hash| hashes.push(*hash)).unwrap();
        let frame = decode(&bytes).unwrap();
        prop_assert_eq!((&frame.header, frame.check()), (&header, Ok(())));
        prop_assert_eq!(FrameHeader::decode(&bytes), Ok(header.clone()));
        prop_assert_eq!(peek_item(&bytes), Ok((frame::MAGIC, bytes.len())));
        let (change, label) = match &listing {
            Listing::Keep => (ListingChange::Keep, &[][..]),
            Listing::Open(label) => (ListingChange::Open, &label[..]),
            Listing::Closed(label) => (ListingChange::Closed, &label[..]),
        };
        prop_assert_eq!((header.listing, frame.label()), (change, label));
        let records = records_of(&frame).unwrap();
        let found: Vec<_> = records.iter().map(|record| record.body.bytes().unwrap().to_vec()).collect();
        prop_assert_eq!(&found, &bodies);
        prop_assert_eq!(seal::check_all(&records), Ok(()));
        prop_assert_eq!(records.iter().map(|record| record.hash).collect::<Vec<_>>(), hashes);
        let (seqs, positions): (Vec<_>, Vec<_>) = records.iter().map(|record| (record.seq, record.position)).unzip();
        prop_assert_eq!(seqs, (5..header.next_seq()).collect::<Vec<_>>());
        prop_assert_eq!(positions, (80..header.end()).collect::<Vec<_>>());
        prop_assert_eq!(header.bytes, 100 + bodies.iter().map(Vec::len).sum::<usize>() as u64);
    }

    #[test]
    fn a_changed_byte_in_a_frame_is_never_opened_as_it_was(at: prop::sample::Index, change in 1..=255u8) {
        let (mut bytes, _) = sealed(&[b"one".to_vec(), b"two".to_vec()], &Listing::Open(b"label".to_vec()));
        let original = decode(&bytes).unwrap();
        let index = at.index(bytes.len());
        bytes[index] ^= change;
        // An attacker can correct the checksum.
        put_checksum(&mut bytes, &[]);
        let Ok(frame) = decode(&bytes) else { return Ok(()) };
        let Ok(records) = records_of(&frame) else { return Ok(()) };
        // The hashes do not cover the listing change, the counts, and the sort; a pruned frame has no records.
        let unsealed = |header: &FrameHeader| (header.listing, header.bytes, header.origin, header.pruned);
        let is_as_it_was = unsealed(&frame.header) == unsealed(&original.header) && frame.label() == original.label();
        let is_its_checksum = (8..12).contains(&index);
        prop_assert!(!is_as_it_was || is_its_checksum || seal::check_all(&records).is_err());
    }

    #[test]
    fn a_group_comes_back_as_it_went_in(length in group::HEADER..100_000, items: u32, first: u64, more in 0..1000u64, time: i64, synced: (u32, u32)) {
        let end = first.saturating_add(more);
        let header = GroupHeader { length, items, first, end, time: Timestamp(time), synced: Place { segment: synced.0, offset: synced.1 }, ..group_header() };
        let mut bytes = vec![0; group::HEADER];
        header.write(&mut bytes, LOG, PLACE);
        prop_assert_eq!(GroupHeader::decode(&bytes, LOG, PLACE), Ok(header));
    }

    #[test]
    fn a_gap_comes_back_as_it_went_in(first in 0..200u64, count in 1..200u64) {
        let leaves = (first..first + count).map(|at| Node::of_record(at, &Hash([at as u8; 32])));
        let gap = Gap { first, end: first + count, nodes: crate::merkle::largest(leaves) };
        let mut bytes = Vec::new();
        gap.put(&mut bytes);
        prop_assert_eq!(Gap::positions(&bytes), Ok((first, first + count)));
        prop_assert_eq!(Gap::decode(&bytes), Ok(gap));
    }

    #[test]
    fn a_definition_and_a_head_come_back_as_they_went_in(text in vec(any::<u8>(), 0..200), size in 0..100u8, closed: bool, rest: (u32, u32, u64, u32)) {
        let mut bytes = vec![1, 2];
        definition::put(&mut bytes, seal::fingerprint(&text), &text);
        let bytes = Bytes::from(bytes).slice(2..);
        prop_assert_eq!(definition::fingerprint_of(&bytes), Ok(seal::fingerprint(&text)));
        prop_assert_eq!(definition::decode(&bytes), Ok((seal::fingerprint(&text), Bytes::from(text))));
        let (segment, offset, wiped, index) = rest;
        let tree = tree(size);
        let tip = Tip { position: size.into(), time: Timestamp(-1), hash: tree.root() };
        let head = Head { closed, log: LOG, tip, place: Place { segment, offset }, wiped, index, tree };
        prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
    }

    #[test]
    fn no_bytes_harm_a_decoder(bytes in vec(any::<u8>(), 0..300), letter in prop::sample::select(b"FDGNSHL".to_vec()), sort in 0..4u8) {
        let mut summed = [&[letter, 0, 1, sort], &bytes[..]].concat();
        if summed.len() >= 12 {
            put_checksum(&mut summed, &[]);
        }
        for bytes in [bytes.clone(), summed, [&[letter, 1, 1, 1, 0], &bytes[..]].concat()] {
            let frame = decode(&bytes);
            if let Ok(frame) = &frame {
                let _ = (records_of(frame), frame.hashes(), frame.own_bytes(), frame.pruned_bytes(), frame.label().len());
            }
            let _ = (FrameHeader::decode(&bytes), peek_item(&bytes), LogEvent::decode(&bytes));
            let _ = (GroupHeader::decode(&bytes, LOG, PLACE), SegmentHeader::decode(&bytes), Head::decode(&bytes));
            let _ = (Gap::decode(&bytes), Gap::positions(&bytes), definition::fingerprint_of(&bytes));
            let _ = definition::decode(&Bytes::copy_from_slice(&bytes));
            if bytes.len() >= 12 {
                let _ = check_sum(&bytes, &[]);
            }
        }
    }
}

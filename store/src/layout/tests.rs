//! Every layout: that it comes back as it went in, that its bytes stay what they are, and that no bytes harm a decoder.

use ::bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::{self, Content, FrameHeader, Place, StoredFrame};
use super::group::{FramePlace, GroupEntry};
use super::head::Tip;
use super::listing::{self, ListingEntry};
use super::{MAX_VALUE, definition, keys};
use crate::bytes::Malformed;
use crate::codec;
use crate::log::{Durability, ListingKey};
use crate::log_event::{LogEvent, Opened};
use crate::record::{Body, Hash, StreamId, StreamKind, Timestamp};

fn place() -> Place {
    Place {
        stream: StreamId::from_bytes([7; 16]),
        kind: StreamKind::Execution,
        first_seq: 5,
        first_position: 80,
        time: Timestamp(9),
        previous: Hash([3; 32]),
        bytes: 100,
    }
}

fn seal(bodies: &[Vec<u8>], salt: impl FnMut() -> [u8; 16]) -> Result<(Vec<u8>, FrameHeader), Malformed> {
    Content::new(bodies, salt)?.seal(&place())
}

fn decode(bytes: &[u8]) -> Result<StoredFrame, Malformed> {
    frame::decode(&Bytes::copy_from_slice(bytes))
}

fn entry(label: Vec<u8>) -> ListingEntry {
    ListingEntry { started: Timestamp(-5), last: Timestamp(6), records: 7, bytes: 8, head: Hash([9; 32]), label }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_frame_of_format_1_has_these_bytes() {
    let (bytes, header) = seal(&[b"ab".to_vec(), b"c".to_vec()], || [0x11; 16]).unwrap();
    let records = decode(&bytes).unwrap().records;
    let expected = [
        // The header, and the hash of the last record.
        "46000100",
        "01",
        "00000092",
        "0000000000000050",
        "0000000000000009",
        "00000002",
        "0000000000000067",
        &header.head.to_string(),
        // The first record: its hash, that its body is here, its length, salt and body; then the second one.
        &records[0].hash.to_string(),
        "00",
        "00000002",
        &"11".repeat(16),
        "6162",
        "00",
        "00000001",
        &"11".repeat(16),
        "63",
    ];
    assert_eq!(hex(&bytes), expected.concat());
}

#[test]
fn a_commit_entry_of_format_1_has_these_bytes() {
    let place = FramePlace { stream: StreamId::from_bytes([7; 16]), kind: StreamKind::Trigger, first_seq: 5, count: 2 };
    for (continues, begins) in [(false, "43000100"), (true, "63000100")] {
        let entry = GroupEntry { continues, hash: Hash([0xee; 32]), frames: vec![place] };
        let expected = [begins, &"ee".repeat(32), "0001", &"07".repeat(16), "03", "0000000000000005", "00000002"];
        assert_eq!(hex(&entry.encode()), expected.concat());
        assert_eq!(GroupEntry::decode(&entry.encode()), Ok(entry));
    }
}

#[test]
fn other_values_of_format_1_begin_with_these_bytes() {
    assert_eq!(hex(&definition::encode(b"xy").unwrap()), "44000100000000027879");
    let key = keys::listing(true, StreamKind::Execution, StreamId::from_bytes([7; 16]));
    assert_eq!(hex(&key), ["4f01", &"07".repeat(16)].concat());
    let place = ListingKey { started: Timestamp(-5), stream: StreamId::from_bytes([7; 16]) };
    let key_of_start = keys::started(StreamKind::Execution, place);
    assert_eq!(hex(&key_of_start), ["5401", "7ffffffffffffffb", &"07".repeat(16)].concat());
    assert_eq!(keys::parse_started(&key_of_start), Ok((StreamKind::Execution, place)));
    assert_eq!(hex(&listing::started_value()), "54000100");
    let listed = hex(&entry(b"L".to_vec()).encode(&key));
    let expected = [
        "53000100",
        "fffffffffffffffb",
        "0000000000000006",
        "0000000000000007",
        "0000000000000008",
        &"09".repeat(32),
        "00000001",
        "4c",
    ]
    .concat();
    assert_eq!(listed.len(), expected.len() + 16);
    assert!(listed.starts_with(&expected));
    let tip = Tip { position: 1, time: Timestamp(2), hash: Hash([3; 32]) };
    let expected = ["48000100", "0000000000000001", "0000000000000002", &"03".repeat(32)].concat();
    assert!(hex(&tip.encode()).starts_with(&expected));
    let mut opened = Opened::new("h".to_owned(), 300, Durability::Interval(20));
    opened.version = "1".to_owned();
    let bytes = LogEvent::Opened(opened).encode().unwrap();
    assert_eq!(hex(&bytes), "4c01010100".to_owned() + "0131" + "0168" + "fb2c01" + "01" + "14");
    assert_eq!(hex(&LogEvent::Closed.encode().unwrap()), "4c01010200");
}

#[test]
fn an_erased_body_leaves_the_chain_whole() {
    let (bytes, _) = seal(&[b"secret".to_vec(), b"c".to_vec()], || [1; 16]).unwrap();
    let mut stored = decode(&bytes).unwrap();
    let commitment = crate::seal::commitment(&[1; 16], b"secret");
    stored.records[0].body = Body::Erased { commitment, length: 6 };
    let (bytes, header) = frame::encode(&stored).unwrap();
    assert_eq!((bytes.len(), &header.head), (header.length, &stored.header.head));
    assert_eq!(decode(&bytes).unwrap().records, stored.records);
    assert_eq!(stored.own_bytes(), 7);
    let records = stored.open(place().stream, 5, place().previous).unwrap();
    assert_eq!(records[0].body.bytes(), None);
    assert_eq!(records[1].previous, records[0].hash);
}

#[test]
fn a_pruned_frame_keeps_the_hashes_of_its_records() {
    let (bytes, header) = seal(&[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], || [1; 16]).unwrap();
    let stored = decode(&bytes).unwrap();
    let (bytes, pruned) = frame::encode(&stored.without_records()).unwrap();
    assert_eq!(&bytes[..4], b"P\0\x01\0");
    assert_eq!((bytes.len(), pruned.length), (69 + 2 * 32, 69 + 2 * 32));
    assert_eq!((pruned.count, pruned.head, pruned.bytes), (3, header.head, header.bytes));
    let read = decode(&bytes).unwrap();
    assert_eq!((read.hashes(), read.records.len()), (stored.hashes(), 0));
    // A count that the bytes do not have is not believed.
    for count in [1_u32, 4, u32::MAX] {
        let mut hostile = bytes.clone();
        hostile[25..29].copy_from_slice(&count.to_be_bytes());
        assert!(decode(&hostile).is_err());
    }
}

#[test]
fn a_hostile_length_allocates_nothing() {
    let (mut bytes, _) = seal(&[b"ab".to_vec()], || [1; 16]).unwrap();
    // The count of records, then the length of a body.
    bytes[25..29].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(decode(&bytes).is_err());
    bytes[25..29].copy_from_slice(&1u32.to_be_bytes());
    assert!(decode(&bytes).is_ok());
    bytes[70..74].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(decode(&bytes).is_err());
    // A text of 2^63 bytes.
    assert!(codec::decode::<String>(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80]).is_err());
}

#[test]
fn a_newer_value_is_told_from_a_damaged_one() {
    let mut bytes = definition::encode(b"xy").unwrap();
    bytes[2] = 2;
    let error = definition::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("format 2, this version reads up to 1"), "{error}");
    bytes[2] = 0;
    assert!(!definition::decode(&bytes).unwrap_err().to_string().contains("upgrade"));
}

/// The whole log is refused by its format file before any of these is met; each says it for itself all the same.
#[test]
fn every_value_of_a_newer_format_says_which_and_what_to_do() {
    let (frame, _) = seal(&[b"ab".to_vec()], || [1; 16]).unwrap();
    let group = GroupEntry::seal(
        false,
        0,
        &Hash::ZERO,
        &[(FramePlace { stream: place().stream, kind: StreamKind::Execution, first_seq: 5, count: 1 }, Hash::ZERO)],
    );
    let tip = Tip { position: 1, time: Timestamp(2), hash: Hash([3; 32]) };
    type Refuse = fn(&[u8]) -> String;
    let values: [(Vec<u8>, Refuse); 5] = [
        (frame, |bytes| decode(bytes).unwrap_err().to_string()),
        (group.encode(), |bytes| GroupEntry::decode(bytes).unwrap_err().to_string()),
        (definition::encode(b"xy").unwrap(), |bytes| definition::decode(bytes).unwrap_err().to_string()),
        (entry(Vec::new()).encode(b"key"), |bytes| ListingEntry::decode(b"key", bytes).unwrap_err().to_string()),
        (tip.encode(), |bytes| Tip::decode(bytes).unwrap_err().to_string()),
    ];
    for (mut bytes, refuse) in values {
        bytes[2] += 1;
        assert_eq!(refuse(&bytes), "it has format 2, this version reads up to 1; upgrade to read it");
    }
    let mut closed = LogEvent::Closed.encode().unwrap();
    closed[2] += 1;
    let why = LogEvent::decode(&closed).unwrap_err().to_string();
    assert!(why.contains("kind 2 in format 2 is not known; upgrade to read it"), "{why}");
    closed[1] += 1;
    let why = LogEvent::decode(&closed).unwrap_err().to_string();
    assert!(why.contains("codec 2, this version knows 1; upgrade to read it"), "{why}");
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went_in(bodies in vec(vec(any::<u8>(), 0..3_000), 1..6), salt: [u8; 16]) {
        let (bytes, header) = seal(&bodies, || salt).unwrap();
        let stored = decode(&bytes).unwrap();
        prop_assert_eq!(&stored.header, &header);
        prop_assert_eq!(frame::decode_header(&bytes).unwrap(), header);
        let records = stored.open(place().stream, place().first_seq, place().previous).unwrap();
        let found: Vec<_> = records.iter().map(|record| record.body.bytes().unwrap().to_vec()).collect();
        prop_assert_eq!(found, bodies);
        prop_assert!(super::chunks(&bytes).all(|(_, chunk)| chunk.len() <= MAX_VALUE));
        prop_assert_eq!(super::chunks(&bytes).flat_map(|(_, chunk)| chunk.to_vec()).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn a_changed_byte_in_a_frame_is_never_opened_as_it_was(place_of: prop::sample::Index, change in 1..=255u8) {
        let (mut bytes, _) = seal(&[b"one".to_vec(), b"two".to_vec()], || [4; 16]).unwrap();
        let original = decode(&bytes).unwrap().header;
        let index = place_of.index(bytes.len());
        bytes[index] ^= change;
        let Ok(stored) = decode(&bytes) else { return Ok(()) };
        // The sum of bytes is not sealed; readers hold it against the frame before. Nor is the letter that tells an own frame
        // from an imported one, which one changed byte turns into each other; the commit entries say which it is.
        if (stored.header.bytes, stored.header.standing) == (original.bytes, original.standing) {
            prop_assert!(stored.open(place().stream, place().first_seq, place().previous).is_err());
        }
    }

    #[test]
    fn a_listing_entry_comes_back_as_it_went_in(label in vec(any::<u8>(), 0..200), key in vec(any::<u8>(), 1..30)) {
        let entry = entry(label);
        let bytes = entry.encode(&key);
        prop_assert_eq!(ListingEntry::decode(&key, &bytes).unwrap(), entry);
    }

    #[test]
    fn keys_sort_as_what_they_stand_for(a: (u64, u16), b: (u64, u16), id: u128) {
        let stream = StreamId::from_bytes(id.to_be_bytes());
        let (left, right) = (keys::frame(stream, a.0, a.1), keys::frame(stream, b.0, b.1));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!(keys::parse_frame(&left).unwrap(), (stream, a.0, a.1));
        let range = keys::frames(stream, 0, None);
        prop_assert!(range.from <= left && left < range.below);
        prop_assert_eq!(keys::group(a.0).cmp(&keys::group(b.0)), a.0.cmp(&b.0));
    }

    #[test]
    fn no_bytes_harm_a_decoder(bytes in vec(any::<u8>(), 0..300), letter in prop::sample::select(b"FCDSHL".to_vec())) {
        for bytes in [bytes.clone(), [&[letter, 0, 1, 0], &bytes[..]].concat(), [&[letter, 1, 1, 1, 0], &bytes[..]].concat()] {
            let _ = decode(&bytes);
            let _ = frame::decode_header(&bytes);
            let _ = GroupEntry::decode(&bytes);
            let _ = definition::decode(&bytes);
            let _ = definition::stored_length(&bytes);
            let _ = ListingEntry::decode(b"key", &bytes);
            let _ = Tip::decode(&bytes);
            let _ = LogEvent::decode(&bytes);
            let _ = keys::parse_frame(&bytes);
            let _ = keys::parse_group(&bytes);
            let _ = keys::parse_definition(&bytes);
            let _ = (keys::parse_listing(&bytes), keys::parse_started(&bytes));
        }
    }
}

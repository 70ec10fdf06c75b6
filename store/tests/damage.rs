//! A wrong byte anywhere is found, named, and never returned as if it were right.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

mod suite;

use cloacina_store::keeper::{Change, ChangeError, Keeper, Prune};
use cloacina_store::log::{Definition, EventLog, LogReader, ReadError, StreamFilter};
use cloacina_store::record::Record;
use cloacina_store::{MemoryDisk, MemoryLog, seal};
use suite::{batch, closed_label, frame, one, open_label, stream};

/// A log with everything in it that can be in one, and closed in order.
fn written() -> (MemoryDisk, Vec<Record>) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    let definition = Definition { fingerprint: seal::fingerprint(b"source"), bytes: b"source".as_slice().into() };
    let mut first = one(stream(1), 0, b"first");
    first.definitions.push(definition);
    log.append(first).unwrap();
    log.append(batch(vec![
        frame(stream(1), 1, &[b"second", b"third"], open_label("one")),
        frame(stream(2), 0, &[b"a", &[7; 4_500]], open_label("two")),
    ]))
    .unwrap();
    log.append(batch(vec![frame(stream(2), 2, &[b"end"], closed_label("two, done"))])).unwrap();
    log.append(one(stream(1), 3, b"fourth")).unwrap();
    log.close().unwrap();
    let records = log.tail(0, usize::MAX).unwrap();
    (disk, records)
}

fn wrong(records: &[Record], original: &[Record]) -> Option<Record> {
    records.iter().find(|record| !original.contains(record)).cloned()
}

#[test]
fn a_flipped_byte_in_any_value_is_found_and_never_returned() {
    let (disk, original) = written();
    let everything = StreamFilter { limit: 10, ..StreamFilter::default() };
    for key in disk.keys() {
        let value = disk.value(&key).unwrap();
        for place in 0..value.len() {
            let damaged = disk.copy();
            let mut flipped = value.clone();
            flipped[place] ^= 0x41;
            damaged.damage(&key, Some(&flipped));
            // Opening looks at what came after the head file alone, which is nothing but the record of it.
            let Ok(log) = MemoryLog::open(&damaged) else {
                continue;
            };
            let findings = log.verify().findings;
            assert_ne!(findings, [], "byte {place} under {key:02x?}");
            let opened = log.tail(original.len() as u64, 10).unwrap_or_default();
            let known = [original.clone(), opened].concat();
            for (number, count) in [(1, 4), (2, 3)] {
                match log.read(stream(number), 0, 100) {
                    Ok(records) => {
                        assert_eq!(wrong(&records, &known), None);
                        assert_eq!(records.len(), count, "byte {place} under {key:02x?}");
                    }
                    Err(error) => assert!(!matches!(error, ReadError::NoStream(_)), "{error}"),
                }
            }
            if let Ok(records) = log.tail(0, 100) {
                assert_eq!(wrong(&records, &known), None);
            }
            if let Ok(Some(bytes)) = log.definition(seal::fingerprint(b"source")) {
                assert_eq!(&*bytes, b"source");
            }
            let _ = log.streams(&everything);
        }
    }
}

/// One changed byte makes an imported frame of one that was appended. No hash covers that letter: its bodies are what was
/// written, and that nobody has imported them is found.
#[test]
fn a_frame_that_says_that_it_was_imported_is_found() {
    let (disk, original) = written();
    for key in disk.keys().into_iter().filter(|key| key[0] == b'F' && key[25..] == [0, 0]) {
        let damaged = disk.copy();
        let mut value = disk.value(&key).unwrap();
        assert_eq!(value[0], b'F');
        value[0] = b'I';
        damaged.damage(&key, Some(&value));
        let Ok(log) = MemoryLog::open(&damaged) else { continue };
        let findings = log.verify().findings;
        assert!(
            findings.iter().any(|error| error.to_string().contains("one from an archive stands there")),
            "{findings:?}"
        );
        for number in [1, 2] {
            let records = log.read(stream(number), 0, 100).unwrap_or_default();
            assert_eq!(wrong(&records, &original), None);
        }
    }
}

#[test]
fn a_wrong_byte_is_named_with_its_stream_and_seq() {
    let (disk, _) = written();
    // The frame with seqs 1 and 2 of stream 1: a byte of the last body.
    let key = disk.keys().into_iter().find(|key| key[0] == b'F' && key[16] == 1 && key[24] == 1).unwrap();
    let mut value = disk.value(&key).unwrap();
    *value.last_mut().unwrap() ^= 1;
    disk.damage(&key, Some(&value));
    let log = MemoryLog::open(&disk).unwrap();
    let Err(ReadError::Damaged { stream: named, seq, what }) = log.read(stream(1), 0, 10) else {
        panic!("the damage was not found")
    };
    assert_eq!((named, seq), (stream(1), 2));
    assert!(what.contains("its hash is"), "{what}");
    assert_eq!(log.read(stream(2), 0, 10).unwrap().len(), 3, "other streams can be read");
    assert!(log.append(one(stream(1), 4, b"goes on")).is_ok(), "its end is known");
}

/// A page in two parts, each of which has its own first damage.
#[test]
fn of_a_long_page_the_first_damage_in_the_order_of_the_log_is_told() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for round in 0..30 {
        let frames = |number| frame(stream(number), round * 2, &[b"a", b"b"], open_label("x"));
        log.append(batch((1..=30).map(frames).collect())).unwrap();
    }
    log.close().unwrap();
    let key = |number: u8, round: u8| {
        let is_it = |key: &Vec<u8>| key[0] == b'F' && (key[16], key[24]) == (number, round * 2);
        disk.keys().into_iter().find(is_it).unwrap()
    };
    // The last byte of a body, a whole frame, and the first byte, which says what it is.
    let flipped = |key: &[u8]| {
        let mut value = disk.value(key).unwrap();
        *value.last_mut().unwrap() ^= 1;
        Some(value)
    };
    let unreadable = |key: &[u8]| disk.value(key).map(|value| [&[0], &value[1..]].concat());
    for (first, second) in [((2, 20), (29, 21)), ((29, 20), (2, 21)), ((3, 20), (2, 21)), ((29, 20), (28, 29))] {
        for damage in [&flipped as &dyn Fn(&[u8]) -> Option<Vec<u8>>, &unreadable, &|_| None] {
            let damaged = disk.copy();
            for (number, round) in [first, second] {
                let key = key(number, round);
                damaged.damage(&key, damage(&key).as_deref());
            }
            let log = MemoryLog::open(&damaged).unwrap();
            let Err(ReadError::Damaged { stream: named, seq, .. }) = log.tail(0, usize::MAX) else {
                panic!("the damage of {first:?} was not found")
            };
            assert_eq!((named, seq / 2), (stream(first.0.into()), first.1.into()), "of {first:?} and {second:?}");
            assert_eq!(log.tail(0, 1_150).unwrap().len(), 1_150, "what is before the damage can be read");
        }
    }
}

/// What a log keeps in memory of what it wrote says nothing of the disk.
#[test]
fn verifying_looks_at_what_is_stored_also_where_it_was_written_just_now() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(one(stream(1), 0, b"a")).unwrap();
    let key = disk.keys().into_iter().find(|key| key[0] == b'F' && key[1..17] == *stream(1).as_bytes()).unwrap();
    let whole = disk.value(&key).unwrap();
    let damages: [&dyn Fn() -> Option<Vec<u8>>; 2] = [&|| None, &|| Some([&whole[..whole.len() - 1], b"b"].concat())];
    for damage in damages {
        disk.damage(&key, damage().as_deref());
        assert_eq!(log.stream(stream(1)).unwrap().records, 1);
        assert_eq!(log.tail(1, 10).unwrap()[0].body.bytes(), Some(&b"a"[..]));
        assert!(log.verify().findings.iter().any(|finding| finding.to_string().contains(&stream(1).to_string())));
        disk.damage(&key, Some(&whole));
        assert_eq!(log.verify().findings, []);
    }
}

/// What a log had in memory of what it wrote vouched for what was stored, and a damaged stream was dropped as if it were whole.
#[test]
fn a_stream_that_is_damaged_where_it_is_stored_is_not_dropped_for_what_is_in_memory() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(batch(vec![frame(stream(1), 0, &[b"a"], closed_label("c"))])).unwrap();
    let head = log.stream(stream(1)).unwrap().head;
    let key = disk.keys().into_iter().find(|key| key[0] == b'F' && key[1..17] == *stream(1).as_bytes()).unwrap();
    let whole = disk.value(&key).unwrap();
    disk.damage(&key, Some(&[&whole[..whole.len() - 1], b"b"].concat()));
    let prune = || {
        let (reason, by) = ("old".to_owned(), "ann".to_owned());
        log.change(Change::Prune(Prune { stream: stream(1), head, archive: None, reason, by }))
    };
    assert!(matches!(prune(), Err(ChangeError::Read(ReadError::Damaged { .. }))));
    disk.damage(&key, Some(&whole));
    assert_eq!(prune().unwrap().records, 1);
}

#[test]
fn a_lost_frame_is_found() {
    let (disk, _) = written();
    for key in disk.keys().into_iter().filter(|key| key[0] == b'F' && key[1..17] != [0; 16]) {
        let damaged = disk.copy();
        damaged.damage(&key, None);
        let log = MemoryLog::open(&damaged).unwrap();
        assert_ne!(log.verify().findings, [], "{key:02x?}");
        let id = stream(key[16].into());
        let seq = u64::from(key[24]);
        match log.read(id, 0, 100) {
            Err(ReadError::Damaged { stream, .. } | ReadError::TailCut { stream, .. }) => {
                assert_eq!(stream, id)
            }
            // The end of an open stream: the log knows that it should be there.
            Ok(records) => {
                assert_eq!((records.len(), seq), (3, 3));
                assert!(log.tail(0, 100).is_err());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_cut_tail_of_a_closed_stream_is_found() {
    let (disk, _) = written();
    let last = disk.keys().into_iter().rfind(|key| key[0] == b'F' && key[16] == 2).unwrap();
    disk.damage(&last, None);
    let log = MemoryLog::open(&disk).unwrap();
    let cut = ReadError::TailCut { stream: stream(2), head: 3, found: 2 };
    assert_eq!(log.read(stream(2), 0, 10), Err(cut.clone()));
    assert_eq!(log.stream(stream(2)), Err(cut));
}

#[test]
fn a_stray_frame_is_found() {
    let (disk, _) = written();
    let key = disk.keys().into_iter().find(|key| key[0] == b'F' && key[16] == 1).unwrap();
    let value = disk.value(&key).unwrap();
    let mut stray = key.clone();
    stray[16] = 9;
    disk.damage(&stray, Some(&value));
    let log = MemoryLog::open(&disk).unwrap();
    assert_ne!(log.verify().findings, []);
    assert!(log.read(stream(9), 0, 10).is_err());
}

//! Damage to a log that is open: a wrong byte on its disk is found by its readers and by `verify`, and is named.

use std::sync::Arc;

use crate::damage::{Original, append_everything, is_refused};
use crate::suite::stored::{self, flipped, frame_with, overwrite, with_checksum};
use crate::suite::{batch, closed_label, frame, one, open_label, prune, stream};
use cloacina_store::keeper::{ChangeError, Keeper};
use cloacina_store::log::{EventLog, LogReader, ReadError};
use cloacina_store::record::StreamId;
use cloacina_store::{MemoryDisk, MemoryLog, seal};

/// Returns an open log, its disk, and what it contains.
fn opened() -> (MemoryDisk, MemoryLog, Original) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    append_everything(&log);
    let original = Original::of(&log);
    (disk, log, original)
}

/// One changed byte turns an appended frame into an imported one. No hash covers that byte, and an attacker can fix the checksum. The
/// bodies are still what was written, and the check finds that their positions are missing from the log.
#[test]
fn a_frame_that_says_that_it_was_imported_is_found() {
    for number in [1, 2] {
        let (disk, log, original) = opened();
        let item = frame_with(&disk, stream(number), 0);
        let mut bytes = item.bytes.clone();
        assert_eq!(bytes[3], 0);
        bytes[3] = 1;
        overwrite(&disk, &item, &with_checksum(bytes));
        assert_ne!(log.verify().findings, []);
        let records = log.read(stream(number), 0, 100).unwrap_or_default();
        assert!(records.iter().all(|record| original.records.contains(record)));
        assert!(log.tail(0, 100).unwrap_or_default().iter().all(|record| original.records.contains(record)));
        assert!(is_refused(&disk.after_kill()));
    }
}

#[test]
fn a_wrong_byte_is_named_with_its_stream_and_seq() {
    let (disk, log, _) = opened();
    let item = frame_with(&disk, stream(1), 2);
    assert_eq!((item.first_seq(), item.count()), (1, 2));
    // A byte of the last body, whose five bytes are padded to sixteen.
    let last_body = item.bytes.len() - 16;
    overwrite(&disk, &item, &flipped(&item, last_body));
    let Err(ReadError::Damaged { stream: named, seq, what }) = log.read(stream(1), 0, 10) else {
        panic!("the damage was not found")
    };
    assert_eq!((named, seq), (stream(1), 2));
    assert!(what.contains("its hash is"), "{what}");
    assert_eq!(log.read(stream(1), 0, 1).unwrap().len(), 1, "what is before it can be read");
    assert_eq!(log.read(stream(2), 0, 10).unwrap().len(), 3, "other streams can be read");
    assert!(log.append(one(stream(1), 4, b"another")).is_ok(), "its end is known");
    let named = |finding: &ReadError| matches!(finding, ReadError::Damaged { stream: of, .. } if *of == stream(1));
    assert!(log.verify().findings.iter().any(named));
}

/// A long page is read in two parts, each with its own first damage.
#[test]
fn a_long_page_reports_the_first_damage_in_the_order_of_the_log() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for round in 0..30 {
        let frames = |number| frame(stream(number), round * 2, &[b"a", b"b"], open_label("x"));
        log.append(batch((1..=30).map(frames).collect())).unwrap();
    }
    let last_body = |item: &stored::Item| item.bytes.len() - 16;
    for (first, second) in [((2, 20), (29, 21)), ((29, 20), (2, 21)), ((3, 20), (2, 21)), ((29, 20), (28, 29))] {
        // The last body, or the first byte, the type of the frame: then its stream cannot be named.
        for (at_first, at_second) in [(false, false), (false, true), (true, false)] {
            let items = [first, second].map(|(number, round)| frame_with(&disk, stream(number), round * 2));
            for (item, at_begin) in items.iter().zip([at_first, at_second]) {
                overwrite(&disk, item, &flipped(item, if at_begin { 0 } else { last_body(item) }));
            }
            let error = log.tail(0, usize::MAX).unwrap_err();
            if at_first {
                let place = format!("at byte {}", items[0].at);
                assert!(matches!(&error, ReadError::DamagedLog(what) if what.contains(&place)), "{error}");
            } else {
                let ReadError::Damaged { stream: named, seq, .. } = error else { panic!("{error}") };
                assert_eq!((named, seq / 2), (stream(first.0), first.1), "of {first:?} and {second:?}");
            }
            assert_eq!(log.tail(0, 1_150).unwrap().len(), 1_150, "what is before the damage can be read");
            items.iter().for_each(|item| overwrite(&disk, item, &item.bytes));
        }
    }
    assert_eq!(log.tail(0, usize::MAX).unwrap().len(), 1_801);
}

/// Recent writes in memory are no evidence of what is on the disk.
#[test]
fn verifying_reads_the_disk_even_for_what_was_just_written() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(one(stream(1), 0, b"a")).unwrap();
    let item = frame_with(&disk, stream(1), 0);
    for at in 0..item.bytes.len() {
        overwrite(&disk, &item, &flipped(&item, at));
        assert_eq!(log.stream(stream(1)).unwrap().records, 1);
        assert_ne!(log.verify().findings, [], "byte {at}");
        overwrite(&disk, &item, &item.bytes);
        assert_eq!(log.verify().findings, []);
    }
    overwrite(&disk, &item, &flipped(&item, item.bytes.len() - 16));
    assert!(log.verify().findings.iter().any(|finding| finding.to_string().contains(&stream(1).to_string())));
    assert!(log.read(stream(1), 0, 1).is_err() && log.tail(1, 10).is_err());
}

/// Regression: recent writes in memory were taken as proof of the stored bytes, and a damaged stream was pruned as if it were intact.
#[test]
fn a_stream_that_is_damaged_on_disk_is_not_pruned_because_memory_has_it() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(batch(vec![frame(stream(1), 0, &[b"a"], closed_label("c"))])).unwrap();
    let change = prune(&log, stream(1));
    let item = frame_with(&disk, stream(1), 0);
    let before = log.head().unwrap();
    for at in 0..item.bytes.len() {
        overwrite(&disk, &item, &flipped(&item, at));
        let refused = log.change(change.clone());
        let is_damage = matches!(&refused, Err(ChangeError::Read(error)) if error.is_damage());
        assert!(is_damage, "byte {at}: {refused:?}");
    }
    overwrite(&disk, &item, &item.bytes);
    assert_eq!(log.head().unwrap(), before);
    assert_eq!(log.change(change).unwrap().records, 1);
}

#[test]
fn a_lost_frame_is_found() {
    let (disk, log, _) = opened();
    for item in stored::items(&disk).into_iter().filter(|item| item.bytes[0] == b'F') {
        overwrite(&disk, &item, &vec![0; item.bytes.len()]);
        assert_ne!(log.verify().findings, [], "{item:?}");
        let id = StreamId::from_bytes(item.bytes[16..32].try_into().unwrap());
        let Err(ReadError::Damaged { stream, seq, .. }) = log.read(id, 0, 100) else { panic!("{item:?}") };
        assert_eq!((stream, seq), (id, item.first_seq()));
        assert!(log.tail(0, 100).is_err());
        assert!(MemoryLog::open(&disk.after_kill()).map_or(true, |log| log.verify().findings.is_empty()));
        overwrite(&disk, &item, &item.bytes);
    }
    assert_eq!(log.verify().findings, []);
}

/// A valid frame of the same length in the place of another one: a copy, or a frame of another stream.
#[test]
fn a_stray_frame_is_found() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    for seq in 0..3 {
        log.append(batch(vec![
            frame(stream(1), seq, &[b"a"], open_label("x")),
            frame(stream(2), seq, &[b"b"], open_label("x")),
        ]))
        .unwrap();
    }
    let items: Vec<_> = stored::items(&disk).into_iter().filter(|item| !item.is_frame_of(StreamId::LOG)).collect();
    assert_eq!(items.len(), 6);
    for item in &items {
        let id = StreamId::from_bytes(item.bytes[16..32].try_into().unwrap());
        for stray in items.iter().filter(|stray| stray.at != item.at) {
            overwrite(&disk, item, &stray.bytes);
            assert_ne!(log.verify().findings, []);
            assert!(log.read(id, 0, 10).is_err());
            overwrite(&disk, item, &item.bytes);
        }
    }
    assert_eq!(log.verify().findings, []);
}

#[test]
fn a_definition_that_is_damaged_is_found_and_never_returned() {
    let (disk, log, _) = opened();
    let item = stored::items(&disk).into_iter().find(|item| item.bytes[0] == b'D').unwrap();
    let fingerprint = seal::fingerprint(b"source");
    for at in 0..item.bytes.len() {
        for bytes in [flipped(&item, at), with_checksum(flipped(&item, at))] {
            overwrite(&disk, &item, &bytes);
            let is_it = bytes == item.bytes;
            assert_eq!(log.verify().findings.is_empty(), is_it, "byte {at}");
            if let Ok(found) = log.definition(fingerprint) {
                assert_eq!(found.as_deref(), Some(&b"source"[..]), "byte {at}");
                assert!(is_it || (12..44).contains(&at), "only of its own fingerprint something else can be wrong");
            }
        }
    }
    overwrite(&disk, &item, &item.bytes);
    assert_eq!(log.definition(fingerprint), Ok(Some(Arc::from(&b"source"[..]))));
}

//! Erased and pruned data is gone wherever the process was interrupted: the event is durable first, and the next open for writing
//! finishes the overwriting.

use std::collections::BTreeSet;

use cloacina_store::keeper::{Change, ChangeError, Erase, Keeper, Prune};
use cloacina_store::log::{Durability, EventLog, LogReader, OpenError, ReadError};
use cloacina_store::record::{Record, StreamId};
use cloacina_store::{MemoryDisk, MemoryLog};

use crate::suite::{batch, closed_label, frame, one, open_label, stream};

/// Longer than a sector, so that a write can be torn in the middle of it.
fn secret(number: u128, seq: u64) -> Vec<u8> {
    format!("SECRET-{number}-{seq};").repeat(120).into_bytes()
}

/// The streams that are changed, and others beside them.
const CHANGED: [u128; 3] = [1, 3, 5];

/// A log with interleaved closed streams, and filler between them, which may take more than one segment.
fn written(durability: Durability, filler: usize) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open_with(&disk, durability).unwrap();
    for seq in 0..4 {
        for number in 1..7 {
            let listing = if seq == 3 { closed_label("over") } else { open_label("runs") };
            let body = secret(number, seq * 2);
            let frame = frame(stream(number), seq * 2, &[b"in the clear", &body], listing);
            log.append(batch(vec![frame])).unwrap();
        }
        log.append(one(stream(90), seq, &vec![9; filler])).unwrap();
    }
    log.close().unwrap();
    disk
}

/// A change that is interrupted in the middle.
type Action = fn(&MemoryLog) -> Result<(), ChangeError>;

fn erase(log: &MemoryLog) -> Result<(), ChangeError> {
    for number in CHANGED {
        let records = vec![(1, b"a note".to_vec()), (3, b"a note".to_vec()), (7, b"a note".to_vec())];
        let (reason, by) = ("asked to".to_owned(), "ann".to_owned());
        log.change(Change::Erase(Erase { stream: stream(number), records, reason, by }))?;
    }
    Ok(())
}

fn prune(log: &MemoryLog) -> Result<(), ChangeError> {
    let streams: Result<Vec<_>, ReadError> =
        CHANGED.iter().map(|number| Ok((stream(*number), log.stream(stream(*number))?.head))).collect();
    let (reason, by) = ("old".to_owned(), "ann".to_owned());
    log.change(Change::Prune(Prune { streams: streams?, archive: None, reason, by })).map(drop)
}

/// Returns the marker of each body that is anywhere on a disk: it names the stream and the seq.
fn markers(disk: &MemoryDisk) -> BTreeSet<String> {
    let mut text = Vec::new();
    for content in disk.names().into_iter().filter_map(|name| disk.content(&name)) {
        // Skip the space allocated ahead, and the filler.
        let is_content = |sector: &&[u8]| ![&[0; 512][..], &[9; 512]].contains(sector);
        content.chunks(512).filter(is_content).for_each(|sector| text.extend_from_slice(sector));
    }
    let mut markers = BTreeSet::new();
    let mut at = 0;
    while let Some(found) = text[at..].windows(7).position(|window| window == b"SECRET-") {
        let marker: Vec<u8> = text[at + found..].iter().copied().take(12).take_while(|byte| *byte != b';').collect();
        markers.insert(String::from_utf8_lossy(&marker).into_owned());
        at += found + 7;
    }
    markers
}

/// How much of a stream is gone according to its log.
#[derive(Debug, PartialEq)]
enum Gone {
    Nothing,
    Bodies,
    All,
}

/// Opens an interrupted log and compares each stream with its original: erased and pruned data is nowhere on the disk, everything else is
/// unchanged. Returns how much of each stream is gone.
fn reopened_and_checked(left: &MemoryDisk, before: &[(u128, Vec<Record>)], case: &str) -> Vec<Gone> {
    let log = MemoryLog::open(left).unwrap_or_else(|error| panic!("{case}: {error}"));
    let markers = markers(left);
    assert_eq!(log.verify().findings, [], "{case}");
    let mut gone = Vec::new();
    for (number, records) in before {
        let erased: Vec<u64> = log.erasures(stream(*number)).unwrap().iter().map(|erasure| erasure.seq).collect();
        let found = match log.read(stream(*number), 0, 99) {
            Ok(found) => found,
            Err(ReadError::Pruned { records: 8, .. }) => {
                let begins = format!("SECRET-{number}-");
                let is_gone = markers.iter().all(|marker| !marker.starts_with(&begins));
                assert!(is_gone, "{case}: a part of pruned stream {number} is still there");
                gone.push(Gone::All);
                continue;
            }
            Err(error) => panic!("{case}: {error}"),
        };
        assert_eq!(found.len(), records.len(), "{case}");
        for (found, before) in found.iter().zip(records) {
            assert_eq!((found.hash, found.body.commitment()), (before.hash, before.body.commitment()), "{case}");
            let is_erased = erased.contains(&found.seq);
            assert_eq!(found.body.bytes().is_none(), is_erased, "{case}: stream {number}, seq {}", found.seq);
            if is_erased {
                let marker = format!("SECRET-{number}-{}", found.seq - 1);
                assert!(!markers.contains(&marker), "{case}: erased body {number}, {} is still there", found.seq);
            }
        }
        gone.push(if erased.is_empty() { Gone::Nothing } else { Gone::Bodies });
    }
    log.append(one(stream(91), 0, b"another")).unwrap();
    gone
}

/// Makes a change on a disk that fails at each write and each sync in turn, then kills the process or cuts the power. Returns how often the
/// change was made completely, partly, or not at all.
fn interrupt_everywhere(change: Action, durability: Durability) -> [usize; 3] {
    let intact = written(durability, 10);
    let before: Vec<(u128, Vec<Record>)> = {
        let log = MemoryLog::open(&intact.after_kill()).unwrap();
        (1..7).map(|number| (number, log.read(stream(number), 0, 99).unwrap())).collect()
    };
    let mut seen = [0; 3];
    for syncs in [false, true] {
        for nth in 1.. {
            let disk = intact.after_kill();
            let log = MemoryLog::open_with(&disk, durability).unwrap();
            if syncs {
                disk.fail_sync(nth, "no sync")
            } else {
                disk.fail_write(nth, "no write")
            }
            let changed = change(&log);
            let is_over = changed.is_ok();
            if !is_over {
                let refused = changed.unwrap_err();
                assert!(matches!(refused, ChangeError::Failed(_)), "{refused}");
                assert!(log.append(one(stream(92), 0, b"a")).is_err(), "it has stopped");
            }
            drop(log);
            let torn = |shift: u32| disk.after_torn_power_cut(move |sector| (sector as u32 >> shift).is_multiple_of(2));
            let images = [
                ("killed", disk.after_kill()),
                ("cut", disk.after_power_cut()),
                ("torn", torn(0)),
                ("torn 2", torn(1)),
            ];
            for (how, left) in images {
                let case = format!("{durability:?}, {how}, with the {nth}. {}", if syncs { "sync" } else { "write" });
                let gone = reopened_and_checked(&left, &before, &case);
                let count = gone.iter().filter(|gone| **gone != Gone::Nothing).count();
                assert!(!is_over || count == CHANGED.len(), "{case}: an acknowledged change is lost");
                seen[match count {
                    0 => 2,
                    3 => 0,
                    _ => 1,
                }] += 1;
            }
            if is_over {
                break;
            }
        }
    }
    seen
}

/// The process dies before the event, between the event and the overwriting, in the middle of it, or after it.
#[test]
fn an_interrupted_erasure_is_finished_by_the_next_open_or_never_happened() {
    for durability in [Durability::Sync, Durability::Os] {
        let [whole, part, none] = interrupt_everywhere(erase, durability);
        assert!(whole > 0 && part > 0 && none > 0, "{whole}, {part}, {none}: each is met");
    }
}

#[test]
fn an_interrupted_pruning_is_finished_by_the_next_open_or_never_happened() {
    for durability in [Durability::Sync, Durability::Os] {
        let [whole, part, none] = interrupt_everywhere(prune, durability);
        assert!(whole > 0 && none > 0, "{whole}, {none}: each is met");
        assert_eq!(part, 0, "they are pruned together");
    }
}

/// The open that finishes the overwriting may be interrupted as well, and the one after it.
#[test]
fn an_interrupted_open_leaves_the_rest_of_the_overwriting_to_the_next_one() {
    let intact = written(Durability::Sync, 400_000);
    let before: Vec<(u128, Vec<Record>)> = {
        let log = MemoryLog::open(&intact.after_kill()).unwrap();
        (1..7).map(|number| (number, log.read(stream(number), 0, 99).unwrap())).collect()
    };
    let changes: [(&str, Action); 2] = [("erase", erase), ("prune", prune)];
    for (name, change) in changes {
        // The event is written, and the first overwrite fails.
        let stopped = (1..)
            .find_map(|nth| {
                let disk = intact.after_kill();
                let log = MemoryLog::open(&disk).unwrap();
                disk.fail_write(nth, "no write");
                let text = change(&log).unwrap_err().to_string();
                text.contains("not all data is overwritten yet").then(|| disk.after_kill())
            })
            .unwrap();
        let mut stops = 0;
        for nth in 1.. {
            let disk = stopped.after_kill();
            disk.fail_write(nth, "no write");
            match MemoryLog::open(&disk) {
                Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{name}: {error}"),
                Ok(log) => {
                    drop(log);
                    assert!(nth > 2, "{name}: it had something to do");
                    break;
                }
            }
            stops += 1;
            for (how, left) in [("killed", disk.after_kill()), ("cut", disk.after_power_cut())] {
                let gone =
                    reopened_and_checked(&left, &before, &format!("{name}, {how}, with the {nth}. write of the open"));
                assert!(gone.iter().any(|gone| *gone != Gone::Nothing), "{name}");
            }
        }
        assert!(stops > 1, "{name}");
    }
}

/// The log's own stream, with the events of erasures, cannot be erased or pruned.
#[test]
fn the_events_of_erasures_cannot_be_erased_or_pruned() {
    let log = MemoryLog::open(&written(Durability::Sync, 10)).unwrap();
    erase(&log).unwrap();
    let own = log.stream(StreamId::LOG).unwrap();
    let (reason, by) = ("r".to_owned(), "b".to_owned());
    let prune =
        Prune { streams: vec![(StreamId::LOG, own.head)], archive: None, reason: reason.clone(), by: by.clone() };
    assert!(matches!(log.change(Change::Prune(prune)), Err(ChangeError::Refused(_))));
    let erase = Erase { stream: StreamId::LOG, records: vec![(0, Vec::new())], reason, by };
    assert!(matches!(log.change(Change::Erase(erase)), Err(ChangeError::Refused(_))));
    assert_eq!(log.stream(StreamId::LOG).unwrap(), own);
}

//! What was erased or pruned is gone, wherever the process that did it was stopped: that it is to go is written down first, and whoever
//! opens the log next to write does the rest.

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

/// A log with closed streams that stand among each other, and so much between them that there may be more than one segment.
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

/// What is stopped in the middle.
type Doing = fn(&MemoryLog) -> Result<(), ChangeError>;

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

/// The words of all bodies that are anywhere on a disk, each once: whose they are.
fn words(disk: &MemoryDisk) -> BTreeSet<String> {
    let mut text = Vec::new();
    for content in disk.names().into_iter().filter_map(|name| disk.content(&name)) {
        // What was made ahead, and the filler.
        let is_told = |sector: &&[u8]| ![&[0; 512][..], &[9; 512]].contains(sector);
        content.chunks(512).filter(is_told).for_each(|sector| text.extend_from_slice(sector));
    }
    let mut words = BTreeSet::new();
    let mut at = 0;
    while let Some(found) = text[at..].windows(7).position(|window| window == b"SECRET-") {
        let word: Vec<u8> = text[at + found..].iter().copied().take(12).take_while(|byte| *byte != b';').collect();
        words.insert(String::from_utf8_lossy(&word).into_owned());
        at += found + 7;
    }
    words
}

/// What of a stream is gone by the word of its log.
#[derive(Debug, PartialEq)]
enum Gone {
    Nothing,
    Bodies,
    All,
}

/// Opens what is left of a log, and holds each stream against what it was: nothing of what is said to be gone is anywhere, and all else is
/// as it was. Returns what is gone.
fn taken_up(left: &MemoryDisk, before: &[(u128, Vec<Record>)], told: &str) -> Vec<Gone> {
    let log = MemoryLog::open(left).unwrap_or_else(|error| panic!("{told}: {error}"));
    let words = words(left);
    assert_eq!(log.verify().findings, [], "{told}");
    let mut gone = Vec::new();
    for (number, records) in before {
        let erased: Vec<u64> = log.erasures(stream(*number)).unwrap().iter().map(|erasure| erasure.seq).collect();
        let found = match log.read(stream(*number), 0, 99) {
            Ok(found) => found,
            Err(ReadError::Pruned { records: 8, .. }) => {
                let begins = format!("SECRET-{number}-");
                let is_gone = words.iter().all(|word| !word.starts_with(&begins));
                assert!(is_gone, "{told}: of pruned stream {number} something is there");
                gone.push(Gone::All);
                continue;
            }
            Err(error) => panic!("{told}: {error}"),
        };
        assert_eq!(found.len(), records.len(), "{told}");
        for (found, before) in found.iter().zip(records) {
            assert_eq!((found.hash, found.body.commitment()), (before.hash, before.body.commitment()), "{told}");
            let is_erased = erased.contains(&found.seq);
            assert_eq!(found.body.bytes().is_none(), is_erased, "{told}: stream {number}, seq {}", found.seq);
            if is_erased {
                let word = format!("SECRET-{number}-{}", found.seq - 1);
                assert!(!words.contains(&word), "{told}: of erased {number}, {} something is there", found.seq);
            }
        }
        gone.push(if erased.is_empty() { Gone::Nothing } else { Gone::Bodies });
    }
    log.append(one(stream(91), 0, b"goes on")).unwrap();
    gone
}

/// Makes a change on a disk that fails with a write, or with a sync, and lets the process be killed, or the power be cut. Returns how
/// often it was done whole, in a part, or not at all.
fn stopped_anywhere(change: Doing, durability: Durability) -> [usize; 3] {
    let sound = written(durability, 10);
    let before: Vec<(u128, Vec<Record>)> = {
        let log = MemoryLog::open(&sound.after_kill()).unwrap();
        (1..7).map(|number| (number, log.read(stream(number), 0, 99).unwrap())).collect()
    };
    let mut seen = [0; 3];
    for syncs in [false, true] {
        for nth in 1.. {
            let disk = sound.after_kill();
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
            let lefts = [
                ("killed", disk.after_kill()),
                ("cut", disk.after_power_cut()),
                ("torn", torn(0)),
                ("torn 2", torn(1)),
            ];
            for (how, left) in lefts {
                let told = format!("{durability:?}, {how}, with the {nth}. {}", if syncs { "sync" } else { "write" });
                let gone = taken_up(&left, &before, &told);
                let count = gone.iter().filter(|gone| **gone != Gone::Nothing).count();
                assert!(!is_over || count == CHANGED.len(), "{told}: what was said to be done is done");
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

/// Whether a process dies before the event, between the event and the wiping, in the middle of the wiping, or after it.
#[test]
fn bodies_whose_erasing_was_stopped_anywhere_are_gone_with_the_next_open_or_were_never_erased() {
    for durability in [Durability::Sync, Durability::Os] {
        let [whole, part, none] = stopped_anywhere(erase, durability);
        assert!(whole > 0 && part > 0 && none > 0, "{whole}, {part}, {none}: each is met");
    }
}

#[test]
fn streams_whose_pruning_was_stopped_anywhere_are_gone_with_the_next_open_or_were_never_pruned() {
    for durability in [Durability::Sync, Durability::Os] {
        let [whole, part, none] = stopped_anywhere(prune, durability);
        assert!(whole > 0 && none > 0, "{whole}, {none}: each is met");
        assert_eq!(part, 0, "they are pruned together");
    }
}

/// Whoever takes the log up may be stopped as well, and the next one, and so on.
#[test]
fn an_open_that_is_stopped_while_it_does_the_rest_leaves_it_to_the_next_one() {
    let sound = written(Durability::Sync, 400_000);
    let before: Vec<(u128, Vec<Record>)> = {
        let log = MemoryLog::open(&sound.after_kill()).unwrap();
        (1..7).map(|number| (number, log.read(stream(number), 0, 99).unwrap())).collect()
    };
    let changes: [(&str, Doing); 2] = [("erase", erase), ("prune", prune)];
    for (name, change) in changes {
        // The event is written, and the first write of what it says fails.
        let stopped = (1..)
            .find_map(|nth| {
                let disk = sound.after_kill();
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
                let gone = taken_up(&left, &before, &format!("{name}, {how}, with the {nth}. write of the open"));
                assert!(gone.iter().any(|gone| *gone != Gone::Nothing), "{name}");
            }
        }
        assert!(stops > 1, "{name}");
    }
}

/// A log's own stream says what was erased, and stays as it is.
#[test]
fn what_says_that_something_is_gone_cannot_be_made_to_go() {
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

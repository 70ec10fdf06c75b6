//! What a log does when its disk fails, and what is left after a crash.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

mod suite;

use cloacina_store::log::{AppendError, Durability, EventLog, LogReader, ReadError};
use cloacina_store::record::{Record, StreamId};
use cloacina_store::{MemoryDisk, MemoryLog, OpenError};
use suite::{batch, closed_label, frame, one, open_label, stream};

/// Runs a small history until the disk fails; what was acknowledged, as the log showed it then.
fn run(log: &MemoryLog) -> (Vec<Record>, Option<AppendError>) {
    for round in 0..6u64 {
        let large = vec![1; 5_000];
        let batches = [
            one(stream(1), round, b"small"),
            batch(vec![
                frame(stream(u128::from(round) + 10), 0, &[b"a", &large], open_label("runs")),
                frame(stream(2), round, &[b"b"], open_label("on")),
            ]),
            batch(vec![frame(stream(u128::from(round) + 10), 2, &[b"end"], closed_label("done"))]),
        ];
        for batch in batches {
            if let Err(error) = log.append(batch) {
                return (log.tail(0, usize::MAX).unwrap(), Some(error));
            }
        }
    }
    (log.tail(0, usize::MAX).unwrap(), None)
}

/// A reopened log has all that was acknowledged, can be written to, and is whole.
fn assert_keeps(disk: &MemoryDisk, acknowledged: &[Record]) {
    let log = MemoryLog::open(disk).unwrap();
    let found = log.tail(0, usize::MAX).unwrap();
    assert_eq!(found[..acknowledged.len()], *acknowledged);
    assert_eq!(log.verify().findings, []);
    log.append(one(stream(99), 0, b"goes on")).unwrap();
    assert_eq!(log.verify().findings, []);
}

#[test]
fn a_failed_write_or_sync_is_final_and_acknowledges_nothing() {
    for nth in 1..=18 {
        for fail in [MemoryDisk::fail_write, MemoryDisk::fail_sync] {
            let disk = MemoryDisk::new();
            let log = MemoryLog::open(&disk).unwrap();
            let before = log.flushes();
            fail(&disk, nth, "the disk is full");
            let (acknowledged, error) = run(&log);
            let expected = AppendError::Failed("the disk is full".to_owned());
            assert_eq!(error, Some(expected.clone()), "the {nth}th");
            assert_eq!(log.flushes() - before, nth - 1);
            disk.mend();
            assert_eq!(log.append(one(stream(50), 0, b"x")), Err(expected.clone()), "it stays failed");
            assert_eq!(log.tail(0, usize::MAX).unwrap(), acknowledged);
            assert_eq!(log.close(), Err(expected));
        }
    }
}

/// The disk of a running engine became full. The thread that brings groups into sled met it first, and sled told the next one
/// who asked it anything: the writer, which looked up the end of a stream. That batch alone was refused, as if it were wrong,
/// the reason did not say that the log had stopped, and what was asked of it next got another one.
#[test]
fn a_disk_that_fails_when_the_end_of_a_stream_is_looked_up_stops_the_log() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(batch(vec![frame(stream(1), 0, &[b"a"], open_label("runs"))])).unwrap();
    log.close().unwrap();
    let log = MemoryLog::open(&disk).unwrap();
    let acknowledged = log.tail(0, usize::MAX).unwrap();
    disk.fail_read(1, "file too large");
    let stopped = log.append(one(stream(1), 1, b"b")).unwrap_err();
    assert_eq!(
        stopped.to_string(),
        "the log stopped: what it goes on from cannot be read: cannot read the log: file too large; nothing that waited was \
         acknowledged. Mend the cause and open the log again"
    );
    disk.mend();
    assert_eq!(log.append(one(stream(1), 1, b"b")), Err(stopped.clone()), "it stays stopped");
    assert_eq!(log.close(), Err(stopped));
    assert_keeps(&disk.after_power_cut(), &acknowledged);
}

#[test]
fn whatever_was_acknowledged_survives_a_crash_at_any_point() {
    for nth in 1..=19 {
        for fail in [MemoryDisk::fail_write, MemoryDisk::fail_sync] {
            let disk = MemoryDisk::new();
            let log = MemoryLog::open(&disk).unwrap();
            fail(&disk, nth, "pulled out");
            let (acknowledged, _) = run(&log);
            assert_keeps(&disk.after_power_cut(), &acknowledged);
            assert_keeps(&disk.after_kill(), &acknowledged);
            assert_keeps(&disk.copy(), &acknowledged);
        }
    }
}

#[test]
fn what_was_not_synced_is_shown_to_nobody() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(batch(vec![frame(stream(1), 0, &[b"a"], open_label("runs"))])).unwrap();
    let before = (log.stream(stream(1)).unwrap(), log.head().unwrap());
    disk.fail_sync(1, "no");
    let close = frame(stream(1), 1, &[b"b"], closed_label("done"));
    let new = frame(stream(2), 0, &[b"c"], open_label("new"));
    log.append(batch(vec![close, new])).unwrap_err();
    assert_eq!((log.stream(stream(1)).unwrap(), log.head().unwrap()), before);
    assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 1);
    assert_eq!(log.read(stream(2), 0, 10), Err(ReadError::NoStream(stream(2))));
    let all = cloacina_store::log::StreamFilter { limit: 10, ..Default::default() };
    let ids: Vec<_> = log.streams(&all).unwrap().into_iter().map(|entry| entry.stream).collect();
    assert_eq!(ids, [stream(1), StreamId::LOG]);
}

#[test]
fn weaker_durability_survives_a_kill_and_loses_only_the_end_in_a_power_cut() {
    for durability in [Durability::Interval(10), Durability::Os] {
        let disk = MemoryDisk::new();
        let log = MemoryLog::open_with(&disk, durability).unwrap();
        let (acknowledged, error) = run(&log);
        assert_eq!(error, None);
        assert_eq!(log.head().unwrap().durability, Some(durability));
        assert_keeps(&disk.after_kill(), &acknowledged);
        assert_keeps(&disk.after_power_cut(), &acknowledged[..1]);
        log.close().unwrap();
        assert_keeps(&disk.after_power_cut(), &acknowledged);
    }
}

#[test]
fn a_log_that_is_shorter_than_its_head_is_not_opened() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    run(&log);
    log.close().unwrap();
    for keep in [0, 1, 5, 20] {
        let cut = disk.copy();
        let groups: Vec<_> = cut.keys().into_iter().filter(|key| key[0] == b'C').collect();
        for key in groups.iter().skip(keep) {
            cut.damage(key, None);
        }
        let refused = MemoryLog::open(&cut).err();
        if keep < groups.len() {
            assert!(matches!(refused, Some(OpenError::Damaged { .. })), "{keep}: {refused:?}");
        }
    }
    let empty = disk.copy();
    empty.keys().iter().for_each(|key| empty.damage(key, None));
    let Err(refused) = MemoryLog::open(&empty) else { panic!("an emptied log was opened") };
    assert!(refused.to_string().contains("its head file says that 32 records"), "{refused}");
}

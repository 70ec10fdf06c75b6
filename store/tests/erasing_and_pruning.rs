//! Erasing, pruning and importing: what they change, and that the log stays consistent.

use std::path::{Path, PathBuf};

use crate::suite::stored::{self, overwrite};
use crate::suite::{VERSION, batch, bodies, closed_label, frame, one, open_label, prune, stream};
use cloacina_store::archive::{Archived, Selected, open_archive, write_archive};
use cloacina_store::keeper::{Change, ChangeError, Changed, Erase, Import, Keeper, MAX_ERASED, MAX_PRUNED, Prune};
use cloacina_store::log::{AppendError, Definition, Durability, EventLog, LogReader, ReadError, StreamFilter};
use cloacina_store::open_keeper;
use cloacina_store::record::{Body, Hash, Record, StreamId, Timestamp};
use cloacina_store::{MemoryDisk, MemoryLog, Options, open, open_reader, seal, verify};
use proptest::prelude::*;

const SECRET: &[u8] = b"a secret that nobody may read any more";

/// Streams 1 (closed, with a long body, over three frames), 2 (closed) and 3 (open), interleaved.
fn fill(log: &dyn EventLog) {
    let definition = Definition { fingerprint: seal::fingerprint(b"source"), bytes: b"source".as_slice().into() };
    let mut first = batch(vec![frame(stream(1), 0, &[b"one", SECRET, &[7; 9_000]], open_label("runs"))]);
    first.definitions.push(definition);
    log.append(first).unwrap();
    log.append(batch(vec![
        frame(stream(2), 0, &[b"a", b"b"], open_label("two")),
        frame(stream(3), 0, &[b"x"], open_label("three")),
    ]))
    .unwrap();
    log.append(one(stream(1), 3, b"four")).unwrap();
    log.append(batch(vec![
        frame(stream(1), 4, &[b"five", b"end"], closed_label("over")),
        frame(stream(2), 2, &[b"c"], closed_label("over, too")),
    ]))
    .unwrap();
}

fn filled() -> (MemoryDisk, MemoryLog) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    fill(&log);
    (disk, log)
}

fn everything(log: &dyn LogReader) -> Vec<Record> {
    log.tail(0, usize::MAX).unwrap()
}

fn listed(log: &dyn LogReader) -> Vec<StreamId> {
    let all = StreamFilter { limit: 100, ..StreamFilter::default() };
    log.streams(&all).unwrap().iter().map(|entry| entry.stream).filter(|id| *id != StreamId::LOG).collect()
}

/// Returns the files that contain some bytes.
fn holding(disk: &MemoryDisk, bytes: &[u8]) -> Vec<String> {
    let has = |name: &String| disk.content(name).unwrap().windows(bytes.len()).any(|part| part == bytes);
    disk.names().into_iter().filter(has).collect()
}

fn erase(stream: StreamId, seqs: &[u64]) -> Change {
    let records = seqs.iter().map(|seq| (*seq, format!("note of {seq}").into_bytes())).collect();
    Change::Erase(Erase { stream, records, reason: "asked to".to_owned(), by: "ann".to_owned() })
}

fn import(path: &Path) -> Change {
    Change::Import(Import { archive: path.to_owned(), digest: open_archive(path).unwrap().digest() })
}

fn archive(log: &dyn LogReader, streams: &[StreamId], directory: &Path) -> (PathBuf, Archived) {
    let path = directory.join(format!("{}.cloaca", std::fs::read_dir(directory).unwrap().count()));
    let definitions = vec![seal::fingerprint(b"source")];
    let selected: Vec<_> =
        streams.iter().map(|stream| Selected { stream: *stream, definitions: definitions.clone() }).collect();
    let archived = write_archive(log, &selected, &path, Timestamp(9)).unwrap();
    (path, archived)
}

#[test]
fn erasing_removes_bodies_and_keeps_every_hash() {
    let (disk, log) = filled();
    let before = log.read(stream(1), 0, 100).unwrap();
    let position = log.head().unwrap().position;
    assert_eq!(everything(&log).iter().filter(|record| record.body.bytes().is_none()).count(), 0);
    assert_eq!(log.change(erase(stream(1), &[5, 1, 2, 1])), Ok(Changed { streams: 1, records: 3, already: 0 }));
    for log in [log, MemoryLog::open(&disk.after_power_cut()).unwrap()] {
        let after = log.read(stream(1), 0, 100).unwrap();
        let hashes = |records: &[Record]| records.iter().map(|record| record.hash).collect::<Vec<_>>();
        assert_eq!(hashes(&after), hashes(&before));
        for (old, new) in before.iter().zip(&after) {
            let erased = [1, 2, 5].contains(&old.seq);
            assert_eq!(new.body.bytes().is_none(), erased);
            assert_eq!((new.body.commitment(), new.body.length()), (old.body.commitment(), old.body.length()));
        }
        let erasures: Vec<_> = log.erasures(stream(1)).unwrap();
        let notes: Vec<_> = erasures.iter().map(|erasure| (erasure.seq, &erasure.note[..], &*erasure.by)).collect();
        assert_eq!(notes, [(1, &b"note of 1"[..], "ann"), (2, b"note of 2", "ann"), (5, b"note of 5", "ann")]);
        assert_eq!(log.erasures(stream(2)), Ok(Vec::new()));
        assert_eq!(log.verify().findings, []);
        assert_eq!(log.stream(stream(1)).unwrap().records, 6);
        // A log that still has its recent writes in memory does not show the bodies either.
        let of_one: Vec<_> = everything(&log).into_iter().filter(|record| record.stream == stream(1)).collect();
        assert_eq!(of_one, after);
    }
    assert_eq!(holding(&disk, SECRET), Vec::<String>::new());
    let log = MemoryLog::open(&disk).unwrap();
    assert_eq!(log.change(erase(stream(1), &[1, 2])), Ok(Changed::default()), "erasing again changes nothing");
    assert!(log.head().unwrap().position > position);
}

#[test]
fn a_refused_erasure_or_pruning_changes_nothing() {
    let (_, log) = filled();
    let before = everything(&log);
    assert_eq!(log.change(erase(stream(3), &[0])), Err(ChangeError::Open(stream(3))));
    assert_eq!(log.change(prune(&log, stream(3))), Err(ChangeError::Open(stream(3))));
    assert_eq!(log.change(erase(stream(9), &[0])), Err(ReadError::NoStream(stream(9)).into()));
    let many: Vec<u64> = (0..=MAX_ERASED as u64).collect();
    for wrong in [erase(stream(1), &[6]), erase(stream(1), &[]), erase(StreamId::LOG, &[0]), erase(stream(1), &many)] {
        assert!(matches!(log.change(wrong), Err(ChangeError::Refused(_))));
    }
    let whole = (stream(2), log.stream(stream(2)).unwrap().head);
    let prune = |streams| Change::Prune(Prune { streams, archive: None, reason: String::new(), by: String::new() });
    assert!(matches!(log.change(prune(vec![whole, (stream(1), Hash::ZERO)])), Err(ChangeError::Refused(_))));
    assert_eq!(log.change(prune(vec![whole, (stream(3), Hash::ZERO)])), Err(ChangeError::Open(stream(3))));
    assert_eq!(log.change(prune(vec![whole, (stream(9), Hash::ZERO)])), Err(ReadError::NoStream(stream(9)).into()));
    assert!(matches!(log.change(prune(vec![whole; MAX_PRUNED + 1])), Err(ChangeError::Refused(_))));
    assert_eq!(log.change(prune(Vec::new())), Ok(Changed::default()));
    let long =
        Erase { stream: stream(1), records: vec![(0, vec![1; 50_000])], reason: String::new(), by: String::new() };
    assert!(matches!(log.change(Change::Erase(long)), Err(ChangeError::Refused(_))));
    assert_eq!(everything(&log), before);
    assert_eq!(log.verify().findings, []);
}

#[test]
fn a_pruned_stream_leaves_hashes_and_a_tombstone_and_the_others_as_they_are() {
    let (disk, log) = filled();
    let (nodes, others) = (log.tree(0, 100).unwrap(), log.read(stream(2), 0, 100).unwrap());
    assert_eq!(log.change(prune(&log, stream(1))), Ok(Changed { streams: 1, records: 6, already: 0 }));
    for log in [log, MemoryLog::open(&disk.after_power_cut()).unwrap()] {
        let gone = ReadError::Pruned { stream: stream(1), records: 6 };
        assert_eq!(log.read(stream(1), 0, 1), Err(gone.clone()));
        assert_eq!(log.read(stream(1), 5, 1), Err(gone.clone()));
        assert_eq!(log.stream(stream(1)), Err(gone.clone()));
        assert_eq!(log.change(erase(stream(1), &[0])), Err(gone.into()));
        assert!(matches!(log.append(one(stream(1), 6, b"more")), Err(AppendError::Invalid(_))));
        assert_eq!(listed(&log), [stream(3), stream(2)]);
        assert_eq!(log.tree(0, nodes.len()).unwrap(), nodes);
        assert_eq!(log.tree(4, 3).unwrap(), nodes[4..7]);
        assert_eq!(log.read(stream(2), 0, 100).unwrap(), others);
        assert!(everything(&log).iter().all(|record| record.stream != stream(1)));
        assert_eq!(log.verify().findings, []);
    }
}

#[test]
fn a_pruned_stream_is_not_among_the_changed_ones() {
    let (_, log) = filled();
    log.change(prune(&log, stream(1))).unwrap();
    let since = log.streams_since(0, 10).unwrap();
    let shown: Vec<StreamId> = since.streams.iter().map(|entry| entry.stream).collect();
    assert_eq!(shown, [stream(3), stream(2), StreamId::LOG], "in the order in which they were written to");
    assert_eq!(since.next, log.head().unwrap().position);
    let (mut paged, mut next) = (Vec::new(), 0);
    loop {
        let page = log.streams_since(next, 1).unwrap();
        paged.extend(page.streams.iter().map(|entry| entry.stream));
        if page.next == next {
            break;
        }
        next = page.next;
    }
    assert_eq!((paged, next), (shown, since.next));
}

/// Regression: pruning many streams took a sync for each; now one event and one sync do.
#[test]
fn many_streams_are_pruned_with_one_sync() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    let numbers = 1..=600u128;
    let text = |number: u128| format!("what {number} says").into_bytes();
    for number in numbers.clone() {
        log.append(batch(vec![frame(stream(number), 0, &[&text(number)], closed_label("over"))])).unwrap();
    }
    let streams: Vec<_> =
        numbers.clone().map(|number| (stream(number), log.stream(stream(number)).unwrap().head)).collect();
    let (nodes, flushes) = (log.tree(0, usize::MAX).unwrap(), log.flushes());
    let twice = [&streams[..599], &streams[..10]].concat();
    let change = Change::Prune(Prune { streams: twice, archive: None, reason: "old".to_owned(), by: "ann".to_owned() });
    assert_eq!(log.change(change), Ok(Changed { streams: 599, records: 599, already: 0 }));
    assert_eq!(log.flushes() - flushes, 1);
    for log in [log, MemoryLog::open(&disk.after_power_cut()).unwrap()] {
        assert_eq!(listed(&log), [stream(600)]);
        assert_eq!(log.tree(0, nodes.len()).unwrap(), nodes);
        assert_eq!(log.read(stream(7), 0, 1), Err(ReadError::Pruned { stream: stream(7), records: 1 }));
        assert_eq!(log.verify().findings, []);
    }
    for number in [1, 300, 599] {
        assert_eq!(holding(&disk, &text(number)), Vec::<String>::new());
    }
    assert_eq!(holding(&disk, &text(600)).len(), 1);
}

#[test]
fn a_pruned_stream_comes_back_unchanged_from_its_archive() {
    let (disk, log) = filled();
    let directory = tempfile::tempdir().unwrap();
    log.change(erase(stream(1), &[1])).unwrap();
    let before = [1, 2].map(|number| log.read(stream(number), 0, 100).unwrap());
    let (path, archived) = archive(&log, &[stream(1), stream(2)], directory.path());
    let nodes = log.tree(0, usize::MAX).unwrap();
    log.change(prune(&log, stream(1))).unwrap();
    log.change(prune(&log, stream(2))).unwrap();
    let others = everything(&log);
    assert_eq!(log.change(import(&path)), Ok(Changed { streams: 2, records: 9, already: 0 }));
    assert_eq!(log.stream(stream(1)).unwrap(), archived.streams[0]);
    assert_eq!(log.change(import(&path)), Ok(Changed { already: 2, ..Changed::default() }));
    for log in [log, MemoryLog::open(&disk).unwrap()] {
        assert_eq!([1, 2].map(|number| log.read(stream(number), 0, 100).unwrap()), before);
        assert_eq!(listed(&log), [stream(3), stream(2), stream(1)]);
        assert_eq!(log.erasures(stream(1)).unwrap().len(), 1);
        // Imported records have no place in the order of the log, which is unchanged.
        assert_eq!(everything(&log)[..others.len()], others);
        assert!(everything(&log).iter().all(|record| ![stream(1), stream(2)].contains(&record.stream)));
        assert_eq!(log.tree(0, nodes.len()).unwrap(), nodes);
        assert_eq!(log.verify().findings, []);
    }
}

#[test]
fn another_log_imports_streams_with_their_hashes_and_continues_the_open_ones() {
    let (_, log) = filled();
    let directory = tempfile::tempdir().unwrap();
    log.change(erase(stream(1), &[1])).unwrap();
    let (path, _) = archive(&log, &[stream(1), stream(3)], directory.path());
    let disk = MemoryDisk::new();
    let other = MemoryLog::open(&disk).unwrap();
    other.append(one(stream(50), 0, b"its own")).unwrap();
    assert_eq!(other.change(import(&path)), Ok(Changed { streams: 2, records: 7, already: 0 }));
    for id in [stream(1), stream(3)] {
        assert_eq!(other.read(id, 0, 100), log.read(id, 0, 100));
        assert_eq!(other.stream(id), log.stream(id));
    }
    assert_eq!(other.definition(seal::fingerprint(b"source")).unwrap().as_deref(), Some(&b"source"[..]));
    assert_eq!(other.erasures(stream(1)).unwrap()[0].note, b"note of 1");
    assert_eq!(listed(&other), [stream(50), stream(3), stream(1)]);
    let positions: Vec<_> = everything(&other).iter().map(|record| record.position).collect();
    assert_eq!(positions, (0..other.head().unwrap().position).collect::<Vec<_>>(), "the tail has only its own records");
    assert_eq!(other.verify().findings, []);
    let imported_last = other.stream(stream(3)).unwrap().last;

    other.append(batch(vec![frame(stream(3), 1, &[b"y"], closed_label("over"))])).unwrap();
    assert_eq!(bodies(&other.read(stream(3), 0, 9).unwrap()), [b"x", b"y"]);
    assert!(other.stream(stream(3)).unwrap().last >= imported_last);
    assert_eq!(other.verify().findings, []);
    drop(other);
    let other = MemoryLog::open(&disk).unwrap();
    assert_eq!(other.verify().findings, []);
    other.change(prune(&other, stream(1))).unwrap();
    other.change(prune(&other, stream(3))).unwrap();
    assert_eq!(other.read(stream(1), 0, 1), Err(ReadError::Pruned { stream: stream(1), records: 6 }));
    assert_eq!(other.read(stream(3), 0, 1), Err(ReadError::Pruned { stream: stream(3), records: 2 }));
    assert_eq!(other.verify().findings, []);
}

#[test]
fn a_stream_that_exists_with_other_records_is_not_imported() {
    let (_, log) = filled();
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = archive(&log, &[stream(1)], directory.path());
    let (_, other) = filled();
    assert!(matches!(other.change(import(&path)), Err(ChangeError::Refused(_))));
    other.change(prune(&other, stream(1))).unwrap();
    let refused = other.change(import(&path)).unwrap_err().to_string();
    assert!(refused.contains("different records than in the archive"), "{refused}");
    let wrong = Change::Import(Import { archive: path, digest: Hash::ZERO });
    assert!(matches!(other.change(wrong), Err(ChangeError::Refused(_))));
    assert_eq!(other.verify().findings, []);
}

/// An archive from before an erasure still has the body. Importing it must not bring the body back.
#[test]
fn an_erased_body_stays_erased_when_an_older_archive_is_imported() {
    let (disk, log) = filled();
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = archive(&log, &[stream(1)], directory.path());
    log.change(erase(stream(1), &[1])).unwrap();
    log.change(prune(&log, stream(1))).unwrap();
    log.change(import(&path)).unwrap();
    let records = log.read(stream(1), 0, 100).unwrap();
    assert!(matches!(records[1].body, Body::Erased { .. }));
    assert_eq!(records[0].body.bytes(), Some(&b"one"[..]));
    assert_eq!(log.verify().findings, []);
    assert_eq!(holding(&disk, SECRET), Vec::<String>::new());
}

/// Erasing changes no hash, so the hash chain alone does not show that somebody with write access has removed a body.
/// The missing event does.
#[test]
fn a_body_that_is_missing_without_an_event_is_found() {
    let (disk, log) = filled();
    log.close().unwrap();
    let later = disk.after_kill();
    let log = MemoryLog::open(&later).unwrap();
    log.change(erase(stream(1), &[1])).unwrap();
    log.change(prune(&log, stream(2))).unwrap();
    for number in [1, 2] {
        let forged = disk.after_kill();
        for item in stored::items(&later).into_iter().filter(|item| item.is_frame_of(stream(number))) {
            overwrite(&forged, &item, &item.bytes);
        }
        let findings = MemoryLog::open(&forged).unwrap().verify().findings;
        let says_so = |error: &ReadError| {
            matches!(error, ReadError::Damaged { stream: found, what, .. }
            if *found == stream(number) && what.contains("no event reports"))
        };
        assert!(findings.iter().any(says_so), "{findings:?}");
    }
}

#[test]
fn a_flipped_byte_in_what_was_erased_pruned_or_imported_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = archive(&filled().1, &[stream(1)], directory.path());
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    log.append(batch(vec![frame(stream(7), 0, &[b"a", b"b", b"c"], closed_label("seven"))])).unwrap();
    log.append(batch(vec![frame(stream(8), 0, &[b"a", SECRET, b"c"], closed_label("eight"))])).unwrap();
    log.change(import(&path)).unwrap();
    log.change(erase(stream(8), &[1])).unwrap();
    log.change(prune(&log, stream(7))).unwrap();
    assert_eq!(log.verify().findings, []);
    for item in stored::items(&disk) {
        // Every byte of the small items, some of the one with the long body.
        for place in (0..item.bytes.len()).filter(|place| item.bytes.len() < 1_000 || place % 61 == 0) {
            overwrite(&disk, &item, &stored::flipped(&item, place));
            assert_ne!(log.verify().findings, [], "byte {place} of {item:02x?}");
        }
        overwrite(&disk, &item, &item.bytes);
    }
    log.close().unwrap();
    for name in disk.names() {
        let content = disk.content(&name).unwrap();
        for place in (0..content.len()).step_by(3) {
            let damaged = disk.after_kill();
            let mut flipped = content.clone();
            flipped[place] ^= 0x41;
            damaged.damage(&name, Some(&flipped));
            assert!(MemoryLog::open(&damaged).is_err(), "byte {place} of {name}");
        }
    }
}

/// Returns a log with a closed stream of several sectors, a change of it, and the bytes that the change removes.
fn to_change(directory: &Path, number: usize) -> (MemoryDisk, MemoryLog, Change, &'static [u8]) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    let long = [SECRET, &[7; 900], SECRET, &[8; 900], SECRET].concat();
    log.append(batch(vec![frame(stream(2), 0, &[b"a", &long, b"c"], open_label("runs"))])).unwrap();
    log.append(batch(vec![frame(stream(2), 3, &[&long, b"e"], closed_label("over"))])).unwrap();
    let (change, gone): (_, &[u8]) = match number {
        0 => (erase(stream(2), &[0, 1, 3]), SECRET),
        1 => (prune(&log, stream(2)), SECRET),
        _ => (import(&archive(&filled().1, &[stream(1)], directory).0), b""),
    };
    (disk, log, change, gone)
}

/// The change was made completely or not at all; if it was made, the reopened log no longer has the removed bytes.
fn assert_all_or_nothing(left: &MemoryDisk, before: &[Record], gone: &[u8], must: bool) {
    let log = MemoryLog::open(left).unwrap();
    assert_eq!(log.verify().findings, []);
    let changed = log.read(stream(2), 0, 9) != Ok(before.to_vec()) || log.stream(stream(1)).is_ok();
    // The event is present exactly if the change is.
    let has_event = everything(&log).iter().filter(|record| record.stream == StreamId::LOG).count() == 3;
    assert_eq!(changed, has_event);
    assert!(changed || !must, "it was acknowledged");
    assert!(!changed || gone.is_empty() || holding(left, gone).is_empty());
    log.append(one(stream(60), 0, b"another")).unwrap();
    assert_eq!(log.verify().findings, []);
}

#[test]
fn a_change_that_fails_or_is_cut_is_made_completely_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..3 {
        for nth in 1..6 {
            for fail in [MemoryDisk::fail_write, MemoryDisk::fail_sync] {
                let (disk, log, change, gone) = to_change(directory.path(), number);
                let before = log.read(stream(2), 0, 9).unwrap();
                fail(&disk, nth, "the disk is full");
                let changed = log.change(change);
                if let Err(ChangeError::Failed(why)) = &changed {
                    let is_pending = why.ends_with("the next process that opens the log for writing finishes that");
                    assert!(why == "the disk is full" || is_pending && why.contains("the disk is full"), "{why}");
                    assert_eq!(log.change(erase(stream(2), &[0])).unwrap_err(), ChangeError::Failed(why.clone()));
                }
                assert!(matches!(changed, Ok(_) | Err(ChangeError::Failed(_))), "{changed:?}");
                assert!(nth > 1 || changed.is_err());
                disk.mend();
                for left in
                    [disk.after_power_cut(), disk.after_torn_power_cut(|sector| sector % 2 == 0), disk.after_kill()]
                {
                    assert_all_or_nothing(&left, &before, gone, changed.is_ok());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Regression: a power cut can leave any subset of the overwritten sectors on the disk. The body was then partly removed, and nothing
    /// showed that its frame was only half overwritten.
    #[test]
    fn an_overwrite_that_a_power_cut_interrupts_is_finished_by_the_next_open(
        number in 0..2usize,
        nth in 1..8u64,
        of_write: bool,
        kept in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let (disk, log, change, gone) = to_change(Path::new("."), number);
        let before = log.read(stream(2), 0, 9).unwrap();
        let fail = if of_write { MemoryDisk::fail_write } else { MemoryDisk::fail_sync };
        fail(&disk, nth, "the power goes");
        let changed = log.change(change);
        let left = disk.after_torn_power_cut(|sector| kept[sector % kept.len()]);
        assert_all_or_nothing(&left, &before, gone, changed.is_ok());
    }
}

#[test]
fn a_log_that_another_process_has_is_changed_through_that_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    fill(&log);
    let keeper = open_keeper(&path).unwrap();
    assert_eq!(keeper.tree(2, 100), log.tree(2, 100));
    let (archived, _) = archive(&*keeper, &[stream(1), stream(2)], directory.path());
    assert_eq!(keeper.change(erase(stream(1), &[1])), Ok(Changed { streams: 1, records: 1, already: 0 }));
    assert_eq!(log.read(stream(1), 1, 1).unwrap()[0].body.bytes(), None);
    assert_eq!(keeper.change(prune(&*keeper, stream(2))), Ok(Changed { streams: 1, records: 3, already: 0 }));
    assert_eq!(keeper.read(stream(2), 0, 1), Err(ReadError::Pruned { stream: stream(2), records: 3 }));
    assert_eq!(keeper.change(import(&archived)), Ok(Changed { streams: 1, records: 3, already: 1 }));
    assert_eq!(keeper.change(erase(stream(3), &[0])), Err(ChangeError::Open(stream(3))));
    assert_eq!(keeper.change(erase(stream(9), &[0])), Err(ReadError::NoStream(stream(9)).into()));
    log.append(one(stream(3), 1, b"another")).unwrap();
    assert_eq!(log.verify().findings, []);
    log.close().unwrap();
    assert!(matches!(keeper.change(erase(stream(1), &[0])), Err(ChangeError::Unreachable(_))));
    assert_eq!(verify(&path).unwrap().findings, []);

    let keeper = open_keeper(&path).unwrap();
    keeper.change(erase(stream(1), &[0])).unwrap();
    drop(keeper);
    let reader = open_reader(&path).unwrap();
    assert_eq!(reader.read(stream(1), 0, 2).unwrap().iter().filter(|record| record.body.bytes().is_some()).count(), 0);
    assert_eq!(verify(&path).unwrap().findings, []);
    assert!(open_keeper(&directory.path().join("none")).is_err(), "no log is made");
}

/// Only this user can reach the socket, but a program of this user can be broken.
#[test]
fn broken_requests_for_a_change_change_nothing() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    fill(&log);
    let before = (log.head().unwrap(), everything(&log));
    let mut client = UnixStream::connect(path.join("socket")).unwrap();
    client.write_all(&[0, 0, 0, 2, VERSION, 5]).unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [VERSION, 3], "a whole request for the head is answered");
    // The version, the numbers of a request (the tree, erase, prune, import, sign, and an unknown one), then bytes that do not belong.
    for numbers in [&[8][..], &[11], &[11, 0], &[11, 1], &[11, 2], &[11, 3], &[11, 4], &[12], &[13]] {
        for length in [0_usize, 1, 15, 16, 40, 200, 5_000, 100_000] {
            let filling = (0..length).map(|at| (at * 131 + numbers.len() + usize::from(numbers[0])) as u8);
            let request: Vec<u8> = [VERSION].into_iter().chain(numbers.iter().copied()).chain(filling).collect();
            let announced = u32::try_from(request.len()).unwrap().to_be_bytes();
            let mut socket = UnixStream::connect(path.join("socket")).unwrap();
            socket.write_all(&announced).unwrap();
            socket.write_all(&request).unwrap();
            let mut answer = [0; 4];
            // An answer, or none because the server disconnected; never a change.
            let _ = socket.read(&mut answer).unwrap();
        }
        // A client that disconnects in the middle, and one that announces more than the limit.
        let mut socket = UnixStream::connect(path.join("socket")).unwrap();
        socket.write_all(&[&[0, 0, 1, 0, VERSION], numbers].concat()).unwrap();
        drop(socket);
        let mut socket = UnixStream::connect(path.join("socket")).unwrap();
        socket.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(socket.read(&mut [0; 4]).unwrap(), 0, "it is disconnected");
    }
    assert_eq!((log.head().unwrap(), everything(&log)), before);
    let keeper = open_keeper(&path).unwrap();
    assert_eq!(keeper.change(erase(stream(1), &[1])).unwrap().records, 1, "others are served as before");
    assert_eq!(log.verify().findings, []);
}

/// Regression: `replay verify --all` beside `cloaca log erase` reported an intact log as damaged: the event was readable before the body went.
#[test]
fn a_log_verifies_while_bodies_are_erased_and_streams_pruned() {
    const STREAMS: u128 = 90;
    let directory = tempfile::tempdir().unwrap();
    // With this durability the event is readable while the log waits for the disk.
    let options = Options { durability: Durability::Os, ..Options::default() };
    let log = open(&directory.path().join("log"), &options).unwrap();
    let all = (1..=STREAMS).map(|number| frame(stream(number), 0, &[b"one", SECRET], closed_label("over")));
    log.append(batch(all.collect())).unwrap();
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for number in 1..=STREAMS {
                log.change(erase(stream(number), &[1])).unwrap();
                if number % 3 == 0 {
                    log.change(prune(&log, stream(number))).unwrap();
                }
            }
        });
        let mut walks = 0;
        while !changing.is_finished() {
            assert_eq!(log.verify().findings, [], "in walk {walks}");
            walks += 1;
        }
        assert!(walks > 1, "the changes overlapped with the verification");
    });
    log.close().unwrap();
    assert_eq!(verify(&directory.path().join("log")).unwrap().findings, []);
}

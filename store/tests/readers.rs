//! Reading a log while a process has it.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::suite::{VERSION, batch, closed_label, frame, one, open_label, stream};
use cloacina_store::keeper::{Change, Erase, Keeper, Prune};
use cloacina_store::log::{Batch, Definition, EventLog, LogReader, ReadError, StreamFilter};
use cloacina_store::record::{Hash, StreamId};
use cloacina_store::{Options, SledLog, open, open_reader, seal, verify};

/// Longer than any test takes: one that waits so long, and is not woken, does not end.
const LONG: Duration = Duration::from_secs(3_600);

struct Written {
    _directory: tempfile::TempDir,
    path: PathBuf,
    log: SledLog,
}

fn written_below(name: &str) -> Written {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    let log = open(&path, &Options::default()).unwrap();
    let definition = Definition { fingerprint: seal::fingerprint(b"d"), bytes: b"d".as_slice().into() };
    log.append(Batch { definitions: vec![definition], ..one(stream(1), 0, &[3; 10_000]) }).unwrap();
    let frames = (2..1500).map(|number| {
        let listing = if number % 2 == 0 { open_label("o") } else { closed_label("c") };
        frame(stream(number), 0, &[b"a", b"b"], listing)
    });
    log.append(batch(frames.collect())).unwrap();
    Written { _directory: directory, path, log }
}

fn written() -> Written {
    written_below("log")
}

#[test]
fn a_reader_sees_what_the_writer_sees() {
    let Written { path, log, .. } = &written();
    let reader = open_reader(path).unwrap();
    assert_eq!(reader.head(), log.head());
    assert_eq!(reader.location(), log.location());
    for (from, limit) in [(0, usize::MAX), (0, 10), (2_000, 1_500), (2_001, 3), (2_001, 1_500), (9_000, 1)] {
        assert_eq!(reader.tail(from, limit), log.tail(from, limit));
        assert_eq!(reader.tree(from, limit), log.tree(from, limit));
        let since = reader.streams_since(from, limit.min(1_000)).unwrap();
        assert_eq!(since, log.streams_since(from, limit.min(1_000)).unwrap());
        assert_eq!(since.streams.is_empty(), since.next == from);
    }
    for id in [StreamId::LOG, stream(1), stream(7), stream(8), stream(5_000)] {
        assert_eq!(reader.read(id, 0, 100), log.read(id, 0, 100));
        assert_eq!(reader.read(id, 1, 1), log.read(id, 1, 1));
        assert_eq!(reader.stream(id), log.stream(id));
    }
    for filter in [
        StreamFilter { limit: usize::MAX, ..StreamFilter::default() },
        StreamFilter { limit: 1_200, open_only: true, ..StreamFilter::default() },
        StreamFilter {
            limit: 3,
            before: Some(log.stream(stream(40)).unwrap().listing_key()),
            ..StreamFilter::default()
        },
    ] {
        assert_eq!(reader.streams(&filter), log.streams(&filter));
    }
    assert_eq!(reader.definition(seal::fingerprint(b"d")).unwrap().as_deref(), Some(&b"d"[..]));
    assert_eq!(reader.definition(Hash::ZERO), Ok(None));
    log.append(one(stream(1), 1, b"later")).unwrap();
    assert_eq!(reader.read(stream(1), 0, 10).unwrap().len(), 2);
    let verified = verify(path).unwrap();
    assert_eq!((verified, 2_999), (log.verify(), log.head().unwrap().position));
}

#[test]
fn large_records_come_in_pages() {
    let Written { path, log, .. } = &written();
    let large = vec![9; 1 << 20];
    for seq in 1..12 {
        log.append(one(stream(1), seq, &large)).unwrap();
    }
    let reader = open_reader(path).unwrap();
    assert!(reader.read(stream(1), 0, usize::MAX) == log.read(stream(1), 0, usize::MAX));
}

#[test]
fn a_log_deeper_than_an_address_is_long_is_served_too() {
    let written = written_below(&"deep/".repeat(30));
    let reader = open_reader(&written.path).unwrap();
    assert_eq!(reader.head(), written.log.head());
    assert!(reader.head().unwrap().durability.is_some());
}

#[test]
fn the_socket_is_for_this_user_alone_and_goes_with_the_log() {
    let written = written();
    let socket = written.path.join("socket");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let reader = open_reader(&written.path).unwrap();
    written.log.close().unwrap();
    assert!(!socket.exists());
    assert_eq!(reader.head(), open_reader(&written.path).unwrap().head(), "the reader has opened it again");
    assert_eq!(reader.head().unwrap().durability, None);
    assert_eq!(written.log.read(stream(1), 0, 1), Err(ReadError::Gone));
    assert_eq!(reader.read(stream(1), 0, 1).unwrap().len(), 1);
}

/// An orderly close beside `verify --all` made every execution of a log "cannot be read: the log was closed in the meantime", and the
/// command advised to repair it. A reader stays with its log: it is closed, opened, pruned and closed again beside it.
#[test]
fn a_reader_stays_with_a_log_that_others_open_change_and_close() {
    let Written { _directory, path, log } = written();
    let reader = open_reader(&path).unwrap();
    let records = reader.read(stream(1), 0, 10).unwrap();
    log.close().unwrap();
    drop(log);
    for number in [3, 5, 7] {
        assert_eq!(reader.head().unwrap().durability, None, "nobody holds it");
        assert_eq!(reader.read(stream(1), 0, 10).unwrap(), records);
        let log = open(&path, &Options::default()).unwrap();
        assert!(reader.head().unwrap().durability.is_some(), "the process that opened it is asked");
        log.change(pruned(&log, stream(number))).unwrap();
        let gone = ReadError::Pruned { stream: stream(number), records: 2 };
        assert_eq!(reader.read(stream(number), 0, 10), Err(gone.clone()));
        log.close().unwrap();
        drop(log);
        assert_eq!(reader.stream(stream(number)), Err(gone));
        assert_eq!(verify(&path).unwrap().findings, []);
    }
}

fn pruned(log: &dyn LogReader, stream: StreamId) -> Change {
    let head = log.stream(stream).unwrap().head;
    Change::Prune(Prune {
        streams: vec![(stream, head)],
        archive: None,
        reason: "old".to_owned(),
        by: "ann".to_owned(),
    })
}

/// Reads here and there, and returns whatever looked like damage.
fn damage_seen_until(done: &AtomicBool, reader: &dyn LogReader) -> Vec<String> {
    let mut seen = Vec::new();
    let mut note = |error: Option<&ReadError>| {
        seen.extend(error.filter(|error| error.is_damage()).map(ToString::to_string));
    };
    while !done.load(Ordering::Acquire) {
        note(reader.tail(0, 5_000).as_ref().err());
        note(reader.tree(0, 500).as_ref().err());
        let listed = reader.streams(&StreamFilter { limit: 5_000, ..StreamFilter::default() });
        note(listed.as_ref().err());
        for entry in listed.iter().flatten().filter(|entry| !entry.open).take(40) {
            let read = reader.read(entry.stream, 0, 10);
            note(read.as_ref().err());
            let is_bodiless = read.is_ok_and(|records| records.iter().any(|record| record.body.bytes().is_none()));
            if is_bodiless && reader.erasures(entry.stream).is_ok_and(|erasures| erasures.is_empty()) {
                note(Some(&ReadError::DamagedLog(format!("{}: a body is gone, and no event says why", entry.stream))));
            }
        }
    }
    seen
}

/// The log was pruned, erased from and filled again beside readers and beside a check of all of it: an answer that is put
/// together from several reads looked like damage, in half of the runs.
#[test]
fn what_is_changed_beside_readers_is_no_damage() {
    let Written { _directory, path, log } = written();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| damage_seen_until(&done, &*open_reader(&path).unwrap()))).collect();
        let checks = scope.spawn(|| {
            let mut findings = Vec::new();
            while !done.load(Ordering::Acquire) {
                findings.extend(verify(&path).unwrap().findings);
            }
            findings
        });
        for number in (1..1_400).rev().filter(|number| number % 2 == 1).take(150) {
            let id = stream(number);
            if number % 4 == 1 {
                let records = vec![(1, b"note".to_vec())];
                let erase = Erase { stream: id, records, reason: "asked to".to_owned(), by: "ann".to_owned() };
                log.change(Change::Erase(erase)).unwrap();
            } else {
                log.change(pruned(&log, id)).unwrap();
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Vec::<String>::new());
        }
        assert_eq!(checks.join().unwrap(), []);
    });
}

#[test]
fn a_dead_process_s_socket_is_replaced() {
    let written = written();
    written.log.close().unwrap();
    drop(std::os::unix::net::UnixListener::bind(written.path.join("socket")).unwrap());
    assert!(open_reader(&written.path).is_ok(), "nobody has the log: it is read where it lies");
    let _log = open(&written.path, &Options::default()).unwrap();
    assert!(open_reader(&written.path).unwrap().head().unwrap().durability.is_some());
}

#[test]
fn more_readers_than_there_are_places_are_all_served() {
    let Written { path, log, .. } = &written();
    let readers: Vec<_> = (0..40).map(|_| open_reader(path).unwrap()).collect();
    // Those that were let go come back.
    for reader in &readers {
        assert_eq!(reader.tail(0, 500), log.tail(0, 500));
    }
}

#[test]
fn a_hostile_reader_harms_nobody() {
    let written = written();
    let socket = written.path.join("socket");
    for message in [
        &[0xff; 64][..],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, VERSION, 99],
        &[0, 0, 0, 2, VERSION + 1, 5],
        &[0, 0, 0, 30, VERSION, 0],
        &[0, 0, 0, 3, VERSION, 5, 0],
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(message).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // It may be cut off before it has read all.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1_000);
    }
    let idle: Vec<_> = (0..10).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    written.log.append(one(stream(1), 1, b"goes on")).unwrap();
    assert_eq!(open_reader(&written.path).unwrap().read(stream(1), 0, 10).unwrap().len(), 2);
    written.log.close().unwrap();
    drop(idle);
}

#[test]
fn readers_and_writers_do_not_disturb_each_other() {
    let Written { _directory, path, log } = written();
    let log = Arc::new(log);
    let writer = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            for number in 10_000..10_300u128 {
                let last = stream(number);
                log.append(batch(vec![frame(last, 0, &[b"a"], open_label("o"))])).unwrap();
                log.append(batch(vec![frame(last, 1, &[b"b"], closed_label("c"))])).unwrap();
            }
        })
    };
    let reader = open_reader(&path).unwrap();
    while !writer.is_finished() {
        let before = reader.head().unwrap().position;
        let listed = reader.streams(&StreamFilter { limit: 5_000, ..StreamFilter::default() }).unwrap();
        let mut ids: Vec<_> = listed.iter().map(|entry| entry.stream).collect();
        ids.dedup();
        assert_eq!(ids.len(), listed.len(), "no stream is listed twice");
        let records: u64 = listed.iter().map(|entry| entry.records).sum();
        assert!(records >= before, "none is left out while it is closed");
        for entry in listed.iter().take(3) {
            reader.stream(entry.stream).unwrap();
            assert!(reader.read(entry.stream, 0, 10).unwrap().len() as u64 >= entry.records);
        }
        reader.tail(before.saturating_sub(5), 10).unwrap();
    }
    writer.join().unwrap();
    assert_eq!(log.verify().findings, []);
}

/// What was written last was read from another place than what was written before: who fell behind went from one to the other and back.
#[test]
fn who_reads_the_whole_log_beside_the_writer_gets_every_record_once_also_after_falling_behind() {
    let Written { _directory, path, log } = written();
    let writer = std::thread::spawn(move || {
        let body = vec![7; 60_000];
        for seq in 0..800u64 {
            let id = stream(20_000 + u128::from(seq % 5));
            log.append(batch(vec![frame(id, seq / 5 * 2, &[&seq.to_be_bytes(), &body], open_label("o"))])).unwrap();
        }
        log
    });
    let reader = open_reader(&path).unwrap();
    let (mut read, mut pages) = (Vec::new(), 0);
    loop {
        let is_over = writer.is_finished();
        let page = reader.tail(read.len() as u64, 7).unwrap();
        if page.is_empty() && is_over {
            break;
        }
        read.extend(page);
        pages += 1;
        if pages == 500 {
            while !writer.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    writer.join().unwrap().close().unwrap();
    let mut stored = open_reader(&path).unwrap().tail(0, usize::MAX).unwrap();
    assert_eq!(stored.pop().map(|closed| closed.stream), Some(StreamId::LOG));
    assert!(read == stored, "{} records were read, {} are stored", read.len(), stored.len());
}

/// A frame of many records was loaded, and every hash of it checked, again for each page of 1,024 of them.
#[test]
fn a_frame_of_many_records_is_not_read_again_for_every_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    let bodies = vec![b"a".as_slice(); 30_000];
    log.append(batch(vec![frame(stream(1), 0, &bodies, open_label("many"))])).unwrap();
    let reader = open_reader(&path).unwrap();
    let timed = |log: &dyn LogReader| {
        let began = std::time::Instant::now();
        assert_eq!(log.read(stream(1), 0, usize::MAX).unwrap().len(), bodies.len());
        assert_eq!(log.tail(0, usize::MAX).unwrap().len(), bodies.len() + 1);
        began.elapsed()
    };
    let (here, there) = (timed(&log), timed(&*reader));
    // Thirty times as long, it was.
    assert!(there < here * 12, "{there:?} through the socket, {here:?} without");
    assert_eq!(reader.read(stream(1), 29_000, 10).unwrap().len(), 10);
    assert_eq!(reader.read(stream(1), 2, 3_000).unwrap().last().unwrap().seq, 3_001);
}

/// A reader that waits hears of an append when it is acknowledged, and of nothing else.
#[test]
fn who_waits_is_woken_when_the_log_moves() {
    let Written { path, log, .. } = &written();
    let reader = open_reader(path).unwrap();
    let end = log.head().unwrap().position;
    assert_eq!(reader.wait(end - 1, LONG), log.head(), "it has moved already");
    assert_eq!(reader.wait(end, Duration::from_millis(1)), log.head(), "it does not move, and the time is over");
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| reader.wait(end, LONG).unwrap().position);
        // Others read meanwhile, over another connection.
        assert_eq!(reader.head(), log.head());
        log.append(one(stream(1), 1, b"later")).unwrap();
        assert_eq!(woken.join().unwrap(), end + 1);
    });
    let local = std::thread::scope(|scope| {
        let woken = scope.spawn(|| log.wait(end + 1, LONG).unwrap().position);
        log.append(one(stream(1), 2, b"later")).unwrap();
        woken.join().unwrap()
    });
    assert_eq!(local, end + 2);
}

/// Closing wakes them too, and nobody waits for a log that nobody has.
#[test]
fn closing_wakes_who_waits() {
    let Written { path, log, .. } = &written();
    let reader = open_reader(path).unwrap();
    let end = log.head().unwrap().position;
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| reader.wait(u64::MAX, LONG));
        let local = scope.spawn(|| log.wait(u64::MAX, LONG));
        log.close().unwrap();
        assert!(local.join().unwrap().is_ok_and(|head| head.position >= end));
        // Whether the answer was still sent is a matter of luck.
        assert!(woken.join().unwrap().is_ok_and(|head| head.position >= end), "it has opened the log again");
    });
    let unheld = open_reader(path).unwrap();
    assert_eq!(unheld.wait(u64::MAX, LONG), unheld.head());
}

/// Whoever opens connections only to wait keeps nobody from reading: half of the places are left, and one that waits beyond
/// that half is answered at once.
#[test]
fn those_who_wait_leave_room_for_those_who_read() {
    let Written { path, log, .. } = &written();
    let end = log.head().unwrap().position;
    let waiting: Vec<_> = (0..12).map(|_| open_reader(path).unwrap()).collect();
    std::thread::scope(|scope| {
        let woken: Vec<_> = waiting.iter().map(|reader| scope.spawn(|| reader.wait(end, LONG).unwrap())).collect();
        let one_more = open_reader(path).unwrap();
        assert_eq!(one_more.tail(0, 10), log.tail(0, 10));
        log.append(one(stream(1), 1, b"later")).unwrap();
        for thread in woken {
            assert_eq!(thread.join().unwrap().position, end + 1);
        }
    });
}

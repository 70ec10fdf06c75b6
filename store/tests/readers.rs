//! Reading a log while a process has it open.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::suite::{VERSION, batch, closed_label, frame, one, open_label, prune, stream};
use cloacina_store::keeper::{Change, Erase, Keeper};
use cloacina_store::log::{Batch, Definition, EventLog, LogReader, ReadError, StreamFilter};
use cloacina_store::record::{Hash, StreamId};
use cloacina_store::{Options, SledLog, open, open_reader, seal, verify};

/// Longer than any test takes: a wait that is never woken hangs the test.
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

/// Regression: an orderly close during `verify --all` made every execution of a log "cannot be read: the log was closed meanwhile", and the
/// command advised a repair. A reader follows its log while others close, open, prune and close it again.
#[test]
fn a_reader_stays_with_a_log_that_others_open_change_and_close() {
    let Written { _directory, path, log } = written();
    let reader = open_reader(&path).unwrap();
    let records = reader.read(stream(1), 0, 10).unwrap();
    log.close().unwrap();
    drop(log);
    for number in [3, 5, 7] {
        assert_eq!(reader.head().unwrap().durability, None, "no process has it open");
        assert_eq!(reader.read(stream(1), 0, 10).unwrap(), records);
        let log = open(&path, &Options::default()).unwrap();
        assert!(reader.head().unwrap().durability.is_some(), "it asks the process that opened the log");
        log.change(prune(&log, stream(number))).unwrap();
        let gone = ReadError::Pruned { stream: stream(number), records: 2 };
        assert_eq!(reader.read(stream(number), 0, 10), Err(gone.clone()));
        log.close().unwrap();
        drop(log);
        assert_eq!(reader.stream(stream(number)), Err(gone));
        assert_eq!(verify(&path).unwrap().findings, []);
    }
}

/// Reads in several ways until `done`; returns every error that reports damage.
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
                note(Some(&ReadError::DamagedLog(format!("{}: a body is missing without an event", entry.stream))));
            }
        }
    }
    seen
}

/// Regression: while a log was pruned and erased from, answers that readers and `verify` put together from several reads looked
/// like damage, in half of the runs.
#[test]
fn concurrent_changes_do_not_look_like_damage_to_readers() {
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
                log.change(prune(&log, id)).unwrap();
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
    assert!(open_reader(&written.path).is_ok(), "nobody has the log: it is read from its files");
    let _log = open(&written.path, &Options::default()).unwrap();
    assert!(open_reader(&written.path).unwrap().head().unwrap().durability.is_some());
}

#[test]
fn more_readers_than_the_connection_limit_are_all_served() {
    let Written { path, log, .. } = &written();
    let readers: Vec<_> = (0..40).map(|_| open_reader(path).unwrap()).collect();
    // Disconnected readers reconnect.
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
        // The server may disconnect it before it has read everything.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1_000);
    }
    let idle: Vec<_> = (0..10).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    written.log.append(one(stream(1), 1, b"another")).unwrap();
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
        assert!(records >= before, "no stream is missing while it is being closed");
        for entry in listed.iter().take(3) {
            reader.stream(entry.stream).unwrap();
            assert!(reader.read(entry.stream, 0, 10).unwrap().len() as u64 >= entry.records);
        }
        reader.tail(before.saturating_sub(5), 10).unwrap();
    }
    writer.join().unwrap();
    assert_eq!(log.verify().findings, []);
}

/// Recent writes are read from memory, older ones from the files: a reader that falls behind switches between them.
#[test]
fn a_reader_of_the_whole_log_beside_the_writer_gets_every_record_once_also_after_falling_behind() {
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

/// Regression: a frame of many records was loaded, and each of its hashes checked, again for every page of 1,024 records.
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
    // The regression took thirty times as long.
    assert!(there < here * 12, "{there:?} through the socket, {here:?} without");
    assert_eq!(reader.read(stream(1), 29_000, 10).unwrap().len(), 10);
    assert_eq!(reader.read(stream(1), 2, 3_000).unwrap().last().unwrap().seq, 3_001);
}

/// A waiting reader is woken when an append is acknowledged, and at no other time.
#[test]
fn a_waiting_reader_is_woken_when_the_log_grows() {
    let Written { path, log, .. } = &written();
    let reader = open_reader(path).unwrap();
    let end = log.head().unwrap().position;
    assert_eq!(reader.wait(end - 1, LONG), log.head(), "it is past that already");
    assert_eq!(reader.wait(end, Duration::from_millis(1)), log.head(), "it does not grow before the timeout");
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| reader.wait(end, LONG).unwrap().position);
        // Other readers are served meanwhile, over another connection.
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

/// Closing a log wakes waiting readers, too; a log that nobody has open cannot be waited for.
#[test]
fn closing_wakes_waiting_readers() {
    let Written { path, log, .. } = &written();
    let reader = open_reader(path).unwrap();
    let end = log.head().unwrap().position;
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| reader.wait(u64::MAX, LONG));
        let local = scope.spawn(|| log.wait(u64::MAX, LONG));
        log.close().unwrap();
        assert!(local.join().unwrap().is_ok_and(|head| head.position >= end));
        // The answer may or may not have been sent before the close.
        assert!(woken.join().unwrap().is_ok_and(|head| head.position >= end), "it has opened the log again");
    });
    let unheld = open_reader(path).unwrap();
    assert_eq!(unheld.wait(u64::MAX, LONG), unheld.head());
}

/// Waiting clients cannot block readers: they may take half of the connections, and any further one that waits is answered
/// at once.
#[test]
fn waiting_clients_leave_connections_for_readers() {
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

//! Requests and answers: that they come over as they were sent, and that no bytes harm who receives them.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::answers::Answer;
use super::client::SocketReader;
use super::requests::{self, Request};
use super::server::{MOST_CONNECTIONS, Server};
use super::transport;
use super::until::Until;
use crate::backend::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::core::open::open_for_reading;
use crate::core::recover::Care;
use crate::core::verify::Verified;
use crate::keeper::{Change, ChangeError, Changed, Erase, Import, Prune};
use crate::layout::encoded::EncodedFrame;
use crate::layout::keys;
use crate::log::{
    Batch, Definition, Durability, EventLog, ListingKey, LogHead, ReadError, StreamEntry, StreamFilter, StreamsSince,
};
use crate::log_event::Checkpoint;
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::sync::lock;
use crate::{MemoryDisk, MemoryLog, seal};

fn stream() -> StreamId {
    StreamId::from_bytes([7; 16])
}

fn record(body: Body) -> Record {
    Record {
        stream: stream(),
        kind: StreamKind::Schedule,
        seq: 1,
        position: 2,
        time: Timestamp(-3),
        previous: Hash([4; 32]),
        hash: Hash([5; 32]),
        body,
    }
}

fn errors() -> Vec<ReadError> {
    vec![
        ReadError::NoStream(stream()),
        ReadError::Damaged { stream: stream(), seq: 4, what: "a hash".to_owned() },
        ReadError::DamagedLog("an entry".to_owned()),
        ReadError::TailCut { stream: stream(), head: 3, found: 2 },
        ReadError::Pruned { stream: stream(), records: 5 },
        ReadError::Gone,
        ReadError::Io("the disk".to_owned()),
    ]
}

#[test]
fn requests_come_over_as_they_were_sent() {
    let filters = [
        StreamFilter::default(),
        StreamFilter {
            kind: Some(StreamKind::Trigger),
            open_only: true,
            before: Some(ListingKey { started: Timestamp(-3), stream: stream() }),
            limit: 5,
        },
    ];
    let mut requests = vec![
        Request::Read { stream: stream(), from: 5, limit: 6 },
        Request::Stream { stream: stream() },
        Request::Tail { from: 7, limit: 8 },
        Request::Definition { fingerprint: Hash([9; 32]) },
        Request::Head,
        Request::Wait { after: 10, milliseconds: 11 },
        Request::Verify,
    ];
    let text = || "a text".to_owned();
    let checkpoint = Checkpoint {
        origin: Hash([1; 32]),
        size: 5,
        root: Hash([2; 32]),
        peaks: vec![Hash([3; 32]), Hash([4; 32])],
        time: Timestamp(-6),
        key: [7; 32],
        signature: [8; 64],
    };
    requests.push(Request::Hashes { from: 3, limit: 4 });
    requests.push(Request::StreamsSince { from: 5, limit: 6 });
    requests.push(Request::Notices);
    requests.extend(
        [
            Change::Erase(Erase { stream: stream(), records: vec![(1, b"note".to_vec())], reason: text(), by: text() }),
            Change::Prune(Prune { stream: stream(), head: Hash::ZERO, archive: None, reason: text(), by: text() }),
            Change::Prune(Prune {
                stream: stream(),
                head: Hash::ZERO,
                archive: Some(Hash([9; 32])),
                reason: text(),
                by: text(),
            }),
            Change::Import(Import { archive: "/some/file.cloaca".into(), digest: Hash([1; 32]) }),
            Change::Sign(checkpoint),
        ]
        .map(Request::Change),
    );
    requests.extend(filters.map(|filter| Request::Streams { filter }));
    for request in requests {
        let bytes = request.encode();
        assert!(bytes.len() <= requests::LONGEST);
        assert_eq!(Request::decode(&bytes), Ok(request));
    }
}

#[test]
fn answers_come_over_as_they_were_sent() {
    let present = record(Body::Present { salt: [6; 16], bytes: b"body".as_slice().into() });
    let erased = record(Body::Erased { commitment: Hash([8; 32]), length: 9 });
    let entry = StreamEntry {
        stream: stream(),
        kind: StreamKind::Execution,
        open: true,
        started: Timestamp(1),
        last: Timestamp(2),
        records: 3,
        bytes: 4,
        head: Hash([5; 32]),
        label: b"label".to_vec(),
    };
    let mut answers = vec![
        Answer::Records(vec![present, erased]),
        Answer::Frames(vec![EncodedFrame {
            stream: stream(),
            first_seq: 3,
            previous: Hash([4; 32]),
            bytes: b"a frame".as_slice().into(),
        }]),
        Answer::Streams(vec![entry.clone()]),
        Answer::StreamsSince(StreamsSince { streams: vec![entry], next: 7 }),
        Answer::Notices([(stream(), b"blocked".as_slice().into()), (StreamId::LOG, [].as_slice().into())].into()),
        Answer::Definition(Some(b"source".as_slice().into())),
        Answer::Definition(None),
        Answer::Verified(Verified { records: 1, streams: 2, findings: errors() }),
    ];
    answers.extend(errors().into_iter().map(Answer::Error));
    answers.push(Answer::Hashes(vec![Hash([1; 32]), Hash([2; 32])]));
    answers.push(Answer::Changed(Ok(Changed { streams: 1, records: 2, already: 3 })));
    let refusals = [
        ChangeError::Open(stream()),
        ChangeError::Refused("no".to_owned()),
        ChangeError::Failed("the disk".to_owned()),
        ChangeError::Closed,
        ChangeError::Unreachable("gone".to_owned()),
    ];
    answers.extend(refusals.map(|error| Answer::Changed(Err(error))));
    answers.extend(errors().into_iter().map(|error| Answer::Changed(Err(error.into()))));
    for durability in [None, Some(Durability::Sync), Some(Durability::Interval(9)), Some(Durability::Os)] {
        let head = LogHead { position: 1, hash: Hash([2; 32]), time: Timestamp(3), durability };
        answers.push(Answer::Head(head));
    }
    for answer in answers {
        assert_eq!(Answer::decode(&answer.encode().into()), Ok(answer));
    }
}

#[test]
fn a_message_that_is_too_long_or_cut_off_is_refused() {
    let mut sent = Vec::new();
    transport::send(&mut sent, b"hello").unwrap();
    assert_eq!(transport::receive(&mut &sent[..], 5).unwrap(), Some(b"hello".to_vec()));
    assert!(transport::receive(&mut &sent[..], 4).is_err());
    assert!(transport::receive(&mut &sent[..8], 5).is_err());
    assert!(transport::receive(&mut &sent[..2], 5).is_err());
    assert_eq!(transport::receive(&mut &[][..], 5).unwrap(), None);
}

#[test]
fn another_version_is_refused_on_both_sides_with_what_to_do() {
    let request = [requests::VERSION + 1, 6];
    let why = Request::decode(&request).unwrap_err().to_string();
    assert_eq!(why, "the request has version 4, the process that has the log speaks 3; use the same version of both");
    let why = Answer::decode(&request.to_vec().into()).unwrap_err().to_string();
    assert_eq!(
        why,
        "the process that has the log answers in version 4, this one speaks 3; use the same version of both"
    );
}

#[test]
fn a_text_that_is_none_is_refused() {
    let change = Change::Prune(Prune {
        stream: stream(),
        head: Hash::ZERO,
        archive: None,
        reason: "why".to_owned(),
        by: "x".to_owned(),
    });
    let mut bytes = Request::Change(change).encode();
    *bytes.last_mut().unwrap() = 0xff;
    assert!(Request::decode(&bytes).unwrap_err().to_string().contains("not UTF-8"));
}

proptest! {
    #[test]
    fn no_bytes_harm_who_receives_them(bytes in vec(any::<u8>(), 0..200), number in 0..15u8) {
        for bytes in [bytes.clone(), [&[requests::VERSION, number], &bytes[..]].concat()] {
            let _ = Request::decode(&bytes);
            let _ = Answer::decode(&bytes.clone().into());
            let _ = transport::receive(&mut &bytes[..], 1 << 30);
        }
    }
}

/// A client that said a byte now and then was waited for at each byte anew, for as long as it liked.
#[test]
fn what_is_half_there_has_one_deadline_however_little_moves_at_once() {
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"abc").unwrap();
    let mut until = Until::within(&here, Duration::from_secs(60));
    let mut byte = [0];
    until.read_exact(&mut byte).unwrap();
    let left = here.read_timeout().unwrap().unwrap();
    until.read_exact(&mut byte).unwrap();
    assert!(here.read_timeout().unwrap().unwrap() <= left, "the second byte is waited for no longer than the first");
    let mut over = Until::within(&here, Duration::ZERO);
    assert_eq!(over.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut, "though there is a byte");
    assert_eq!(over.write(b"d").unwrap_err().kind(), ErrorKind::TimedOut, "though there is room");
}

/// A log that has a definition after every definition: whoever checks all of it does not come to an end.
struct Endless {
    disk: MemoryDisk,
    /// Is told of each thread that checks it.
    begun: Sender<()>,
    known: Mutex<HashSet<ThreadId>>,
    /// Ends it all the same: a test that has failed ends, too.
    over: Arc<AtomicBool>,
}

/// However a test goes, what is endless ends with it: a panic waits for the threads that check.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Backend for Endless {
    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        let first = keys::definitions_after(None);
        if range.from < first.from || range.from >= first.below || self.over.load(Ordering::Acquire) {
            return self.disk.scan(range, limit, direction);
        }
        if lock(&self.known).insert(thread::current().id()) {
            let _ = self.begun.send(());
        }
        // A disk takes its time. Thirty-two threads that take none leave nothing to who is to stop them.
        thread::sleep(Duration::from_millis(1));
        self.disk.scan(&first, limit, direction)
    }

    fn get(&self, key: &[u8]) -> Result<Option<::bytes::Bytes>, BackendError> {
        self.disk.get(key)
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        self.disk.apply(changes)
    }

    fn write_out(&self) -> Result<(), BackendError> {
        self.disk.write_out()
    }

    fn sync(&self) -> Result<(), BackendError> {
        self.disk.sync()
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        self.disk.load_head()
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        self.disk.save_head(head)
    }

    fn close(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Closing a log waited for whoever had it checked through the socket: minutes, of a large one.
#[test]
fn stopping_cuts_off_who_has_the_log_checked_and_meanwhile_nobody_takes_their_places() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    let bytes: Arc<[u8]> = b"a definition".as_slice().into();
    let definition = Definition { fingerprint: seal::fingerprint(&bytes), bytes };
    log.append(Batch { definitions: vec![definition], frames: Vec::new() }).unwrap();
    log.close().unwrap();
    let (begun, begins) = channel();
    let over = Arc::new(AtomicBool::new(false));
    let endless = Endless { disk, begun, known: Mutex::default(), over: Arc::clone(&over) };
    let core = Arc::new(open_for_reading(endless, "endless".to_owned(), Care::Frames).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), core, crossbeam_channel::unbounded().0).unwrap();

    let patience = Duration::from_secs(60);
    thread::scope(|scope| {
        let ending = Ending(over);
        let checks: Vec<_> = (0..MOST_CONNECTIONS)
            .map(|_| scope.spawn(|| SocketReader::connect(directory.path()).unwrap().verify()))
            .collect();
        for _ in 0..MOST_CONNECTIONS {
            begins.recv_timeout(patience).unwrap();
        }
        // Who is being answered keeps the place, however long it takes.
        let one_more = SocketReader::connect(directory.path()).map(drop);
        assert!(one_more.unwrap_err().to_string().contains("32 readers are being answered; try again later"));

        let (stopped, stops) = channel();
        scope.spawn(move || {
            server.stop();
            let _ = stopped.send(());
        });
        let stopped = stops.recv_timeout(patience);
        drop(ending);
        assert_eq!(stopped, Ok(()), "it waits for those who check");
        for check in checks {
            assert_eq!(check.join().unwrap(), Err(ReadError::Gone));
        }
    });
}

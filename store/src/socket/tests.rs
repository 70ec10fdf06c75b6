//! Tests that requests and answers round-trip, and that arbitrary bytes are received safely.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::answers::{Answer, Reply};
use super::client::SocketReader;
use super::deadline::DeadlineStream;
use super::requests::{self, Request};
use super::server::{MAX_CONNECTIONS, Server};
use super::transport;
use crate::core::open::open_for_reading;
use crate::core::verify::Verified;
use crate::disk::{Disk, DiskFile};
use crate::keeper::{Change, ChangeError, Changed, Erase, Import, Prune};
use crate::layout::frame::{self, StoredFrame};
use crate::log::{
    Batch, Durability, EventLog, Frame, Listing, ListingKey, LogHead, ReadError, StreamEntry, StreamFilter,
    StreamsSince,
};
use crate::log_event::Checkpoint;
use crate::merkle::Node;
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::sync::lock;
use crate::{MemoryDisk, MemoryLog};

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
    requests.push(Request::Tree { from: 3, limit: 4 });
    requests.push(Request::StreamsSince { from: 5, limit: 6 });
    requests.push(Request::Notices);
    requests.extend(
        [
            Change::Erase(Erase { stream: stream(), records: vec![(1, b"note".to_vec())], reason: text(), by: text() }),
            Change::Prune(Prune { streams: vec![], archive: None, reason: text(), by: text() }),
            Change::Prune(Prune {
                streams: vec![(stream(), Hash::ZERO), (StreamId::LOG, Hash([3; 32]))],
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
        let bytes = request.encode().unwrap();
        assert!(bytes.len() <= requests::MAX_LENGTH);
        assert_eq!(Request::decode(&bytes), Ok(request));
    }
}

/// The largest erasure and the largest pruning fit a single request.
#[test]
fn the_largest_change_is_not_too_long_for_a_request() {
    let text = || "x".repeat(1_000);
    let streams = vec![(StreamId::from_bytes([255; 16]), Hash([255; 32])); crate::keeper::MAX_PRUNED];
    let prune = Prune { streams, archive: Some(Hash([9; 32])), reason: text(), by: text() };
    let records = vec![(u64::MAX, vec![255; 1_000]); crate::keeper::MAX_ERASED];
    let erase = Erase { stream: stream(), records, reason: text(), by: text() };
    for change in [Change::Prune(prune), Change::Erase(erase)] {
        let bytes = Request::Change(change.clone()).encode().unwrap();
        assert!(bytes.len() <= requests::MAX_LENGTH, "{} bytes", bytes.len());
        assert_eq!(Request::decode(&bytes), Ok(Request::Change(change)));
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
    let frames = |records: &[Record]| {
        let bytes = frame::imported(records, 30, &Listing::Open(b"label".to_vec())).unwrap();
        StoredFrame::decode(bytes.into()).unwrap()
    };
    let mut answers = vec![
        Answer::Frames(vec![frames(std::slice::from_ref(&present)), frames(&[present, erased])]),
        Answer::Frames(vec![]),
        Answer::Definition(Some(b"source".as_slice().into())),
        Answer::Definition(Some([].as_slice().into())),
        Answer::Definition(None),
    ];
    let mut replies = vec![
        Reply::Streams(vec![entry.clone()]),
        Reply::StreamsSince(StreamsSince { streams: vec![entry], next: 7 }),
        Reply::Notices([(stream(), b"blocked".as_slice().into()), (StreamId::LOG, [].as_slice().into())].into()),
        Reply::Verified(Verified { records: 1, streams: 2, findings: errors() }),
        Reply::Tree(vec![Node::of_record(3, &Hash([1; 32])), Node { first: 4, size: 4, hash: Hash([2; 32]) }]),
        Reply::Changed(Ok(Changed { streams: 1, records: 2, already: 3 })),
    ];
    replies.extend(errors().into_iter().map(Reply::Error));
    let refusals = [
        ChangeError::Open(stream()),
        ChangeError::Refused("no".to_owned()),
        ChangeError::Failed("the disk".to_owned()),
        ChangeError::Closed,
        ChangeError::Unreachable("gone".to_owned()),
    ];
    replies.extend(refusals.map(|error| Reply::Changed(Err(error))));
    replies.extend(errors().into_iter().map(|error| Reply::Changed(Err(error.into()))));
    for durability in [None, Some(Durability::Sync), Some(Durability::Interval(9)), Some(Durability::Os)] {
        replies.push(Reply::Head(LogHead { position: 1, hash: Hash([2; 32]), time: Timestamp(3), durability }));
    }
    answers.extend(replies.into_iter().map(Answer::Reply));
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
    let request = [requests::VERSION + 1, 5];
    let what_to_do = "version 5, this process uses 4; use the same version of cloaca in both processes";
    let why = Request::decode(&request).unwrap_err().to_string();
    assert_eq!(why, format!("the request has {what_to_do}"));
    let why = Answer::decode(&request.to_vec().into()).unwrap_err().to_string();
    assert_eq!(why, format!("the process that holds the log answers in {what_to_do}"));
}

#[test]
fn a_text_that_is_none_is_refused() {
    let change = Change::Prune(Prune {
        streams: vec![(stream(), Hash::ZERO)],
        archive: None,
        reason: "why".to_owned(),
        by: "x".to_owned(),
    });
    let mut bytes = Request::Change(change).encode().unwrap();
    *bytes.last_mut().unwrap() = 0xff;
    assert!(Request::decode(&bytes).unwrap_err().to_string().contains("Utf8"));
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

/// A client that sent a byte now and then restarted the time limit with each byte.
#[test]
fn what_is_half_there_has_one_deadline_however_little_moves_at_once() {
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"abc").unwrap();
    let mut until = DeadlineStream::within(&here, Duration::from_secs(60));
    let mut byte = [0];
    until.read_exact(&mut byte).unwrap();
    let left = here.read_timeout().unwrap().unwrap();
    until.read_exact(&mut byte).unwrap();
    assert!(here.read_timeout().unwrap().unwrap() <= left, "the second byte has no later deadline than the first");
    let mut over = DeadlineStream::within(&here, Duration::ZERO);
    assert_eq!(over.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut, "though there is a byte");
    assert_eq!(over.write(b"d").unwrap_err().kind(), ErrorKind::TimedOut, "though there is room");
}

/// A slow disk: verifying the log on it does not finish during a test.
struct Slow {
    disk: MemoryDisk,
    state: Arc<Slowness>,
}

struct Slowness {
    /// Receives a message for each thread that reads.
    begun: Sender<()>,
    known: Mutex<HashSet<ThreadId>>,
    /// Whether it is slow now.
    slow: AtomicBool,
}

struct SlowFile {
    file: Arc<dyn DiskFile>,
    state: Arc<Slowness>,
}

/// Makes the disk fast again when the test ends, however it ends: a panic waits for the threads that verify.
struct Ending(Arc<Slowness>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.slow.store(false, Ordering::Release);
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.state.slow.load(Ordering::Acquire) {
            if lock(&self.state.known).insert(thread::current().id()) {
                let _ = self.state.begun.send(());
            }
            thread::sleep(Duration::from_millis(500));
        }
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Slow {
    fn slowed(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SlowFile { file, state: Arc::clone(&self.state) })
    }
}

impl Disk for Slow {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.slowed(file))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_to_write(name).map(|file| self.slowed(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.disk.replace(name, content)
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        Disk::names(&self.disk, directory)
    }
}

/// Closing a log waited for readers that verified it through the socket: minutes for a large log.
#[test]
fn stopping_cuts_off_who_has_the_log_checked_and_meanwhile_nobody_takes_their_places() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    // More than a hundred times as much as is read at once.
    for seq in 0..100 {
        let frame = Frame {
            stream: stream(),
            kind: StreamKind::Execution,
            expected_seq: seq,
            time: Timestamp(1),
            bodies: vec![vec![7; 200_000]],
            listing: Listing::Keep,
        };
        log.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    }
    log.close().unwrap();
    let (begun, begins) = channel();
    let state = Arc::new(Slowness { begun, known: Mutex::default(), slow: AtomicBool::new(false) });
    let slow: Arc<dyn Disk> = Arc::new(Slow { disk, state: Arc::clone(&state) });
    let core = Arc::new(open_for_reading(&slow, "slow".to_owned()).unwrap());
    state.slow.store(true, Ordering::Release);
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), core, crossbeam_channel::unbounded().0).unwrap();

    let patience = Duration::from_secs(20);
    thread::scope(|scope| {
        let ending = Ending(state);
        let checks: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| scope.spawn(|| SocketReader::connect(directory.path()).unwrap().verify()))
            .collect();
        for _ in 0..MAX_CONNECTIONS {
            begins.recv_timeout(patience).unwrap();
        }
        // A connection that is being answered is kept, however long it takes.
        let one_more = SocketReader::connect(directory.path()).map(drop);
        assert!(one_more.unwrap_err().to_string().contains("32 readers are being answered; try again later"));

        let (stopped, stops) = channel();
        scope.spawn(move || {
            server.stop();
            let _ = stopped.send(());
        });
        // Each of more than a hundred reads takes half a second.
        let stopped = stops.recv_timeout(patience);
        drop(ending);
        assert_eq!(stopped, Ok(()), "it waits for verifications");
        for check in checks {
            assert_eq!(check.join().unwrap(), Err(ReadError::Gone));
        }
    });
}

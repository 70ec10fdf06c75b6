//! The server for readers in other processes. It runs on its own threads, so that reads and writes do not block each
//! other.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::answers::{self, Answer, Said};
use super::requests::{self, Request};
use super::until::Until;
use super::{address, transport};
use crate::changes;
use crate::core::Core;
use crate::core::read::Budget;
use crate::core::verify::verify_unless;
use crate::descriptors::above_standard_streams;
use crate::forks::KeptOut;
use crate::keeper::ChangeError;
use crate::layout::frame::StoredFrame;
use crate::log::{LogReader, Notices, ReadError, StreamFilter};
use crate::record::StreamId;
use crate::sync::lock;
use crate::writer_thread::Message;

/// The maximum number of readers that are served at once. For another one, an inactive one is disconnected.
pub(super) const MOST_CONNECTIONS: usize = 32;

/// A reader whose request has been incomplete for less than this is not disconnected: it may be on its way.
const GRACE: Duration = Duration::from_millis(100);

/// Nor is a reader that has received a part of its answer within this time. A new reader waits as long for a
/// connection.
const STUCK: Duration = Duration::from_secs(1);

/// A reader that sends no request for this long is disconnected; it reconnects when it needs to.
const IDLE: Duration = Duration::from_secs(60);

/// The time limit for the rest of a request after its first byte.
const HALF_REQUEST: Duration = Duration::from_secs(10);

/// The time limit for receiving an answer.
const UNREAD_ANSWER: Duration = Duration::from_secs(10);

/// The maximum number of readers that wait for the log to grow, so that others can still be served. Another one is
/// answered at once.
const MOST_WAITING: usize = MOST_CONNECTIONS / 2;

/// The time after which a waiting reader is answered anyway, and asks again. So one that has gone is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The maximum number of entries in an answer, and the number of records after which it ends, with the frame that
/// reaches it.
const PAGE: usize = 1024;

/// The maximum number of records in an answer, if a frame has more. With their envelopes, they fit the longest answer.
const MOST_RECORDS: usize = 1024 * 1024;

/// The size of bodies in bytes after which an answer ends.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum number of tree nodes in an answer.
const NODES: usize = 16 * 1024;

/// The maximum number of findings of a verification in an answer.
const MOST_FINDINGS: usize = 1000;

/// The connected readers, by number.
#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: UnixStream,
    thread: Option<JoinHandle<()>>,
    doing: Doing,
    /// The time since the last progress.
    since: Instant,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The request is incomplete.
    Asking,
    /// The answer is being prepared.
    Answering,
    /// The answer is being sent.
    Taking,
}

impl Connection {
    /// The time at which this connection may be closed for another reader, unless it makes progress.
    fn keeps_until(&self) -> Option<Instant> {
        match self.doing {
            Doing::Asking => Some(self.since + GRACE),
            Doing::Answering => None,
            Doing::Taking => Some(self.since + STUCK),
        }
    }
}

/// Whether one more reader can be admitted.
enum Room {
    Is,
    /// After this time, or earlier.
    In(Duration),
    /// Not at all: all connections are being answered and are not interrupted.
    IsNot,
}

impl Connections {
    /// Notes the phase of a connection, and returns whether it is still served.
    fn note(&mut self, number: u64, doing: Doing) -> bool {
        let connection = self.open.get_mut(&number);
        connection.map(|connection| (connection.doing, connection.since) = (doing, Instant::now())).is_some()
    }

    /// Makes room for another reader if necessary, by closing the connection that has been overdue for the longest.
    fn make_room(&mut self, now: Instant) -> Room {
        if self.open.len() < MOST_CONNECTIONS {
            return Room::Is;
        }
        let ends = self.open.iter().filter_map(|(number, connection)| Some((connection.keeps_until()?, *number)));
        let Some((end, number)) = ends.min() else { return Room::IsNot };
        let left = end.saturating_duration_since(now);
        if !left.is_zero() {
            return Room::In(left);
        }
        if let Some(let_go) = self.open.remove(&number) {
            // Its thread ends by itself when it notices that the connection is closed.
            let _ = let_go.stream.shutdown(Shutdown::Both);
        }
        Room::Is
    }
}

/// Serves a log until it is stopped.
pub(crate) struct Server {
    directory: PathBuf,
    /// A fork that kept the listener would keep readers waiting. The connections that it accepted go with it.
    _kept_out: KeptOut,
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Connections>>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts the server. The caller holds the log's lock.
    pub(crate) fn start(directory: &Path, core: Arc<Core>, messages: Sender<Message>) -> io::Result<Self> {
        let listener = Arc::new(address::listen(directory)?);
        let kept_out = KeptOut::new(&*listener);
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Connections::default()));
        let acceptor = Acceptor {
            listener: Arc::clone(&listener),
            stopping: Arc::clone(&stopping),
            connections: Arc::clone(&connections),
            core,
            messages,
        };
        let thread = thread::Builder::new().name("cloacina-readers".to_owned()).spawn(move || acceptor.run())?;
        Ok(Self { directory: directory.to_owned(), _kept_out: kept_out, listener, stopping, connections, thread })
    }

    /// Disconnects all readers, including waiting ones, and ends the threads.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = address::remove(&self.directory) {
            tracing::debug!(%error, "cannot remove the socket");
        }
        // Wakes the thread that accepts readers. Fails only if there is nothing to wake.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        let _ = self.thread.join();
        let open = std::mem::take(&mut lock(&self.connections).open);
        for connection in open.values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        for connection in open.into_values() {
            let _ = connection.thread.map(JoinHandle::join);
        }
    }
}

struct Acceptor {
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Connections>>,
    core: Arc<Core>,
    /// For changes, to the writer.
    messages: Sender<Message>,
}

impl Acceptor {
    fn run(self) {
        loop {
            let accepted = self.listener.accept();
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((stream, _)) => {
                    // A reader that left before it was answered does not end the loop.
                    if let Err(error) = above_standard_streams(stream).and_then(|stream| self.take(stream)) {
                        tracing::debug!(%error, "cannot serve a reader");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a reader");
                    // Perhaps out of descriptors: avoid a busy loop.
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn take(&self, stream: UnixStream) -> io::Result<()> {
        let end = Instant::now() + STUCK;
        let mut connections = lock(&self.connections);
        loop {
            let now = Instant::now();
            match connections.make_room(now) {
                Room::Is => break,
                // All of them are active: waiting longer would not help.
                Room::In(left) if now + left <= end && !self.stopping.load(Ordering::Acquire) => {
                    drop(connections);
                    // In short steps: a reader may leave earlier.
                    thread::sleep(left.min(Duration::from_millis(5)));
                    connections = lock(&self.connections);
                }
                Room::In(_) | Room::IsNot => {
                    drop(connections);
                    return turn_away(stream);
                }
            }
        }
        let number = connections.next;
        connections.next += 1;
        let (doing, since) = (Doing::Asking, Instant::now());
        let connection =
            Connection { stream: stream.try_clone().and_then(above_standard_streams)?, thread: None, doing, since };
        connections.open.insert(number, connection);
        let (core, all) = (Arc::clone(&self.core), Arc::clone(&self.connections));
        let (messages, stopping) = (self.messages.clone(), Arc::clone(&self.stopping));
        let thread = thread::Builder::new().name("cloacina-reader".to_owned()).spawn(move || {
            // Only the reader is interested in how its connection ended.
            let _ = serve(&stream, &core, (&messages, &stopping), |doing| lock(&all).note(number, doing));
            lock(&all).open.remove(&number);
        });
        match thread {
            Ok(thread) => {
                if let Some(connection) = connections.open.get_mut(&number) {
                    connection.thread = Some(thread);
                }
                Ok(())
            }
            Err(error) => {
                connections.open.remove(&number);
                Err(error)
            }
        }
    }
}

/// Tells a reader to try again. Never blocks: the socket's buffer has room for such a short answer.
fn turn_away(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let busy = ReadError::Io(format!("{MOST_CONNECTIONS} readers are being answered; try again later"));
    transport::send(&mut stream, &Answer::error(busy).encode())
}

/// Answers a reader until it leaves, or until `note`, which is called with each phase, returns that it is no longer
/// served.
fn serve(
    stream: &UnixStream,
    core: &Core,
    (messages, stopping): (&Sender<Message>, &AtomicBool),
    note: impl Fn(Doing) -> bool,
) -> io::Result<()> {
    while let Some(request) = next_request(stream)? {
        if !note(Doing::Answering) {
            break;
        }
        let request = Request::decode(&request);
        let goes_on = request.is_ok();
        let answer = match request {
            Ok(Request::Change(change)) => Answer::Said(Said::Changed(changes::on_thread(messages, change))),
            Ok(request) => answer(&request, core, stopping),
            Err(malformed) => Answer::error(ReadError::Io(malformed.to_string())),
        };
        let answer = answer.encode();
        let moved = || {
            note(Doing::Taking);
        };
        moved();
        transport::send(&mut Until::within(stream, UNREAD_ANSWER).telling(&moved), &answer)?;
        if !goes_on || !note(Doing::Asking) {
            break;
        }
    }
    Ok(())
}

/// The next request, unless the reader has gone. It may arrive late, but must then be complete soon.
fn next_request(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut first = [0];
    stream.set_read_timeout(Some(IDLE))?;
    if stream.read(&mut first)? == 0 {
        return Ok(None);
    }
    transport::receive(&mut first.chain(Until::within(stream, HALF_REQUEST)), requests::LONGEST)
}

/// Answers a request. Long work ends with [`ReadError::Gone`] once the server is stopping.
fn answer(request: &Request, core: &Core, stopping: &AtomicBool) -> Answer {
    core.settled(|| answered(request, core, stopping)).unwrap_or_else(Answer::error)
}

fn answered(request: &Request, core: &Core, stopping: &AtomicBool) -> Result<Answer, ReadError> {
    let said = match request {
        Request::Read { stream, from, limit } => {
            if *stream == StreamId::LOG {
                core.wait_for_rewrite();
            }
            return frames(core, || core.stream_frames(*stream, *from, budget(*limit)));
        }
        Request::Tail { from, limit } => return frames(core, || core.tail_frames(*from, budget(*limit))),
        Request::Definition { fingerprint } => return core.definition(*fingerprint).map(Answer::Definition),
        Request::Stream { stream } => core.one_stream(*stream).map(|entry| Said::Streams(vec![entry])),
        Request::Streams { filter } => {
            let filter = StreamFilter { limit: filter.limit.min(PAGE), ..filter.clone() };
            core.streams(&filter).map(Said::Streams)
        }
        Request::Head => core.head().map(Said::Head),
        Request::Wait { after, milliseconds } => {
            let patience = Duration::from_millis((*milliseconds).into()).min(LONGEST_WAIT);
            core.moving.wait(patience, MOST_WAITING, || core.tip().position > *after);
            core.head().map(Said::Head)
        }
        Request::Tree { from, limit } => {
            let limit = crate::bytes::usize_of(*limit).min(NODES);
            core.nodes_within(*from, limit).map(Said::Tree)
        }
        Request::StreamsSince { from, limit } => {
            let limit = crate::bytes::usize_of(*limit).min(PAGE);
            core.streams_since_within(*from, limit).map(Said::StreamsSince)
        }
        Request::Notices => Ok(Said::Notices(some_notices(core.posted()))),
        // The writer makes changes, so they never get here.
        Request::Change(_) => Ok(Said::Changed(Err(ChangeError::Closed))),
        Request::Verify => {
            let verified = verify_unless(core, stopping).ok_or(ReadError::Gone);
            verified.map(|mut verified| {
                verified.findings.truncate(MOST_FINDINGS);
                Said::Verified(verified)
            })
        }
    };
    said.map(Answer::Said)
}

/// Frames, which the client verifies. Checks them here only if the log was rewritten during the read, so that it is
/// repeated.
fn frames(core: &Core, read: impl Fn() -> Result<Vec<StoredFrame>, ReadError>) -> Result<Answer, ReadError> {
    let before = core.rewritten();
    let frames = read()?;
    if core.was_rewritten_since(before) {
        for frame in &frames {
            let (stream, seq) = (frame.header.stream, frame.header.first_seq);
            frame.check().map_err(|why| ReadError::Damaged { stream, seq, what: why.to_string() })?;
        }
    }
    Ok(Answer::Frames(frames))
}

/// As many notices as fit an answer: those of the newest streams.
fn some_notices(notices: Notices) -> Notices {
    /// The maximum overhead of a notice: its stream and its length.
    const ENVELOPE: usize = 32;
    let mut room = answers::MOST_SAID / 2;
    let fits = |(_, notice): &(StreamId, Arc<[u8]>)| {
        let left = room.checked_sub(ENVELOPE + notice.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    notices.into_iter().rev().take_while(fits).collect()
}

fn budget(limit: u32) -> Budget {
    let records = crate::bytes::usize_of(limit).min(MOST_RECORDS);
    Budget { records, enough: records.min(PAGE), bytes: PAGE_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum number of connections, all in the same phase since the same time.
    fn full(doing: Doing, since: Instant) -> Connections {
        let mut connections = Connections::default();
        for number in 0..MOST_CONNECTIONS as u64 {
            let (stream, _) = UnixStream::pair().unwrap();
            connections.open.insert(number, Connection { stream, thread: None, doing, since });
        }
        connections
    }

    fn room(connections: &mut Connections, now: Instant) -> Option<Duration> {
        match connections.make_room(now) {
            Room::Is => Some(Duration::ZERO),
            Room::In(left) => Some(left),
            Room::IsNot => None,
        }
    }

    #[test]
    fn a_place_is_kept_while_something_moves_and_a_little_longer() {
        let start = Instant::now();
        for (doing, kept) in [(Doing::Asking, GRACE), (Doing::Taking, STUCK)] {
            let mut connections = full(doing, start);
            assert_eq!(room(&mut connections, start), Some(kept), "{doing:?}");
            assert_eq!(connections.open.len(), MOST_CONNECTIONS);
            assert_eq!(room(&mut connections, start + kept), Some(Duration::ZERO), "{doing:?}");
            assert_eq!(connections.open.len(), MOST_CONNECTIONS - 1, "one had to go");
        }
        let mut answering = full(Doing::Answering, start);
        assert_eq!(room(&mut answering, start + IDLE), None, "a connection that is being answered is never closed");
    }

    #[test]
    fn the_one_goes_whose_time_has_been_up_for_longest() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut connections = full(Doing::Answering, start);
        let mut set = |number, doing, since| {
            let connection = connections.open.get_mut(&number).unwrap();
            (connection.doing, connection.since) = (doing, since);
        };
        set(3, Doing::Asking, start + second * 4);
        set(7, Doing::Taking, start + second * 2);
        assert_eq!(room(&mut connections, start + second * 5), Some(Duration::ZERO));
        assert!(!connections.open.contains_key(&7) && connections.open.contains_key(&3));
    }
}

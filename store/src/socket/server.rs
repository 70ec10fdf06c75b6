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

use super::answers::{self, Answer, Reply};
use super::deadline::DeadlineStream;
use super::requests::{self, Request};
use super::{address, transport};
use crate::changes;
use crate::core::Core;
use crate::core::read::Budget;
use crate::core::verify::verify_unless;
use crate::descriptors::above_standard_streams;
use crate::forks::CloseInForks;
use crate::keeper::ChangeError;
use crate::layout::frame::StoredFrame;
use crate::log::{LogReader, Notices, ReadError, StreamFilter};
use crate::record::StreamId;
use crate::sync::lock;
use crate::writer_thread::Message;

/// The maximum number of readers that are served at once. For another one, an inactive one is disconnected.
pub(super) const MAX_CONNECTIONS: usize = 32;

/// A reader whose request has been incomplete for less than this is not disconnected: it may be on its way.
const GRACE: Duration = Duration::from_millis(100);

/// Nor is a reader that has received a part of its answer within this time. A new reader waits as long for a
/// connection.
const STALLED: Duration = Duration::from_secs(1);

/// A reader that sends no request for this long is disconnected; it reconnects when it needs to.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time limit for the rest of a request after its first byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for receiving an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of readers that wait for the log to grow, so that others can still be served. Another one is
/// answered at once.
const MAX_WAITING: usize = MAX_CONNECTIONS / 2;

/// The time after which a waiting reader is answered anyway, and asks again. So one that has gone is noticed.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The maximum number of entries in an answer, and the number of records after which it ends, with the frame that
/// reaches it.
const PAGE: usize = 1024;

/// The maximum number of records in an answer, if a frame has more. With their envelopes, they fit the longest answer.
const MAX_RECORDS: usize = 1024 * 1024;

/// The size of bodies in bytes after which an answer ends.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum number of tree nodes in an answer.
const NODES: usize = 16 * 1024;

/// The maximum number of findings of a verification in an answer.
const MAX_FINDINGS: usize = 1000;

/// The connected readers, by number.
#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: UnixStream,
    thread: Option<JoinHandle<()>>,
    phase: Phase,
    /// The time since the last progress.
    since: Instant,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is incomplete.
    Receiving,
    /// The answer is being prepared.
    Answering,
    /// The answer is being sent.
    Sending,
}

impl Connection {
    /// The time at which this connection may be closed for another reader, unless it makes progress.
    fn expires_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Receiving => Some(self.since + GRACE),
            Phase::Answering => None,
            Phase::Sending => Some(self.since + STALLED),
        }
    }
}

/// Whether one more reader can be admitted.
enum Admission {
    Now,
    /// After this time, or earlier.
    After(Duration),
    /// Not at all: all connections are being answered and are not interrupted.
    Full,
}

impl Connections {
    /// Notes the phase of a connection, and returns whether it is still served.
    fn note(&mut self, number: u64, phase: Phase) -> bool {
        let connection = self.open.get_mut(&number);
        connection.map(|connection| (connection.phase, connection.since) = (phase, Instant::now())).is_some()
    }

    /// Makes room for another reader if necessary, by closing the connection that has been overdue for the longest.
    fn admit(&mut self, now: Instant) -> Admission {
        if self.open.len() < MAX_CONNECTIONS {
            return Admission::Now;
        }
        let ends = self.open.iter().filter_map(|(number, connection)| Some((connection.expires_at()?, *number)));
        let Some((end, number)) = ends.min() else { return Admission::Full };
        let left = end.saturating_duration_since(now);
        if !left.is_zero() {
            return Admission::After(left);
        }
        if let Some(evicted) = self.open.remove(&number) {
            // Its thread ends by itself when it notices that the connection is closed.
            let _ = evicted.stream.shutdown(Shutdown::Both);
        }
        Admission::Now
    }
}

/// Serves a log until it is stopped.
pub(crate) struct Server {
    directory: PathBuf,
    /// A fork that kept the listener would keep readers waiting. The connections that it accepted go with it.
    _kept_out: CloseInForks,
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Connections>>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts the server. The caller holds the log's lock.
    pub(crate) fn start(directory: &Path, core: Arc<Core>, messages: Sender<Message>) -> io::Result<Self> {
        let listener = Arc::new(address::listen(directory)?);
        let kept_out = CloseInForks::new(&*listener);
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
                    if let Err(error) = above_standard_streams(stream).and_then(|stream| self.serve_on_thread(stream)) {
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

    fn serve_on_thread(&self, stream: UnixStream) -> io::Result<()> {
        let end = Instant::now() + STALLED;
        let mut connections = lock(&self.connections);
        loop {
            let now = Instant::now();
            match connections.admit(now) {
                Admission::Now => break,
                // All of them are active: waiting longer would not help.
                Admission::After(left) if now + left <= end && !self.stopping.load(Ordering::Acquire) => {
                    drop(connections);
                    // In short steps: a reader may leave earlier.
                    thread::sleep(left.min(Duration::from_millis(5)));
                    connections = lock(&self.connections);
                }
                Admission::After(_) | Admission::Full => {
                    drop(connections);
                    return reject(stream);
                }
            }
        }
        let number = connections.next;
        connections.next += 1;
        let (phase, since) = (Phase::Receiving, Instant::now());
        let connection =
            Connection { stream: stream.try_clone().and_then(above_standard_streams)?, thread: None, phase, since };
        connections.open.insert(number, connection);
        let (core, all) = (Arc::clone(&self.core), Arc::clone(&self.connections));
        let (messages, stopping) = (self.messages.clone(), Arc::clone(&self.stopping));
        let thread = thread::Builder::new().name("cloacina-reader".to_owned()).spawn(move || {
            // Only the reader is interested in how its connection ended.
            let _ = serve(&stream, &core, (&messages, &stopping), |phase| lock(&all).note(number, phase));
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
fn reject(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let busy = ReadError::Io(format!("{MAX_CONNECTIONS} readers are being answered; try again later"));
    transport::send(&mut stream, &Answer::error(busy).encode())
}

/// Answers a reader until it leaves, or until `note`, which is called with each phase, returns that it is no longer
/// served.
fn serve(
    stream: &UnixStream,
    core: &Core,
    (messages, stopping): (&Sender<Message>, &AtomicBool),
    note: impl Fn(Phase) -> bool,
) -> io::Result<()> {
    while let Some(request) = next_request(stream)? {
        if !note(Phase::Answering) {
            break;
        }
        let request = Request::decode(&request);
        let goes_on = request.is_ok();
        let answer = match request {
            Ok(Request::Change(change)) => Answer::Reply(Reply::Changed(changes::on_thread(messages, change))),
            Ok(request) => answer(&request, core, stopping),
            Err(malformed) => Answer::error(ReadError::Io(malformed.to_string())),
        };
        let answer = answer.encode();
        let moved = || {
            note(Phase::Sending);
        };
        moved();
        transport::send(&mut DeadlineStream::within(stream, ANSWER_TIMEOUT).on_write(&moved), &answer)?;
        if !goes_on || !note(Phase::Receiving) {
            break;
        }
    }
    Ok(())
}

/// The next request, unless the reader has gone. It may arrive late, but must then be complete soon.
fn next_request(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut first = [0];
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    if stream.read(&mut first)? == 0 {
        return Ok(None);
    }
    transport::receive(&mut first.chain(DeadlineStream::within(stream, REQUEST_TIMEOUT)), requests::MAX_LENGTH)
}

/// Answers a request. Long work ends with [`ReadError::Gone`] once the server is stopping.
fn answer(request: &Request, core: &Core, stopping: &AtomicBool) -> Answer {
    core.retry_if_rewritten(|| try_answer(request, core, stopping)).unwrap_or_else(Answer::error)
}

fn try_answer(request: &Request, core: &Core, stopping: &AtomicBool) -> Result<Answer, ReadError> {
    let reply = match request {
        Request::Read { stream, from, limit } => {
            if *stream == StreamId::LOG {
                core.wait_for_rewrite();
            }
            return frames(core, || core.stream_frames(*stream, *from, budget(*limit)));
        }
        Request::Tail { from, limit } => return frames(core, || core.tail_frames(*from, budget(*limit))),
        Request::Definition { fingerprint } => return core.definition(*fingerprint).map(Answer::Definition),
        Request::Stream { stream } => core.stream_entry(*stream).map(|entry| Reply::Streams(vec![entry])),
        Request::Streams { filter } => {
            let filter = StreamFilter { limit: filter.limit.min(PAGE), ..filter.clone() };
            core.streams(&filter).map(Reply::Streams)
        }
        Request::Head => core.head().map(Reply::Head),
        Request::Wait { after, milliseconds } => {
            let patience = Duration::from_millis((*milliseconds).into()).min(MAX_WAIT);
            core.tip_watch.wait(patience, MAX_WAITING, || core.tip().position > *after);
            core.head().map(Reply::Head)
        }
        Request::Tree { from, limit } => {
            let limit = crate::bytes::usize_of(*limit).min(NODES);
            core.nodes_within(*from, limit).map(Reply::Tree)
        }
        Request::StreamsSince { from, limit } => {
            let limit = crate::bytes::usize_of(*limit).min(PAGE);
            core.streams_since_within(*from, limit).map(Reply::StreamsSince)
        }
        Request::Notices => Ok(Reply::Notices(notices_that_fit(core.posted()))),
        // The writer makes changes, so they never get here.
        Request::Change(_) => Ok(Reply::Changed(Err(ChangeError::Closed))),
        Request::Verify => {
            let verified = verify_unless(core, stopping).ok_or(ReadError::Gone);
            verified.map(|mut verified| {
                verified.findings.truncate(MAX_FINDINGS);
                Reply::Verified(verified)
            })
        }
    };
    reply.map(Answer::Reply)
}

/// Frames, which the client verifies. Checks them here only if the log was rewritten during the read, so that it is
/// repeated.
fn frames(core: &Core, read: impl Fn() -> Result<Vec<StoredFrame>, ReadError>) -> Result<Answer, ReadError> {
    let before = core.rewrite_count();
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
fn notices_that_fit(notices: Notices) -> Notices {
    /// The maximum overhead of a notice: its stream and its length.
    const ENVELOPE: usize = 32;
    let mut room = answers::MAX_REPLY / 2;
    let fits = |(_, notice): &(StreamId, Arc<[u8]>)| {
        let left = room.checked_sub(ENVELOPE + notice.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    notices.into_iter().rev().take_while(fits).collect()
}

fn budget(limit: u32) -> Budget {
    let records = crate::bytes::usize_of(limit).min(MAX_RECORDS);
    Budget { records, stop_after: records.min(PAGE), bytes: PAGE_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum number of connections, all in the same phase since the same time.
    fn full(phase: Phase, since: Instant) -> Connections {
        let mut connections = Connections::default();
        for number in 0..MAX_CONNECTIONS as u64 {
            let (stream, _) = UnixStream::pair().unwrap();
            connections.open.insert(number, Connection { stream, thread: None, phase, since });
        }
        connections
    }

    fn admission(connections: &mut Connections, now: Instant) -> Option<Duration> {
        match connections.admit(now) {
            Admission::Now => Some(Duration::ZERO),
            Admission::After(left) => Some(left),
            Admission::Full => None,
        }
    }

    #[test]
    fn a_place_is_kept_while_something_moves_and_a_little_longer() {
        let start = Instant::now();
        for (phase, kept) in [(Phase::Receiving, GRACE), (Phase::Sending, STALLED)] {
            let mut connections = full(phase, start);
            assert_eq!(admission(&mut connections, start), Some(kept), "{phase:?}");
            assert_eq!(connections.open.len(), MAX_CONNECTIONS);
            assert_eq!(admission(&mut connections, start + kept), Some(Duration::ZERO), "{phase:?}");
            assert_eq!(connections.open.len(), MAX_CONNECTIONS - 1, "one had to go");
        }
        let mut answering = full(Phase::Answering, start);
        assert_eq!(
            admission(&mut answering, start + IDLE_TIMEOUT),
            None,
            "a connection that is being answered is never closed"
        );
    }

    #[test]
    fn the_one_goes_whose_time_has_been_up_for_longest() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut connections = full(Phase::Answering, start);
        let mut set = |number, phase, since| {
            let connection = connections.open.get_mut(&number).unwrap();
            (connection.phase, connection.since) = (phase, since);
        };
        set(3, Phase::Receiving, start + second * 4);
        set(7, Phase::Sending, start + second * 2);
        assert_eq!(admission(&mut connections, start + second * 5), Some(Duration::ZERO));
        assert!(!connections.open.contains_key(&7) && connections.open.contains_key(&3));
    }
}

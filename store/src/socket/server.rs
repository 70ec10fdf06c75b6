//! Answering readers, on threads of its own: what writes is never in their way, nor they in its.

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

use super::answers::Answer;
use super::requests::{self, Request};
use super::until::Until;
use super::{address, transport};
use crate::backend::Backend;
use crate::changes;
use crate::core::Core;
use crate::core::read::Budget;
use crate::core::verify::verify;
use crate::keeper::ChangeError;
use crate::log::{LogReader, ReadError, StreamFilter};
use crate::sync::lock;
use crate::writer_thread::Message;

/// How many readers are served at once. For one more, the one is let go that has waited longest without a whole request.
const MOST_CONNECTIONS: usize = 32;

/// Who has waited for less is not let go for another one: a request may be on its way.
const GRACE: Duration = Duration::from_millis(100);

/// A reader that says nothing for so long is let go; it comes back when it wants something.
const IDLE: Duration = Duration::from_secs(60);

/// A request must be there as a whole so long after it began.
const HALF_REQUEST: Duration = Duration::from_secs(10);

/// An answer must be taken as a whole within so long.
const UNREAD_ANSWER: Duration = Duration::from_secs(10);

/// How many readers may wait at once until the log moves: the others are not kept out by those. One more is answered at
/// once.
const MOST_WAITING: usize = MOST_CONNECTIONS / 2;

/// A reader that waits until the log moves gets an answer after so long, and asks again. So one that has gone is missed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How many entries an answer has at the most, and after how many records it ends: with the frame that reaches them.
const PAGE: usize = 1024;

/// How many records it has at the most, of a frame that has more. With their envelopes they fit the longest answer.
const MOST_RECORDS: usize = 1024 * 1024;

/// The bytes of bodies after which an answer ends.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// How many hashes it has at the most.
const HASHES: usize = 16 * 1024;

/// How many findings of a check are told.
const MOST_FINDINGS: usize = 1000;

/// The readers that are being served, each by its number.
#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: UnixStream,
    thread: Option<JoinHandle<()>>,
    /// Since when it waits for a whole request; none while one is answered.
    waits_since: Option<Instant>,
}

/// Whether there is room for one more reader.
enum Room {
    Is,
    /// There will be some after so long, or earlier.
    In(Duration),
    /// All are being answered, and are not disturbed.
    IsNot,
}

impl Connections {
    /// Notes that a connection waits for a request, or has one, and says whether it is still to be served.
    fn note(&mut self, number: u64, waits: bool) -> bool {
        let connection = self.open.get_mut(&number);
        connection.map(|connection| connection.waits_since = waits.then(Instant::now)).is_some()
    }

    /// Makes room for one more, if there is none.
    fn make_room(&mut self) -> Room {
        if self.open.len() < MOST_CONNECTIONS {
            return Room::Is;
        }
        let waiting = self.open.iter().filter_map(|(number, connection)| Some((connection.waits_since?, *number)));
        let Some((since, number)) = waiting.min() else { return Room::IsNot };
        let left = GRACE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Room::In(left);
        }
        if let Some(let_go) = self.open.remove(&number) {
            // Its thread is not waited for: it finds that the connection is over.
            let _ = let_go.stream.shutdown(Shutdown::Both);
        }
        Room::Is
    }
}

/// Serves a log until it is stopped.
pub(crate) struct Server {
    directory: PathBuf,
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Connections>>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Begins to serve. Whoever calls this holds the log's lock.
    pub(crate) fn start<B: Backend>(
        directory: &Path,
        core: Arc<Core<B>>,
        messages: Sender<Message>,
    ) -> io::Result<Self> {
        let listener = Arc::new(address::listen(directory)?);
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
        Ok(Self { directory: directory.to_owned(), listener, stopping, connections, thread })
    }

    /// Turns all readers away and ends the threads. Nobody waits any more until the log moves.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = address::remove(&self.directory) {
            tracing::debug!(%error, "the socket could not be removed");
        }
        // Wakes the thread that waits for readers. It fails only where there is nothing to wake.
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

struct Acceptor<B> {
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Connections>>,
    core: Arc<Core<B>>,
    /// To the writer, for what is to be changed.
    messages: Sender<Message>,
}

impl<B: Backend> Acceptor<B> {
    fn run(self) {
        loop {
            let accepted = self.listener.accept();
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((stream, _)) => {
                    // Whoever comes next is not made to wait for one who left before it was answered.
                    if let Err(error) = self.take(stream) {
                        tracing::debug!(%error, "a reader could not be served");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no reader could be taken");
                    // Out of descriptors, perhaps: not in a hot loop.
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn take(&self, stream: UnixStream) -> io::Result<()> {
        let mut connections = lock(&self.connections);
        loop {
            match connections.make_room() {
                Room::Is => break,
                Room::In(left) => {
                    drop(connections);
                    // In short steps: somebody may leave before.
                    thread::sleep(left.min(Duration::from_millis(5)));
                    connections = lock(&self.connections);
                }
                Room::IsNot => {
                    drop(connections);
                    return turn_away(stream);
                }
            }
        }
        let number = connections.next;
        connections.next += 1;
        let connection = Connection { stream: stream.try_clone()?, thread: None, waits_since: Some(Instant::now()) };
        connections.open.insert(number, connection);
        let (core, all) = (Arc::clone(&self.core), Arc::clone(&self.connections));
        let messages = self.messages.clone();
        let thread = thread::Builder::new().name("cloacina-reader".to_owned()).spawn(move || {
            // Where it ends, and why, concerns the reader alone.
            let _ = serve(&stream, &core, &messages, |waits| lock(&all).note(number, waits));
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

/// Tells a reader to come again. One that takes nothing keeps nobody waiting: so little has room in the socket.
fn turn_away(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let busy = ReadError::Io(format!("{MOST_CONNECTIONS} readers are being answered; try again later"));
    transport::send(&mut stream, &Answer::Error(busy).encode())
}

/// Answers one reader until it leaves, or `note` says that it is not to be served any more. That is told whether the reader
/// waits for a request, or has one.
fn serve<B: Backend>(
    stream: &UnixStream,
    core: &Core<B>,
    messages: &Sender<Message>,
    note: impl Fn(bool) -> bool,
) -> io::Result<()> {
    while let Some(request) = next_request(stream)? {
        if !note(false) {
            break;
        }
        let request = Request::decode(&request);
        let goes_on = request.is_ok();
        let answer = match request {
            Ok(Request::Change(change)) => Answer::Changed(changes::on_thread(messages, change)),
            Ok(request) => answer(&request, core),
            Err(malformed) => Answer::Error(ReadError::Io(malformed.to_string())),
        };
        transport::send(&mut Until::within(stream, UNREAD_ANSWER), &answer.encode())?;
        if !goes_on || !note(true) {
            break;
        }
    }
    Ok(())
}

/// The next request, if the reader has not gone. It may be long in coming, but not in arriving.
fn next_request(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut first = [0];
    stream.set_read_timeout(Some(IDLE))?;
    if stream.read(&mut first)? == 0 {
        return Ok(None);
    }
    transport::receive(&mut first.chain(Until::within(stream, HALF_REQUEST)), requests::LONGEST)
}

fn answer<B: Backend>(request: &Request, core: &Core<B>) -> Answer {
    let answered = match request {
        Request::Read { stream, from, limit } => core.read_within(*stream, *from, budget(*limit)).map(Answer::Records),
        Request::Tail { from, limit } => core.tail_within(*from, budget(*limit)).map(Answer::Records),
        Request::Stream { stream } => core.stream(*stream).map(|entry| Answer::Streams(vec![entry])),
        Request::Streams { filter } => {
            let filter = StreamFilter { limit: filter.limit.min(PAGE), ..filter.clone() };
            core.streams(&filter).map(Answer::Streams)
        }
        Request::Definition { fingerprint } => core.definition(*fingerprint).map(Answer::Definition),
        Request::Head => core.head().map(Answer::Head),
        Request::Wait { after, milliseconds } => {
            let patience = Duration::from_millis((*milliseconds).into()).min(LONGEST_WAIT);
            core.moving.wait(patience, MOST_WAITING, || core.tip().position > *after);
            core.head().map(Answer::Head)
        }
        Request::Hashes { from, limit } => {
            let limit = crate::bytes::usize_of(*limit).min(HASHES);
            core.hashes_within(*from, limit).map(Answer::Hashes)
        }
        // It is made by the writer, not answered from here.
        Request::Change(_) => Ok(Answer::Changed(Err(ChangeError::Closed))),
        Request::Verify => {
            let mut verified = verify(core);
            verified.findings.truncate(MOST_FINDINGS);
            Ok(Answer::Verified(verified))
        }
    };
    answered.unwrap_or_else(Answer::Error)
}

fn budget(limit: u32) -> Budget {
    let records = crate::bytes::usize_of(limit).min(MOST_RECORDS);
    Budget { records, enough: records.min(PAGE), bytes: PAGE_BYTES }
}

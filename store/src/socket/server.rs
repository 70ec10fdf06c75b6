//! Answering readers, on threads of its own: what writes is never in their way, nor they in its.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::answers::Answer;
use super::requests::{self, Request};
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

/// How many readers are served at once; one more is turned away.
const MOST_CONNECTIONS: usize = 32;

/// A reader that says nothing for so long is let go; it comes back when it wants something.
const IDLE: Duration = Duration::from_secs(60);

/// A reader that takes nothing of an answer for so long is let go.
const STALLED: Duration = Duration::from_secs(10);

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
    open: HashMap<u64, (UnixStream, Option<JoinHandle<()>>)>,
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
        for (stream, _) in open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (_, thread) in open.into_values() {
            let _ = thread.map(JoinHandle::join);
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
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(STALLED))?;
        let mut connections = lock(&self.connections);
        if connections.open.len() >= MOST_CONNECTIONS {
            drop(connections);
            let busy = ReadError::Io(format!("{MOST_CONNECTIONS} readers are being served; try again later"));
            let mut stream = stream;
            return transport::send(&mut stream, &Answer::Error(busy).encode());
        }
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, (stream.try_clone()?, None));
        let (core, all) = (Arc::clone(&self.core), Arc::clone(&self.connections));
        let messages = self.messages.clone();
        let thread = thread::Builder::new().name("cloacina-reader".to_owned()).spawn(move || {
            // Where it ends, and why, concerns the reader alone.
            let _ = serve(stream, &core, &messages);
            lock(&all).open.remove(&number);
        });
        match thread {
            Ok(thread) => {
                if let Some(connection) = connections.open.get_mut(&number) {
                    connection.1 = Some(thread);
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

/// Answers one reader until it leaves.
fn serve<B: Backend>(mut stream: UnixStream, core: &Core<B>, messages: &Sender<Message>) -> io::Result<()> {
    while let Some(request) = transport::receive(&mut stream, requests::LONGEST)? {
        match Request::decode(&request) {
            Ok(Request::Change(change)) => {
                let changed = changes::on_thread(messages, change);
                transport::send(&mut stream, &Answer::Changed(changed).encode())?;
            }
            Ok(request) => transport::send(&mut stream, &answer(&request, core).encode())?,
            Err(malformed) => {
                let refusal = Answer::Error(ReadError::Io(malformed.to_string()));
                return transport::send(&mut stream, &refusal.encode());
            }
        }
    }
    Ok(())
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

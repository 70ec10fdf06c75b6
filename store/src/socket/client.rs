//! Requests to the process that holds a log.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::answers::{self, Answer, Reply};
use super::requests::Request;
use super::{address, transport};
use crate::bytes::Malformed;
use crate::core::read::checked_records;
use crate::core::verify::Verified;
use crate::directory::holders::{self, Process};
use crate::directory::lock_file;
use crate::forks::CloseInForks;
use crate::keeper::{Change, ChangeError, Changed};
use crate::log::{LogHead, LogReader, Notices, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::merkle::Node;
use crate::record::{Hash, Record, StreamId};
use crate::seal;
use crate::sync::lock;

/// How long to wait for an answer. Reading one page takes much less.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait without data before probing whether the process still answers.
const SILENCE: Duration = Duration::from_secs(2);

/// How long such a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for the verification of a whole log, as long as the process answers probes.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(3600);

/// Reads a log through the process that holds it. Verifies every record, because that process sends frames from the
/// disk without verifying them.
pub(crate) struct SocketReader {
    directory: PathBuf,
    /// `None` after a failure: the next request reconnects.
    connection: Mutex<Option<UnixStream>>,
    /// A separate connection for waiting, which must not block other reads.
    waiting: Mutex<Option<UnixStream>>,
}

impl SocketReader {
    pub(crate) fn connect(directory: &Path) -> io::Result<Self> {
        let mut stream = connect(directory)?;
        // Find out now whether the process answers, and in which version.
        let answer = exchange(&mut stream, directory, &Request::Head, TimeLimits::short())?;
        match Answer::decode(&answer.into()).map_err(|why| io::Error::other(invalid_answer(why).to_string()))? {
            Answer::Reply(Reply::Head(_)) => {}
            other => return Err(io::Error::other(unexpected(other).to_string())),
        }
        Ok(Self { directory: directory.to_owned(), connection: Mutex::new(Some(stream)), waiting: Mutex::new(None) })
    }

    /// Has the process verify the whole log.
    pub(crate) fn verify(&self) -> Result<Verified, ReadError> {
        match self.request_over(&self.connection, &Request::Verify, TimeLimits::long())? {
            Answer::Reply(Reply::Verified(verified)) => Ok(verified),
            other => Err(unexpected(other)),
        }
    }

    /// Has the process make a change. Sends the request only once, because without an answer it is unknown whether the
    /// change was made. So it first checks that the process answers.
    pub(crate) fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let unreachable = |error: io::Error| ChangeError::Unreachable(error.to_string());
        let mut stream = connect(&self.directory).map_err(unreachable)?;
        exchange(&mut stream, &self.directory, &Request::Head, TimeLimits::short()).map_err(unreachable)?;
        let unanswered = |error: io::Error| {
            ChangeError::Unreachable(format!(
                "{error}. The process had already received the change, and may still make it"
            ))
        };
        let answer =
            exchange(&mut stream, &self.directory, &Request::Change(change), TimeLimits::long()).map_err(unanswered)?;
        match Answer::decode(&answer.into()).map_err(|why| ChangeError::Unreachable(why.to_string()))? {
            Answer::Reply(Reply::Changed(changed)) => changed,
            other => Err(ChangeError::Unreachable(unexpected(other).to_string())),
        }
    }

    /// Sends a request, and retries once over a new connection: an idle one may have been closed.
    fn request(&self, request: &Request) -> Result<Answer, ReadError> {
        self.request_over(&self.connection, request, TimeLimits::short())
    }

    fn request_over(
        &self,
        connection: &Mutex<Option<UnixStream>>,
        request: &Request,
        limits: TimeLimits,
    ) -> Result<Answer, ReadError> {
        let silent = |error: io::Error| ReadError::Io(format!("the process that holds the log: {error}"));
        let mut connection = lock(connection);
        let kept = connection.take();
        if let Some(mut stream) = kept {
            match exchange(&mut stream, &self.directory, request, limits) {
                Ok(answer) => return self.finish(&mut connection, stream, answer),
                // A new connection would time out as well.
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(silent(error)),
                Err(_) => {}
            }
        }
        let mut stream = connect(&self.directory).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => silent(error),
            _ => ReadError::Gone,
        })?;
        let answer =
            exchange(&mut stream, &self.directory, request, limits).map_err(|error| match is_disconnect(&error) {
                // It closed the log or died before it answered.
                true => ReadError::Gone,
                false => silent(error),
            })?;
        self.finish(&mut connection, stream, answer)
    }

    fn finish(
        &self,
        connection: &mut Option<UnixStream>,
        stream: UnixStream,
        answer: Vec<u8>,
    ) -> Result<Answer, ReadError> {
        let answer = Answer::decode(&answer.into()).map_err(invalid_answer)?;
        *connection = Some(stream);
        match answer {
            Answer::Reply(Reply::Error(error)) => Err(error),
            answer => Ok(answer),
        }
    }

    fn records(&self, request: &Request) -> Result<Vec<Record>, ReadError> {
        match self.request(request)? {
            Answer::Frames(frames) => checked_records(&frames, 0),
            other => Err(unexpected(other)),
        }
    }

    /// Reads page by page, until there are enough records or no more.
    fn pages(
        &self,
        from: u64,
        limit: usize,
        request: impl Fn(u64, u32) -> Request,
        place: impl Fn(&Record) -> u64,
    ) -> Result<Vec<Record>, ReadError> {
        let mut records: Vec<Record> = Vec::new();
        let mut next = from;
        loop {
            let wanted = u32::try_from(limit - records.len()).unwrap_or(u32::MAX);
            let mut page = self.records(&request(next, wanted))?;
            // A frame may begin before the requested record.
            page.drain(..page.partition_point(|record| place(record) < next));
            let Some(last) = page.last() else { break };
            next = place(last).saturating_add(1);
            records.extend(page);
            if records.len() >= limit {
                break;
            }
        }
        records.truncate(limit);
        Ok(records)
    }
}

/// Whether the other side closed a connection that was idle, or before it answered.
fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// The time limits of a request.
#[derive(Clone, Copy)]
struct TimeLimits {
    /// In total, as long as the process answers probes.
    total: Duration,
    /// Without data, before a probe.
    silence: Duration,
}

impl TimeLimits {
    /// For reading a page, which takes much less.
    const fn short() -> Self {
        Self { total: ANSWER_TIMEOUT, silence: SILENCE }
    }

    /// For requests that take the process long.
    const fn long() -> Self {
        Self { total: VERIFY_TIMEOUT, silence: SILENCE }
    }

    /// For an answer that is not due before a time.
    fn extended_by(self, due: Duration) -> Self {
        Self { total: self.total.saturating_add(due), silence: self.silence.saturating_add(due) }
    }
}

fn connect(directory: &Path) -> io::Result<UnixStream> {
    address::connect(directory, PROBE_TIMEOUT).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => does_not_answer(directory),
        _ => error,
    })
}

fn exchange(stream: &mut UnixStream, directory: &Path, request: &Request, limits: TimeLimits) -> io::Result<Vec<u8>> {
    let _kept_out = CloseInForks::new(stream);
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    // A rejected reader gets the reason before it sends its request, and the connection may then be closed.
    let sent = request.encode().map_err(io::Error::other).and_then(|request| transport::send(stream, &request));
    let mut answer = AnswerReader { stream, directory, until: Instant::now() + limits.total, silence: limits.silence };
    match (transport::receive(&mut answer, answers::MAX_LENGTH), sent) {
        (Ok(Some(answer)), _) => Ok(answer),
        (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        (Ok(None), Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An answer that is being received. If no data arrives for a while, probes the process, to avoid waiting for one that
/// is suspended.
struct AnswerReader<'a> {
    stream: &'a UnixStream,
    directory: &'a Path,
    until: Instant,
    silence: Duration,
}

impl Read for AnswerReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "it answers other requests, but not this one"));
            }
            self.stream.set_read_timeout(Some(left.min(self.silence)))?;
            match self.stream.read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    probe(self.directory)?;
                }
                read => return read,
            }
        }
    }
}

/// Checks that the process that holds the log answers a simple request. Any answer counts.
fn probe(directory: &Path) -> io::Result<()> {
    if lock_file::current_holders(directory).iter().any(Process::is_suspended) {
        return Err(does_not_answer(directory));
    }
    let sent = address::connect(directory, PROBE_TIMEOUT).and_then(|mut stream| {
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        transport::send(&mut stream, &Request::Head.encode().map_err(io::Error::other)?)?;
        stream.read(&mut [0])
    });
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(does_not_answer(directory))
        }
        _ => Ok(()),
    }
}

/// The error for a process that holds the log and does not answer: names the process and what to do.
fn does_not_answer(directory: &Path) -> io::Error {
    let what = match lock_file::current_holders(directory).as_slice() {
        [] => "it does not answer; check it on its host, and end it if it hangs".to_owned(),
        [process] if process.is_suspended() => format!(
            "{process} does not answer: it is suspended (Ctrl-Z, SIGSTOP or a debugger). Resume it with `kill -CONT {0}`, \
             or end it with `kill -KILL {0}`",
            process.pid
        ),
        some => format!("{} does not answer; end it if it hangs, or wait until it does", holders::list(some)),
    };
    io::Error::new(ErrorKind::TimedOut, what)
}

fn invalid_answer(why: Malformed) -> ReadError {
    ReadError::Io(format!("the process that holds the log sent an invalid answer: {why}"))
}

fn unexpected(answer: Answer) -> ReadError {
    match answer {
        Answer::Reply(Reply::Error(error)) => error,
        _ => ReadError::Io("the process that holds the log sent an answer to another request".to_owned()),
    }
}

impl LogReader for SocketReader {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.pages(from, limit, |from, limit| Request::Read { stream, from, limit }, |record| record.seq)
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        match self.request(&Request::Stream { stream })? {
            Answer::Reply(Reply::Streams(entries)) => entries.into_iter().next().ok_or(ReadError::NoStream(stream)),
            other => Err(unexpected(other)),
        }
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let mut entries: Vec<StreamEntry> = Vec::new();
        let mut rest = filter.clone();
        loop {
            rest.limit = filter.limit - entries.len();
            let page = match self.request(&Request::Streams { filter: rest.clone() })? {
                Answer::Reply(Reply::Streams(page)) => page,
                other => return Err(unexpected(other)),
            };
            let Some(last) = page.last() else { break };
            rest.before = Some(last.listing_key());
            entries.extend(page);
            if entries.len() >= filter.limit {
                break;
            }
        }
        entries.truncate(filter.limit);
        Ok(entries)
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.pages(from, limit, |from, limit| Request::Tail { from, limit }, |record| record.position)
    }

    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        match self.request(&Request::StreamsSince { from, limit })? {
            Answer::Reply(Reply::StreamsSince(since)) => Ok(since),
            other => Err(unexpected(other)),
        }
    }

    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        let mut nodes: Vec<Node> = Vec::new();
        while nodes.len() < limit {
            let wanted = u32::try_from(limit - nodes.len()).unwrap_or(u32::MAX);
            let from = nodes.last().map_or(from, |last| last.first.saturating_add(last.size));
            match self.request(&Request::Tree { from, limit: wanted })? {
                Answer::Reply(Reply::Tree(page)) if page.is_empty() => break,
                Answer::Reply(Reply::Tree(page)) => nodes.extend(page),
                other => return Err(unexpected(other)),
            }
        }
        nodes.truncate(limit);
        Ok(nodes)
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        let definition = match self.request(&Request::Definition { fingerprint })? {
            Answer::Definition(definition) => definition,
            other => return Err(unexpected(other)),
        };
        match definition.as_deref().map(seal::fingerprint) {
            Some(found) if found != fingerprint => Err(ReadError::DamagedLog(format!(
                "the definition {fingerprint} has contents with fingerprint {found}"
            ))),
            _ => Ok(definition),
        }
    }

    fn head(&self) -> Result<LogHead, ReadError> {
        match self.request(&Request::Head)? {
            Answer::Reply(Reply::Head(head)) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Wait { after, milliseconds };
        match self.request_over(&self.waiting, &request, TimeLimits::short().extended_by(patience))? {
            Answer::Reply(Reply::Head(head)) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        match self.request(&Request::Notices)? {
            Answer::Reply(Reply::Notices(notices)) => Ok(notices),
            other => Err(unexpected(other)),
        }
    }

    fn location(&self) -> String {
        self.directory.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rejected reader reported a broken pipe if the other side was faster.
    #[test]
    fn an_answer_counts_also_where_nobody_hears_the_question_any_more() {
        let (mut asker, mut answerer) = UnixStream::pair().unwrap();
        transport::send(&mut answerer, b"too many readers").unwrap();
        drop(answerer);
        let nowhere = Path::new("no-log");
        let answer = exchange(&mut asker, nowhere, &Request::Head, TimeLimits::short()).unwrap();
        assert_eq!(answer, b"too many readers");
        exchange(&mut asker, nowhere, &Request::Head, TimeLimits::short()).unwrap_err();
    }
}

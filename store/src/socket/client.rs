//! Asking the process that has a log.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::answers::{self, Answer, Said};
use super::requests::Request;
use super::{address, transport};
use crate::bytes::Malformed;
use crate::core::read::checked_records;
use crate::core::verify::Verified;
use crate::directory::holders::{self, Process};
use crate::directory::lock_file;
use crate::forks::KeptOut;
use crate::keeper::{Change, ChangeError, Changed};
use crate::log::{LogHead, LogReader, Notices, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::merkle::Node;
use crate::record::{Hash, Record, StreamId};
use crate::seal;
use crate::sync::lock;

/// How long an answer is waited for; one page is read in far less.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing may come before it is found out whether the other process still answers anything.
const SILENCE: Duration = Duration::from_secs(2);

/// How long it may take for that.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long a check of the whole log is waited for, as long as the process gives signs of life.
const LONG_PATIENCE: Duration = Duration::from_secs(3600);

/// Reads a log through the process that has it. It checks every record that was read from the disk, which that process does not: what
/// arrives is what was sealed.
pub(crate) struct SocketReader {
    directory: PathBuf,
    /// `None` after a failure: the next request connects anew.
    connection: Mutex<Option<UnixStream>>,
    /// A connection of its own for waiting: it must not keep others from reading.
    waiting: Mutex<Option<UnixStream>>,
}

impl SocketReader {
    pub(crate) fn connect(directory: &Path) -> io::Result<Self> {
        let mut stream = connect(directory)?;
        // That it answers, and in which version, is better known now than later.
        let answer = exchange(&mut stream, directory, &Request::Head, Patience::usual())?;
        match Answer::decode(&answer.into()).map_err(|why| io::Error::other(nonsense(why).to_string()))? {
            Answer::Said(Said::Head(_)) => {}
            other => return Err(io::Error::other(unexpected(other).to_string())),
        }
        Ok(Self { directory: directory.to_owned(), connection: Mutex::new(Some(stream)), waiting: Mutex::new(None) })
    }

    /// Checks the whole log over there.
    pub(crate) fn verify(&self) -> Result<Verified, ReadError> {
        match self.ask_over(&self.connection, &Request::Verify, Patience::long())? {
            Answer::Said(Said::Verified(verified)) => Ok(verified),
            other => Err(unexpected(other)),
        }
    }

    /// Has a change made over there. It is asked once: whether it was made is not known where no answer comes. So one that
    /// answers nothing is not asked.
    pub(crate) fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let unreachable = |error: io::Error| ChangeError::Unreachable(error.to_string());
        let mut stream = connect(&self.directory).map_err(unreachable)?;
        exchange(&mut stream, &self.directory, &Request::Head, Patience::usual()).map_err(unreachable)?;
        let unanswered = |error: io::Error| {
            ChangeError::Unreachable(format!("{error}. It was asked for the change before, and may still make it"))
        };
        let answer =
            exchange(&mut stream, &self.directory, &Request::Change(change), Patience::long()).map_err(unanswered)?;
        match Answer::decode(&answer.into()).map_err(|why| ChangeError::Unreachable(why.to_string()))? {
            Answer::Said(Said::Changed(changed)) => changed,
            other => Err(ChangeError::Unreachable(unexpected(other).to_string())),
        }
    }

    /// Asks once, and once more over a new connection: an idle one may have been let go.
    fn ask(&self, request: &Request) -> Result<Answer, ReadError> {
        self.ask_over(&self.connection, request, Patience::usual())
    }

    fn ask_over(
        &self,
        connection: &Mutex<Option<UnixStream>>,
        request: &Request,
        patience: Patience,
    ) -> Result<Answer, ReadError> {
        let silent = |error: io::Error| ReadError::Io(format!("the process that has the log: {error}"));
        let mut connection = lock(connection);
        let kept = connection.take();
        if let Some(mut stream) = kept {
            match exchange(&mut stream, &self.directory, request, patience) {
                Ok(answer) => return self.finish(&mut connection, stream, answer),
                // Over another connection it would be waited for once more, and as much in vain.
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(silent(error)),
                Err(_) => {}
            }
        }
        let mut stream = connect(&self.directory).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => silent(error),
            _ => ReadError::Gone,
        })?;
        let answer =
            exchange(&mut stream, &self.directory, request, patience).map_err(|error| match is_hanging_up(&error) {
                // It closed the log, or died, before it answered.
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
        let answer = Answer::decode(&answer.into()).map_err(nonsense)?;
        *connection = Some(stream);
        match answer {
            Answer::Said(Said::Error(error)) => Err(error),
            answer => Ok(answer),
        }
    }

    fn records(&self, request: &Request) -> Result<Vec<Record>, ReadError> {
        match self.ask(request)? {
            Answer::Frames(frames) => checked_records(&frames, 0),
            other => Err(unexpected(other)),
        }
    }

    /// Page by page, until there are enough or no more.
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
            // A frame may begin before.
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

/// Whether the other side ended a connection that was answered before, or never got to it.
fn is_hanging_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// How long an answer is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// In all, while the process gives signs of life.
    whole: Duration,
    /// Without a sign of life.
    silence: Duration,
}

impl Patience {
    /// One page is read in far less.
    const fn usual() -> Self {
        Self { whole: PATIENCE, silence: SILENCE }
    }

    /// For what the process has much to do for.
    const fn long() -> Self {
        Self { whole: LONG_PATIENCE, silence: SILENCE }
    }

    /// For an answer that is not due before.
    fn after(self, due: Duration) -> Self {
        Self { whole: self.whole.saturating_add(due), silence: self.silence.saturating_add(due) }
    }
}

fn connect(directory: &Path) -> io::Result<UnixStream> {
    address::connect(directory, SIGN_OF_LIFE).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => does_not_answer(directory),
        _ => error,
    })
}

fn exchange(stream: &mut UnixStream, directory: &Path, request: &Request, patience: Patience) -> io::Result<Vec<u8>> {
    let _kept_out = KeptOut::new(stream);
    stream.set_write_timeout(Some(PATIENCE))?;
    // Who is turned away is told why before he has asked, and may then not be heard any more.
    let asked = request.encode().map_err(io::Error::other).and_then(|request| transport::send(stream, &request));
    let mut answer = Listening { stream, directory, until: Instant::now() + patience.whole, silence: patience.silence };
    match (transport::receive(&mut answer, answers::LONGEST), asked) {
        (Ok(Some(answer)), _) => Ok(answer),
        (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        (Ok(None), Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An answer on its way. Where nothing comes for a while, the process is asked for a sign of life: one that is suspended is
/// not waited for.
struct Listening<'a> {
    stream: &'a UnixStream,
    directory: &'a Path,
    until: Instant,
    silence: Duration,
}

impl Read for Listening<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "it answers other questions, and not this one"));
            }
            self.stream.set_read_timeout(Some(left.min(self.silence)))?;
            match self.stream.read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    check_answers(self.directory)?;
                }
                read => return read,
            }
        }
    }
}

/// That the process that has the log answers a simple question. Anything but silence is an answer.
fn check_answers(directory: &Path) -> io::Result<()> {
    if lock_file::kept_by(directory).iter().any(Process::is_suspended) {
        return Err(does_not_answer(directory));
    }
    let asked = address::connect(directory, SIGN_OF_LIFE).and_then(|mut stream| {
        stream.set_read_timeout(Some(SIGN_OF_LIFE))?;
        transport::send(&mut stream, &Request::Head.encode().map_err(io::Error::other)?)?;
        stream.read(&mut [0])
    });
    match asked {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(does_not_answer(directory))
        }
        _ => Ok(()),
    }
}

/// The error for a process that has the log and says nothing, which names it and what to do about it.
fn does_not_answer(directory: &Path) -> io::Error {
    let what = match lock_file::kept_by(directory).as_slice() {
        [] => "it does not answer; look at it on its host, and end it if it hangs".to_owned(),
        [process] if process.is_suspended() => format!(
            "{process} does not answer: it is suspended (Ctrl-Z, SIGSTOP or a debugger). Let it go on with `kill -CONT {0}`, \
             or end it with `kill -KILL {0}`",
            process.pid
        ),
        some => format!("{} does not answer; end it if it hangs, or wait until it does", holders::list(some)),
    };
    io::Error::new(ErrorKind::TimedOut, what)
}

fn nonsense(why: Malformed) -> ReadError {
    ReadError::Io(format!("the process that has the log answers nonsense: {why}"))
}

fn unexpected(answer: Answer) -> ReadError {
    match answer {
        Answer::Said(Said::Error(error)) => error,
        _ => ReadError::Io("the process that has the log answers something else than was asked".to_owned()),
    }
}

impl LogReader for SocketReader {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.pages(from, limit, |from, limit| Request::Read { stream, from, limit }, |record| record.seq)
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        match self.ask(&Request::Stream { stream })? {
            Answer::Said(Said::Streams(entries)) => entries.into_iter().next().ok_or(ReadError::NoStream(stream)),
            other => Err(unexpected(other)),
        }
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let mut entries: Vec<StreamEntry> = Vec::new();
        let mut rest = filter.clone();
        loop {
            rest.limit = filter.limit - entries.len();
            let page = match self.ask(&Request::Streams { filter: rest.clone() })? {
                Answer::Said(Said::Streams(page)) => page,
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
        match self.ask(&Request::StreamsSince { from, limit })? {
            Answer::Said(Said::StreamsSince(since)) => Ok(since),
            other => Err(unexpected(other)),
        }
    }

    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        let mut nodes: Vec<Node> = Vec::new();
        while nodes.len() < limit {
            let wanted = u32::try_from(limit - nodes.len()).unwrap_or(u32::MAX);
            let from = nodes.last().map_or(from, |last| last.first.saturating_add(last.size));
            match self.ask(&Request::Tree { from, limit: wanted })? {
                Answer::Said(Said::Tree(page)) if page.is_empty() => break,
                Answer::Said(Said::Tree(page)) => nodes.extend(page),
                other => return Err(unexpected(other)),
            }
        }
        nodes.truncate(limit);
        Ok(nodes)
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        let definition = match self.ask(&Request::Definition { fingerprint })? {
            Answer::Definition(definition) => definition,
            other => return Err(unexpected(other)),
        };
        match definition.as_deref().map(seal::fingerprint) {
            Some(found) if found != fingerprint => {
                Err(ReadError::DamagedLog(format!("the definition {fingerprint} has content with fingerprint {found}")))
            }
            _ => Ok(definition),
        }
    }

    fn head(&self) -> Result<LogHead, ReadError> {
        match self.ask(&Request::Head)? {
            Answer::Said(Said::Head(head)) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Wait { after, milliseconds };
        match self.ask_over(&self.waiting, &request, Patience::usual().after(patience))? {
            Answer::Said(Said::Head(head)) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        match self.ask(&Request::Notices)? {
            Answer::Said(Said::Notices(notices)) => Ok(notices),
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

    /// A reader that was turned away was told of a broken pipe where the other side was the faster one.
    #[test]
    fn an_answer_counts_also_where_nobody_hears_the_question_any_more() {
        let (mut asker, mut answerer) = UnixStream::pair().unwrap();
        transport::send(&mut answerer, b"too many readers").unwrap();
        drop(answerer);
        let nowhere = Path::new("no-log");
        let answer = exchange(&mut asker, nowhere, &Request::Head, Patience::usual()).unwrap();
        assert_eq!(answer, b"too many readers");
        exchange(&mut asker, nowhere, &Request::Head, Patience::usual()).unwrap_err();
    }
}

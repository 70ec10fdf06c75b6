//! Asking the process that has a log.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::answers::{self, Answer};
use super::requests::Request;
use super::{address, transport};
use crate::bytes::Malformed;
use crate::core::verify::Verified;
use crate::keeper::{Change, ChangeError, Changed};
use crate::layout::encoded::EncodedFrame;
use crate::log::{LogHead, LogReader, Notices, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::record::{Hash, Record, StreamId};
use crate::seal;
use crate::sync::lock;

/// How long an answer is waited for; one page is read in far less.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a check of the whole log is waited for.
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
        let connection = Mutex::new(Some(address::connect(directory)?));
        let reader = Self { directory: directory.to_owned(), connection, waiting: Mutex::new(None) };
        // That it answers, and in which version, is better known now than later.
        reader.head().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(reader)
    }

    /// Checks the whole log over there.
    pub(crate) fn verify(&self) -> Result<Verified, ReadError> {
        match self.ask(&Request::Verify, LONG_PATIENCE)? {
            Answer::Verified(verified) => Ok(verified),
            other => Err(unexpected(other)),
        }
    }

    /// Has a change made over there. It is asked once: whether it was made is not known where no answer comes.
    pub(crate) fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let unreachable = |error: io::Error| ChangeError::Unreachable(error.to_string());
        let mut stream = address::connect(&self.directory).map_err(unreachable)?;
        let answer = exchange(&mut stream, &Request::Change(change), LONG_PATIENCE).map_err(unreachable)?;
        match Answer::decode(&answer.into()).map_err(|why| ChangeError::Unreachable(why.to_string()))? {
            Answer::Changed(changed) => changed,
            other => Err(ChangeError::Unreachable(unexpected(other).to_string())),
        }
    }

    /// Asks once, and once more over a new connection: an idle one may have been let go.
    fn ask(&self, request: &Request, patience: Duration) -> Result<Answer, ReadError> {
        self.ask_over(&self.connection, request, patience)
    }

    fn ask_over(
        &self,
        connection: &Mutex<Option<UnixStream>>,
        request: &Request,
        patience: Duration,
    ) -> Result<Answer, ReadError> {
        let mut connection = lock(connection);
        let kept = connection.take();
        if let Some(mut stream) = kept
            && let Ok(answer) = exchange(&mut stream, request, patience)
        {
            return self.finish(&mut connection, stream, answer);
        }
        let mut stream = address::connect(&self.directory).map_err(|_| ReadError::Gone)?;
        let answer = exchange(&mut stream, request, patience).map_err(|error| match is_hanging_up(&error) {
            // It closed the log, or died, before it answered.
            true => ReadError::Gone,
            false => ReadError::Io(format!("the process that has the log: {error}")),
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
            Answer::Error(error) => Err(error),
            answer => Ok(answer),
        }
    }

    fn records(&self, request: &Request) -> Result<Vec<Record>, ReadError> {
        let records = match self.ask(request, PATIENCE)? {
            Answer::Records(records) => records,
            Answer::Frames(frames) => return records_of(&frames),
            other => return Err(unexpected(other)),
        };
        let Err((at, what)) = seal::check_each(&records) else { return Ok(records) };
        Err(ReadError::Damaged { stream: records[at].stream, seq: records[at].seq, what })
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

fn exchange(stream: &mut UnixStream, request: &Request, patience: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Who is turned away is told why before he has asked, and may then not be heard any more.
    let asked = transport::send(stream, &request.encode());
    match (transport::receive(stream, answers::LONGEST), asked) {
        (Ok(Some(answer)), _) => Ok(answer),
        (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        (Ok(None), Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The records of frames from the memory of the process that wrote them.
fn records_of(frames: &[EncodedFrame]) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::new();
    for frame in frames {
        frame.records_into(&mut records).map_err(nonsense)?;
    }
    Ok(records)
}

fn nonsense(why: Malformed) -> ReadError {
    ReadError::Io(format!("the process that has the log answers nonsense: {why}"))
}

fn unexpected(answer: Answer) -> ReadError {
    match answer {
        Answer::Error(error) => error,
        _ => ReadError::Io("the process that has the log answers something else than was asked".to_owned()),
    }
}

impl LogReader for SocketReader {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.pages(from, limit, |from, limit| Request::Read { stream, from, limit }, |record| record.seq)
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        match self.ask(&Request::Stream { stream }, PATIENCE)? {
            Answer::Streams(entries) => entries.into_iter().next().ok_or(ReadError::NoStream(stream)),
            other => Err(unexpected(other)),
        }
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let mut entries: Vec<StreamEntry> = Vec::new();
        let mut rest = filter.clone();
        loop {
            rest.limit = filter.limit - entries.len();
            let page = match self.ask(&Request::Streams { filter: rest.clone() }, PATIENCE)? {
                Answer::Streams(page) => page,
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
        match self.ask(&Request::StreamsSince { from, limit }, PATIENCE)? {
            Answer::StreamsSince(since) => Ok(since),
            other => Err(unexpected(other)),
        }
    }

    fn hashes(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        let mut hashes: Vec<Hash> = Vec::new();
        while hashes.len() < limit {
            let wanted = u32::try_from(limit - hashes.len()).unwrap_or(u32::MAX);
            let request = Request::Hashes { from: from.saturating_add(hashes.len() as u64), limit: wanted };
            match self.ask(&request, PATIENCE)? {
                Answer::Hashes(page) if page.is_empty() => break,
                Answer::Hashes(page) => hashes.extend(page),
                other => return Err(unexpected(other)),
            }
        }
        hashes.truncate(limit);
        Ok(hashes)
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        let definition = match self.ask(&Request::Definition { fingerprint }, PATIENCE)? {
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
        match self.ask(&Request::Head, PATIENCE)? {
            Answer::Head(head) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        match self.ask_over(&self.waiting, &Request::Wait { after, milliseconds }, patience.saturating_add(PATIENCE))? {
            Answer::Head(head) => Ok(head),
            other => Err(unexpected(other)),
        }
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        match self.ask(&Request::Notices, PATIENCE)? {
            Answer::Notices(notices) => Ok(notices),
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

    #[test]
    fn a_frame_that_is_none_is_called_nonsense() {
        let (stream, previous) = (StreamId::LOG, Hash::ZERO);
        let frame = EncodedFrame { stream, first_seq: 0, previous, bytes: b"no frame".as_slice().into() };
        let Err(ReadError::Io(what)) = records_of(&[frame]) else { panic!("it was taken") };
        assert!(what.starts_with("the process that has the log answers nonsense: it begins with"), "{what}");
    }

    /// A reader that was turned away was told of a broken pipe where the other side was the faster one.
    #[test]
    fn an_answer_counts_also_where_nobody_hears_the_question_any_more() {
        let (mut asker, mut answerer) = UnixStream::pair().unwrap();
        transport::send(&mut answerer, b"too many readers").unwrap();
        drop(answerer);
        let answer = exchange(&mut asker, &Request::Head, PATIENCE).unwrap();
        assert_eq!(answer, b"too many readers");
        exchange(&mut asker, &Request::Head, PATIENCE).unwrap_err();
    }
}

//! What a log does: the traits that every backend implements, and the words of its interface.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::directory::holders::{self, Process};
use crate::keeper::Keeper;
use crate::merkle::Node;
use crate::record::{Hash, Record, StreamId, StreamKind, Timestamp};

/// Some events of one stream, decided together: all of them are in the log or none is.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The stream that they go to.
    pub stream: StreamId,
    /// What that stream is the history of.
    pub kind: StreamKind,
    /// The `seq` that the first of them must get. Anything else is [`AppendError::Conflict`]: two writers are at work.
    pub expected_seq: u64,
    /// When they were decided. Raised to the log's last time if it lies before it.
    pub time: Timestamp,
    /// Their bodies, in order; at least one.
    pub bodies: Vec<Vec<u8>>,
    /// What the listing shows of the stream from now on.
    pub listing: Listing,
}

/// How a frame changes the listing of its stream. A label has at most [`MAX_LABEL`](crate::MAX_LABEL) bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Not at all. A new stream is listed as open, without a label.
    Keep,
    /// The stream is open (unfinished) and has this label.
    Open(Vec<u8>),
    /// The stream is closed (finished) and has this label.
    Closed(Vec<u8>),
}

/// A content-addressed text that records refer to, stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// SHA-256 of `bytes`.
    pub fingerprint: Hash,
    /// The text.
    pub bytes: Arc<[u8]>,
}

/// What is appended at once: all of it is in the log or none is.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Definitions that the frames refer to; those that the log has are not written again.
    pub definitions: Vec<Definition>,
    /// The frames, in order; at most one for each stream.
    pub frames: Vec<Frame>,
}

/// What an acknowledged append got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of its first record.
    pub position: u64,
    /// How many records it had.
    pub records: u64,
}

/// What is called, once, when a batch is durable or will never be. It runs on the log's writer thread: hand over, do
/// not work.
pub type Acknowledge = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Durability {
    /// When it is on the disk: every acknowledged event survives a power cut.
    Sync,
    /// When the operating system has it; it is on the disk at most this many milliseconds later. A killed process loses
    /// nothing, a power cut what was acknowledged since.
    Interval(u64),
    /// When the operating system has it, which writes it when it likes. A killed process loses nothing.
    Os,
}

/// A stream, as the listing has it.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamEntry {
    /// Its id.
    pub stream: StreamId,
    /// What it is the history of.
    pub kind: StreamKind,
    /// Whether it is unfinished.
    pub open: bool,
    /// When its first record was appended.
    pub started: Timestamp,
    /// When its last record was appended.
    pub last: Timestamp,
    /// How many records it has: the `seq` that the next one gets.
    pub records: u64,
    /// The bytes of all its bodies.
    pub bytes: u64,
    /// The hash of its last record.
    pub head: Hash,
    /// What its writer wants to be shown.
    pub label: Vec<u8>,
}

/// The place of a stream in the listing: the order of starts, and of ids where two started at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct ListingKey {
    /// When its first record was appended.
    pub started: Timestamp,
    /// Its id.
    pub stream: StreamId,
}

impl ListingKey {
    pub(crate) const FIRST: Self = Self { started: Timestamp(i64::MIN), stream: StreamId::from_bytes([0; 16]) };
    pub(crate) const LAST: Self = Self { started: Timestamp(i64::MAX), stream: StreamId::from_bytes([u8::MAX; 16]) };
}

impl StreamEntry {
    /// Its place in the listing.
    #[must_use]
    pub fn listing_key(&self) -> ListingKey {
        ListingKey { started: self.started, stream: self.stream }
    }
}

/// Which streams are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamFilter {
    /// Only those of this kind.
    pub kind: Option<StreamKind>,
    /// Only the unfinished ones.
    pub open_only: bool,
    /// Only those that come after this one in the listing: those that started before it.
    pub before: Option<ListingKey>,
    /// At most this many.
    pub limit: usize,
}

/// Streams that were appended to, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamsSince {
    /// Each once, as it is now, in the order in which they were last appended to.
    pub streams: Vec<StreamEntry>,
    /// The position from which to ask for more. There is no more if it is the one that was asked from.
    pub next: u64,
}

/// One record whose body was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The record's place in its stream.
    pub seq: u64,
    /// When it was erased.
    pub time: Timestamp,
    /// What the log's user wanted to remember of it; opaque here.
    pub note: Vec<u8>,
    /// Why it was erased.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// Where the log ends, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct LogHead {
    /// How many records the log has: the position that the next one gets.
    pub position: u64,
    /// The hash of the log: the root of its tree.
    pub hash: Hash,
    /// The time of the last record.
    pub time: Timestamp,
    /// How appends are acknowledged; `None` when nobody has the log open for writing.
    pub durability: Option<Durability>,
}

/// Reads a log. What it shows is durable: nothing of it can be taken back.
///
/// Whoever implements it checks what it reads from a disk: a record that does not fit its hash or the one before it is
/// [`ReadError::Damaged`], never returned as if it were whole. What [`LogReader::tail`], [`LogReader::stream`] and
/// [`LogReader::streams_since`] tell of what was written a moment ago may come from the memory of the process that wrote it.
pub trait LogReader: Send + Sync {
    /// At most `limit` records of a stream from `from` on, in order; empty at its end. The hash of each was computed from its
    /// content, whoever sent it.
    ///
    /// # Errors
    /// [`ReadError::NoStream`] if there is no such stream, [`ReadError::Damaged`] where the log is not what was written.
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// One stream's entry in the listing.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError>;

    /// The streams that the filter takes, newest first: in the order of [`ListingKey`], the last one first. Reads an index, not the
    /// log.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the log is not what was written.
    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError>;

    /// At most `limit` records of the whole log from a position on, in order; empty at its end.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the log is not what was written.
    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// At most `limit` streams that have records from a position on, each as it is now, and where to go on. One that cannot be shown (it
    /// was pruned, or is damaged) is left out; [`LogReader::stream`] says why.
    ///
    /// Whoever shows a list of streams asks for what has changed in it. No record is read for that but the last one of each stream.
    ///
    /// # Errors
    /// [`ReadError::DamagedLog`] where the log does not say which streams they are.
    ///
    /// # Examples
    /// ```
    /// use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader};
    /// use cloacina_store::record::{StreamId, StreamKind, Timestamp};
    /// use cloacina_store::{MemoryDisk, MemoryLog};
    ///
    /// let log = MemoryLog::open(&MemoryDisk::new())?;
    /// let seen = log.head()?.position;
    /// let stream = StreamId::from_bytes([7; 16]);
    /// let frame = Frame {
    ///     stream,
    ///     kind: StreamKind::Execution,
    ///     expected_seq: 0,
    ///     time: Timestamp(0),
    ///     bodies: vec![b"a".to_vec()],
    ///     listing: Listing::Keep,
    /// };
    /// log.append(Batch { definitions: Vec::new(), frames: vec![frame] })?;
    ///
    /// let since = log.streams_since(seen, 10)?;
    /// assert_eq!(since.streams[0].stream, stream);
    /// assert_eq!(since.next, seen + 1);
    /// assert!(log.streams_since(since.next, 10)?.streams.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        crate::since::by_records(self, from, limit)
    }

    /// At most `limit` nodes of the log's tree from a position on, in order and without a gap; empty at the end of the log. Of each
    /// record it is the leaf, and that record is checked; of pruned ones there may be the roots of larger subtrees alone.
    ///
    /// # Errors
    /// As [`LogReader::tail`]; [`ReadError::Io`] where not all records are at hand, as in an archive.
    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        crate::own_stream::tree(self, from, limit)
    }

    /// What was erased from a stream, in the order in which it was. The log's own stream says so, all of which is read.
    ///
    /// # Errors
    /// As [`LogReader::read`]; a stream of which nothing was erased, or that is not there, gives nothing.
    fn erasures(&self, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
        crate::own_stream::erasures(self, stream)
    }

    /// The definition with this fingerprint, or `None`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if its bytes do not have that hash.
    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError>;

    /// Where the log ends.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if the log was closed, by the engine whose log this is.
    fn head(&self) -> Result<LogHead, ReadError>;

    /// Where the log ends, once it has more than `after` records or somebody has closed it, at the latest after `patience`:
    /// sooner, too, where it cannot be waited for. A log that nobody writes gives its end at once.
    ///
    /// # Errors
    /// As [`LogReader::head`].
    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        let _ = (after, patience);
        self.head()
    }

    /// What the process that has the log says of its streams beside what is in them, by stream: see [`EventLog::post`]. Empty
    /// where no process has the log.
    ///
    /// # Errors
    /// As [`LogReader::head`].
    fn notices(&self) -> Result<Notices, ReadError> {
        Ok(Notices::new())
    }

    /// Where the log is, for messages: a path, or `memory`.
    fn location(&self) -> String;
}

/// What the process that has a log says of streams, opaque to the log.
pub type Notices = BTreeMap<StreamId, Arc<[u8]>>;

/// Writes a log.
pub trait EventLog: Keeper {
    /// Appends a batch. Batches are taken in the order of the calls; many that wait are made durable together.
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge);

    /// Appends batches that were decided together, in order, each with its own acknowledgement. Each is atomic for itself;
    /// they are handed over at once, so that up to 256 of them share a flush.
    fn append_all_then(&self, batches: Vec<(Batch, Acknowledge)>) {
        batches.into_iter().for_each(|(batch, acknowledge)| self.append_then(batch, acknowledge));
    }

    /// Appends a batch and waits until it is durable.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing of the batch is acknowledged.
    fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.append_then(
            batch,
            Box::new(move |result| {
                // The receiver is only gone if this thread was: nobody waits then.
                let _ = sender.send(result);
            }),
        );
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Says something of a stream to whoever reads the log meanwhile, or no longer does. It is no part of the log: it is kept in
    /// memory, and gone when the log is closed. A notice of more than 64 KiB is not taken.
    ///
    /// # Examples
    /// ```
    /// use cloacina_store::log::{EventLog, LogReader};
    /// use cloacina_store::record::StreamId;
    /// use cloacina_store::{MemoryDisk, MemoryLog};
    ///
    /// let log = MemoryLog::open(&MemoryDisk::new())?;
    /// let stream = StreamId::from_bytes([7; 16]);
    /// log.post(stream, Some(b"blocked".as_slice().into()));
    /// assert_eq!(&*log.notices()?[&stream], b"blocked");
    /// log.close()?;
    /// assert!(log.notices()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        let _ = (stream, notice);
    }

    /// How many times the log made something durable since it was opened (the cost that counts).
    fn flushes(&self) -> u64;

    /// Writes down that the log was closed in order, and lets go of it. Appends that come later are
    /// [`AppendError::Closed`].
    ///
    /// # Errors
    /// As for an append.
    fn close(&self) -> Result<(), AppendError>;
}

/// Why a log cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing at the path (for reading only; a writer makes a new log).
    #[error("there is no log at {path}; name the directory that a runner was opened with")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The path is something else.
    #[error("{path} is not a log: {found}. It was left as it is; choose another path")]
    NotALog {
        /// The path.
        path: PathBuf,
        /// What is there ("a file", "an SQLite database", "a directory with other files in it").
        found: String,
    },
    /// Another process has it.
    #[error(
        "the log {path} is in use by process {pid} on host {host}; stop it, or use its runner. Reading works meanwhile: `replay --log {path} list`"
    )]
    Locked {
        /// The path.
        path: PathBuf,
        /// The process, 0 if it could not be told.
        pid: u32,
        /// The host.
        host: String,
    },
    /// The process that had it is gone, or did not name itself, and something still holds a lock on one of its files: a fork
    /// of that process, perhaps.
    #[error("the log {path} is locked by {}", left_locked(*.owner, .holders))]
    LeftLocked {
        /// The path.
        path: PathBuf,
        /// The process that took the lock; 0 if it is not named.
        owner: u32,
        /// Those that have the locked file open; empty if none can be seen.
        holders: Vec<Process>,
    },
    /// It was written by a newer version.
    #[error("the log {path} has format {found}, this version reads up to format {known}; upgrade cloaca to open it")]
    NewerFormat {
        /// The path.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// An archive is not what was written.
    #[error("the archive {path} is damaged: {what}. Make it again from its log, or take another copy of it")]
    DamagedArchive {
        /// The file.
        path: PathBuf,
        /// What does not fit, and where.
        what: String,
    },
    /// What is there is not what was written.
    #[error(
        "the log {path} is damaged: {what}. Keep a copy of the directory as it is, and restore a backup; `replay verify --all --log {path}` says what is still whole"
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot open the log {path}: {doing}: {reason}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        doing: String,
        /// What the system answered, and what to do about it.
        reason: String,
    },
}

impl OpenError {
    /// The same of a log that the user calls so, and that was reached by another path.
    pub(crate) fn of(mut self, reached: &Path, name: &Path) -> Self {
        let (Self::Missing { path }
        | Self::NotALog { path, .. }
        | Self::Locked { path, .. }
        | Self::LeftLocked { path, .. }
        | Self::NewerFormat { path, .. }
        | Self::DamagedArchive { path, .. }
        | Self::Damaged { path, .. }
        | Self::Io { path, .. }) = &mut self;
        name.clone_into(path);
        let (Self::Damaged { what: text, .. } | Self::Io { reason: text, .. }) = &mut self else { return self };
        *text = text.replace(&*reached.to_string_lossy(), &name.to_string_lossy());
        self
    }
}

fn left_locked(owner: u32, holders: &[Process]) -> String {
    let gone = match owner {
        0 => "the lock names no process".to_owned(),
        owner => format!("process {owner}, which opened the log, is gone"),
    };
    match holders {
        [] => format!(
            "a process that cannot be seen from here ({gone}): another user's, or in another container. `lslocks`, run as root \
             on the host, names it; end it and try again"
        ),
        some => format!(
            "{}; {gone}, and what it started still holds the lock. End what holds it, and try again",
            holders::list(some)
        ),
    }
}

/// Why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Somebody else has written to the stream.
    #[error(
        "stream {stream}: expected to write seq {expected}, but the next is {next}; another writer is at work on it"
    )]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the frame expected.
        expected: u64,
        /// What the log has.
        next: u64,
    },
    /// The batch itself is wrong; nothing was written and the log goes on.
    #[error("refused to append: {0}")]
    Invalid(String),
    /// Writing or syncing failed. The log takes nothing more; what was acknowledged before is safe.
    #[error("the log stopped: {0}; nothing that waited was acknowledged. Mend the cause and open the log again")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such stream.
    #[error("there is no stream {0} in this log")]
    NoStream(StreamId),
    /// A record is not what was written.
    #[error("{stream}: the record at seq {seq} is damaged: {what}")]
    Damaged {
        /// The stream.
        stream: StreamId,
        /// The record.
        seq: u64,
        /// What differs, both sides where there are two.
        what: String,
    },
    /// Something other than a record is not what was written.
    #[error("the log is damaged: {0}")]
    DamagedLog(String),
    /// The stream was dropped.
    #[error("{stream}: its {records} records were pruned; the log keeps their hashes alone")]
    Pruned {
        /// The stream.
        stream: StreamId,
        /// How many records it had.
        records: u64,
    },
    /// The stream ends earlier than the log knows.
    #[error("{stream}: the tail is cut: the head says {head} records, the stream ends at {found}")]
    TailCut {
        /// The stream.
        stream: StreamId,
        /// How many records it should have.
        head: u64,
        /// How many there are.
        found: u64,
    },
    /// The log was closed meanwhile.
    #[error("the log was closed meanwhile; open it again")]
    Gone,
    /// The operating system refused.
    #[error("cannot read the log: {0}")]
    Io(String),
}

impl ReadError {
    /// The stream that it is about; `None` where it is about the log.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::NoStream(stream)
            | Self::Damaged { stream, .. }
            | Self::Pruned { stream, .. }
            | Self::TailCut { stream, .. } => Some(*stream),
            Self::DamagedLog(_) | Self::Gone | Self::Io(_) => None,
        }
    }

    /// Whether what was read is not what was written.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedLog(_) | Self::TailCut { .. })
    }
}

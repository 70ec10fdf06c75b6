//! The interface of a log: the traits that every backend implements, and their types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::directory::holders::{self, Process};
use crate::keeper::Keeper;
use crate::merkle::Node;
use crate::record::{Hash, Record, StreamId, StreamKind, Timestamp};

/// Events of one stream that are appended atomically.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The stream to append to.
    pub stream: StreamId,
    /// The kind of that stream.
    pub kind: StreamKind,
    /// The expected `seq` of the first event. Any other is [`AppendError::Conflict`]: two writers are at work.
    pub expected_seq: u64,
    /// The time of the events. Raised to the time of the log's last record if it is earlier.
    pub time: Timestamp,
    /// The event bodies, in order; at least one.
    pub bodies: Vec<Vec<u8>>,
    /// The stream's listing from now on.
    pub listing: Listing,
}

/// How a frame changes the listing of its stream. A label has at most [`MAX_LABEL`](crate::MAX_LABEL) bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Unchanged. A new stream is listed as open, without a label.
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

/// The unit of an append: all of it is in the log or none is.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Definitions that the frames refer to. Those already in the log are not written again.
    pub definitions: Vec<Definition>,
    /// The frames, in order; at most one per stream.
    pub frames: Vec<Frame>,
}

/// The result of an acknowledged append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of the batch's first record.
    pub position: u64,
    /// The number of records in the batch.
    pub records: u64,
}

/// Called once, when a batch is durable or will never be. Runs on the log's writer thread: hand the result over and do
/// no work there.
pub type Acknowledge = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Durability {
    /// After the fsync: every acknowledged event survives a power failure.
    Sync,
    /// After the write; the fsync follows at most this many milliseconds later. A killed process loses nothing, a power
    /// failure loses what was acknowledged since the last fsync.
    Interval(u64),
    /// After the write; the operating system decides when to flush. A killed process loses nothing.
    Os,
}

/// A stream's entry in the listing.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamEntry {
    /// The stream.
    pub stream: StreamId,
    /// Its kind.
    pub kind: StreamKind,
    /// Whether it is unfinished.
    pub open: bool,
    /// When its first record was appended.
    pub started: Timestamp,
    /// When its last record was appended.
    pub last: Timestamp,
    /// The number of records, which is the `seq` of the next one.
    pub records: u64,
    /// The total size of all bodies, in bytes.
    pub bytes: u64,
    /// The hash of its last record.
    pub head: Hash,
    /// The label, opaque to the log.
    pub label: Vec<u8>,
}

/// The sort key of the listing: the time at which a stream started, then its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct ListingKey {
    /// When its first record was appended.
    pub started: Timestamp,
    /// The stream.
    pub stream: StreamId,
}

impl ListingKey {
    pub(crate) const FIRST: Self = Self { started: Timestamp(i64::MIN), stream: StreamId::from_bytes([0; 16]) };
    pub(crate) const LAST: Self = Self { started: Timestamp(i64::MAX), stream: StreamId::from_bytes([u8::MAX; 16]) };
}

impl StreamEntry {
    /// The sort key of this entry.
    #[must_use]
    pub fn listing_key(&self) -> ListingKey {
        ListingKey { started: self.started, stream: self.stream }
    }
}

/// Selects streams of the listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamFilter {
    /// Only streams of this kind.
    pub kind: Option<StreamKind>,
    /// Only unfinished streams.
    pub open_only: bool,
    /// Only streams that started before this one: those that follow it in the listing.
    pub before: Option<ListingKey>,
    /// The maximum number of streams.
    pub limit: usize,
}

/// Streams that were appended to, and the position to continue from.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StreamsSince {
    /// Each stream once, in its current state, in the order of the last appends.
    pub streams: Vec<StreamEntry>,
    /// The position to continue from. Equal to the requested position if there is nothing more.
    pub next: u64,
}

/// One record whose body was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The record's `seq` in its stream.
    pub seq: u64,
    /// When it was erased.
    pub time: Timestamp,
    /// A note that the caller of the erasure left; opaque here.
    pub note: Vec<u8>,
    /// Why it was erased.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct LogHead {
    /// The number of records, which is the position of the next one.
    pub position: u64,
    /// The hash of the log: the root of its Merkle tree.
    pub hash: Hash,
    /// The time of the last record.
    pub time: Timestamp,
    /// How appends are acknowledged; `None` if no process has the log open for writing.
    pub durability: Option<Durability>,
}

/// Reads a log. Everything it returns is durable.
///
/// Implementations verify what they read from a disk: a record that does not match its hash, or its predecessor's, is
/// [`ReadError::Damaged`], never returned. Only [`LogReader::tail`], [`LogReader::stream`] and
/// [`LogReader::streams_since`] may serve recent writes from the memory of the process that wrote them.
pub trait LogReader: Send + Sync {
    /// Returns at most `limit` records of a stream, in order, starting with `seq` `from`; none at its end. The hash of
    /// each record was computed from its content, also when another process sent it.
    ///
    /// # Errors
    /// [`ReadError::NoStream`] if the stream does not exist, [`ReadError::Damaged`] if the log is not what was written.
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// Returns a stream's entry in the listing.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError>;

    /// Returns the streams that match the filter, newest first: in descending order of [`ListingKey`]. Reads an index,
    /// not the log.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the log is not what was written.
    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError>;

    /// Returns at most `limit` records of the whole log, in order, starting at a position; none at its end.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the log is not what was written.
    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// Returns at most `limit` streams with records at or after a position, each in its current state, and the position
    /// to continue from. Leaves out streams that were pruned or are damaged; [`LogReader::stream`] returns the reason.
    ///
    /// Keeps a displayed list of streams up to date: of each stream, only the last record is read.
    ///
    /// # Errors
    /// [`ReadError::DamagedLog`] if the damage hides which streams they are.
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
        crate::streams_since::by_records(self, from, limit)
    }

    /// Returns at most `limit` nodes of the log's Merkle tree, in order and without a gap, starting at a position; none
    /// at the end of the log. Each record gives a leaf and is verified; pruned records may give only the roots of
    /// larger subtrees.
    ///
    /// # Errors
    /// As [`LogReader::tail`]; [`ReadError::Io`] if some of the records are not available, as in an archive.
    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        crate::own_stream::tree(self, from, limit)
    }

    /// Returns the erasures of a stream, oldest first. Reads all of the log's own stream, which records them.
    ///
    /// # Errors
    /// As [`LogReader::read`]. A stream that does not exist has no erasures.
    fn erasures(&self, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
        crate::own_stream::erasures(self, stream)
    }

    /// Returns the definition with this fingerprint, or `None`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if its bytes do not have that hash.
    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError>;

    /// Returns the end of the log.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if the engine that owns this log has closed it.
    fn head(&self) -> Result<LogHead, ReadError>;

    /// Waits until the log has more than `after` records or is closed, at most for `patience`, and returns its end.
    /// Returns earlier where the reader cannot wait, and at once if no process writes the log.
    ///
    /// # Errors
    /// As [`LogReader::head`].
    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        let _ = (after, patience);
        self.head()
    }

    /// Returns what the process that holds the log has published about its streams with [`EventLog::post`]. Empty if no
    /// process holds the log.
    ///
    /// # Errors
    /// As [`LogReader::head`].
    fn notices(&self) -> Result<Notices, ReadError> {
        Ok(Notices::new())
    }

    /// The location of the log, for messages: a path, or `memory`.
    fn location(&self) -> String;
}

/// Notices of the process that holds the log, by stream; opaque here.
pub type Notices = BTreeMap<StreamId, Arc<[u8]>>;

/// Writes a log.
pub trait EventLog: Keeper {
    /// Appends a batch. Batches are written in the order of the calls; pending ones share a flush.
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge);

    /// Appends several batches in order, each atomic and with its own acknowledgement. Up to 256 of them share a flush,
    /// because they are handed over together.
    fn append_all_then(&self, batches: Vec<(Batch, Acknowledge)>) {
        batches.into_iter().for_each(|(batch, acknowledge)| self.append_then(batch, acknowledge));
    }

    /// Appends a batch and waits until it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; the batch was not acknowledged then.
    fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.append_then(
            batch,
            Box::new(move |result| {
                // The send fails only if this thread is gone: nobody waits then.
                let _ = sender.send(result);
            }),
        );
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Publishes a notice about a stream to the readers of the log, or withdraws it. Notices are kept in memory, are
    /// not part of the log, and end when it is closed. A notice of more than 64 KiB is ignored.
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

    /// The number of flushes since the log was opened: the dominant cost.
    fn flushes(&self) -> u64;

    /// Records a clean shutdown in the log and releases it. Later appends fail with
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
    /// The path does not exist (readers only; a writer creates a log there).
    #[error("there is no log at {path}; pass the directory that a runner was opened with")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a log.
    #[error("{path} is not a log: {found}. It was left as it is; choose another path")]
    NotALog {
        /// The path.
        path: PathBuf,
        /// What is there ("a file", "an SQLite database", "a directory with other files in it").
        found: String,
    },
    /// Another process holds the log.
    #[error(
        "the log {path} is in use by process {pid} on host {host}; stop that process, or use its runner. The log can still be read: `replay --log {path} list`"
    )]
    Locked {
        /// The path.
        path: PathBuf,
        /// The process, 0 if unknown.
        pid: u32,
        /// The host.
        host: String,
    },
    /// The process that held the lock is gone or unknown, and the lock is still held: perhaps by a fork of that
    /// process.
    #[error("the log {path} is locked by {}", left_locked(*.owner, .holders))]
    OrphanedLock {
        /// The path.
        path: PathBuf,
        /// The process that took the lock, 0 if unknown.
        owner: u32,
        /// The processes that have the locked file open; empty if none is visible.
        holders: Vec<Process>,
    },
    /// The log was written by a newer version.
    #[error("the log {path} has format {found}, this version reads up to format {known}; upgrade cloaca to open it")]
    NewerFormat {
        /// The path.
        path: PathBuf,
        /// The format of the log.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// An archive is damaged.
    #[error("the archive {path} is damaged: {what}. Recreate it from its log, or use another copy")]
    DamagedArchive {
        /// The file.
        path: PathBuf,
        /// The mismatch, and where it is.
        what: String,
    },
    /// The log is damaged.
    #[error(
        "the log {path} is damaged: {what}. Keep a copy of the directory and restore a backup; `replay verify --all --log {path}` shows what is intact"
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The mismatch.
        what: String,
    },
    /// An operating system call failed.
    #[error("cannot open the log {path}: {doing}: {reason}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The failed step.
        doing: String,
        /// The system's error, and what to do about it.
        reason: String,
    },
}

impl OpenError {
    /// Replaces the path under which the log was accessed with the one that the user knows.
    pub(crate) fn with_path(mut self, accessed: &Path, name: &Path) -> Self {
        let (Self::Missing { path }
        | Self::NotALog { path, .. }
        | Self::Locked { path, .. }
        | Self::OrphanedLock { path, .. }
        | Self::NewerFormat { path, .. }
        | Self::DamagedArchive { path, .. }
        | Self::Damaged { path, .. }
        | Self::Io { path, .. }) = &mut self;
        name.clone_into(path);
        let (Self::Damaged { what: text, .. } | Self::Io { reason: text, .. }) = &mut self else { return self };
        *text = text.replace(&*accessed.to_string_lossy(), &name.to_string_lossy());
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
            "a process that is not visible from here ({gone}): it belongs to another user or runs in another container. Run `lslocks` as root \
              on the host to find it, end it, and try again"
        ),
        some => format!(
            "{}; {gone}, but a process that it started still holds the lock. End the process that holds it, and try again",
            holders::list(some)
        ),
    }
}

/// Why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Another writer has appended to the stream.
    #[error(
        "stream {stream}: expected to write seq {expected}, but the next is {next}; another writer has appended to it"
    )]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The `seq` that the frame expected.
        expected: u64,
        /// The next `seq` of the stream.
        next: u64,
    },
    /// The batch itself is invalid. Nothing was written, and the log continues.
    #[error("refused to append: {0}")]
    Invalid(String),
    /// A write or fsync failed. The log accepts no more appends; earlier acknowledged ones are safe.
    #[error("the log stopped: {0}; no pending append was acknowledged. Fix the cause and reopen the log")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream does not exist.
    #[error("there is no stream {0} in this log")]
    NoStream(StreamId),
    /// A record is damaged.
    #[error("{stream}: the record at seq {seq} is damaged: {what}")]
    Damaged {
        /// The stream.
        stream: StreamId,
        /// The `seq` of the record.
        seq: u64,
        /// The mismatch, with both sides where there are two.
        what: String,
    },
    /// Something other than a record is damaged.
    #[error("the log is damaged: {0}")]
    DamagedLog(String),
    /// The stream was pruned.
    #[error("{stream}: its {records} records were pruned; only their hashes remain")]
    Pruned {
        /// The stream.
        stream: StreamId,
        /// The number of records that it had.
        records: u64,
    },
    /// The stream ends earlier than the index says.
    #[error("{stream}: the tail is missing: the stream has {found} records, and should have {head}")]
    TailCut {
        /// The stream.
        stream: StreamId,
        /// The expected number of records.
        head: u64,
        /// The number of records found.
        found: u64,
    },
    /// The log was closed.
    #[error("the log was closed in the meantime; reopen it")]
    Gone,
    /// An operating system call failed.
    #[error("cannot read the log: {0}")]
    Io(String),
}

impl ReadError {
    /// The affected stream; `None` if the error is about the log.
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

    /// Whether the error reports damage.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedLog(_) | Self::TailCut { .. })
    }
}

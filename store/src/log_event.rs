//! What the log records about itself, in the stream [`StreamId::LOG`](crate::record::StreamId::LOG).

use bincode::{Decode, Encode};

use crate::bytes::Malformed;
use crate::codec::{self, BodyHeader};
use crate::log::{Durability, Erasure};
use crate::record::{Hash, StreamId, StreamKind, Timestamp};

/// An event of the log's own stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEvent {
    /// A process opened the log for writing.
    Opened(Opened),
    /// It closed the log in order. Where an `Opened` follows without one of these, the process before it died.
    Closed,
    /// Somebody put a signature under the log as far as it went.
    Checkpoint(Checkpoint),
    /// Bodies were erased.
    Erased(Erased),
    /// The records of streams were dropped.
    Pruned(Pruned),
    /// A stream was taken over from an archive.
    Imported(Imported),
}

/// A signed statement of how far the log went and what was in it; see [`crate::checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Checkpoint {
    /// The hash of the log's first record, which no other log has.
    pub origin: Hash,
    /// How many records the tree has.
    pub size: u64,
    /// The root of the tree over the hashes of these records.
    pub root: Hash,
    /// The roots of the largest complete subtrees, from left to right, so that the next checkpoint goes on from here.
    pub peaks: Vec<Hash>,
    /// When it was signed.
    pub time: Timestamp,
    /// The Ed25519 public key.
    pub key: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

/// Bodies of a stream were erased.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Erased {
    /// The stream.
    pub stream: StreamId,
    /// The records.
    pub records: Vec<Wiped>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// A record whose body was erased.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Wiped {
    /// The record's place in its stream.
    pub seq: u64,
    /// The commitment to what was there: whoever wipes it, and is stopped, finds here what has to stand in its place.
    pub commitment: Hash,
    /// What the log's user wants to remember of it (opaque here; never what was erased).
    pub note: Vec<u8>,
}

/// Streams were dropped. What stays of their records are the hashes, and this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pruned {
    /// The streams.
    pub streams: Vec<Dropped>,
    /// The digest of the archive that they were put into before, if they were.
    pub archive: Option<Hash>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// A stream that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Dropped {
    /// It.
    pub stream: StreamId,
    /// What it was the history of.
    pub kind: StreamKind,
    /// How many records it had.
    pub records: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// The hash of the last one.
    pub head: Hash,
    /// The time of the first and of the last one.
    pub times: (Timestamp, Timestamp),
}

/// A stream was taken over from an archive, with its hashes as they were.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Imported {
    /// The stream.
    pub stream: StreamId,
    /// How many records were taken over: those before this `seq`.
    pub records: u64,
    /// The hash of the last one.
    pub head: Hash,
    /// The digest of the archive.
    pub archive: Hash,
}

impl Erased {
    /// What was erased, record by record, if this was recorded at a time.
    pub(crate) fn erasures(self, time: Timestamp) -> impl Iterator<Item = Erasure> {
        let Self { records, reason, by, .. } = self;
        let (reason, by) = (reason.clone(), by.clone());
        records.into_iter().map(move |Wiped { seq, note, .. }| Erasure {
            seq,
            time,
            note,
            reason: reason.clone(),
            by: by.clone(),
        })
    }
}

/// Who opened the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Opened {
    /// The version of this crate.
    pub version: String,
    /// The host.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// How appends are acknowledged: 0 sync, 1 interval, 2 os.
    durability: u8,
    /// The interval's milliseconds, 0 without one.
    interval: u64,
}

impl Opened {
    /// What is written down when a process opens the log.
    #[must_use]
    pub fn new(host: String, pid: u32, durability: Durability) -> Self {
        let (number, interval) = match durability {
            Durability::Sync => (0, 0),
            Durability::Interval(milliseconds) => (1, milliseconds),
            Durability::Os => (2, 0),
        };
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), host, pid, durability: number, interval }
    }

    /// How it acknowledged appends, `None` if this version does not know the mode.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        match self.durability {
            0 => Some(Durability::Sync),
            1 => Some(Durability::Interval(self.interval)),
            2 => Some(Durability::Os),
            _ => None,
        }
    }
}

/// Why a body of the log's own stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no event of the log that this version can read: {what}")]
pub struct LogEventError {
    /// What does not fit.
    pub what: String,
}

impl From<Malformed> for LogEventError {
    fn from(Malformed(what): Malformed) -> Self {
        Self { what }
    }
}

/// Numbers of kinds: part of the format, never used twice.
mod number {
    pub(super) const OPENED: u16 = 1;
    pub(super) const CLOSED: u16 = 2;
    pub(super) const CHECKPOINT: u16 = 3;
    pub(super) const ERASED: u16 = 4;
    pub(super) const PRUNED: u16 = 5;
    pub(super) const IMPORTED: u16 = 6;
}

const FORMAT: u8 = 1;

impl LogEvent {
    /// The bytes that stand in the record.
    ///
    /// # Errors
    /// If its texts are longer than a body may be (64 KiB in all).
    pub fn encode(&self) -> Result<Vec<u8>, LogEventError> {
        let bytes = match self {
            Self::Opened(opened) => codec::encode(header(number::OPENED), opened)?,
            Self::Closed => codec::encode(header(number::CLOSED), &())?,
            Self::Checkpoint(checkpoint) => codec::encode(header(number::CHECKPOINT), checkpoint)?,
            Self::Erased(erased) => codec::encode(header(number::ERASED), erased)?,
            Self::Pruned(pruned) => codec::encode(header(number::PRUNED), pruned)?,
            Self::Imported(imported) => codec::encode(header(number::IMPORTED), imported)?,
        };
        Ok(bytes)
    }

    /// The event that the bytes of a record in the log's own stream stand for.
    ///
    /// # Errors
    /// [`LogEventError`] if they are damaged, or of a version that is not known here.
    ///
    /// # Examples
    /// ```
    /// use cloacina_store::log_event::LogEvent;
    ///
    /// let bytes = LogEvent::Closed.encode()?;
    /// assert_eq!(LogEvent::decode(&bytes)?, LogEvent::Closed);
    /// assert!(LogEvent::decode(b"L\x01\x01\xff\xff").is_err());
    /// # Ok::<(), cloacina_store::log_event::LogEventError>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, LogEventError> {
        let (header, body) = codec::split(bytes)?;
        match (header.kind, header.format) {
            (number::OPENED, 1) => Ok(Self::Opened(codec::decode(body)?)),
            (number::CLOSED, 1) => {
                codec::decode::<()>(body)?;
                Ok(Self::Closed)
            }
            (number::CHECKPOINT, 1) => Ok(Self::Checkpoint(codec::decode(body)?)),
            (number::ERASED, 1) => Ok(Self::Erased(codec::decode(body)?)),
            (number::PRUNED, 1) => Ok(Self::Pruned(codec::decode(body)?)),
            (number::IMPORTED, 1) => Ok(Self::Imported(codec::decode(body)?)),
            (kind, format) => {
                Err(LogEventError { what: format!("kind {kind} in format {format} is not known; upgrade to read it") })
            }
        }
    }
}

fn header(kind: u16) -> BodyHeader {
    BodyHeader { format: FORMAT, kind }
}

//! The events that the log records about itself, in the stream [`StreamId::LOG`](crate::record::StreamId::LOG).

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
    /// The process closed the log cleanly. An `Opened` without a `Closed` before it means that the previous process
    /// died.
    Closed,
    /// The log was signed, as far as it went.
    Checkpoint(Checkpoint),
    /// Bodies were erased.
    Erased(Erased),
    /// The records of streams were dropped.
    Pruned(Pruned),
    /// A stream was imported from an archive.
    Imported(Imported),
}

/// A signed statement of how far the log went and what it contained; see [`crate::checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Checkpoint {
    /// The hash of the log's first record, which identifies the log.
    pub origin: Hash,
    /// The number of records in the tree.
    pub size: u64,
    /// The root of the tree over the hashes of these records.
    pub root: Hash,
    /// The roots of the largest complete subtrees, from left to right: the next checkpoint continues from them.
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
    pub records: Vec<ErasedRecord>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// A record whose body was erased.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ErasedRecord {
    /// The record's place in its stream.
    pub seq: u64,
    /// The commitment to the erased body. It replaces the body, also when the erasure is finished after a crash.
    pub commitment: Hash,
    /// A note by the caller of the erasure (opaque here; never the erased data).
    pub note: Vec<u8>,
}

/// Streams were pruned. What remains are the hashes of their records, and this event.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pruned {
    /// The streams.
    pub streams: Vec<PrunedStream>,
    /// The digest of the archive that they were exported to before, if any.
    pub archive: Option<Hash>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// A pruned stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PrunedStream {
    /// The stream.
    pub stream: StreamId,
    /// Its kind.
    pub kind: StreamKind,
    /// How many records it had.
    pub records: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// The hash of the last one.
    pub head: Hash,
    /// The times of the first and the last record.
    pub times: (Timestamp, Timestamp),
}

/// A stream was imported from an archive, with its hashes unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Imported {
    /// The stream.
    pub stream: StreamId,
    /// The number of imported records: those before this `seq`.
    pub records: u64,
    /// The hash of the last one.
    pub head: Hash,
    /// The digest of the archive.
    pub archive: Hash,
}

impl Erased {
    /// The erased records, as erased at the time of this event.
    pub(crate) fn erasures(self, time: Timestamp) -> impl Iterator<Item = Erasure> {
        let Self { records, reason, by, .. } = self;
        let (reason, by) = (reason.clone(), by.clone());
        records.into_iter().map(move |ErasedRecord { seq, note, .. }| Erasure {
            seq,
            time,
            note,
            reason: reason.clone(),
            by: by.clone(),
        })
    }
}

/// The process that opened the log.
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
    /// The interval in milliseconds, or 0.
    interval: u64,
}

impl Opened {
    /// The event for a process that opens the log now.
    #[must_use]
    pub fn new(host: String, pid: u32, durability: Durability) -> Self {
        let (number, interval) = match durability {
            Durability::Sync => (0, 0),
            Durability::Interval(milliseconds) => (1, milliseconds),
            Durability::Os => (2, 0),
        };
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), host, pid, durability: number, interval }
    }

    /// The durability mode, `None` if this version does not know it.
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

/// A body of the log's own stream cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event of the log that this version can read: {what}")]
pub struct LogEventError {
    /// The mismatch.
    pub what: String,
}

impl From<Malformed> for LogEventError {
    fn from(Malformed(what): Malformed) -> Self {
        Self { what }
    }
}

/// The numbers of the event kinds: part of the format, never reused.
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
    /// Encodes the event as the body of a record.
    ///
    /// # Errors
    /// If its texts are longer than a body may be (64 KiB in total).
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

    /// Decodes the body of a record in the log's own stream.
    ///
    /// # Errors
    /// [`LogEventError`] if the bytes are damaged, or of an unknown version.
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

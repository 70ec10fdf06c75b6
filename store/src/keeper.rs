//! Changes to a log other than appending: erasing bodies, pruning streams, importing streams from an archive, and
//! signing checkpoints.
//!
//! Each change is one atomic, durable step, and records an event about itself in the log's own stream. If a process
//! holds the log, that process makes the change ([`open_keeper`](crate::open_keeper)).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use crate::log::{AppendError, LogReader, ReadError};
use crate::log_event::Checkpoint;
use crate::record::{Hash, StreamId};

/// Changes a log.
pub trait Keeper: LogReader {
    /// Makes a change, and returns once it is durable.
    ///
    /// # Errors
    /// [`ChangeError`]. Nothing was changed then, except that an import may already have imported some of the streams.
    ///
    /// # Examples
    /// ```
    /// use cloacina_store::keeper::{Change, Erase, Keeper};
    /// use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader};
    /// use cloacina_store::record::{StreamId, StreamKind, Timestamp};
    /// use cloacina_store::{MemoryDisk, MemoryLog};
    ///
    /// let log = MemoryLog::open(&MemoryDisk::new())?;
    /// let stream = StreamId::from_bytes([7; 16]);
    /// let bodies = vec![b"a secret".to_vec()];
    /// let listing = Listing::Closed(Vec::new());
    /// let frame =
    ///     Frame { stream, kind: StreamKind::Execution, expected_seq: 0, time: Timestamp(0), bodies, listing };
    /// log.append(Batch { frames: vec![frame], ..Batch::default() })?;
    ///
    /// let records = vec![(0, b"a secret was here".to_vec())];
    /// let erase = Erase { stream, records, reason: "asked to".to_owned(), by: "me".to_owned() };
    /// log.change(Change::Erase(erase))?;
    /// assert_eq!(log.read(stream, 0, 1)?[0].body.bytes(), None);
    /// assert_eq!(log.erasures(stream)?[0].note, b"a secret was here");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn change(&self, change: Change) -> Result<Changed, ChangeError>;

    /// Ends the changes. Closes a log that was opened for them, after erased and pruned data was overwritten.
    ///
    /// # Errors
    /// [`ChangeError::Failed`]: the changes are recorded and stay, but some erased or pruned data may not be
    /// overwritten yet. The next process that opens the log for writing finishes that.
    fn finish(&self) -> Result<(), ChangeError> {
        Ok(())
    }
}

/// A change to a log.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Change {
    /// Erases bodies.
    Erase(Erase),
    /// Prunes streams.
    Prune(Prune),
    /// Imports the streams of an archive.
    Import(Import),
    /// Records a signed checkpoint.
    Sign(Checkpoint),
}

/// Erases bodies of a closed stream. The commitment to each body remains, so that every hash still verifies.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Erase {
    /// The stream.
    pub stream: StreamId,
    /// The `seq`s to erase, each with a note for later readers that describes what it was; at most [`MAX_ERASED`] at
    /// once. Records that were erased before are skipped.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// Prunes closed streams, all with one sync. What remains are the hashes of the records, and an event in the log's own
/// stream that names the streams.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Prune {
    /// The streams, each with the hash of its last record when the caller decided to prune it; at most [`MAX_PRUNED`].
    pub streams: Vec<(StreamId, Hash)>,
    /// The digest of the archive that they were exported to before, if any.
    pub archive: Option<Hash>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// Imports all streams of an archive, with their hashes unchanged. Skips a stream that the log already contains with
/// the same records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The path of the archive; absolute if another process holds the log.
    pub archive: PathBuf,
    /// The digest that the caller expects the archive to have.
    pub digest: Hash,
}

/// A path is bytes, not text.
impl Encode for Import {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.archive.as_os_str().as_bytes().encode(encoder)?;
        self.digest.encode(encoder)
    }
}

impl<Context> Decode<Context> for Import {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let archive = PathBuf::from(OsString::from_vec(Vec::<u8>::decode(decoder)?));
        Ok(Self { archive, digest: Hash::decode(decoder)? })
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Import {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// The maximum number of streams that one change prunes.
pub const MAX_PRUNED: usize = 2048;

/// The maximum number of records that one change erases.
pub const MAX_ERASED: usize = 128;

/// The result of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Changed {
    /// The number of changed streams.
    pub streams: u64,
    /// The number of records that were erased, pruned or imported.
    pub records: u64,
    /// The number of streams that the log already contained before the import.
    pub already: u64,
}

/// A log could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum ChangeError {
    /// The affected stream cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream is unfinished, and its writer continues from its contents.
    #[error("{0} is not finished; wait until it ends or cancel it, then try again")]
    Open(StreamId),
    /// The change itself is invalid.
    #[error("refused: {0}")]
    Refused(String),
    /// A write failed, and the log has stopped. Whether it contains the change shows when it is reopened.
    #[error("the log stopped: {0}. Fix the cause and reopen the log")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The process that holds the log could not be reached.
    #[error("cannot reach the process that holds the log: {0}")]
    Unreachable(String),
}

impl From<AppendError> for ChangeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Failed(reason) => Self::Failed(reason),
            AppendError::Closed => Self::Closed,
            other => Self::Refused(other.to_string()),
        }
    }
}

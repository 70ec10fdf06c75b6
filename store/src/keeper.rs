//! Changing what is in a log other than by appending: erasing bodies, dropping streams, taking streams over from an
//! archive, signing how far it goes.
//!
//! Each change is one atomic, durable step, and each leaves an event in the log's own stream that says what was done. A
//! log that a process has is changed through that process ([`open_keeper`](crate::open_keeper)).

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
    /// Makes a change, and returns when it is durable.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed then, but for an import, of which streams may be taken over already.
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

    /// Ends the changes. A log that was opened for them is closed: what was erased and dropped is written over by then.
    ///
    /// # Errors
    /// [`ChangeError::Failed`]: what was changed is in the log and stays, but what was erased and dropped may not be written over
    /// yet. Whoever opens the log next to write does that.
    fn finish(&self) -> Result<(), ChangeError> {
        Ok(())
    }
}

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Change {
    /// Erases bodies.
    Erase(Erase),
    /// Drops streams.
    Prune(Prune),
    /// Takes over the streams of an archive.
    Import(Import),
    /// Writes down a checkpoint that was signed.
    Sign(Checkpoint),
}

/// Erases bodies of a closed stream. What stays of each is the commitment to it, so that every hash still holds.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Erase {
    /// The stream.
    pub stream: StreamId,
    /// Which records, each with a note of what it was, for those who read it later; at most [`MOST_ERASED`] at once.
    /// Those that were erased before are left as they are.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// Drops the records of closed streams, all of them with one sync. What stays are the hashes of the records, and an event in the log's own
/// stream that names the streams.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Prune {
    /// The streams, each with the hash of its last record, as it was when it was decided to drop it; at most [`MOST_PRUNED`].
    pub streams: Vec<(StreamId, Hash)>,
    /// The digest of the archive that they were put into before, if they were.
    pub archive: Option<Hash>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: String,
}

/// Takes over all streams of an archive, with their hashes as they are. Of one that is there already, with the same records, nothing
/// is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The archive, by an absolute path where another process is asked.
    pub archive: PathBuf,
    /// Its digest, as whoever wants it read it.
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

/// How many streams can be dropped by one change.
pub const MOST_PRUNED: usize = 2048;

/// How many records can be erased by one change.
pub const MOST_ERASED: usize = 128;

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Changed {
    /// How many streams were changed.
    pub streams: u64,
    /// How many records were erased, dropped or taken over.
    pub records: u64,
    /// How many streams of an archive were there already.
    pub already: u64,
}

/// Why a log was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum ChangeError {
    /// What it concerns cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream is unfinished: whoever writes it goes on from what is there.
    #[error("{0} is not finished; wait for its end, or cancel it, and try again")]
    Open(StreamId),
    /// The change itself is wrong.
    #[error("refused: {0}")]
    Refused(String),
    /// Writing failed, and the log has stopped. Whether the change is in it shows when it is opened again.
    #[error("the log stopped: {0}. Mend the cause and open the log again")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The process that has the log could not be asked.
    #[error("cannot ask the process that has the log: {0}")]
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

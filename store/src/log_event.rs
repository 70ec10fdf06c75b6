//! What the log records about itself, in the stream [`StreamId::LOG`](crate::record::StreamId::LOG).

use bincode::{Decode, Encode};

use crate::bytes::Malformed;
use crate::codec::{self, BodyHeader};
use crate::log::Durability;

/// An event of the log's own stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEvent {
    /// A process opened the log for writing.
    Opened(Opened),
    /// It closed the log in order. Where an `Opened` follows without one of these, the process before it died.
    Closed,
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
}

const FORMAT: u8 = 1;

impl LogEvent {
    /// The bytes that stand in the record.
    ///
    /// # Errors
    /// If the host's name is absurdly long.
    pub fn encode(&self) -> Result<Vec<u8>, LogEventError> {
        let bytes = match self {
            Self::Opened(opened) => codec::encode(header(number::OPENED), opened)?,
            Self::Closed => codec::encode(header(number::CLOSED), &())?,
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
            (kind, format) => {
                Err(LogEventError { what: format!("kind {kind} in format {format} is not known; upgrade to read it") })
            }
        }
    }
}

fn header(kind: u16) -> BodyHeader {
    BodyHeader { format: FORMAT, kind }
}

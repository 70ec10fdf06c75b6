//! The records of a log, and the ids and numbers in them.

use std::fmt;
use std::str::FromStr;

use ::bytes::Bytes;
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use uuid::Uuid;

use crate::seal::Header;

/// The id of a stream. Executions use UUIDv7, so ids sort by creation time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub Uuid);

impl StreamId {
    /// The log's own stream: opened, closed, checkpoint, erased, pruned.
    pub const LOG: Self = Self(Uuid::nil());

    /// The sixteen bytes of the id, which sort as the id does.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for StreamId {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.as_bytes().encode(encoder)
    }
}

impl<Context> Decode<Context> for StreamId {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        <[u8; 16]>::decode(decoder).map(Self::from_bytes)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for StreamId {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl FromStr for StreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The kind of a stream. The numbers are part of the format and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[repr(u8)]
pub enum StreamKind {
    /// The log's own stream.
    Log = 0,
    /// An execution of a workflow.
    Execution = 1,
    /// A cron schedule.
    Schedule = 2,
    /// An event trigger.
    Trigger = 3,
}

impl StreamKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Log, Self::Execution, Self::Schedule, Self::Trigger];

    /// The kind's number in the format.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The predecessor hash of a stream's first record and of a log's first group.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(pub i64);

/// One sealed record: an envelope and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// The kind of that stream.
    pub kind: StreamKind,
    /// Its sequence number in the stream, from 0, without gaps.
    pub seq: u64,
    /// Its position in the log, from 0, without gaps.
    pub position: u64,
    /// When it was appended; never decreases along positions.
    pub time: Timestamp,
    /// The hash of the previous record in the stream ([`Hash::ZERO`] for the first).
    pub previous: Hash,
    /// The hash over its header, `previous`, and the commitment to its body.
    pub hash: Hash,
    /// The recorded data.
    pub body: Body,
}

impl Record {
    /// The part of the record that its hash covers besides the chain and the body.
    #[must_use]
    pub fn header(&self) -> Header {
        let Self { stream, kind, seq, position, time, .. } = *self;
        Header { stream, kind, seq, position, time }
    }
}

/// The body of a record, or what an erasure leaves of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The bytes as they were appended, and the salt of the commitment to them.
    Present {
        /// Sixteen random bytes.
        salt: [u8; 16],
        /// The bytes.
        bytes: Bytes,
    },
    /// The bytes were erased. The commitment remains, so that the hash chain still verifies.
    Erased {
        /// SHA-256 of the salt and the erased bytes.
        commitment: Hash,
        /// The number of erased bytes. No hash covers it.
        length: u32,
    },
}

impl Body {
    /// The commitment to the body.
    #[must_use]
    pub fn commitment(&self) -> Hash {
        match self {
            Self::Present { salt, bytes } => crate::seal::commitment(salt, bytes),
            Self::Erased { commitment, .. } => *commitment,
        }
    }

    /// The size of the body in bytes, also after it was erased.
    #[must_use]
    pub fn length(&self) -> u32 {
        match self {
            // The size of a frame is limited far below `u32::MAX`.
            Self::Present { bytes, .. } => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            Self::Erased { length, .. } => *length,
        }
    }

    /// The bytes, unless they were erased.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Present { bytes, .. } => Some(bytes),
            Self::Erased { .. } => None,
        }
    }
}

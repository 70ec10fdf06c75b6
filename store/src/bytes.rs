//! Reads and writes fixed big-endian layouts: everything that is hashed, stored or sent.

use crate::record::{Hash, StreamId, StreamKind, Timestamp};

/// Bytes that do not have the expected layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Reads bytes from front to back. Never allocates because of a decoded length: the bytes must be present.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number of bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next byte, without consuming it.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Malformed(format!("expected {count} bytes, {} are left", self.rest.len()))),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(Malformed(format!("expected {N} bytes, {} are left", self.rest.len()))),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Malformed> {
        Ok(Timestamp(i64::from_be_bytes(self.array()?)))
    }

    pub(crate) fn hash(&mut self) -> Result<Hash, Malformed> {
        Ok(Hash(self.array()?))
    }

    pub(crate) fn stream(&mut self) -> Result<StreamId, Malformed> {
        Ok(StreamId::from_bytes(self.array()?))
    }

    pub(crate) fn kind(&mut self) -> Result<StreamKind, Malformed> {
        let number = self.u8()?;
        StreamKind::from_number(number).ok_or_else(|| Malformed(format!("unknown kind of stream: {number}")))
    }

    /// A flag: 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed(format!("a flag is 0 or 1, not {other}"))),
        }
    }

    /// Bytes preceded by their length (four bytes).
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize_of(length))
    }

    /// All remaining bytes.
    pub(crate) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Fails if any bytes are left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(format!("{} bytes are left over", self.rest.len()))) }
    }
}

/// A `u32` as a `usize`: it fits on every platform that this crate runs on (sled needs at least 32 bits).
pub(crate) fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Writes the layouts that [`Cursor`] reads.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u16(&mut self, number: u16) {
        self.put(&number.to_be_bytes());
    }

    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    fn put_time(&mut self, time: Timestamp) {
        self.put(&time.0.to_be_bytes());
    }

    /// Bytes preceded by their length. The length always fits a `u32`: a frame is limited far below.
    fn put_counted(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

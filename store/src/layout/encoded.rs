//! A frame as it is stored, with what stands elsewhere in the log: enough to read its records.

use ::bytes::Bytes;

use super::frame;
use crate::bytes::Malformed;
use crate::record::{Hash, Record, StreamId};

/// A frame by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedFrame {
    pub(crate) stream: StreamId,
    pub(crate) first_seq: u64,
    /// The hash of the stream's record before.
    pub(crate) previous: Hash,
    /// All of it, chunks joined.
    pub(crate) bytes: Bytes,
}

impl EncodedFrame {
    /// Puts its records behind others, without a look at their hashes; returns the bytes of their bodies.
    pub(crate) fn records_into(&self, records: &mut Vec<Record>) -> Result<u64, Malformed> {
        let frame = frame::decode(&self.bytes)?;
        let own = frame.own_bytes();
        let added = frame.records_into(records, self.stream, self.first_seq, self.previous);
        added.map(|()| own).map_err(|(_, what)| Malformed(what))
    }
}

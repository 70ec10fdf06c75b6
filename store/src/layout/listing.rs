//! A stream's entry in the listing of the open or of the closed streams.
//!
//! ```text
//! 'S' packing format 0 | started i64 | last i64 | records u64 | bytes u64 | head 32 | label length u32, label | check 8
//! ```
//! The check is the beginning of the SHA-256 of the key and all before it: no record's hash covers a label. In the entry
//! of an open stream, last, records, bytes and head are those at the time when its label was written; the stream's last
//! frame has the true ones.

use sha2::{Digest, Sha256};

use super::{MAX_VALUE, expect_header, header};
use crate::bytes::{Cursor, Malformed, Put};
use crate::record::{Hash, Timestamp};

const MAGIC: u8 = b'S';
const STARTED_MAGIC: u8 = b'T';
const CHECK_LENGTH: usize = 8;

/// The longest label that a stream can have.
pub const MAX_LABEL: usize = MAX_VALUE - 1024;

/// What the listing has of a stream, besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListingEntry {
    pub(crate) started: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) head: Hash,
    pub(crate) label: Vec<u8>,
}

impl ListingEntry {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80 + self.label.len());
        bytes.put(&header(MAGIC));
        bytes.put_time(self.started);
        bytes.put_time(self.last);
        bytes.put_u64(self.records);
        bytes.put_u64(self.bytes);
        bytes.put(&self.head.0);
        bytes.put_counted(&self.label);
        let check = check(key, &bytes);
        bytes.put(&check);
        bytes
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((content, found)) = bytes.split_last_chunk::<CHECK_LENGTH>() else {
            return Err(Malformed(format!("{} bytes are too few", bytes.len())));
        };
        let mut cursor = Cursor::new(content);
        expect_header(&mut cursor, MAGIC)?;
        if *found != check(key, content) {
            return Err(Malformed::new("its check does not fit its content"));
        }
        let entry = Self {
            started: cursor.time()?,
            last: cursor.time()?,
            records: cursor.u64()?,
            bytes: cursor.u64()?,
            head: cursor.hash()?,
            label: cursor.counted()?.to_vec(),
        };
        cursor.end()?;
        Ok(entry)
    }
}

/// What stands under the key that gives a stream its place in the order of starts.
pub(crate) fn started_value() -> Vec<u8> {
    header(STARTED_MAGIC).to_vec()
}

fn check(key: &[u8], content: &[u8]) -> [u8; CHECK_LENGTH] {
    super::head::short_check(Sha256::new().chain_update(key).chain_update(content))
}

//! The head file: how far the log is known to go. A log that ends before it has lost something.
//!
//! ```text
//! 'H' packing format 0 | position u64 | time i64 | log hash 32 | check 8
//! ```

use sha2::{Digest, Sha256};

use super::{expect_header, header};
use crate::bytes::{Cursor, Malformed, Put};
use crate::record::{Hash, Timestamp};

const MAGIC: u8 = b'H';
const CHECK_LENGTH: usize = 8;

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    /// How many records it has.
    pub(crate) position: u64,
    /// The time of the last one.
    pub(crate) time: Timestamp,
    /// The log-wide hash.
    pub(crate) hash: Hash,
}

impl Tip {
    /// Where an empty log ends.
    pub(crate) const EMPTY: Self = Self { position: 0, time: Timestamp(0), hash: Hash::ZERO };

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(60);
        bytes.put(&header(MAGIC));
        bytes.put_u64(self.position);
        bytes.put_time(self.time);
        bytes.put(&self.hash.0);
        let check = short_check(Sha256::new().chain_update(&bytes));
        bytes.put(&check);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((content, found)) = bytes.split_last_chunk::<CHECK_LENGTH>() else {
            return Err(Malformed(format!("{} bytes are too few", bytes.len())));
        };
        let mut cursor = Cursor::new(content);
        expect_header(&mut cursor, MAGIC)?;
        if *found != short_check(Sha256::new().chain_update(content)) {
            return Err(Malformed::new("its check does not fit its content"));
        }
        let tip = Self { position: cursor.u64()?, time: cursor.time()?, hash: cursor.hash()? };
        cursor.end()?;
        Ok(tip)
    }
}

/// The beginning of a hash: enough against accidents.
pub(super) fn short_check(hasher: Sha256) -> [u8; CHECK_LENGTH] {
    let hash: [u8; 32] = hasher.finalize().into();
    let mut check = [0; CHECK_LENGTH];
    check.copy_from_slice(&hash[..CHECK_LENGTH]);
    check
}

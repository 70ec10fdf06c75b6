//! The head: how far the log is known to go. A log that ends before its head has lost something.
//!
//! ```text
//! 'H' packing format closed | id of the log 16 | position u64 | time i64 | hash 32 | segment u32, offset u32 | wiped u64
//!                           | checksum of the index u32 | peaks of the tree u8, each 32 | check 8
//! ```

use sha2::{Digest, Sha256};

use super::segment::Place;
use super::{begin, expect};
use crate::bytes::{Cursor, Malformed, Put};
use crate::merkle::Tree;
use crate::record::{Hash, Timestamp};

const MAGIC: u8 = b'H';
const CHECK_LENGTH: usize = 8;

/// The id of a log: random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct LogId(pub(crate) [u8; 16]);

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Tip {
    /// The number of records.
    pub(crate) position: u64,
    /// The time of the last record.
    pub(crate) time: Timestamp,
    /// The hash of the log: the root of its tree.
    pub(crate) hash: Hash,
}

impl Tip {
    /// The end of an empty log.
    pub(crate) fn empty() -> Self {
        Self { position: 0, time: Timestamp(0), hash: Tree::default().root() }
    }
}

/// The content of the head file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether the log was closed cleanly at this point.
    pub(crate) closed: bool,
    pub(crate) log: LogId,
    pub(crate) tip: Tip,
    /// The end of the last group.
    pub(crate) place: Place,
    /// All erasures and prunings before this position are complete.
    pub(crate) wiped: u64,
    /// The checksum of the index files after a clean close, or 0.
    pub(crate) index: u32,
    /// The log's tree up to this point.
    pub(crate) tree: Tree,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.put(&begin(MAGIC, u8::from(self.closed)));
        bytes.put(&self.log.0);
        bytes.put_u64(self.tip.position);
        bytes.put_time(self.tip.time);
        bytes.put(&self.tip.hash.0);
        bytes.put_u32(self.place.segment);
        bytes.put_u32(self.place.offset);
        bytes.put_u64(self.wiped);
        bytes.put_u32(self.index);
        // At most one for each bit of the size.
        bytes.push(u8::try_from(self.tree.peaks().len()).unwrap_or(u8::MAX));
        self.tree.peaks().iter().for_each(|peak| bytes.put(&peak.0));
        let check = check(&bytes);
        bytes.put(&check);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((content, found)) = bytes.split_last_chunk::<CHECK_LENGTH>() else {
            return Err(Malformed(format!("{} bytes are too few", bytes.len())));
        };
        let mut cursor = Cursor::new(content);
        let sort = expect(&mut cursor, MAGIC)?;
        if *found != check(content) {
            return Err(Malformed::new("its check does not match its content"));
        }
        let closed = match sort {
            0 => false,
            1 => true,
            other => return Err(Malformed(format!("its sort is {other}, this version reads 0 and 1"))),
        };
        let log = LogId(cursor.array()?);
        let tip = Tip { position: cursor.u64()?, time: cursor.time()?, hash: cursor.hash()? };
        let place = Place { segment: cursor.u32()?, offset: cursor.u32()? };
        let (wiped, index) = (cursor.u64()?, cursor.u32()?);
        let count = cursor.u8()?;
        let peaks = (0..count).map(|_| cursor.hash()).collect::<Result<Vec<_>, _>>()?;
        cursor.end()?;
        let tree = Tree::resume(tip.position, peaks)
            .filter(|tree| tree.root() == tip.hash)
            .ok_or_else(|| Malformed::new("its tree does not match its hash"))?;
        Ok(Self { closed, log, tip, place, wiped, index, tree })
    }
}

/// The beginning of a hash, which is enough to detect accidental changes.
fn check(content: &[u8]) -> [u8; CHECK_LENGTH] {
    let hash: [u8; 32] = Sha256::digest(content).into();
    let mut check = [0; CHECK_LENGTH];
    check.copy_from_slice(&hash[..CHECK_LENGTH]);
    check
}

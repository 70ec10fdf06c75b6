//! A gap: what compaction leaves of pruned records.
//!
//! ```text
//! 'N' packing format 0 | length of all u32 | checksum u32 | first position u64 | end u64 | for each: size (as a power of two) u8, hash 32
//! ```
//! The hashes are nodes of the log's tree: the largest complete subtrees between the two positions, from left to right.
//! From them, the tree of the log and its hash at every later position can still be computed.

use super::{begin, check_sum, expect_only, put_checksum};
use crate::bytes::{Cursor, Malformed, Put, usize_of};
use crate::merkle::Node;

pub(crate) const MAGIC: u8 = b'N';
const HEADER: usize = 4 + 4 + 4 + 8 + 8;
const NODE: usize = 1 + 32;

/// Nodes in place of removed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) nodes: Vec<Node>,
}

impl Gap {
    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.put(&begin(MAGIC, 0));
        into.put_u32(u32::try_from(HEADER + self.nodes.len() * NODE).unwrap_or(u32::MAX));
        into.put_u32(0);
        into.put_u64(self.first);
        into.put_u64(self.end);
        for node in &self.nodes {
            into.push(u8::try_from(node.size.trailing_zeros()).unwrap_or(u8::MAX));
            into.put(&node.hash.0);
        }
        put_checksum(&mut into[start..], &[]);
    }

    /// Decodes only the positions, from the beginning of a gap.
    pub(crate) fn positions(bytes: &[u8]) -> Result<(u64, u64), Malformed> {
        let mut cursor = Cursor::new(bytes);
        expect_only(&mut cursor, MAGIC)?;
        cursor.take(8)?;
        Ok((cursor.u64()?, cursor.u64()?))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        expect_only(&mut cursor, MAGIC)?;
        let length = usize_of(cursor.u32()?);
        if length != bytes.len() {
            return Err(Malformed(format!("the length in the gap is {length}, but it has {} bytes", bytes.len())));
        }
        cursor.u32()?;
        let (first, end) = (cursor.u64()?, cursor.u64()?);
        check_sum(bytes, &[])?;
        let mut nodes = Vec::new();
        let mut at = first;
        while cursor.remaining() > 0 {
            let power = cursor.u8()?;
            let size = 1_u64.checked_shl(power.into()).ok_or_else(|| Malformed::new("a subtree is too large"))?;
            let is_complete = at.is_multiple_of(size) && at.checked_add(size).is_some_and(|after| after <= end);
            if !is_complete {
                return Err(Malformed(format!("a subtree of {size} does not fit at position {at}")));
            }
            nodes.push(Node { first: at, size, hash: cursor.hash()? });
            at += size;
        }
        if at != end || first >= end {
            return Err(Malformed(format!("its subtrees go from {first} to {at}, not to {end}")));
        }
        Ok(Self { first, end, nodes })
    }
}

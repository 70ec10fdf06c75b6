//! The Merkle tree of a log, as in [RFC 9162](https://www.rfc-editor.org/rfc/rfc9162), section 2.1, over the hashes of
//! the log's records in the order of their positions.
//!
//! It is not stored: it is computed from the hashes in the log, so maintaining it adds nothing to an append. A
//! checkpoint stores the peaks of its tree, and the next one continues from them. A proof reads each hash once.

use sha2::{Digest, Sha256};

use crate::record::Hash;
use crate::seal;

/// The hash of a leaf, given the hash of a record.
#[must_use]
pub fn leaf(record: &Hash) -> Hash {
    seal::sha256([&[0], &record.0])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    seal::sha256([&[1], &left.0, &right.0])
}

/// The root of a complete subtree: of one record, or of a power of two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Node {
    /// The position of its first record, a multiple of its size.
    pub first: u64,
    /// The number of its records.
    pub size: u64,
    /// Its root hash; the leaf hash if it has one record.
    pub hash: Hash,
}

impl Node {
    /// The leaf of a record, given its hash.
    #[must_use]
    pub fn of_record(position: u64, record: &Hash) -> Self {
        Self { first: position, size: 1, hash: leaf(record) }
    }
}

/// Merges adjacent subtrees, given from left to right, into the largest complete subtrees: as few as possible.
#[must_use]
pub fn largest(nodes: impl IntoIterator<Item = Node>) -> Vec<Node> {
    let mut largest: Vec<Node> = Vec::new();
    for mut next in nodes {
        while let Some(left) = largest.pop_if(|left| {
            left.size == next.size && left.first + left.size == next.first && left.first.is_multiple_of(2 * left.size)
        }) {
            next = Node { first: left.first, size: 2 * left.size, hash: node(&left.hash, &next.hash) };
        }
        largest.push(next);
    }
    largest
}

/// A growing tree, of which only the roots of the largest complete subtrees are kept.
///
/// # Examples
/// ```
/// use cloacina_store::merkle::Tree;
/// use cloacina_store::record::Hash;
///
/// let mut tree = Tree::default();
/// (0..5).for_each(|number| tree.push(&Hash([number; 32])));
/// assert_eq!((tree.size(), tree.peaks().len()), (5, 2)); // 4 + 1
/// assert_eq!(Tree::resume(5, tree.peaks().to_vec()).unwrap().root(), tree.root());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// From left to right: one for each set bit of the size, the highest first.
    peaks: Vec<Hash>,
}

impl Tree {
    /// Restores a tree from its peaks; `None` if their number does not match the size.
    #[must_use]
    pub fn resume(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == peaks.len() as u64).then_some(Self { size, peaks })
    }

    /// Adds the hash of the next record.
    pub fn push(&mut self, record: &Hash) {
        self.add(1, leaf(record));
    }

    /// Appends records by the root of their subtree. Returns whether it fits: a subtree begins at a multiple of its
    /// size.
    pub fn push_node(&mut self, node: &Node) -> bool {
        let fits = node.size.is_power_of_two() && self.size.is_multiple_of(node.size);
        if fits {
            self.add(node.size, node.hash);
        }
        fits
    }

    fn add(&mut self, size: u64, mut hash: Hash) {
        let mut complete = self.size / size;
        // Each trailing one bit is a complete subtree that the new one extends to a larger one.
        while complete & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
            }
            complete >>= 1;
        }
        self.peaks.push(hash);
        self.size += size;
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the largest complete subtrees, from left to right.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root; the SHA-256 of nothing if the tree is empty.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Hash(Sha256::digest([]).into());
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Consecutive leaves whose root is part of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeafRange {
    from: u64,
    to: u64,
}

/// The size of the left subtree: the largest power of two below the size of the tree.
fn split(size: u64) -> u64 {
    let highest = 1 << (63 - size.leading_zeros());
    if highest == size { highest / 2 } else { highest }
}

/// The ranges in the proof that a leaf is in a tree, from the leaf up.
fn inclusion_ranges(index: u64, size: u64) -> Vec<LeafRange> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            ranges.push(LeafRange { from: middle, to });
            to = middle;
        } else {
            ranges.push(LeafRange { from, to: middle });
            from = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges in the proof that a tree extends an older one, in order.
fn consistency_ranges(old: u64, size: u64) -> Vec<LeafRange> {
    let (mut from, mut to) = (0, size);
    let mut is_known = true;
    let mut ranges = Vec::new();
    while from < old && to != old {
        let middle = from + split(to - from);
        if old <= middle {
            ranges.push(LeafRange { from: middle, to });
            to = middle;
        } else {
            ranges.push(LeafRange { from, to: middle });
            from = middle;
            is_known = false;
        }
    }
    if !is_known {
        ranges.push(LeafRange { from, to });
    }
    ranges.reverse();
    ranges
}

/// A proof could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<Error: std::error::Error> {
    /// The tree has no such leaf, or is smaller than the older one.
    #[error("{0}")]
    OutOfRange(String),
    /// The hashes cannot be read.
    #[error(transparent)]
    Read(Error),
}

/// The number of hashes that are read at once.
const PAGE: usize = 16 * 1024;

/// The roots of ranges, in the given order. Reads each node once, from front to back.
fn roots<Error: std::error::Error>(
    ranges: &[LeafRange],
    mut read: impl FnMut(u64, usize) -> Result<Vec<Node>, Error>,
) -> Result<Vec<Hash>, ProofError<Error>> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|at| ranges[*at].from);
    let mut found = vec![Hash::ZERO; ranges.len()];
    for at in order {
        let LeafRange { from, to } = ranges[at];
        let mut tree = Tree::default();
        while from + tree.size() < to {
            let left = usize::try_from(to - from - tree.size()).unwrap_or(usize::MAX);
            let nodes = read(from + tree.size(), PAGE.min(left)).map_err(ProofError::Read)?;
            if nodes.is_empty() {
                let what = format!("the log ends at {}, the tree should have {to} leaves", from + tree.size());
                return Err(ProofError::OutOfRange(what));
            }
            for node in &nodes {
                // Pruned records have fewer nodes than records.
                if from + tree.size() == to {
                    break;
                }
                if from + tree.size() + node.size > to || !tree.push_node(node) {
                    let what = format!("the records from position {} on were pruned", from + tree.size());
                    return Err(ProofError::OutOfRange(what));
                }
            }
        }
        found[at] = tree.root();
    }
    Ok(found)
}

/// Proves that the record at a position is in the tree of the first `size` records. `read` returns nodes of the tree
/// from a position on.
///
/// # Errors
/// [`ProofError`].
pub fn prove_inclusion<Error: std::error::Error>(
    position: u64,
    size: u64,
    read: impl FnMut(u64, usize) -> Result<Vec<Node>, Error>,
) -> Result<Vec<Hash>, ProofError<Error>> {
    if position >= size {
        return Err(ProofError::OutOfRange(format!("a tree of {size} leaves has no leaf at {position}")));
    }
    roots(&inclusion_ranges(position, size), read)
}

/// Proves that the tree of the first `size` records extends that of the first `old`.
///
/// # Errors
/// [`ProofError`].
pub fn prove_consistency<Error: std::error::Error>(
    old: u64,
    size: u64,
    read: impl FnMut(u64, usize) -> Result<Vec<Node>, Error>,
) -> Result<Vec<Hash>, ProofError<Error>> {
    if old == 0 || old > size {
        return Err(ProofError::OutOfRange(format!("a tree of {size} leaves does not extend one of {old}")));
    }
    roots(&consistency_ranges(old, size), read)
}

/// Whether a proof shows that a record with this hash is at a position of the tree with this root (RFC 9162, 2.1.3.2).
#[must_use]
pub fn includes(root: &Hash, size: u64, position: u64, record: &Hash, proof: &[Hash]) -> bool {
    if position >= size {
        return false;
    }
    let (mut first, mut last) = (position, size - 1);
    let mut hash = leaf(record);
    for part in proof {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            hash = node(part, &hash);
            while first & 1 == 0 && first != 0 {
                first >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, part);
        }
        first >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that one tree extends another (RFC 9162, 2.1.4.2).
#[must_use]
pub fn is_consistent(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let mut parts = proof.iter();
    // A complete old tree is a subtree of the new one, so its root is not in the proof.
    let first = if old_size.is_power_of_two() { Some(old_root) } else { parts.next() };
    let Some(first) = first else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    for part in parts {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node(part, &old_hash);
            new_hash = node(part, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, part);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn hashes(count: u64) -> Vec<Hash> {
        (0..count).map(|number| Hash(Sha256::digest(number.to_be_bytes()).into())).collect()
    }

    /// The definition in RFC 9162, verbatim.
    fn naive_root(hashes: &[Hash]) -> Hash {
        match hashes {
            [] => Hash(Sha256::digest([]).into()),
            [only] => leaf(only),
            several => {
                let mut middle = 1;
                while middle * 2 < several.len() {
                    middle *= 2;
                }
                node(&naive_root(&several[..middle]), &naive_root(&several[middle..]))
            }
        }
    }

    fn leaves(hashes: &[Hash]) -> Vec<Node> {
        (0..).zip(hashes).map(|(at, hash)| Node::of_record(at, hash)).collect()
    }

    fn reads(hashes: &[Hash]) -> impl Fn(u64, usize) -> Result<Vec<Node>, Infallible> + '_ {
        // In small pages, to test that they are joined.
        |from, limit| Ok(leaves(hashes).into_iter().skip(from as usize).take(limit.min(3)).collect())
    }

    /// Pruned records leave their largest subtrees. Together with the leaves around them, they must give the same root.
    #[test]
    fn a_tree_with_gaps_has_the_root_of_the_tree_without() {
        let hashes = hashes(41);
        for from in 0..41 {
            for to in from + 1..=41 {
                let nodes = leaves(&hashes);
                let gap = largest(nodes[from..to].iter().copied());
                assert!(gap.iter().all(|node| node.first.is_multiple_of(node.size)), "{from} to {to}");
                assert!(gap.len() <= 2 * 6, "{from} to {to}: {}", gap.len());
                let mut tree = Tree::default();
                for node in nodes[..from].iter().chain(&gap).chain(&nodes[to..]) {
                    assert!(tree.push_node(node), "{from} to {to}");
                }
                assert_eq!(tree.root(), naive_root(&hashes), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_subtree_is_only_added_where_it_stands() {
        let mut tree = Tree::default();
        tree.push(&Hash::ZERO);
        assert!(!tree.push_node(&Node { first: 0, size: 2, hash: Hash::ZERO }));
        assert!(!tree.push_node(&Node { first: 1, size: 3, hash: Hash::ZERO }));
        assert_eq!(tree.size(), 1);
    }

    fn root(hashes: &[Hash]) -> Hash {
        let mut tree = Tree::default();
        hashes.iter().for_each(|hash| tree.push(hash));
        tree.root()
    }

    #[test]
    fn a_growing_tree_has_the_root_of_the_definition() {
        let hashes = hashes(70);
        for size in 0..=70 {
            assert_eq!(root(&hashes[..size]), naive_root(&hashes[..size]), "{size}");
        }
    }

    // Computed with Python's hashlib.
    #[test]
    fn the_roots_are_what_they_always_were() {
        let leaves: Vec<Hash> = (0..3).map(|number| Hash([number; 32])).collect();
        assert_eq!(root(&[]).to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(root(&leaves).to_string(), "ba8d94b7fbcecae7b81c4c80574fe24734a6917bf9c1ecd66ff3e0c34ead4620");
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_no_other_one() {
        let hashes = hashes(34);
        for size in 1..=34_u64 {
            let root = naive_root(&hashes[..size as usize]);
            for at in 0..size {
                let proof = prove_inclusion(at, size, reads(&hashes)).unwrap();
                assert!(includes(&root, size, at, &hashes[at as usize], &proof), "{at} of {size}");
                for other in (0..=size).filter(|other| *other != at) {
                    let wrong = hashes.get(other as usize).copied().unwrap_or(Hash::ZERO);
                    assert!(!includes(&root, size, at, &wrong, &proof));
                    assert!(!includes(&root, size, other, &hashes[at as usize], &proof), "{at} as {other} of {size}");
                }
                assert!(!includes(&Hash::ZERO, size, at, &hashes[at as usize], &proof));
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!includes(&root, size, at, &hashes[at as usize], shorter));
                }
                let longer = [&proof[..], &[Hash::ZERO]].concat();
                assert!(!includes(&root, size, at, &hashes[at as usize], &longer));
            }
            assert!(prove_inclusion(size, size, reads(&hashes)).is_err());
        }
    }

    #[test]
    fn every_small_tree_goes_on_from_every_smaller_one_and_from_no_other() {
        let hashes = hashes(34);
        for size in 1..=34_u64 {
            let new = naive_root(&hashes[..size as usize]);
            for old_size in 1..=size {
                let old = naive_root(&hashes[..old_size as usize]);
                let proof = prove_consistency(old_size, size, reads(&hashes)).unwrap();
                assert!(is_consistent((old_size, &old), (size, &new), &proof), "{old_size} to {size}");
                assert!(!is_consistent((old_size, &Hash::ZERO), (size, &new), &proof));
                assert!(!is_consistent((old_size, &old), (size, &Hash::ZERO), &proof));
                for other in (1..=size).filter(|other| *other != old_size) {
                    assert!(!is_consistent((other, &old), (size, &new), &proof), "{old_size} as {other} to {size}");
                }
                for at in 0..proof.len() {
                    let mut altered = proof.clone();
                    altered[at].0[0] ^= 1;
                    assert!(!is_consistent((old_size, &old), (size, &new), &altered));
                }
            }
            assert!(prove_consistency(0, size, reads(&hashes)).is_err());
            assert!(prove_consistency(size + 1, size, reads(&hashes)).is_err());
        }
    }

    #[test]
    fn a_log_that_is_too_short_is_said_so() {
        assert!(matches!(prove_inclusion(0, 40, reads(&hashes(39))), Err(ProofError::OutOfRange(_))));
    }
}

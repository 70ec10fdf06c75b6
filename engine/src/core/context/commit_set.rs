//! A copy-on-write set of commits: the commits of a task's ancestors. Commits are small numbers, assigned in the order in
//! which writes take effect.
//!
//! The set is a tree of fixed shape with eight children per node and 512 numbers per leaf. Sets share equal nodes, so
//! the cost of a union depends on how much the two sets differ:
//!
//! - If both have the same node, it is reused without looking below it.
//! - If two distinct nodes have the same numbers, the one with the lower address is taken. So sets that reached the
//!   same numbers independently, as in a random graph, share their nodes after a few joins.
//!
//! At worst, a union looks at one bit per commit: 200 leaves of 64 bytes for 100,000 commits.
//!
//! Crates for bit sets share nothing between sets. Crates for shared maps do so entry by entry, and an entry is several
//! hundred times as large as a bit.

use std::array::from_fn;
use std::sync::Arc;

/// Numbers per leaf, a power of two.
const LEAF: usize = 512;
const WORDS: usize = LEAF / 64;
/// Children per node.
const WIDTH: usize = 8;

/// A set of commits.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitSet {
    root: Option<Arc<Node>>,
    /// The number of levels above the leaves.
    height: u32,
}

#[derive(Clone, Debug)]
enum Node {
    /// A leaf: a bit for each of 512 numbers.
    Bits([u64; WORDS]),
    /// Eight nodes of the level below; `None` for an empty range.
    Nodes([Option<Arc<Node>>; WIDTH]),
}

impl Node {
    fn empty(height: u32) -> Self {
        if height == 0 { Self::Bits([0; WORDS]) } else { Self::Nodes([const { None }; WIDTH]) }
    }

    /// Returns the union of two nodes.
    fn union(ours: &Arc<Self>, theirs: &Arc<Self>) -> Arc<Self> {
        if Arc::ptr_eq(ours, theirs) {
            return ours.clone();
        }
        let (both, is_ours, is_theirs) = match (&**ours, &**theirs) {
            (Self::Bits(left), Self::Bits(right)) => {
                let both: [u64; WORDS] = from_fn(|at| left[at] | right[at]);
                (Self::Bits(both), both == *left, both == *right)
            }
            (Self::Nodes(left), Self::Nodes(right)) => {
                let both: [Option<Arc<Self>>; WIDTH] = from_fn(|at| match (&left[at], &right[at]) {
                    (Some(left), Some(right)) => Some(Self::union(left, right)),
                    (one, None) | (None, one) => one.clone(),
                });
                let is = |side: &[Option<Arc<Self>>; WIDTH]| {
                    both.iter().zip(side).all(|(both, side)| address(both.as_ref()) == address(side.as_ref()))
                };
                let (is_ours, is_theirs) = (is(left), is(right));
                (Self::Nodes(both), is_ours, is_theirs)
            }
            _ => unreachable!("nodes of one height are of one kind"),
        };
        match (is_ours, is_theirs) {
            (true, true) if address(Some(theirs)) < address(Some(ours)) => theirs.clone(),
            (true, _) => ours.clone(),
            (false, true) => theirs.clone(),
            (false, false) => Arc::new(both),
        }
    }

    /// Adds to `found` the numbers that are in this node and not in `other`, until it has at least `limit` numbers.
    fn difference(&self, other: Option<&Arc<Self>>, first: usize, height: u32, limit: usize, found: &mut Vec<usize>) {
        match (self, other.map(|other| &**other)) {
            (Self::Bits(here), other) => {
                let there = if let Some(Self::Bits(there)) = other { *there } else { [0; WORDS] };
                for (at, word) in here.iter().enumerate() {
                    let mut only = word & !there[at];
                    while only != 0 {
                        found.push(first + at * 64 + only.trailing_zeros() as usize);
                        only &= only - 1;
                    }
                }
            }
            (Self::Nodes(here), other) => {
                for (at, child) in here.iter().enumerate() {
                    let other = if let Some(Self::Nodes(there)) = other { there[at].as_ref() } else { None };
                    let Some(child) = child else { continue };
                    if found.len() < limit && address(Some(child)) != address(other) {
                        child.difference(other, first + at * capacity(height - 1), height - 1, limit, found);
                    }
                }
            }
        }
    }
}

fn address(node: Option<&Arc<Node>>) -> Option<*const Node> {
    node.map(Arc::as_ptr)
}

/// Returns how many numbers a node of this height can hold.
fn capacity(height: u32) -> usize {
    LEAF.saturating_mul(WIDTH.saturating_pow(height))
}

impl CommitSet {
    /// Adds a commit.
    pub(super) fn insert(&mut self, commit: usize) {
        while commit >= capacity(self.height) {
            self.grow();
        }
        let mut height = self.height;
        let mut node = self.root.get_or_insert_with(|| Arc::new(Node::empty(height)));
        loop {
            match Arc::make_mut(node) {
                Node::Bits(words) => {
                    words[commit % LEAF / 64] |= 1 << (commit % 64);
                    return;
                }
                Node::Nodes(children) => {
                    height -= 1;
                    node = children[commit / capacity(height) % WIDTH]
                        .get_or_insert_with(|| Arc::new(Node::empty(height)));
                }
            }
        }
    }

    /// Adds a level at the top.
    fn grow(&mut self) {
        self.height += 1;
        if let Some(lower) = self.root.take() {
            let mut children = [const { None }; WIDTH];
            children[0] = Some(lower);
            self.root = Some(Arc::new(Node::Nodes(children)));
        }
    }

    /// Returns whether the set contains a commit.
    pub(super) fn contains(&self, commit: usize) -> bool {
        if commit >= capacity(self.height) {
            return false;
        }
        let mut height = self.height;
        let mut node = self.root.as_ref();
        while let Some(here) = node {
            match &**here {
                Node::Bits(words) => return words[commit % LEAF / 64] >> (commit % 64) & 1 == 1,
                Node::Nodes(children) => {
                    height -= 1;
                    node = children[commit / capacity(height) % WIDTH].as_ref();
                }
            }
        }
        false
    }

    /// Adds all commits of another set.
    pub(super) fn union_with(&mut self, other: &Self) {
        let Some(theirs) = &other.root else { return };
        let Some(ours) = &self.root else {
            *self = other.clone();
            return;
        };
        if self.height == other.height {
            self.root = Some(Node::union(ours, theirs));
            return;
        }
        let mut other = other.clone();
        while self.height < other.height {
            self.grow();
        }
        while other.height < self.height {
            other.grow();
        }
        self.union_with(&other);
    }

    /// Returns the commits in ascending order.
    pub(super) fn to_vec(&self) -> Vec<usize> {
        self.difference(&Self::default(), usize::MAX)
    }

    /// Returns the commits that are in this set and not in `other`, in ascending order. Stops once at least `limit`
    /// commits were found.
    pub(super) fn difference(&self, other: &Self, limit: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let (mut ours, mut theirs) = (self.clone(), other.clone());
        while ours.height < theirs.height {
            ours.grow();
        }
        while theirs.height < ours.height {
            theirs.grow();
        }
        if let Some(root) = ours.root.as_ref().filter(|root| address(Some(root)) != address(theirs.root.as_ref())) {
            root.difference(theirs.root.as_ref(), 0, ours.height, limit, &mut found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Numbers that are close together, at the boundaries of leaves and nodes, and far apart.
    fn commits() -> impl Strategy<Value = usize> {
        prop_oneof![0..40_usize, 500..530_usize, 4_080..4_110_usize, 0..300_000_usize]
    }

    fn set_of(commits: impl IntoIterator<Item = usize>) -> CommitSet {
        let mut set = CommitSet::default();
        commits.into_iter().for_each(|commit| set.insert(commit));
        set
    }

    proptest! {
        #[test]
        fn sets_that_are_united_over_and_over_agree_with_sets_that_share_nothing(
            steps in vec((0..4_usize, 0..4_usize, vec(commits(), 0..4)), 1..40),
        ) {
            let mut sets: [CommitSet; 4] = Default::default();
            let mut plain: [BTreeSet<usize>; 4] = Default::default();
            for (one, other, new) in steps {
                let (theirs, theirs_plain) = (sets[other].clone(), plain[other].clone());
                sets[one].union_with(&theirs);
                plain[one].extend(theirs_plain);
                for commit in new {
                    sets[one].insert(commit);
                    plain[one].insert(commit);
                    prop_assert!(sets[one].contains(commit) && !sets[one].contains(commit + 300_000));
                }
                for (set, plain) in sets.iter().zip(&plain) {
                    prop_assert_eq!(&set.to_vec(), &plain.iter().copied().collect::<Vec<_>>());
                    prop_assert!((0..600).all(|commit| set.contains(commit) == plain.contains(&commit)));
                }
                let beyond: Vec<usize> = plain[one].difference(&plain[other]).copied().collect();
                prop_assert_eq!(&sets[one].difference(&sets[other], usize::MAX), &beyond);
                for limit in [0, 1, 3] {
                    let found = sets[one].difference(&sets[other], limit);
                    prop_assert!(found.len() >= limit.min(beyond.len()) && beyond.starts_with(&found));
                }
            }
        }
    }

    #[test]
    fn sets_that_came_to_the_same_in_their_own_ways_become_one_in_memory() {
        let all = 0..10_000;
        let mut sets: Vec<CommitSet> = (0..8).map(|_| set_of(all.clone())).collect();
        // In each round, every set is joined with another one, as the tasks of a layer are.
        for stride in [1, 2, 4] {
            let before = sets.clone();
            for (at, set) in sets.iter_mut().enumerate() {
                set.union_with(&before[(at + stride) % 8]);
            }
        }
        let roots: BTreeSet<_> = sets.iter().map(|set| address(set.root.as_ref())).collect();
        assert_eq!(roots.len(), 1);
        assert_eq!(sets[0].to_vec(), all.collect::<Vec<_>>());
    }

    #[test]
    fn a_set_that_holds_the_other_is_the_union() {
        let large = set_of((0..2_000).chain([70_000]));
        let small = set_of([3, 700]);
        for (mut set, other) in [(large.clone(), &small), (small.clone(), &large)] {
            set.union_with(other);
            assert_eq!(address(set.root.as_ref()), address(large.root.as_ref()));
        }
    }
}

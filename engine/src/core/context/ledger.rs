//! The ledger of an execution, and the scopes that select what a task sees of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, Vector};

use super::commit_set::CommitSet;
use super::version::{Version, VersionRef};
use crate::core::event::{Key, Seq, TaskId};
use crate::core::json::Json;

/// All effective writes of an execution. It is cheap to clone: clones share their unchanged parts.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    keys: OrdMap<Key, KeyWrites>,
    /// For each commit, the versions that it added to chains.
    commits: Vector<Arc<[(Key, VersionRef)]>>,
}

/// The writes to a key.
#[derive(Clone, Debug)]
struct KeyWrites {
    /// The end of the chain, which starts with the first write. A write extends it if its writer saw the whole chain
    /// and nothing else.
    chain: VersionRef,
    /// The write by a task that took effect last.
    latest: Option<VersionRef>,
}

/// The visible off-chain versions of a scope.
///
/// Each of them is based on everything that the scope sees of the chain of its key, so it hides the chain.
pub(super) type OffChain = OrdMap<Key, VersionRef>;

/// The part of a ledger that is visible to a task.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub(super) commits: CommitSet,
    pub(super) off_chain: OffChain,
}

impl FromIterator<(Key, VersionRef)> for Scope {
    /// Creates a scope that sees these versions, and nothing of any ledger.
    fn from_iter<I: IntoIterator<Item = (Key, VersionRef)>>(versions: I) -> Self {
        Self { off_chain: versions.into_iter().collect(), commits: CommitSet::default() }
    }
}

impl Ledger {
    /// Returns the version of a key that is visible in a scope.
    #[must_use]
    pub fn look<'a>(&'a self, scope: &'a Scope, key: &str) -> Option<&'a VersionRef> {
        scope.off_chain.get(key).or_else(|| self.keys.get(key)?.chain.last_in(&scope.commits))
    }

    /// Returns the latest version of a key that a task wrote.
    #[must_use]
    pub fn latest(&self, key: &str) -> Option<&VersionRef> {
        self.keys.get(key)?.latest.as_ref()
    }

    /// Returns the latest version of every key that a task wrote, in key order.
    pub fn all_latest(&self) -> impl Iterator<Item = (&Key, &VersionRef)> {
        self.keys.iter().filter_map(|(key, written)| Some((key, written.latest.as_ref()?)))
    }

    /// Returns everything that is visible in a scope, in key order.
    pub(super) fn visible<'a>(&'a self, scope: &'a Scope) -> BTreeMap<&'a Key, &'a VersionRef> {
        let commits = scope.commits.to_vec();
        let mut visible = BTreeMap::new();
        if commits.len() * COMMIT_SCAN_FACTOR < self.keys.len() {
            // In commit order, so that the last version of a chain wins.
            let chained = commits.into_iter().flat_map(|commit| self.chain_writes(commit));
            visible.extend(chained.map(|(key, version)| (key, version)));
        } else {
            let chains = self.keys.iter();
            visible.extend(chains.filter_map(|(key, written)| Some((key, written.chain.last_in(&scope.commits)?))));
        }
        visible.extend(&scope.off_chain);
        visible
    }

    /// Returns the keys whose version may differ between two scopes, each once, in order.
    pub(super) fn differing(&self, one: &Scope, other: &Scope) -> Vec<Key> {
        let mut keys = differing_off_chain(&one.off_chain, &other.off_chain);
        for (more, less) in [(one, other), (other, one)] {
            let commits = more.commits.difference(&less.commits, usize::MAX).into_iter();
            keys.extend(commits.flat_map(|commit| self.chain_writes(commit)).map(|(key, _)| key.clone()));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the number of commits.
    pub(super) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// Returns the versions that a commit added to chains, in the order of the writes.
    pub(super) fn chain_writes(&self, commit: usize) -> &[(Key, VersionRef)] {
        self.commits.get(commit).map_or(&[], |chained| chained)
    }

    /// Commits writes together, and returns the scope that sees them: what their writer saw, and the writes themselves.
    pub fn commit(
        &mut self,
        seen: &Scope,
        writer: Option<&TaskId>,
        writes: impl IntoIterator<Item = (Key, Option<Json>, Seq)>,
    ) -> Scope {
        let commit = self.commits.len();
        let mut scope = seen.clone();
        let mut chained = Vec::new();
        for (key, value, seq) in writes {
            let off_chain = scope.off_chain.get(&key);
            let known = self.keys.get_mut(&key);
            let end = known.as_ref().map(|written| &written.chain);
            let over = off_chain.or_else(|| end?.last_in(&scope.commits));
            let extends_chain = off_chain.is_none() && over == end;
            let version = Version::in_commit(commit, value, seq, writer.cloned(), over.cloned());
            let latest = writer.map(|_| version.clone());
            match known {
                Some(written) => {
                    if extends_chain {
                        written.chain = version.clone();
                    }
                    written.latest = latest.or_else(|| written.latest.take());
                }
                None => drop(self.keys.insert(key.clone(), KeyWrites { chain: version.clone(), latest })),
            }
            if extends_chain {
                scope.commits.insert(commit);
                chained.push((key, version));
            } else {
                scope.off_chain.insert(key, version);
            }
        }
        if !chained.is_empty() {
            self.commits.push_back(chained.into());
        }
        scope
    }
}

/// With this many times fewer commits than keys, iterating over the commits is cheaper than over all keys.
const COMMIT_SCAN_FACTOR: usize = 4;

/// Returns the keys whose off-chain versions differ.
pub(super) fn differing_off_chain(one: &OffChain, other: &OffChain) -> Vec<Key> {
    if one.ptr_eq(other) {
        return Vec::new();
    }
    let keys = one.diff(other).map(|item| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key.clone(),
    });
    keys.collect()
}

//! The ledger of an execution, and what a task sees of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, Vector};

use super::commit_set::CommitSet;
use super::version::{Version, VersionRef};
use crate::core::event::{Key, Seq, TaskId};
use crate::core::json::Json;

/// All that took effect in an execution. A copy of it costs nothing, and shares what is not written anew.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    keys: OrdMap<Key, KeyWrites>,
    /// Of each commit, what it added to chains.
    commits: Vector<Arc<[(Key, VersionRef)]>>,
}

/// What was written to a key.
#[derive(Clone, Debug)]
struct KeyWrites {
    /// The end of its chain: the first write, and each one whose writer saw the chain so far and nothing else.
    chain: VersionRef,
    /// The last task's write that took effect.
    latest: Option<VersionRef>,
}

/// The visible versions that are on no chain.
///
/// Each of them has seen all that the scope sees of the chain of its key: that is what hides the chain.
pub(super) type OffChain = OrdMap<Key, VersionRef>;

/// What part of a ledger somebody sees.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub(super) commits: CommitSet,
    pub(super) off_chain: OffChain,
}

impl FromIterator<(Key, VersionRef)> for Scope {
    /// The scope of somebody who sees these versions, and nothing of any ledger.
    fn from_iter<I: IntoIterator<Item = (Key, VersionRef)>>(versions: I) -> Self {
        Self { off_chain: versions.into_iter().collect(), commits: CommitSet::default() }
    }
}

impl Ledger {
    /// The version of a key that is seen in a scope.
    #[must_use]
    pub fn look<'a>(&'a self, scope: &'a Scope, key: &str) -> Option<&'a VersionRef> {
        scope.off_chain.get(key).or_else(|| self.keys.get(key)?.chain.last_in(&scope.commits))
    }

    /// The version of a key that a task's write made and that took effect last.
    #[must_use]
    pub fn latest(&self, key: &str) -> Option<&VersionRef> {
        self.keys.get(key)?.latest.as_ref()
    }

    /// The same of every key that a task wrote, in the order of the keys.
    pub fn all_latest(&self) -> impl Iterator<Item = (&Key, &VersionRef)> {
        self.keys.iter().filter_map(|(key, written)| Some((key, written.latest.as_ref()?)))
    }

    /// Everything that is seen in a scope, in the order of the keys.
    pub(super) fn visible<'a>(&'a self, scope: &'a Scope) -> BTreeMap<&'a Key, &'a VersionRef> {
        let commits = scope.commits.to_vec();
        let mut visible = BTreeMap::new();
        if commits.len() * COMMIT_SCAN_FACTOR < self.keys.len() {
            // In the order of the commits, so that the last version of a chain remains.
            let chained = commits.into_iter().flat_map(|commit| self.chain_writes(commit));
            visible.extend(chained.map(|(key, version)| (key, version)));
        } else {
            let chains = self.keys.iter();
            visible.extend(chains.filter_map(|(key, written)| Some((key, written.chain.last_in(&scope.commits)?))));
        }
        visible.extend(&scope.off_chain);
        visible
    }

    /// The keys that may have another version in one scope than in the other; each once, in their order.
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

    /// How many commits there were.
    pub(super) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// What a commit added to chains, in the order of writing.
    pub(super) fn chain_writes(&self, commit: usize) -> &[(Key, VersionRef)] {
        self.commits.get(commit).map_or(&[], |chained| chained)
    }

    /// Lets writes take effect together, and gives the scope of those who see them: what their writer saw, and they.
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

/// From how many times fewer commits on it is cheaper to go through them than through all keys that were ever written.
const COMMIT_SCAN_FACTOR: usize = 4;

/// The keys of which not both have the same version apart.
pub(super) fn differing_off_chain(one: &OffChain, other: &OffChain) -> Vec<Key> {
    if one.ptr_eq(other) {
        return Vec::new();
    }
    let keys = one.diff(other).map(|item| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key.clone(),
    });
    keys.collect()
}

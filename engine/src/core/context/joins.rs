//! Joins: combines the contexts of several branches.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::history::CommonHistory;
use super::ledger::{Ledger, OffChain, Scope, differing_off_chain};
use super::version::{Side, Source, Version, VersionRef, address};
use crate::core::event::{Key, Seq};
use crate::core::json::Json;
use crate::core::merge::three_way;

/// A conflict: two branches wrote the same key without seeing each other's write, and the values cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The key.
    pub key: Key,
    /// The conflicting writes, in ascending order.
    pub writes: Vec<Seq>,
    /// The writes whose value was taken.
    pub taken: Vec<Seq>,
}

/// The result of a join.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// The joined scope.
    pub scope: Scope,
    /// The collisions, in key order.
    pub collisions: Vec<Collision>,
}

/// Joins branches, and caches the merges. Joins of the same two versions return the same merged version, so that a
/// later join finds it in both histories.
#[derive(Clone, Debug, Default)]
pub struct Joins {
    /// Merges by the addresses of the two versions, which each merge keeps alive as its parents.
    merges: HashMap<(usize, usize), VersionRef>,
}

impl Joins {
    /// Joins the scopes of several branches, in the order of the `dependencies` list.
    ///
    /// Keys with only chain versions need no work beyond the union of the commits. For the others, the cost depends on
    /// how much the branches differ.
    #[must_use]
    pub fn join(&mut self, ledger: &Ledger, branches: &[&Scope]) -> Joined {
        let Some((first, others)) = branches.split_first() else { return Joined::default() };
        let mut scope = (*first).clone();
        let mut merges = BTreeMap::new();
        for branch in others {
            self.join_branch(ledger, &mut scope, branch, &mut merges);
        }
        // Each key collides at most once, whatever the number of branches, and not at all if a later branch had seen
        // the others.
        let collisions = merges.into_iter().filter_map(|(key, merges): (Key, KeyMerges)| {
            let version = ledger.look(&scope, &key).filter(|version| matches!(version.source, Source::Merge { .. }))?;
            Some(Collision { writes: version.writes(), taken: merges.collided?.writes(), key })
        });
        Joined { collisions: collisions.collect(), scope }
    }

    /// Joins versions of one key, from the first branch to the last.
    #[must_use]
    pub fn join_versions(&mut self, versions: impl IntoIterator<Item = VersionRef>) -> Option<VersionRef> {
        let mut merges = KeyMerges::default();
        versions.into_iter().reduce(|ours, theirs| if ours == theirs { ours } else { merges.add(self, &ours, &theirs) })
    }

    fn join_branch(
        &mut self,
        ledger: &Ledger,
        ours: &mut Scope,
        theirs: &Scope,
        merges: &mut BTreeMap<Key, KeyMerges>,
    ) {
        let (mut off_chain, keys) = differing(ledger, ours, theirs);
        for key in keys {
            let joined = match (ledger.look(ours, &key), ledger.look(theirs, &key)) {
                // If one branch lacks the key, none of its ancestors wrote it, so there is nothing to merge.
                (Some(only), None) | (None, Some(only)) => only.clone(),
                (Some(left), Some(right)) if left == right => left.clone(),
                (Some(left), Some(right)) => merges.entry(key.clone()).or_default().add(self, left, right),
                (None, None) => continue,
            };
            off_chain.insert(key, joined);
        }
        ours.off_chain = off_chain;
        ours.commits.union_with(&theirs.commits);
    }

    /// Returns the joined version: the one that hides the other, or a merge against their common base.
    fn merge(&mut self, ours: &VersionRef, theirs: &VersionRef) -> VersionRef {
        self.merge_with_history(ours, theirs, None)
    }

    /// Same as `merge`, with all versions that `ours` came from, if they are known.
    fn merge_with_history(
        &mut self,
        ours: &VersionRef,
        theirs: &VersionRef,
        history: Option<&HashSet<usize>>,
    ) -> VersionRef {
        let pair = (address(ours), address(theirs));
        if let Some(known) = self.merges.get(&pair) {
            return known.clone();
        }
        let mut common = CommonHistory::of(ours, theirs, history);
        if common.is_all_of_theirs {
            return ours.clone();
        }
        if common.is_all_of_ours {
            return theirs.clone();
        }
        let base =
            if base_does_not_matter(&common.last, ours, theirs) { common.last.pop() } else { self.base(common.last) };
        let base = base.as_ref().and_then(|base| base.value.as_ref());
        let merge = match Resolution::of(base, ours.value.as_ref(), theirs.value.as_ref()) {
            Resolution::Ours => {
                Version::merged(ours.value.clone(), ours.source.clone(), [ours, theirs], Some(Side::Ours))
            }
            Resolution::Theirs => {
                Version::merged(theirs.value.clone(), theirs.source.clone(), [ours, theirs], Some(Side::Theirs))
            }
            Resolution::Both { value, collision } => {
                Version::merged(value, Source::Merge { collision }, [ours, theirs], None)
            }
        };
        self.merges.insert(pair, merge.clone());
        merge
    }

    /// Returns the common base. If several common versions did not see each other, they are merged in the order of
    /// their writers' names.
    fn base(&mut self, mut last: Vec<VersionRef>) -> Option<VersionRef> {
        last.sort_by_cached_key(|version| version.sort_key());
        last.into_iter().reduce(|ours, theirs| self.merge(&ours, &theirs))
    }
}

/// Returns whether two versions merge to the same result with any of these as the base, so that the base need not be
/// computed.
///
/// A merge of plain values is always one of them. So the base has the value of one of these versions. It does not
/// matter which if they all have the same value, or if neither side has any of their values, so that both changed the
/// base.
fn base_does_not_matter(last: &[VersionRef], ours: &VersionRef, theirs: &VersionRef) -> bool {
    if last.len() < 2 || !ours.plain || !theirs.plain {
        return false;
    }
    let value = |version: &VersionRef| version.value().map(Json::value);
    let sides = [value(ours), value(theirs)];
    let values: Vec<Option<Value>> = last.iter().map(value).collect();
    values.iter().all(|value| !sides.contains(value)) || values.windows(2).all(|pair| pair[0] == pair[1])
}

/// The merges of one key within one join.
#[derive(Default)]
struct KeyMerges {
    count: usize,
    /// After many merges: the addresses of all versions that the branches so far came from. Otherwise each further
    /// merge would search all of them again for the common history.
    history: HashSet<usize>,
    /// The branch whose value was taken in the last collision.
    collided: Option<VersionRef>,
}

impl KeyMerges {
    fn add(&mut self, joins: &mut Joins, ours: &VersionRef, theirs: &VersionRef) -> VersionRef {
        self.count += 1;
        let merged = if self.count < HISTORY_THRESHOLD {
            joins.merge(ours, theirs)
        } else {
            self.extend_history(ours);
            let merged = joins.merge_with_history(ours, theirs, Some(&self.history));
            self.extend_history(&merged);
            merged
        };
        if merged != *ours && merged != *theirs && merged.collided() {
            self.collided = Some(theirs.clone());
        }
        merged
    }

    /// Adds a version and its whole history.
    fn extend_history(&mut self, version: &VersionRef) {
        let mut open = vec![version];
        while let Some(version) = open.pop() {
            if self.history.insert(address(version)) {
                open.extend(&version.parents[..]);
            }
        }
    }
}

/// After this many merges of one key in a join, its history is kept.
const HISTORY_THRESHOLD: usize = 8;

/// How two values of a key are resolved.
enum Resolution {
    /// The later branch did not change the base.
    Ours,
    /// The earlier branch did not change the base.
    Theirs,
    /// Both branches changed the base.
    Both { value: Option<Json>, collision: bool },
}

impl Resolution {
    fn of(base: Option<&Json>, ours: Option<&Json>, theirs: Option<&Json>) -> Self {
        let is_erased = |json: Option<&Json>| json.is_some_and(Json::is_erased);
        // It is unknown whether two erased values were equal.
        if is_erased(base) || is_erased(ours) && theirs != base || is_erased(theirs) {
            return match ours == base && !is_erased(base) {
                true => Self::Theirs,
                false => Self::Both {
                    value: [ours, theirs, base].into_iter().flatten().find(|json| json.is_erased()).cloned(),
                    collision: false,
                },
            };
        }
        // Comparing the texts is usually enough.
        if theirs == base {
            return Self::Ours;
        }
        if ours == base {
            return Self::Theirs;
        }
        let parse = |json: Option<&Json>| match json {
            Some(json) => json.try_value().map(Some),
            None => Some(None),
        };
        let (Some(start), Some(left), Some(right)) = (parse(base), parse(ours), parse(theirs)) else {
            // Nested too deep to parse: take it as a whole.
            return Self::Both { value: theirs.cloned(), collision: ours != theirs };
        };
        if right == start {
            return Self::Ours;
        }
        if left == start {
            return Self::Theirs;
        }
        let merged = three_way(start.as_ref(), left.as_ref(), right.as_ref());
        // A value that is taken as a whole keeps its original text.
        let value = if merged.value == right {
            theirs.cloned()
        } else if merged.value == left {
            ours.cloned()
        } else {
            merged.value.map(Json::from)
        };
        Self::Both { value, collision: merged.collision }
    }
}

/// With this many times fewer keys in one map, looking each one up is cheaper than comparing both maps.
const LOOKUP_FACTOR: usize = 8;

/// Returns the off-chain versions of one scope, and the keys for which the join of both scopes may have another
/// version.
///
/// A version that is off-chain in both scopes is based on everything that either sees of the chain. A version that is
/// off-chain in only one scope may not be based on what the other one sees of the chain.
fn differing(ledger: &Ledger, ours: &Scope, theirs: &Scope) -> (OffChain, Vec<Key>) {
    let (small, large) = if ours.off_chain.len() <= theirs.off_chain.len() { (ours, theirs) } else { (theirs, ours) };
    if small.off_chain.len().saturating_mul(LOOKUP_FACTOR) < large.off_chain.len() {
        let limit = large.off_chain.len() / LOOKUP_FACTOR;
        let news = small.commits.difference(&large.commits, limit);
        if news.len() < limit {
            let news = news.into_iter().flat_map(|commit| ledger.chain_writes(commit)).map(|(key, _)| key);
            let mut keys: Vec<Key> = news.filter(|key| large.off_chain.contains_key(*key)).cloned().collect();
            keys.extend(
                small
                    .off_chain
                    .iter()
                    .filter(|(key, version)| large.off_chain.get(*key) != Some(version))
                    .map(|(key, _)| key.clone()),
            );
            keys.sort_unstable();
            keys.dedup();
            return (large.off_chain.clone(), keys);
        }
    }
    (ours.off_chain.clone(), differing_off_chain(&ours.off_chain, &theirs.off_chain))
}

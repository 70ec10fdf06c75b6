//! Joins: what several branches give together.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::history::CommonHistory;
use super::ledger::{Ledger, OffChain, Scope, differing_off_chain};
use super::version::{Side, Source, Version, VersionRef, address};
use crate::core::event::{Key, Seq};
use crate::core::json::Json;
use crate::core::merge::three_way;

/// Two branches wrote the same key, neither saw the other, and both values cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The key.
    pub key: Key,
    /// The writes that met, in ascending order.
    pub writes: Vec<Seq>,
    /// The writes whose value was taken.
    pub taken: Vec<Seq>,
}

/// What a join gave.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// What is seen after it.
    pub scope: Scope,
    /// What collided, in the order of the keys.
    pub collisions: Vec<Collision>,
}

/// Joins branches, and remembers the merges that it made: two joins of the same versions give the same merge, so that a
/// later join finds it in both histories.
#[derive(Clone, Debug, Default)]
pub struct Joins {
    /// By the addresses of the two versions, which the merge keeps alive as its parents.
    merges: HashMap<(usize, usize), VersionRef>,
}

impl Joins {
    /// Joins what several branches see, in the order of the `dependencies` list.
    ///
    /// Of keys that were only ever written by tasks that saw the writes before theirs, nothing has to be done but to
    /// unite sets of commits; the others cost what the branches differ in.
    #[must_use]
    pub fn join(&mut self, ledger: &Ledger, branches: &[&Scope]) -> Joined {
        let Some((first, others)) = branches.split_first() else { return Joined::default() };
        let mut scope = (*first).clone();
        let mut merges = BTreeMap::new();
        for branch in others {
            self.join_branch(ledger, &mut scope, branch, &mut merges);
        }
        // A key collides once, however many branches met; and not at all if a later one had seen the others.
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
                // A key that a branch does not have was written by none of its ancestors: nothing to merge.
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

    /// The version that both give together: the one that hides the other, or a merge against what both started from.
    fn merge(&mut self, ours: &VersionRef, theirs: &VersionRef) -> VersionRef {
        self.merge_with_history(ours, theirs, None)
    }

    /// The same, where all that `ours` came from may be known.
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

    /// What both started from. Where several common versions did not see each other, they are merged, in the order of
    /// their writers' names.
    fn base(&mut self, mut last: Vec<VersionRef>) -> Option<VersionRef> {
        last.sort_by_cached_key(|version| version.sort_key());
        last.into_iter().reduce(|ours, theirs| self.merge(&ours, &theirs))
    }
}

/// Whether two versions give the same together whichever of these is their base, so that they need not be merged.
///
/// Plain values that meet give one of them. So a base that is merged from plain values has the value of one of them: the
/// one that they all have, if they do. And if neither side has any of them, nobody left the base as it was.
fn base_does_not_matter(last: &[VersionRef], ours: &VersionRef, theirs: &VersionRef) -> bool {
    if last.len() < 2 || !ours.plain || !theirs.plain {
        return false;
    }
    let value = |version: &VersionRef| version.value().map(Json::value);
    let sides = [value(ours), value(theirs)];
    let values: Vec<Option<Value>> = last.iter().map(value).collect();
    values.iter().all(|value| !sides.contains(value)) || values.windows(2).all(|pair| pair[0] == pair[1])
}

/// How often a key has met in one join.
#[derive(Default)]
struct KeyMerges {
    count: usize,
    /// Once there were many: the addresses of all that the branches so far came from. The search for what the next one
    /// has in common with them would otherwise look through all of them, for each of them.
    history: HashSet<usize>,
    /// The branch that was taken when it last collided.
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

    /// Adds a version and all that it came from.
    fn extend_history(&mut self, version: &VersionRef) {
        let mut open = vec![version];
        while let Some(version) = open.pop() {
            if self.history.insert(address(version)) {
                open.extend(&version.parents[..]);
            }
        }
    }
}

/// From how many merges of one key on its history is kept.
const HISTORY_THRESHOLD: usize = 8;

/// What two values of a key give together.
enum Resolution {
    /// The later branch had left the base as it was.
    Ours,
    /// The earlier one had.
    Theirs,
    /// Both had changed it.
    Both { value: Option<Json>, collision: bool },
}

impl Resolution {
    fn of(base: Option<&Json>, ours: Option<&Json>, theirs: Option<&Json>) -> Self {
        let is_erased = |json: Option<&Json>| json.is_some_and(Json::is_erased);
        // Of two values that were erased, nobody knows whether they were the same.
        if is_erased(base) || is_erased(ours) && theirs != base || is_erased(theirs) {
            return match ours == base && !is_erased(base) {
                true => Self::Theirs,
                false => Self::Both {
                    value: [ours, theirs, base].into_iter().flatten().find(|json| json.is_erased()).cloned(),
                    collision: false,
                },
            };
        }
        // Most often the texts tell.
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
            // Too deep to be looked into: it is taken whole.
            return Self::Both { value: theirs.cloned(), collision: ours != theirs };
        };
        if right == start {
            return Self::Ours;
        }
        if left == start {
            return Self::Theirs;
        }
        let merged = three_way(start.as_ref(), left.as_ref(), right.as_ref());
        // What is taken whole keeps its text.
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

/// From how many times fewer keys on it is cheaper to look each one up than to walk along both maps.
const LOOKUP_FACTOR: usize = 8;

/// The keys of which two scopes may give another version together than the one that is apart in the map returned here.
///
/// A version that is apart in both scopes has seen all of the chain that either sees. One that is apart in one scope only
/// may not have seen what the other one sees of the chain.
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

//! The common history of two versions of a key.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::version::{Version, VersionRef, address};

/// The versions that the histories of two versions of a key have in common.
pub(super) struct CommonHistory {
    pub(super) is_all_of_ours: bool,
    pub(super) is_all_of_theirs: bool,
    /// The common versions that are not in the history of another common version.
    pub(super) last: Vec<VersionRef>,
}

/// A version in the queue of the search, ordered by height.
struct ByHeight<'a>(&'a VersionRef);

impl PartialEq for ByHeight<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByHeight<'_> {}

impl PartialOrd for ByHeight<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByHeight<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.height.cmp(&other.0.height)
    }
}

const OURS: u8 = 1;
const THEIRS: u8 = 2;
const HIDDEN: u8 = 4;

impl CommonHistory {
    /// Walks down from both versions, the highest first, and marks what each can reach. A version that both reach is
    /// common, and it hides everything below it. If `history` is given, it contains all versions that `ours` came from,
    /// and the walk from `ours` is skipped.
    pub(super) fn of(ours: &VersionRef, theirs: &VersionRef, history: Option<&HashSet<usize>>) -> Self {
        let is_ours = |version: &VersionRef| history.is_some_and(|known| known.contains(&address(version)));
        let mut marks: HashMap<*const Version, u8> = HashMap::new();
        let mut queue = BinaryHeap::new();
        let mut common = Self { is_all_of_ours: false, is_all_of_theirs: false, last: Vec::new() };
        // How many queued versions are not known to be hidden. The search ends when there are none.
        let mut visible = 0_usize;
        let starts = [(theirs, THEIRS), (ours, OURS)];
        for (version, mark) in starts.into_iter().take(if history.is_some() { 1 } else { 2 }) {
            let known = marks.entry(Arc::as_ptr(&version.0)).or_insert(0);
            if *known == 0 {
                queue.push(ByHeight(version));
                visible += 1;
            }
            *known |= mark;
        }
        while visible > 0 {
            let Some(ByHeight(version)) = queue.pop() else { break };
            let mut mark = marks.get(&Arc::as_ptr(&version.0)).copied().unwrap_or(0);
            if is_ours(version) {
                mark |= OURS;
            }
            if mark & HIDDEN == 0 {
                visible -= 1;
            }
            let mut pass_on = mark;
            if mark & (OURS | THEIRS) == OURS | THEIRS && mark & HIDDEN == 0 {
                common.is_all_of_ours |= version == ours;
                common.is_all_of_theirs |= version == theirs;
                common.last.push(version.clone());
                pass_on |= HIDDEN;
            }
            // No other queued version is higher than the next one, so versions above that can only be reached from
            // here.
            let floor = queue.peek().map_or(0, |next| next.0.height);
            let skip = version.skip.as_ref().filter(|skip| skip.height >= floor && history.is_none());
            for parent in skip.map_or(&version.parents[..], std::slice::from_ref) {
                let known = marks.entry(Arc::as_ptr(&parent.0)).or_insert(0);
                let (new, was_visible) = (*known == 0, *known != 0 && *known & HIDDEN == 0);
                *known |= pass_on;
                let is_visible = *known & HIDDEN == 0;
                if new {
                    queue.push(ByHeight(parent));
                }
                visible = visible + usize::from(is_visible && !was_visible) - usize::from(was_visible && !is_visible);
            }
        }
        common
    }
}

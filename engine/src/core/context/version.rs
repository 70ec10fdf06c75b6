//! Versions: the values of a key over time, each with its history.

use std::collections::HashSet;
use std::sync::Arc;

use super::commit_set::CommitSet;
use crate::core::event::{Seen, Seq, TaskId};
use crate::core::json::Json;

/// One value of a key, with its history.
#[derive(Debug)]
pub struct Version {
    pub(super) value: Option<Json>,
    pub(super) source: Source,
    pub(super) parents: Parents,
    /// In a merge where one side did not change the base: the parent whose value and source were taken. The other
    /// parent still belongs to the history, so that a later join knows that it was seen.
    taken: Option<Side>,
    /// For a version on the chain of its key: its commit.
    commit: usize,
    /// Whether neither the value nor any value in its history is a list, an object, or erased.
    pub(super) plain: bool,
    /// The length of the longest path to a first write. Parents are always lower, whatever the schedule was.
    pub(super) height: u32,
    /// A skip pointer along a run of writes that each hid the previous one, so that a walk takes logarithmic time.
    pub(super) skip: Option<VersionRef>,
}

/// The versions that a version was written over or merged from. Stored inline unless there are two, because every write
/// of an execution has a version.
#[derive(Debug, Default)]
pub(super) enum Parents {
    #[default]
    None,
    One(VersionRef),
    Two(Box<[VersionRef; 2]>),
}

impl std::ops::Deref for Parents {
    type Target = [VersionRef];

    fn deref(&self) -> &[VersionRef] {
        match self {
            Self::None => &[],
            Self::One(parent) => std::slice::from_ref(parent),
            Self::Two(both) => &**both,
        }
    }
}

/// One of the two parents of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Theirs,
}

/// Where a version came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One write.
    Write {
        /// The event.
        seq: Seq,
        /// The task that wrote; `None` for the input.
        writer: Option<TaskId>,
    },
    /// A merge at a join.
    Merge {
        /// Whether the branches made conflicting changes.
        collision: bool,
    },
}

/// A shared version. Equality is identity.
#[derive(Clone, Debug)]
pub struct VersionRef(pub(super) Arc<Version>);

impl PartialEq for VersionRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for VersionRef {}

impl std::ops::Deref for VersionRef {
    type Target = Version;

    fn deref(&self) -> &Version {
        &self.0
    }
}

impl Version {
    /// Creates the version of a write over the version that its writer saw.
    #[must_use]
    pub fn written(value: Option<Json>, seq: Seq, writer: Option<TaskId>, over: Option<VersionRef>) -> VersionRef {
        Self::in_commit(0, value, seq, writer, over)
    }

    /// Creates the version of a write that belongs to a commit.
    pub(super) fn in_commit(
        commit: usize,
        value: Option<Json>,
        seq: Seq,
        writer: Option<TaskId>,
        over: Option<VersionRef>,
    ) -> VersionRef {
        let parents = over.map_or(Parents::None, Parents::One);
        Self::build(commit, value, Source::Write { seq, writer }, parents, None)
    }

    /// Creates a merge of two versions; `taken` names the one whose value was taken unchanged, if any.
    pub(super) fn merged(
        value: Option<Json>,
        source: Source,
        [ours, theirs]: [&VersionRef; 2],
        taken: Option<Side>,
    ) -> VersionRef {
        let parents = Parents::Two(Box::new([ours.clone(), theirs.clone()]));
        Self::build(0, value, source, parents, taken)
    }

    fn build(commit: usize, value: Option<Json>, source: Source, parents: Parents, taken: Option<Side>) -> VersionRef {
        let height = parents.iter().map(|parent| parent.height + 1).max().unwrap_or(0);
        let plain = value.as_ref().is_none_or(is_plain) && parents.iter().all(|parent| parent.plain);
        let skip = match &parents {
            Parents::One(only) => Some(only.skip_for_child().clone()),
            Parents::None | Parents::Two(_) => None,
        };
        VersionRef(Arc::new(Self { value, source, parents, taken, commit, plain, height, skip }))
    }

    /// Returns the value; `None` if it was removed, [`Json::erased`] if it was erased or merged from an erased value.
    #[must_use]
    pub fn value(&self) -> Option<&Json> {
        self.value.as_ref()
    }

    /// Returns the source of the value.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the versions that it was written over or merged from.
    #[must_use]
    pub fn parents(&self) -> &[VersionRef] {
        &self.parents
    }

    /// Returns the writes that its value consists of, in ascending order: a single write, or those that were merged.
    #[must_use]
    pub fn writes(&self) -> Vec<Seq> {
        let mut writes: Vec<Seq> = self.contributions().into_iter().map(|(seq, _)| seq).collect();
        writes.sort_unstable();
        writes
    }

    /// Returns the key that orders versions that did not see each other: the first by name of the writers of its value
    /// (`None` is the input), then all writers from the first branch to the last.
    pub(super) fn sort_key(&self) -> (Option<TaskId>, Vec<Option<TaskId>>) {
        let mut known = HashSet::new();
        let writers = self.contributions().into_iter().map(|(_, writer)| writer);
        let writers: Vec<Option<TaskId>> = writers.filter(|writer| known.insert(writer.clone())).collect();
        (writers.iter().min().cloned().flatten(), writers)
    }

    /// Returns the writes that its value consists of, from the first branch to the last. Each appears once, although it
    /// may occur on several paths, with a separate version on each.
    fn contributions(&self) -> Vec<(Seq, Option<TaskId>)> {
        let mut writes = Vec::new();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let mut open = vec![self];
        while let Some(version) = open.pop() {
            match &version.source {
                Source::Write { seq, writer } => {
                    if known.insert(*seq) {
                        writes.push((*seq, writer.clone()));
                    }
                }
                Source::Merge { .. } => {
                    let merged = match (version.taken, &version.parents[..]) {
                        (Some(Side::Ours), [ours, _]) => std::slice::from_ref(ours),
                        (Some(Side::Theirs), [_, theirs]) => std::slice::from_ref(theirs),
                        (_, all) => all,
                    };
                    open.extend(
                        merged.iter().rev().filter(|parent| seen.insert(address(parent))).map(|parent| &**parent),
                    );
                }
            }
        }
        writes
    }

    /// Returns whether it is a merge with conflicting changes.
    pub(super) fn collided(&self) -> bool {
        self.taken.is_none() && matches!(self.source, Source::Merge { collision: true })
    }

    /// Returns what the log records for a read that saw this version.
    #[must_use]
    pub fn seen(&self) -> Seen {
        match self.source {
            Source::Write { seq, .. } => Seen::Write(seq),
            Source::Merge { .. } => Seen::Merged(self.writes()),
        }
    }
}

impl Version {
    /// Drops the references to its history. Versions that nothing else refers to are moved to `next`, to be dropped by
    /// the caller.
    fn release(&mut self, next: &mut Vec<Self>) {
        let mut drop = |version: VersionRef| next.extend(Arc::into_inner(version.0));
        self.skip.take().into_iter().for_each(&mut drop);
        match std::mem::take(&mut self.parents) {
            Parents::None => {}
            Parents::One(parent) => drop(parent),
            Parents::Two(both) => both.into_iter().for_each(drop),
        }
    }
}

impl VersionRef {
    /// Returns the last version of the chain that ends here whose commit is among `commits`.
    ///
    /// A scope that sees a version of a chain also sees those below it. So if a version is not visible, none above it
    /// is, and skip pointers find the highest visible one in logarithmic time.
    pub(super) fn last_in(&self, commits: &CommitSet) -> Option<&Self> {
        let mut version = self;
        while !commits.contains(version.commit) {
            let parent = version.parents.first()?;
            version = version.skip.as_ref().filter(|skip| !commits.contains(skip.commit)).unwrap_or(parent);
        }
        Some(version)
    }

    /// Returns the skip pointer for a child of this version. Two skips of equal length combine into one, as in a
    /// skew-binary number.
    fn skip_for_child(&self) -> &Self {
        match self.skip.as_ref().and_then(|near| Some((near, near.skip.as_ref()?))) {
            Some((near, far)) if self.height - near.height == near.height - far.height => far,
            _ => self,
        }
    }
}

impl Drop for Version {
    /// Drops the history in a loop: recursion would overflow the stack for a key that was overwritten very often.
    fn drop(&mut self) {
        let mut open = Vec::new();
        self.release(&mut open);
        while let Some(mut alone) = open.pop() {
            alone.release(&mut open);
        }
    }
}

/// Returns whether a merge always takes the value as a whole: it is neither erased, a list nor an object.
fn is_plain(value: &Json) -> bool {
    !value.is_erased() && !value.as_str().trim_start().starts_with(['[', '{'])
}

pub(super) fn address(version: &VersionRef) -> usize {
    Arc::as_ptr(&version.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One branch had removed a list, and the removal reached the merge on two paths. It was listed twice among the
    /// writes that the value consists of. Found by a property test, once in many hundred runs.
    #[test]
    fn a_write_that_came_by_two_ways_is_named_once() {
        let appended = Version::written(None, 3, None, None);
        let [one, other] = [17, 17].map(|seq| Version::written(None, seq, None, Some(appended.clone())));
        let source = || Source::Merge { collision: false };
        let merged = Version::merged(None, source(), [&appended, &one], None);
        let again = Version::merged(None, source(), [&merged, &other], None);
        assert_eq!(again.writes(), [3, 17]);
    }
}

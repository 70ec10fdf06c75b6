//! Versions: the values that a key had, each with what it came from.

use std::collections::HashSet;
use std::sync::Arc;

use super::commit_set::CommitSet;
use crate::core::event::{Seen, Seq, TaskId};
use crate::core::json::Json;

/// One value of a key, with what it came from.
#[derive(Debug)]
pub struct Version {
    pub(super) value: Option<Json>,
    pub(super) source: Source,
    pub(super) parents: Parents,
    /// Of a merge of which one side had left the base as it was: the parent whose value and source these are. The other
    /// one belongs to its history all the same, so that a later join knows that it was seen.
    taken: Option<Side>,
    /// Of a version on the chain of its key: the commit that it took effect with.
    commit: usize,
    /// Whether neither it nor anything that it came from is a list, an object, or erased.
    pub(super) plain: bool,
    /// The longest way down to a first write: parents are lower, whatever the schedule was.
    pub(super) height: u32,
    /// Over a stretch of writes that each hid the one before: some way down it, so that a walk takes as many steps as
    /// the logarithm of its length.
    pub(super) skip: Option<VersionRef>,
}

/// The versions that one was written over or merged from. There is a version for each write of an execution, so they take
/// no memory of their own but where there are two.
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
        /// Who wrote; `None` is the input.
        writer: Option<TaskId>,
    },
    /// A merge at a join.
    Merge {
        /// Whether both branches had changed what cannot be had together.
        collision: bool,
    },
}

/// A shared version. Two are equal if they are the same one.
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
    /// A version that a write made over the one that its writer could see.
    #[must_use]
    pub fn written(value: Option<Json>, seq: Seq, writer: Option<TaskId>, over: Option<VersionRef>) -> VersionRef {
        Self::in_commit(0, value, seq, writer, over)
    }

    /// The same, and it took effect with this commit.
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

    /// A version that two others gave together, or one of them if it is to be `taken`.
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

    /// The value, `None` if it was removed; [`Json::erased`] if it was erased, or follows from one that was.
    #[must_use]
    pub fn value(&self) -> Option<&Json> {
        self.value.as_ref()
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it was written over, or merged from.
    #[must_use]
    pub fn parents(&self) -> &[VersionRef] {
        &self.parents
    }

    /// The writes that its value consists of, in ascending order: itself, or what was merged.
    #[must_use]
    pub fn writes(&self) -> Vec<Seq> {
        let mut writes: Vec<Seq> = self.contributions().into_iter().map(|(seq, _)| seq).collect();
        writes.sort_unstable();
        writes
    }

    /// What orders versions that did not see each other: the first writer by name of those that its value consists of
    /// (`None` is the input), then all of them from the first branch to the last.
    pub(super) fn sort_key(&self) -> (Option<TaskId>, Vec<Option<TaskId>>) {
        let mut known = HashSet::new();
        let writers = self.contributions().into_iter().map(|(_, writer)| writer);
        let writers: Vec<Option<TaskId>> = writers.filter(|writer| known.insert(writer.clone())).collect();
        (writers.iter().min().cloned().flatten(), writers)
    }

    /// The writes that its value consists of, from the first branch to the last, each once: it may have come by two ways, as a version of
    /// its own on each.
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

    /// Whether it is a merge of what could not be had together.
    pub(super) fn collided(&self) -> bool {
        self.taken.is_none() && matches!(self.source, Source::Merge { collision: true })
    }

    /// What the log says of a read that saw it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        match self.source {
            Source::Write { seq, .. } => Seen::Write(seq),
            Source::Merge { .. } => Seen::Merged(self.writes()),
        }
    }
}

impl Version {
    /// Lets go of what it came from, but for the versions that only it had: those are to be let go next.
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
    /// Of the chain that ends here, the last version whose commit is among these.
    ///
    /// Whoever sees a version of a chain sees those below it: what is seen is everything up to some height. So where one
    /// is not seen, none above it is, and the way down goes in the strides of the logarithm of its length.
    pub(super) fn last_in(&self, commits: &CommitSet) -> Option<&Self> {
        let mut version = self;
        while !commits.contains(version.commit) {
            let parent = version.parents.first()?;
            version = version.skip.as_ref().filter(|skip| !commits.contains(skip.commit)).unwrap_or(parent);
        }
        Some(version)
    }

    /// Where the only child of a version may skip to: stretches double where two of the same length meet, as in a
    /// skew-binary number.
    fn skip_for_child(&self) -> &Self {
        match self.skip.as_ref().and_then(|near| Some((near, near.skip.as_ref()?))) {
            Some((near, far)) if self.height - near.height == near.height - far.height => far,
            _ => self,
        }
    }
}

impl Drop for Version {
    /// A key that was overwritten a hundred thousand times in a row must not take as many stack frames to let go.
    fn drop(&mut self) {
        let mut open = Vec::new();
        self.release(&mut open);
        while let Some(mut alone) = open.pop() {
            alone.release(&mut open);
        }
    }
}

/// Whether a value is taken whole wherever it meets another one.
fn is_plain(value: &Json) -> bool {
    !value.is_erased() && !value.as_str().trim_start().starts_with(['[', '{'])
}

pub(super) fn address(version: &VersionRef) -> usize {
    Arc::as_ptr(&version.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list was merged whose one branch had removed it, and that removal came by two ways. A property test found, once in many
    /// hundred runs, that it was named twice among the writes that the value consists of.
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

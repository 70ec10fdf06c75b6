//! The context: which value of a key a task sees, and why.
//!
//! Every value that a task could see is a [`Version`], and versions of one key form a graph: a write points to the
//! version that its writer could see, a merge to the versions that met at a join. Which write hides which, and the base
//! of a merge, are questions to that graph; nothing in it depends on when anything ran.
//!
//! Maps from keys to versions are structurally shared, so that the context of a task costs what its writes cost.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use sha2::{Digest, Sha256};

use super::event::{Key, Seen, Seq, TaskId};
use super::json::Json;
use super::merge::three_way;

/// One value of a key, with what it came from.
#[derive(Debug)]
pub struct Version {
    value: Option<Json>,
    source: Source,
    parents: Parents,
    /// Of a merge of which one side had left the base as it was: the parent whose value and source these are. The other
    /// one belongs to its history all the same, so that a later join knows that it was seen.
    taken: Option<Side>,
    /// The longest way down to a first write: parents are lower, whatever the schedule was.
    height: u32,
    /// Over a stretch of writes that each hid the one before: some way down it, so that a walk takes as many steps as
    /// the logarithm of its length.
    skip: Option<VersionRef>,
}

/// The versions that one was written over or merged from. There is a version for each write of an execution, so they take
/// no memory of their own but where there are two.
#[derive(Debug, Default)]
enum Parents {
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
enum Side {
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
pub struct VersionRef(Arc<Version>);

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

/// The visible version of each key.
pub type ContextMap = OrdMap<Key, VersionRef>;

impl Version {
    /// A version that a write made over the one that its writer could see.
    #[must_use]
    pub fn written(value: Option<Json>, seq: Seq, writer: Option<TaskId>, over: Option<VersionRef>) -> VersionRef {
        Self::make(value, Source::Write { seq, writer }, over.map_or(Parents::None, Parents::One), None)
    }

    fn make(value: Option<Json>, source: Source, parents: Parents, taken: Option<Side>) -> VersionRef {
        let height = parents.iter().map(|parent| parent.height + 1).max().unwrap_or(0);
        let skip = match &parents {
            Parents::One(only) => Some(only.skip_from_child().clone()),
            Parents::None | Parents::Two(_) => None,
        };
        VersionRef(Arc::new(Self { value, source, parents, taken, height, skip }))
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
    fn order(&self) -> (Option<TaskId>, Vec<Option<TaskId>>) {
        let mut known = HashSet::new();
        let writers = self.contributions().into_iter().map(|(_, writer)| writer);
        let writers: Vec<Option<TaskId>> = writers.filter(|writer| known.insert(writer.clone())).collect();
        (writers.iter().min().cloned().flatten(), writers)
    }

    /// The writes that its value consists of, from the first branch to the last.
    fn contributions(&self) -> Vec<(Seq, Option<TaskId>)> {
        let mut writes = Vec::new();
        let mut seen = HashSet::new();
        let mut open = vec![self];
        while let Some(version) = open.pop() {
            match &version.source {
                Source::Write { seq, writer } => writes.push((*seq, writer.clone())),
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
    fn collided(&self) -> bool {
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
    fn let_go(&mut self, next: &mut Vec<Self>) {
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
    /// Where the only child of a version may skip to: stretches double where two of the same length meet, as in a
    /// skew-binary number.
    fn skip_from_child(&self) -> &Self {
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
        self.let_go(&mut open);
        while let Some(mut alone) = open.pop() {
            alone.let_go(&mut open);
        }
    }
}

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
    /// The visible version of each key.
    pub context: ContextMap,
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
    /// Costs what the branches differ in, not what they hold, if one is much smaller than the other or both share most
    /// of what they hold.
    #[must_use]
    pub fn join(&mut self, branches: &[&ContextMap]) -> Joined {
        let Some((first, others)) = branches.split_first() else { return Joined::default() };
        let mut context = (*first).clone();
        let mut meetings = BTreeMap::new();
        for branch in others {
            context = self.join_two(context, branch, &mut meetings);
        }
        // A key collides once, however many branches met; and not at all if a later one had seen the others.
        let collisions = meetings.into_iter().filter_map(|(key, meetings)| {
            let version = context.get(&key).filter(|version| matches!(version.source, Source::Merge { .. }))?;
            Some(Collision { writes: version.writes(), taken: meetings.collided?.writes(), key })
        });
        Joined { collisions: collisions.collect(), context }
    }

    /// Joins one more branch.
    fn join_two(
        &mut self,
        ours: ContextMap,
        theirs: &ContextMap,
        meetings: &mut BTreeMap<Key, Meetings>,
    ) -> ContextMap {
        if ours.ptr_eq(theirs) {
            return ours;
        }
        let mut meet = |key: &Key, left: Option<&VersionRef>, right: &VersionRef| match left {
            None => right.clone(),
            Some(left) => meetings.entry(key.clone()).or_default().add(self, left, right),
        };
        // A key that a branch does not have was written by none of its ancestors: nothing to merge.
        if ours.len().saturating_mul(MUCH_SMALLER) < theirs.len() {
            let mut joined = theirs.clone();
            for (key, left) in &ours {
                match theirs.get(key) {
                    Some(right) if left == right => {}
                    Some(right) => drop(joined.insert(key.clone(), meet(key, Some(left), right))),
                    None => drop(joined.insert(key.clone(), left.clone())),
                }
            }
            return joined;
        }
        let mut joined = ours.clone();
        if theirs.len().saturating_mul(MUCH_SMALLER) < ours.len() {
            for (key, right) in theirs.iter().filter(|(key, right)| ours.get(*key) != Some(*right)) {
                joined.insert(key.clone(), meet(key, ours.get(key), right));
            }
            return joined;
        }
        for item in ours.diff(theirs) {
            match item {
                DiffItem::Add(key, right) => drop(joined.insert(key.clone(), right.clone())),
                DiffItem::Update { old: (_, left), new: (key, right) } => {
                    joined.insert(key.clone(), meet(key, Some(left), right));
                }
                DiffItem::Remove(..) => {}
            }
        }
        joined
    }

    /// The version that both give together: the one that hides the other, or a merge against what both started from.
    fn merge(&mut self, ours: &VersionRef, theirs: &VersionRef) -> VersionRef {
        self.merge_within(ours, theirs, None)
    }

    /// The same, where all that `ours` came from may be known.
    fn merge_within(&mut self, ours: &VersionRef, theirs: &VersionRef, history: Option<&HashSet<usize>>) -> VersionRef {
        let pair = (address(ours), address(theirs));
        if let Some(known) = self.merges.get(&pair) {
            return known.clone();
        }
        let common = CommonHistory::of(ours, theirs, history);
        if common.is_all_of_theirs {
            return ours.clone();
        }
        if common.is_all_of_ours {
            return theirs.clone();
        }
        let base = self.base(common.last);
        let base = base.as_ref().and_then(|base| base.value.as_ref());
        let parents = Parents::Two(Box::new([ours.clone(), theirs.clone()]));
        let merge = match Meeting::of(base, ours.value.as_ref(), theirs.value.as_ref()) {
            Meeting::Ours => Version::make(ours.value.clone(), ours.source.clone(), parents, Some(Side::Ours)),
            Meeting::Theirs => Version::make(theirs.value.clone(), theirs.source.clone(), parents, Some(Side::Theirs)),
            Meeting::Both { value, collision } => Version::make(value, Source::Merge { collision }, parents, None),
        };
        self.merges.insert(pair, merge.clone());
        merge
    }

    /// What both started from. Where several common versions did not see each other, they are merged, in the order of
    /// their writers' names.
    fn base(&mut self, mut last: Vec<VersionRef>) -> Option<VersionRef> {
        last.sort_by_cached_key(|version| version.order());
        last.into_iter().reduce(|ours, theirs| self.merge(&ours, &theirs))
    }
}

/// How often a key has met in one join.
#[derive(Default)]
struct Meetings {
    count: usize,
    /// Once there were many: the addresses of all that the branches so far came from. The search for what the next one
    /// has in common with them would otherwise look through all of them, for each of them.
    history: HashSet<usize>,
    /// The branch that was taken when it last collided.
    collided: Option<VersionRef>,
}

impl Meetings {
    fn add(&mut self, joins: &mut Joins, ours: &VersionRef, theirs: &VersionRef) -> VersionRef {
        self.count += 1;
        let merged = if self.count < MANY {
            joins.merge(ours, theirs)
        } else {
            self.note(ours);
            let merged = joins.merge_within(ours, theirs, Some(&self.history));
            self.note(&merged);
            merged
        };
        if merged != *ours && merged != *theirs && merged.collided() {
            self.collided = Some(theirs.clone());
        }
        merged
    }

    /// Adds a version and all that it came from.
    fn note(&mut self, version: &VersionRef) {
        let mut open = vec![version];
        while let Some(version) = open.pop() {
            if self.history.insert(address(version)) {
                open.extend(&version.parents[..]);
            }
        }
    }
}

/// From how many meetings of one key on its history is kept.
const MANY: usize = 8;

/// What two values of a key give together.
enum Meeting {
    /// The later branch had left the base as it was.
    Ours,
    /// The earlier one had.
    Theirs,
    /// Both had changed it.
    Both { value: Option<Json>, collision: bool },
}

impl Meeting {
    fn of(base: Option<&Json>, ours: Option<&Json>, theirs: Option<&Json>) -> Self {
        let is_erased = |json: Option<&Json>| json.is_some_and(Json::is_erased);
        // Of two values that were erased, nobody knows whether they were the same.
        if is_erased(base) || is_erased(ours) && theirs != base || is_erased(theirs) {
            return match ours == base && !is_erased(base) {
                true => Self::Theirs,
                false => Self::Both { value: Some(Json::erased()), collision: false },
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
const MUCH_SMALLER: usize = 8;

fn address(version: &VersionRef) -> usize {
    Arc::as_ptr(&version.0) as usize
}

/// What the histories of two versions of a key have in common.
struct CommonHistory {
    is_all_of_ours: bool,
    is_all_of_theirs: bool,
    /// The common versions that no other common one hides.
    last: Vec<VersionRef>,
}

/// A version on the way down, the highest first.
struct Step(VersionRef);

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.height.cmp(&other.0.height)
    }
}

const OURS: u8 = 1;
const THEIRS: u8 = 2;
const HIDDEN: u8 = 4;

impl CommonHistory {
    /// Walks down from both, the highest version first, and marks who can reach what. A version that both reach is
    /// common; what lies below a common one is hidden by it. Where all that `ours` came from is known, the walk from
    /// there is spared.
    fn of(ours: &VersionRef, theirs: &VersionRef, history: Option<&HashSet<usize>>) -> Self {
        let is_ours = |version: &VersionRef| history.is_some_and(|known| known.contains(&address(version)));
        let mut marks: HashMap<*const Version, u8> = HashMap::new();
        let mut open = BinaryHeap::new();
        let mut common = Self { is_all_of_ours: false, is_all_of_theirs: false, last: Vec::new() };
        // How many versions wait that are not known to be hidden: when there are none, the rest is history.
        let mut visible = 0_usize;
        let starts = [(theirs, THEIRS), (ours, OURS)];
        for (version, mark) in starts.into_iter().take(if history.is_some() { 1 } else { 2 }) {
            let known = marks.entry(Arc::as_ptr(&version.0)).or_insert(0);
            if *known == 0 {
                open.push(Step(version.clone()));
                visible += 1;
            }
            *known |= mark;
        }
        while visible > 0 {
            let Some(Step(version)) = open.pop() else { break };
            let mut mark = marks.get(&Arc::as_ptr(&version.0)).copied().unwrap_or(0);
            if is_ours(&version) {
                mark |= OURS;
            }
            if mark & HIDDEN == 0 {
                visible -= 1;
            }
            let mut pass_on = mark;
            if mark & (OURS | THEIRS) == OURS | THEIRS && mark & HIDDEN == 0 {
                common.is_all_of_ours |= version == *ours;
                common.is_all_of_theirs |= version == *theirs;
                common.last.push(version.clone());
                pass_on |= HIDDEN;
            }
            // Everything else that waits is as low as the next one: what lies above that can only be reached from here.
            let floor = open.peek().map_or(0, |next| next.0.height);
            let skip = version.skip.as_ref().filter(|skip| skip.height >= floor && history.is_none());
            for parent in skip.map_or(&version.parents[..], std::slice::from_ref) {
                let known = marks.entry(Arc::as_ptr(&parent.0)).or_insert(0);
                let (new, was_visible) = (*known == 0, *known != 0 && *known & HIDDEN == 0);
                *known |= pass_on;
                let is_visible = *known & HIDDEN == 0;
                if new {
                    open.push(Step(parent.clone()));
                }
                visible = visible + usize::from(is_visible && !was_visible) - usize::from(was_visible && !is_visible);
            }
        }
        common
    }
}

/// What an attempt can see: what its ancestry gives, and behind it the latest writes of everybody else.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the input and the task's ancestors wrote.
    pub declared: ContextMap,
    /// The latest effective version of every key, whoever wrote it, at the attempt's start.
    pub latest: ContextMap,
}

/// What a look at one key found.
#[derive(Clone, Debug)]
pub enum Sight {
    /// A value that the task's ancestry gives.
    Declared(VersionRef),
    /// A value that is only there because somebody else happened to be faster.
    Undeclared(VersionRef),
    /// No value.
    Nothing,
}

impl View {
    /// Looks at a key.
    #[must_use]
    pub fn look(&self, key: &str) -> Sight {
        match self.declared.get(key) {
            Some(version) if version.value.is_some() => Sight::Declared(version.clone()),
            Some(_) => Sight::Nothing,
            None => match self.latest.get(key) {
                Some(version) if version.value.is_some() => Sight::Undeclared(version.clone()),
                _ => Sight::Nothing,
            },
        }
    }
}

/// The keys and values of a context that are there.
pub fn values(context: &ContextMap) -> impl Iterator<Item = (&Key, &Json)> {
    context.iter().filter_map(|(key, version)| version.value().map(|value| (key, value)))
}

/// SHA-256 over a context: each key and value, in the order of the keys, with their lengths (8 bytes, big-endian)
/// before them.
#[must_use]
pub fn digest(context: &ContextMap) -> [u8; 32] {
    digest_of(values(context))
}

/// As [`digest`], over keys and values that come in the order of the keys.
pub(super) fn digest_of<'a>(context: impl IntoIterator<Item = (&'a Key, &'a Json)>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (key, value) in context {
        for part in [key.as_bytes(), value.as_str().as_bytes()] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().into()
}

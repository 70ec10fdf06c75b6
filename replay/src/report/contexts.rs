//! The context after every event, kept up to date from event to event.
//!
//! [`Execution::context`] gives the context at one moment, and looks at the whole graph for it. A report asks for it at
//! every moment, so here it is carried along. That both give the same is tested on random graphs.
//!
//! What the ends of the graph will see is made of what the **frontier** gives: the settled tasks that have an unsettled
//! one after them, or that are ends themselves, and the input as long as a task at the beginning is unsettled. Of each key
//! it is counted which versions the frontier gives. Mostly there is one, or each had seen the one before: whatever the graph
//! beyond looks like, the last one is what arrives. Only where versions meet that did not see each other does it matter
//! who joins whom, and that key alone is followed through the unsettled part of the graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cloacina_engine::core::context::{Context, Joins, VersionRef};
use cloacina_engine::core::event::Key;
use cloacina_engine::core::graph::{Graph, TaskIndex};
use cloacina_engine::core::state::Execution;

/// What an execution's context is, and what an event changes in it.
pub struct Contexts {
    graph: Arc<Graph>,
    /// The unsettled tasks from which an end of the graph is reached through unsettled ones.
    open: Vec<bool>,
    is_end: Vec<bool>,
    /// For each task, how many open ones depend on it.
    open_after: Vec<usize>,
    /// How many open tasks have no dependencies: what they see is the input.
    open_beginnings: usize,
    input: Context,
    frontier: Frontier,
    context: BTreeMap<Key, VersionRef>,
}

/// The keys whose version is another one than before; `None` is gone.
pub type Changes = BTreeMap<Key, Option<VersionRef>>;

impl Contexts {
    /// The context of a state, and everything in it as changes.
    #[must_use]
    pub fn new(state: &Execution) -> (Self, Changes) {
        let graph = state.graph().clone();
        let mut is_end = vec![false; graph.len()];
        graph.leaves().iter().for_each(|leaf| is_end[leaf.at()] = true);
        let (mut open, mut open_after) = (vec![false; graph.len()], vec![0; graph.len()]);
        for &task in graph.topological_order().iter().rev() {
            if state.gives(task).is_none() && (is_end[task.at()] || open_after[task.at()] > 0) {
                open[task.at()] = true;
                graph.dependencies(task).iter().for_each(|up| open_after[up.at()] += 1);
            }
        }
        let begins = |task: &TaskIndex| open[task.at()] && graph.dependencies(*task).is_empty();
        let open_beginnings = graph.tasks().filter(begins).count();
        let mut frontier = Frontier::default();
        let input = state.input();
        if open_beginnings > 0 {
            frontier.add(&input);
        }
        for task in graph.tasks().filter(|task| is_end[task.at()] || open_after[task.at()] > 0) {
            state.gives(task).iter().for_each(|given| frontier.add(given));
        }
        let context = BTreeMap::new();
        let mut contexts = Self { graph, open, is_end, open_after, open_beginnings, input, frontier, context };
        let changes = contexts.changes(state);
        (contexts, changes)
    }

    /// Whether the state still goes by the graph that this was made for.
    #[must_use]
    pub fn is_for(&self, state: &Execution) -> bool {
        Arc::ptr_eq(&self.graph, state.graph())
    }

    /// The visible version of each key.
    #[must_use]
    pub fn context(&self) -> &BTreeMap<Key, VersionRef> {
        &self.context
    }

    /// Takes in that the input has another value.
    pub fn input_written(&mut self, state: &Execution) -> Changes {
        let old = std::mem::replace(&mut self.input, state.input());
        if self.open_beginnings > 0 {
            self.frontier.replace(&old, &self.input);
        }
        self.changes(state)
    }

    /// Takes in that a task was settled. If it was not, nothing changes.
    pub fn settled(&mut self, state: &Execution, task: TaskIndex) -> Changes {
        let Some(given) = state.gives(task).filter(|_| std::mem::take(&mut self.open[task.at()])) else {
            return Changes::new();
        };
        let mut leave: Vec<Context> = Vec::new();
        for up in self.graph.dependencies(task) {
            self.open_after[up.at()] -= 1;
            if self.open_after[up.at()] == 0 && !self.is_end[up.at()] {
                leave.extend(state.gives(*up));
            }
        }
        if self.graph.dependencies(task).is_empty() {
            self.open_beginnings -= 1;
            leave.extend(Some(self.input.clone()).filter(|_| self.open_beginnings == 0));
        }
        let joins_frontier = self.is_end[task.at()] || self.open_after[task.at()] > 0;
        match leave.pop() {
            // What came from there is mostly what is given on.
            Some(left) if joins_frontier => self.frontier.replace(&left, &given),
            Some(left) => self.frontier.remove(&left),
            None if joins_frontier => self.frontier.add(&given),
            None => {}
        }
        leave.iter().for_each(|left| self.frontier.remove(left));
        self.changes(state)
    }

    /// The keys whose versions at the frontier are others than before, as far as something else arrives for it.
    fn changes(&mut self, state: &Execution) -> Changes {
        let touched = std::mem::take(&mut self.frontier.touched);
        let mut meeting = Meeting { graph: &self.graph, state, input: &self.input, joins: None };
        let mut changes = Changes::new();
        for key in touched {
            let new = meeting.of(&key, &self.frontier.given(&key));
            let old = match &new {
                Some(version) => self.context.insert(key.clone(), version.clone()),
                None => self.context.remove(&key),
            };
            if old != new {
                changes.insert(key, new);
            }
        }
        changes
    }
}

/// Finds out what the versions of a key at the frontier give together.
struct Meeting<'a> {
    graph: &'a Graph,
    state: &'a Execution,
    input: &'a Context,
    /// A copy of the execution's, once versions meet.
    joins: Option<Joins>,
}

impl Meeting<'_> {
    fn of(&mut self, key: &Key, given: &[VersionRef]) -> Option<VersionRef> {
        match given {
            [] => None,
            [only] => Some(only.clone()),
            _ => self.last_of_row(given).or_else(|| self.follow(key)),
        }
    }

    /// The version that had seen all others, if each two of them had seen one the other: then nobody joins versions that
    /// did not.
    fn last_of_row(&mut self, given: &[VersionRef]) -> Option<VersionRef> {
        const FEW: usize = 8;
        if given.len() > FEW {
            return None;
        }
        let mut last = given.first()?.clone();
        for (at, one) in given.iter().enumerate() {
            for other in &given[at + 1..] {
                let joined = self.join([one, other].into_iter().cloned())?;
                if joined != *one && joined != *other {
                    return None;
                }
            }
            last = self.join([last, one.clone()].into_iter())?;
        }
        Some(last)
    }

    /// Follows one key through the unsettled part of the graph to its ends.
    fn follow(&mut self, key: &Key) -> Option<VersionRef> {
        let mut seen: Vec<Option<VersionRef>> = vec![None; self.graph.len()];
        let (graph, state) = (self.graph, self.state);
        let given = |seen: &[Option<VersionRef>], task: &TaskIndex| match state.gives(*task) {
            Some(given) => given.get(key).cloned(),
            None => seen[task.at()].clone(),
        };
        for task in graph.topological_order().iter().filter(|task| state.gives(**task).is_none()) {
            let upstream = graph.dependencies(*task);
            seen[task.at()] = if upstream.is_empty() {
                self.input.get(key).cloned()
            } else {
                self.join(upstream.iter().filter_map(|up| given(&seen, up)))
            };
        }
        self.join(graph.leaves().iter().filter_map(|end| given(&seen, end)))
    }

    /// Joins versions of one key, in their order.
    fn join(&mut self, versions: impl Iterator<Item = VersionRef>) -> Option<VersionRef> {
        let mut different: Vec<VersionRef> = Vec::new();
        for version in versions {
            if different.last() != Some(&version) && !different.contains(&version) {
                different.push(version);
            }
        }
        if different.len() <= 1 {
            return different.pop();
        }
        self.joins.get_or_insert_with(|| self.state.joins().clone()).join_versions(different)
    }
}

/// Of each key, the versions that some maps give, with how many give it.
#[derive(Default)]
struct Frontier {
    counts: HashMap<Key, Vec<(VersionRef, usize)>>,
    /// The keys of which a version came or went.
    touched: BTreeSet<Key>,
}

impl Frontier {
    fn given(&self, key: &Key) -> Vec<VersionRef> {
        let counts = self.counts.get(key).into_iter().flatten();
        counts.map(|(version, _)| version.clone()).collect()
    }

    fn add(&mut self, context: &Context) {
        context.iter().for_each(|(key, version)| self.count(key, version));
    }

    fn remove(&mut self, context: &Context) {
        context.iter().for_each(|(key, version)| self.discount(key, version));
    }

    fn replace(&mut self, old: &Context, new: &Context) {
        for key in old.differing(new) {
            let (before, after) = (old.get(&key), new.get(&key));
            if before != after {
                after.into_iter().for_each(|after| self.count(&key, after));
                before.into_iter().for_each(|before| self.discount(&key, before));
            }
        }
    }

    fn count(&mut self, key: &Key, version: &VersionRef) {
        let counts = self.counts.entry(key.clone()).or_default();
        match counts.iter_mut().find(|(known, _)| known == version) {
            Some((_, count)) => *count += 1,
            None => {
                counts.push((version.clone(), 1));
                self.touched.insert(key.clone());
            }
        }
    }

    fn discount(&mut self, key: &Key, version: &VersionRef) {
        let Some(counts) = self.counts.get_mut(key) else { return };
        let Some(at) = counts.iter().position(|(known, _)| known == version) else { return };
        counts[at].1 -= 1;
        if counts[at].1 > 0 {
            return;
        }
        counts.remove(at);
        if counts.is_empty() {
            self.counts.remove(key);
        }
        self.touched.insert(key.clone());
    }
}

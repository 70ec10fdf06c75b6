//! The context after every event, updated incrementally.
//!
//! [`Execution::context`] computes the context at one moment from the whole graph. A report needs it after every event,
//! so this module updates it from event to event. A property test on random graphs checks that both agree.
//!
//! The leaves of the graph will see what the **frontier** passes on: the settled tasks that are leaves or have an
//! unsettled task after them, and the input while a root task is unsettled. For each key, the module counts which
//! versions the frontier passes on. Usually there is one, or each version has seen the one before: then the last one
//! reaches the leaves, whatever the rest of the graph looks like. Only if versions meet that have not seen each other,
//! the order of joins matters, and that key is traced through the unsettled part of the graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cloacina_engine::core::context::{Context, Joins, VersionRef};
use cloacina_engine::core::event::Key;
use cloacina_engine::core::graph::{Graph, TaskIndex};
use cloacina_engine::core::state::Execution;

/// An execution's context, updated event by event.
pub struct Contexts {
    graph: Arc<Graph>,
    /// The unsettled tasks from which a path of unsettled tasks leads to a leaf.
    open: Vec<bool>,
    is_leaf: Vec<bool>,
    /// For each task, how many open tasks depend on it.
    open_after: Vec<usize>,
    /// How many open tasks have no dependencies; these see the input.
    open_roots: usize,
    input: Context,
    frontier: Frontier,
    context: BTreeMap<Key, VersionRef>,
}

/// The keys whose version has changed; `None` if the key was removed.
pub type Changes = BTreeMap<Key, Option<VersionRef>>;

impl Contexts {
    /// Computes the context of a state. Also returns all of it as changes.
    #[must_use]
    pub fn new(state: &Execution) -> (Self, Changes) {
        let graph = state.graph().clone();
        let mut is_leaf = vec![false; graph.len()];
        graph.leaves().iter().for_each(|leaf| is_leaf[leaf.at()] = true);
        let (mut open, mut open_after) = (vec![false; graph.len()], vec![0; graph.len()]);
        for &task in graph.topological_order().iter().rev() {
            if state.gives(task).is_none() && (is_leaf[task.at()] || open_after[task.at()] > 0) {
                open[task.at()] = true;
                graph.dependencies(task).iter().for_each(|up| open_after[up.at()] += 1);
            }
        }
        let is_open_root = |task: &TaskIndex| open[task.at()] && graph.dependencies(*task).is_empty();
        let open_roots = graph.tasks().filter(is_open_root).count();
        let mut frontier = Frontier::default();
        let input = state.input();
        if open_roots > 0 {
            frontier.add(&input);
        }
        for task in graph.tasks().filter(|task| is_leaf[task.at()] || open_after[task.at()] > 0) {
            state.gives(task).iter().for_each(|given| frontier.add(given));
        }
        let context = BTreeMap::new();
        let mut contexts = Self { graph, open, is_leaf, open_after, open_roots, input, frontier, context };
        let changes = contexts.changes(state);
        (contexts, changes)
    }

    /// Whether the state still uses the graph that this was created for.
    #[must_use]
    pub fn is_for(&self, state: &Execution) -> bool {
        Arc::ptr_eq(&self.graph, state.graph())
    }

    /// Returns the visible version of each key.
    #[must_use]
    pub fn context(&self) -> &BTreeMap<Key, VersionRef> {
        &self.context
    }

    /// Updates the context after a write to the input.
    pub fn input_written(&mut self, state: &Execution) -> Changes {
        let old = std::mem::replace(&mut self.input, state.input());
        if self.open_roots > 0 {
            self.frontier.replace(&old, &self.input);
        }
        self.changes(state)
    }

    /// Updates the context after an event of a task. Nothing changes if the event did not settle the task.
    pub fn settled(&mut self, state: &Execution, task: TaskIndex) -> Changes {
        let Some(given) = state.gives(task).filter(|_| std::mem::take(&mut self.open[task.at()])) else {
            return Changes::new();
        };
        let mut leaving: Vec<Context> = Vec::new();
        for up in self.graph.dependencies(task) {
            self.open_after[up.at()] -= 1;
            if self.open_after[up.at()] == 0 && !self.is_leaf[up.at()] {
                leaving.extend(state.gives(*up));
            }
        }
        if self.graph.dependencies(task).is_empty() {
            self.open_roots -= 1;
            leaving.extend(Some(self.input.clone()).filter(|_| self.open_roots == 0));
        }
        let joins_frontier = self.is_leaf[task.at()] || self.open_after[task.at()] > 0;
        match leaving.pop() {
            // A task mostly passes on what it received, so replacing costs less than removing and adding.
            Some(left) if joins_frontier => self.frontier.replace(&left, &given),
            Some(left) => self.frontier.remove(&left),
            None if joins_frontier => self.frontier.add(&given),
            None => {}
        }
        leaving.iter().for_each(|left| self.frontier.remove(left));
        self.changes(state)
    }

    /// Updates the keys whose versions at the frontier have changed. Returns those whose visible version is different.
    fn changes(&mut self, state: &Execution) -> Changes {
        let touched = std::mem::take(&mut self.frontier.touched);
        let mut resolver = Resolver { graph: &self.graph, state, input: &self.input, joins: None };
        let mut changes = Changes::new();
        for key in touched {
            let new = resolver.resolve(&key, &self.frontier.given(&key));
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

/// Computes the version of a key that results from its versions at the frontier.
struct Resolver<'a> {
    graph: &'a Graph,
    state: &'a Execution,
    input: &'a Context,
    /// A copy of the execution's joins, made when it is first needed.
    joins: Option<Joins>,
}

impl Resolver<'_> {
    fn resolve(&mut self, key: &Key, given: &[VersionRef]) -> Option<VersionRef> {
        match given {
            [] => None,
            [only] => Some(only.clone()),
            _ => self.last_of_chain(given).or_else(|| self.trace(key)),
        }
    }

    /// Returns the version that has seen all others, if of each pair one has seen the other: then no join can have a
    /// conflict.
    fn last_of_chain(&mut self, given: &[VersionRef]) -> Option<VersionRef> {
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

    /// Traces one key through the unsettled part of the graph to the leaves.
    fn trace(&mut self, key: &Key) -> Option<VersionRef> {
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

/// For each key, the versions in the contexts of the frontier, each with the number of contexts that contain it.
#[derive(Default)]
struct Frontier {
    counts: HashMap<Key, Vec<(VersionRef, usize)>>,
    /// The keys whose set of versions has changed.
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

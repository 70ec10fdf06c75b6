//! The validated graph of a definition, with edges in both directions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::definition::{Condition, Definition};
use super::event::TaskId;

mod edges;

use edges::{Edges, TaskLists};

/// The longest names of workflows and tasks, in bytes. A label in the listing may contain both.
pub const LONGEST_NAME: usize = 1_000;

/// The index of a task in its definition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub u32);

impl TaskIndex {
    /// Returns the index as a `usize`.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }

    fn of(node: NodeIndex) -> Self {
        Self(u32::try_from(node.index()).unwrap_or(u32::MAX))
    }
}

/// A valid definition, with its edges in both directions.
#[derive(Debug)]
pub struct Graph {
    definition: Arc<Definition>,
    index: HashMap<TaskId, TaskIndex>,
    edges: Edges,
    /// The tasks that no other task depends on.
    leaves: Vec<TaskIndex>,
    order: Vec<TaskIndex>,
}

/// All problems of a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workflow '{workflow}' is not valid: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidDefinition {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Every problem, in the order of the tasks.
    pub problems: Vec<Problem>,
}

/// A problem of a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There are no tasks, or a name is empty.
    #[error("{0} cannot be empty")]
    Empty(&'static str),
    /// A name is longer than the listing of executions can hold.
    #[error("the {what} is {bytes} bytes long; the limit is {LONGEST_NAME} bytes")]
    TooLong {
        /// What the name belongs to.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Two tasks have the same name.
    #[error("Duplicate task: {0}")]
    Duplicate(TaskId),
    /// A dependency, or a task that a condition names, does not exist.
    #[error("Missing dependency: task '{task}' depends on '{missing}', which is not in the workflow{}", did_you_mean(.nearest.as_ref()))]
    Missing {
        /// The task that names it.
        task: TaskId,
        /// The name.
        missing: TaskId,
        /// The most similar name that exists, if one is close enough.
        nearest: Option<TaskId>,
    },
    /// A task names a dependency twice.
    #[error("Duplicate dependency: task '{task}' depends on '{dependency}' twice")]
    Repeated {
        /// The task.
        task: TaskId,
        /// The repeated dependency.
        dependency: TaskId,
    },
    /// A condition nests too deep.
    #[error(
        "The trigger rules of task '{task}' nest deeper than {} levels; put conditions side by side: any_of(*many), all_of(*many)",
        Condition::MAX_DEPTH
    )]
    TooDeep {
        /// The task with the condition.
        task: TaskId,
    },
    /// Tasks wait for each other.
    #[error("Circular dependency detected: {}", .0.join(" -> "))]
    Cycle(
        /// The tasks along the cycle; the first one is repeated at the end.
        Vec<String>,
    ),
}

fn did_you_mean(nearest: Option<&TaskId>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

/// Returns the name among `names` that is most similar to `wanted`, if it is similar enough for a suggestion.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (similarity(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0).then_with(|| right.1.cmp(left.1)))
        .map(|(_, name)| name)
}

/// Returns the similarity of two names, from 0 to 1. A single typo counts as similar: in short names, Jaro-Winkler
/// rates two swapped letters too low.
fn similarity(wanted: &str, name: &str) -> f64 {
    let similarity = strsim::jaro_winkler(wanted, name);
    let is_one_typo = wanted.chars().count() > 2 && strsim::osa_distance(wanted, name) == 1;
    if is_one_typo { similarity.max(0.9) } else { similarity }
}

impl Graph {
    /// Validates a definition and builds its graph.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use cloacina_engine::core::definition::{Definition, TaskDefinition};
    /// use cloacina_engine::core::graph::Graph;
    /// let mut load = TaskDefinition::new("load");
    /// load.dependencies = vec!["extrct".into()];
    /// let definition = Definition { workflow: "etl".into(), tasks: vec![TaskDefinition::new("extract"), load] };
    /// let problem = Graph::new(Arc::new(definition)).unwrap_err();
    /// assert_eq!(
    ///     problem.to_string(),
    ///     "workflow 'etl' is not valid: Missing dependency: task 'load' depends on 'extrct', which is not in the workflow; did you mean 'extract'?"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`InvalidDefinition`] with every problem at once.
    pub fn new(definition: Arc<Definition>) -> Result<Self, InvalidDefinition> {
        let mut problems = Vec::new();
        let index = index_tasks(&definition, &mut problems);
        let edges = Edges::from_definition(&definition, &index, &mut problems);
        let order = topological(&definition, &edges, &mut problems);
        if !problems.is_empty() {
            return Err(InvalidDefinition { workflow: definition.workflow.clone(), problems });
        }
        let leaves = edges.leaves();
        Ok(Self { definition, index, edges, leaves, order })
    }

    /// Returns the definition.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Returns the number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.definition.tasks.len()
    }

    /// Always returns `false`: a definition without tasks is not valid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definition.tasks.is_empty()
    }

    /// Returns the task with this name.
    #[must_use]
    pub fn find(&self, task: &str) -> Option<TaskIndex> {
        self.index.get(task).copied()
    }

    /// Returns the name of a task.
    #[must_use]
    pub fn name(&self, task: TaskIndex) -> &TaskId {
        &self.definition.tasks[task.at()].id
    }

    /// Returns all tasks, in definition order.
    pub fn tasks(&self) -> impl Iterator<Item = TaskIndex> + use<> {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).map(TaskIndex)
    }

    /// Returns the dependencies of a task, in the order in which its context joins them.
    #[must_use]
    pub fn dependencies(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.dependencies.of(task)
    }

    /// Returns the tasks that must be settled before a task's rule is evaluated: its dependencies, and the tasks that
    /// its conditions name.
    #[must_use]
    pub fn upstream(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.upstream.of(task)
    }

    /// Returns the tasks that wait for a task: the reverse of [`Graph::upstream`].
    #[must_use]
    pub fn downstream(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.downstream.of(task)
    }

    /// Returns the tasks that no other task depends on, in definition order.
    #[must_use]
    pub fn leaves(&self) -> &[TaskIndex] {
        &self.leaves
    }

    /// Returns the tasks that wait for no other task, in definition order.
    #[must_use]
    pub fn roots(&self) -> Vec<TaskIndex> {
        self.tasks().filter(|task| self.upstream(*task).is_empty()).collect()
    }

    /// Returns all tasks in topological order. Among tasks that could come next, the one defined first does.
    #[must_use]
    pub fn topological_order(&self) -> &[TaskIndex] {
        &self.order
    }

    /// Returns the tasks by the length of the longest path that leads to them. Tasks of one level can run at the same
    /// time.
    #[must_use]
    pub fn levels(&self) -> Vec<Vec<TaskIndex>> {
        let mut depth = vec![0_usize; self.len()];
        let mut levels: Vec<Vec<TaskIndex>> = Vec::new();
        for &task in &self.order {
            let level = self.upstream(task).iter().map(|up| depth[up.at()] + 1).max().unwrap_or(0);
            depth[task.at()] = level;
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            levels[level].push(task);
        }
        levels.iter_mut().for_each(|level| level.sort_unstable());
        levels
    }

    /// Returns the tasks whose writes a task sees.
    #[must_use]
    pub fn ancestors(&self, task: TaskIndex) -> BTreeSet<TaskIndex> {
        reachable(task, &self.edges.dependencies)
    }

    /// Returns whether neither task waits for the other.
    #[must_use]
    pub fn independent(&self, one: TaskIndex, other: TaskIndex) -> bool {
        one != other && !self.waits_for(one, other) && !self.waits_for(other, one)
    }

    /// Returns whether a task waits for another one, directly or through other tasks.
    #[must_use]
    pub fn waits_for(&self, task: TaskIndex, other: TaskIndex) -> bool {
        reachable(task, &self.edges.upstream).contains(&other)
    }
}

/// Returns all tasks that can be reached from a task along these edges.
fn reachable(task: TaskIndex, edges: &TaskLists) -> BTreeSet<TaskIndex> {
    let mut seen = BTreeSet::new();
    let mut open = vec![task];
    while let Some(next) = open.pop() {
        open.extend(edges.of(next).iter().copied().filter(|up| seen.insert(*up)));
    }
    seen
}

/// Describes how the graphs of two definitions differ: in tasks, their order, dependencies or rules. `None` if the
/// graphs are the same; the code may still differ.
#[must_use]
pub fn difference(old: &Definition, new: &Definition) -> Option<String> {
    let by_name = |definition: &Definition| -> BTreeMap<TaskId, super::definition::TaskDefinition> {
        definition.tasks.iter().map(|task| (task.id.clone(), task.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let mut differences = Vec::new();
    differences
        .extend(before.keys().filter(|id| !after.contains_key(*id)).map(|id| format!("task '{id}' was removed")));
    differences.extend(after.keys().filter(|id| !before.contains_key(*id)).map(|id| format!("task '{id}' was added")));
    for (id, task) in &before {
        let Some(now) = after.get(id) else { continue };
        if task.dependencies != now.dependencies {
            differences.push(format!(
                "task '{id}' depends on [{}] instead of [{}]",
                now.dependencies.join(", "),
                task.dependencies.join(", ")
            ));
        }
        if task.rule != now.rule {
            differences.push(format!(
                "task '{id}' has a different trigger rule ({} instead of {})",
                now.rule.name(),
                task.rule.name()
            ));
        }
    }
    let order = |definition: &Definition| definition.tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
    if differences.is_empty() && order(old) != order(new) {
        differences.push("the tasks were added in a different order".to_owned());
    }
    (!differences.is_empty()).then(|| differences.join("; "))
}

fn index_tasks(definition: &Definition, problems: &mut Vec<Problem>) -> HashMap<TaskId, TaskIndex> {
    if definition.workflow.is_empty() {
        problems.push(Problem::Empty("workflow name"));
    }
    if definition.workflow.len() > LONGEST_NAME {
        problems.push(Problem::TooLong { what: "workflow name", bytes: definition.workflow.len() });
    }
    if definition.tasks.is_empty() {
        problems.push(Problem::Empty("workflow"));
    }
    let mut index = HashMap::with_capacity(definition.tasks.len());
    for (at, task) in (0_u32..).zip(&definition.tasks) {
        if task.id.is_empty() {
            problems.push(Problem::Empty("task id"));
        }
        if task.id.len() > LONGEST_NAME {
            problems.push(Problem::TooLong { what: "task id", bytes: task.id.len() });
        }
        if index.insert(task.id.clone(), TaskIndex(at)).is_some() {
            problems.push(Problem::Duplicate(task.id.clone()));
        }
    }
    index
}

/// Sorts the tasks with Kahn's algorithm, the lowest index first. Tasks that remain are on a cycle or downstream of
/// one.
fn topological(definition: &Definition, edges: &Edges, problems: &mut Vec<Problem>) -> Vec<TaskIndex> {
    let mut remaining: Vec<usize> = edges.upstream.iter().map(|(_, upstream)| upstream.len()).collect();
    let mut ready: BinaryHeap<Reverse<TaskIndex>> = (0_u32..)
        .map(TaskIndex)
        .zip(&remaining)
        .filter(|(_, count)| **count == 0)
        .map(|(task, _)| Reverse(task))
        .collect();
    let mut order = Vec::with_capacity(remaining.len());
    while let Some(Reverse(task)) = ready.pop() {
        order.push(task);
        for down in edges.downstream.of(task) {
            remaining[down.at()] -= 1;
            if remaining[down.at()] == 0 {
                ready.push(Reverse(*down));
            }
        }
    }
    if order.len() < remaining.len() {
        problems.extend(cycles(definition, edges));
    }
    order
}

/// Returns one cycle, as a path along its edges, for each strongly connected component.
fn cycles(definition: &Definition, edges: &Edges) -> Vec<Problem> {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = definition.tasks.iter().map(|_| graph.add_node(())).collect();
    for (up, downs) in edges.downstream.iter() {
        for down in downs {
            graph.add_edge(nodes[up.at()], nodes[down.at()], ());
        }
    }
    // Kosaraju's algorithm keeps its own stack; petgraph's Tarjan is recursive and could overflow.
    let mut components: Vec<Vec<NodeIndex>> = petgraph::algo::kosaraju_scc(&graph)
        .into_iter()
        .filter(|component| component.len() > 1 || graph.find_edge(component[0], component[0]).is_some())
        .collect();
    components.iter_mut().for_each(|component| component.sort_unstable());
    components.sort_unstable();
    components
        .into_iter()
        .map(|component| {
            let path = walk_cycle(&graph, &component);
            Problem::Cycle(
                path.into_iter().map(|node| definition.tasks[TaskIndex::of(node).at()].id.to_string()).collect(),
            )
        })
        .collect()
}

/// Walks inside a strongly connected component until a node repeats, and returns that cycle.
fn walk_cycle(graph: &DiGraph<(), ()>, component: &[NodeIndex]) -> Vec<NodeIndex> {
    let inside: BTreeSet<NodeIndex> = component.iter().copied().collect();
    let mut path = vec![component[0]];
    let mut places = HashMap::from([(component[0], 0)]);
    loop {
        let here = path[path.len() - 1];
        let next = graph.edges(here).map(|edge| edge.target()).filter(|node| inside.contains(node)).min();
        // Every node of the component has an edge inside it, so the default is never used.
        let next = next.unwrap_or(here);
        let earlier = places.insert(next, path.len());
        path.push(next);
        if let Some(first) = earlier {
            return path.split_off(first);
        }
    }
}

//! The graph of a definition: who waits for whom, and whether it is a graph at all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::definition::{Condition, Definition};
use super::event::TaskId;

mod edges;

use edges::{Edges, TaskLists};

/// The longest names of workflows and tasks, in bytes: what the listing shows of an execution may hold both.
pub const LONGEST_NAME: usize = 1_000;

/// The place of a task in its definition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub u32);

impl TaskIndex {
    /// As an index into a slice.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }

    fn of(node: NodeIndex) -> Self {
        Self(u32::try_from(node.index()).unwrap_or(u32::MAX))
    }
}

/// A definition that was checked, with its edges in both directions.
#[derive(Debug)]
pub struct Graph {
    definition: Arc<Definition>,
    index: HashMap<TaskId, TaskIndex>,
    edges: Edges,
    /// Which tasks nobody depends on.
    leaves: Vec<TaskIndex>,
    order: Vec<TaskIndex>,
}

/// Everything that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workflow '{workflow}' is not valid: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidDefinition {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Every problem, in the order of the tasks.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There are no tasks, or a name is empty.
    #[error("{0} cannot be empty")]
    Empty(&'static str),
    /// A name is longer than the listing of executions can hold.
    #[error("the {what} is {bytes} bytes long; the limit is {LONGEST_NAME} bytes")]
    TooLong {
        /// What is named.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Two tasks have one name.
    #[error("Duplicate task: {0}")]
    Duplicate(TaskId),
    /// A dependency, or a task that a condition names, is not there.
    #[error("Missing dependency: task '{task}' depends on '{missing}', which is not in the workflow{}", did_you_mean(.nearest.as_ref()))]
    Missing {
        /// The task that names it.
        task: TaskId,
        /// The name.
        missing: TaskId,
        /// The nearest name that is there.
        nearest: Option<TaskId>,
    },
    /// A task names a dependency twice.
    #[error("Duplicate dependency: task '{task}' depends on '{dependency}' twice")]
    Repeated {
        /// The task.
        task: TaskId,
        /// What it names twice.
        dependency: TaskId,
    },
    /// A condition tree nests without end.
    #[error(
        "The trigger rules of task '{task}' nest deeper than {} levels; put conditions side by side: any_of(*many), all_of(*many)",
        Condition::DEEPEST
    )]
    TooDeep {
        /// Whose.
        task: TaskId,
    },
    /// Tasks wait for each other.
    #[error("Circular dependency detected: {}", .0.join(" -> "))]
    Cycle(
        /// Along the edges, the first task again at the end.
        Vec<String>,
    ),
}

fn did_you_mean(nearest: Option<&TaskId>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

/// The name among `names` that is nearest to `wanted`, if one is near enough to be meant.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (similarity(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0).then_with(|| right.1.cmp(left.1)))
        .map(|(_, name)| name)
}

/// From 0 to 1. In a short name, two letters that changed places are the same name to whoever typed it, but hardly like it to
/// Jaro and Winkler, who look for a letter near the place where it was.
fn similarity(wanted: &str, name: &str) -> f64 {
    let similarity = strsim::jaro_winkler(wanted, name);
    let is_one_typo = wanted.chars().count() > 2 && strsim::osa_distance(wanted, name) == 1;
    if is_one_typo { similarity.max(0.9) } else { similarity }
}

impl Graph {
    /// Checks a definition.
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

    /// The definition that it is the graph of.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// How many tasks it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.definition.tasks.len()
    }

    /// Never: a definition without tasks is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definition.tasks.is_empty()
    }

    /// The task with this name.
    #[must_use]
    pub fn find(&self, task: &str) -> Option<TaskIndex> {
        self.index.get(task).copied()
    }

    /// The name of a task.
    #[must_use]
    pub fn name(&self, task: TaskIndex) -> &TaskId {
        &self.definition.tasks[task.at()].id
    }

    /// Every task, in the order of the definition.
    pub fn tasks(&self) -> impl Iterator<Item = TaskIndex> + use<> {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).map(TaskIndex)
    }

    /// What a task's context is joined from, in the order that matters.
    #[must_use]
    pub fn dependencies(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.dependencies.of(task)
    }

    /// What has to be settled before a task's rule is asked: its dependencies, and the tasks that its conditions name.
    #[must_use]
    pub fn upstream(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.upstream.of(task)
    }

    /// Who waits for a task.
    #[must_use]
    pub fn downstream(&self, task: TaskIndex) -> &[TaskIndex] {
        self.edges.downstream.of(task)
    }

    /// The tasks that nobody depends on, in the order of the definition.
    #[must_use]
    pub fn leaves(&self) -> &[TaskIndex] {
        &self.leaves
    }

    /// The tasks that wait for nobody, in the order of the definition.
    #[must_use]
    pub fn roots(&self) -> Vec<TaskIndex> {
        self.tasks().filter(|task| self.upstream(*task).is_empty()).collect()
    }

    /// Every task after all that it waits for; of two that could come next, the one that was defined first.
    #[must_use]
    pub fn topological_order(&self) -> &[TaskIndex] {
        &self.order
    }

    /// The tasks by how many others they wait for in a row; those of one level can run at the same time.
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

    /// The tasks whose writes a task sees.
    #[must_use]
    pub fn ancestors(&self, task: TaskIndex) -> BTreeSet<TaskIndex> {
        reachable(task, &self.edges.dependencies)
    }

    /// Whether neither task waits for the other.
    #[must_use]
    pub fn independent(&self, one: TaskIndex, other: TaskIndex) -> bool {
        one != other && !self.waits_for(one, other) && !self.waits_for(other, one)
    }

    /// Whether a task waits for another, directly or through others.
    #[must_use]
    pub fn waits_for(&self, task: TaskIndex, other: TaskIndex) -> bool {
        reachable(task, &self.edges.upstream).contains(&other)
    }
}

/// All that a task leads to.
fn reachable(task: TaskIndex, edges: &TaskLists) -> BTreeSet<TaskIndex> {
    let mut seen = BTreeSet::new();
    let mut open = vec![task];
    while let Some(next) = open.pop() {
        open.extend(edges.of(next).iter().copied().filter(|up| seen.insert(*up)));
    }
    seen
}

/// What makes two definitions the same graph, although their code may differ: tasks, order, dependencies and rules.
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

/// Kahn's order with the lowest index first. What it cannot order lies on or behind a cycle.
fn topological(definition: &Definition, edges: &Edges, problems: &mut Vec<Problem>) -> Vec<TaskIndex> {
    let mut waits: Vec<usize> = edges.upstream.iter().map(|(_, upstream)| upstream.len()).collect();
    let mut free: BinaryHeap<Reverse<TaskIndex>> =
        (0_u32..).map(TaskIndex).zip(&waits).filter(|(_, count)| **count == 0).map(|(task, _)| Reverse(task)).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(task)) = free.pop() {
        order.push(task);
        for down in edges.downstream.of(task) {
            waits[down.at()] -= 1;
            if waits[down.at()] == 0 {
                free.push(Reverse(*down));
            }
        }
    }
    if order.len() < waits.len() {
        problems.extend(cycles(definition, edges));
    }
    order
}

/// One cycle for each component of tasks that wait for each other, as a path along its edges.
fn cycles(definition: &Definition, edges: &Edges) -> Vec<Problem> {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = definition.tasks.iter().map(|_| graph.add_node(())).collect();
    for (up, downs) in edges.downstream.iter() {
        for down in downs {
            graph.add_edge(nodes[up.at()], nodes[down.at()], ());
        }
    }
    // Kosaraju's search keeps its own stack; Tarjan's in petgraph is recursive.
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

/// Walks inside a strongly connected component until a node comes again, and returns that loop.
fn walk_cycle(graph: &DiGraph<(), ()>, component: &[NodeIndex]) -> Vec<NodeIndex> {
    let inside: BTreeSet<NodeIndex> = component.iter().copied().collect();
    let mut path = vec![component[0]];
    let mut places = HashMap::from([(component[0], 0)]);
    loop {
        let here = path[path.len() - 1];
        let next = graph.edges(here).map(|edge| edge.target()).filter(|node| inside.contains(node)).min();
        // Every node of a component has an edge that stays in it; `here` only keeps the types total.
        let next = next.unwrap_or(here);
        let met = places.insert(next, path.len());
        path.push(next);
        if let Some(first) = met {
            return path.split_off(first);
        }
    }
}

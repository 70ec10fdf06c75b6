//! The graph of an execution at a moment: its tasks with their states, dependencies, undeclared reads, and the critical
//! path.

mod critical;
pub mod formats;
pub mod layout;
pub mod rails;

use std::collections::{BTreeSet, HashMap};

use cloacina_engine::core::event::TaskId;
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::standing::ExecutionStatus;
use cloacina_engine::core::state::Execution;

use crate::story::{Story, What};
use crate::words;

pub use critical::{Step, critical_path};

/// A graph with states.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The workflow's name.
    pub workflow: String,
    /// The tasks, in topological order.
    pub nodes: Vec<Node>,
    /// The edges, as indices into `nodes`.
    pub edges: Vec<Edge>,
    /// The critical path, from first to last; empty if nothing has started.
    pub critical: Vec<Step>,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub task: TaskId,
    /// The name of its state.
    pub state: &'static str,
    /// The number of attempts that were started.
    pub attempts: u32,
    /// The time from the start of its first attempt to its end, or to the moment, in microseconds.
    pub took: Option<u64>,
    /// The length of the longest path of upstream tasks.
    pub level: usize,
}

impl Node {
    /// Returns the text below its name: state, attempts and duration.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut says = vec![self.state.to_owned()];
        if self.attempts > 1 {
            says.push(format!("{} attempts", self.attempts));
        }
        says.extend(self.took.map(words::span));
        says.join(", ")
    }
}

/// An edge from a task to one that comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The index of the earlier task.
    pub from: usize,
    /// The index of the later task.
    pub to: usize,
    /// The kind of the edge.
    pub kind: EdgeKind,
}

/// Why one task comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// A declared dependency.
    Dependency,
    /// The later task's rule looks at the earlier one's outcome, without depending on it.
    Rule,
    /// The later task read a value of the earlier one without depending on it.
    Undeclared,
}

impl EdgeKind {
    /// Returns its name: `dependency`, `rule`, `undeclared`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dependency => "dependency",
            Self::Rule => "rule",
            Self::Undeclared => "undeclared",
        }
    }
}

impl Picture {
    /// Creates the graph of a story's final state; `None` if its events cannot be folded.
    #[must_use]
    pub fn of(story: &Story) -> Option<Self> {
        let state = story.state.as_ref()?;
        let graph = state.graph();
        let order = graph.topological_order();
        let places: HashMap<TaskIndex, usize> = order.iter().enumerate().map(|(place, task)| (*task, place)).collect();
        let mut levels = vec![0; order.len()];
        let mut edges = BTreeSet::new();
        for (to, task) in order.iter().enumerate() {
            for up in graph.upstream(*task) {
                let Some(&from) = places.get(up) else { continue };
                levels[to] = levels[to].max(levels[from] + 1);
                let kind = match graph.dependencies(*task).contains(up) {
                    true => EdgeKind::Dependency,
                    false => EdgeKind::Rule,
                };
                edges.insert(Edge { from, to, kind });
            }
        }
        edges.extend(undeclared(story, state, &places));
        let nodes = order.iter().zip(levels).map(|(task, level)| node(story, state, *task, level)).collect();
        Some(Self {
            workflow: state.workflow().to_string(),
            nodes,
            edges: edges.into_iter().collect(),
            critical: critical_path(state),
        })
    }

    /// Whether an edge is on the critical path.
    #[must_use]
    pub fn is_critical(&self, edge: &Edge) -> bool {
        let (from, to) = (&self.nodes[edge.from].task, &self.nodes[edge.to].task);
        edge.kind != EdgeKind::Undeclared
            && self.critical.windows(2).any(|pair| pair[0].task == *from && pair[1].task == *to)
    }
}

fn node(story: &Story, state: &Execution, task: TaskIndex, level: usize) -> Node {
    let slot = state.task(task);
    let took = slot.started().map(|started| slot.ended().unwrap_or(state.last()).micros_since(started));
    let name = story.state_name(slot.state());
    // If the process of an attempt is gone, its duration is unknown.
    let took = took.filter(|_| name != ExecutionStatus::NotRunning.name());
    Node { task: state.graph().name(task).clone(), state: name, attempts: slot.attempts(), took, level }
}

fn undeclared(story: &Story, state: &Execution, places: &HashMap<TaskIndex, usize>) -> Vec<Edge> {
    let mut edges = Vec::new();
    let place = |task: &TaskId| places.get(&state.graph().find(task)?).copied();
    for row in &story.rows {
        let What::Task(row) = &row.what else { continue };
        for read in row.attempts.iter().flat_map(|attempt| &attempt.undeclared) {
            if let (Some(from), Some(to)) = (read.writer.as_ref().and_then(place), place(&row.task)) {
                edges.push(Edge { from, to, kind: EdgeKind::Undeclared });
            }
        }
    }
    edges
}

//! The edges of a graph in both directions, derived from a definition.

use std::collections::HashMap;

use super::super::definition::{Condition, Definition, TriggerRule};
use super::super::event::TaskId;
use super::{Problem, TaskIndex, nearest};

/// One list of tasks per task, all in one allocation: large graphs have hundreds of thousands of such lists, most of
/// them with a single entry.
#[derive(Debug)]
pub(super) struct TaskLists {
    items: Vec<TaskIndex>,
    /// The end of each list in `items`, where the next one begins.
    ends: Vec<usize>,
}

impl TaskLists {
    fn with_capacity(count: usize) -> Self {
        Self { items: Vec::with_capacity(count), ends: Vec::with_capacity(count) }
    }

    /// Ends the list of the current task.
    fn finish_list(&mut self) {
        self.ends.push(self.items.len());
    }

    /// Returns the list of a task.
    pub(super) fn of(&self, task: TaskIndex) -> &[TaskIndex] {
        let start = task.at().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.items[start..self.ends[task.at()]]
    }

    /// Returns every task with its list.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskIndex, &[TaskIndex])> {
        (0_u32..).map(TaskIndex).take(self.ends.len()).map(|task| (task, self.of(task)))
    }

    /// Returns the reverse edges: for each task, the tasks whose lists contain it, in order.
    fn reversed(&self) -> Self {
        // A counting sort: `ends` first holds the size of each list, then its start, and grows to its end as it is
        // filled.
        let mut ends = vec![0; self.ends.len()];
        for item in &self.items {
            ends[item.at()] += 1;
        }
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut items = vec![TaskIndex(0); self.items.len()];
        for (task, list) in self.iter() {
            for item in list {
                let end = &mut ends[item.at()];
                items[*end] = task;
                *end += 1;
            }
        }
        Self { items, ends }
    }
}

/// The edges of a graph.
#[derive(Debug)]
pub(super) struct Edges {
    /// The dependencies of each task, in the order in which its context joins them.
    pub(super) dependencies: TaskLists,
    /// The tasks that must be settled before each task's rule is evaluated: its dependencies, and the tasks that its
    /// conditions name.
    pub(super) upstream: TaskLists,
    /// The reverse of `upstream`, in definition order.
    pub(super) downstream: TaskLists,
}

impl Edges {
    pub(super) fn from_definition(
        definition: &Definition,
        index: &HashMap<TaskId, TaskIndex>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let count = definition.tasks.len();
        let (mut dependencies, mut upstream) = (TaskLists::with_capacity(count), TaskLists::with_capacity(count));
        // For each task, the last task that has it upstream. This removes duplicates from the lists.
        let mut last_downstream: Vec<Option<TaskIndex>> = vec![None; count];
        for (at, task) in (0_u32..).map(TaskIndex).zip(&definition.tasks) {
            let mut find = |name: &TaskId, may_repeat: bool| {
                let found = index.get(name).copied();
                if found.is_none() {
                    let nearest = nearest(name, index.keys().map(|key| &**key)).map(Into::into);
                    problems.push(Problem::Missing { task: task.id.clone(), missing: name.clone(), nearest });
                }
                let new = found.filter(|up| last_downstream[up.at()].replace(at) != Some(at));
                if found.is_some() && new.is_none() && !may_repeat {
                    problems.push(Problem::Repeated { task: task.id.clone(), dependency: name.clone() });
                }
                new
            };
            let first = dependencies.items.len();
            dependencies.items.extend(task.dependencies.iter().filter_map(|name| find(name, false)));
            upstream.items.extend_from_slice(&dependencies.items[first..]);
            match &task.rule {
                TriggerRule::When(condition) if condition.fits_depth_limit() => {
                    upstream.items.extend(referenced_tasks(condition).into_iter().filter_map(|name| find(name, true)));
                }
                TriggerRule::When(_) => problems.push(Problem::TooDeep { task: task.id.clone() }),
                _ => {}
            }
            dependencies.finish_list();
            upstream.finish_list();
        }
        let downstream = upstream.reversed();
        Self { dependencies, upstream, downstream }
    }

    pub(super) fn leaves(&self) -> Vec<TaskIndex> {
        let mut depended_on = vec![false; self.dependencies.ends.len()];
        self.dependencies.items.iter().for_each(|up| depended_on[up.at()] = true);
        (0_u32..).map(TaskIndex).zip(depended_on).filter(|(_, is)| !is).map(|(task, _)| task).collect()
    }
}

/// Returns the tasks that a condition names, in order.
fn referenced_tasks(condition: &Condition) -> Vec<&TaskId> {
    match condition {
        Condition::All(parts) | Condition::Any(parts) | Condition::None(parts) => {
            parts.iter().flat_map(referenced_tasks).collect()
        }
        Condition::TaskSuccess(task) | Condition::TaskFailed(task) | Condition::TaskSkipped(task) => vec![task],
        Condition::Always | Condition::ContextValue { .. } => Vec::new(),
    }
}

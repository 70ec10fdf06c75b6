//! The critical path: the tasks that decided how long an execution took. To be faster, one of these must be.

use cloacina_engine::core::event::TaskId;
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::time::Timestamp;

/// A task on the critical path.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name.
    pub task: TaskId,
    /// How long it waited for a slot after the one before it had ended (the first one: after the start), in microseconds.
    pub waited: u64,
    /// From the start of its first attempt to its end, in microseconds: with retries and the waits between them.
    pub took: u64,
}

/// The critical path, from first to last: back from the task that ended last, each time to the one among those that it
/// waited for that ended last. Of an execution that goes on, a task that runs counts as ending now.
#[must_use]
pub fn critical_path(state: &Execution) -> Vec<Step> {
    let end = |task: TaskIndex| {
        let slot = state.task(task);
        slot.started()?;
        Some(slot.ended().unwrap_or(state.last()))
    };
    // Of two that ended at the same time, the one that comes later in the order of the graph waited for the other.
    let last_of =
        |tasks: &[TaskIndex]| tasks.iter().copied().filter(|task| end(*task).is_some()).max_by_key(|task| end(*task));
    let mut path = Vec::new();
    let mut next = last_of(state.graph().topological_order());
    while let Some(task) = next {
        let before = last_of(state.graph().upstream(task));
        path.push((task, before));
        next = before;
    }
    path.into_iter().rev().filter_map(|(task, before)| step(state, task, before.and_then(end))).collect()
}

fn step(state: &Execution, task: TaskIndex, before: Option<Timestamp>) -> Option<Step> {
    let slot = state.task(task);
    let started = slot.started()?;
    Some(Step {
        task: state.graph().name(task).clone(),
        waited: started.micros_since(before.unwrap_or(state.started())),
        took: slot.ended().unwrap_or(state.last()).micros_since(started),
    })
}

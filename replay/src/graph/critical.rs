//! The critical path: the chain of tasks that determined the duration of an execution.

use cloacina_engine::core::event::TaskId;
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::time::Timestamp;

/// A task on the critical path.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name.
    pub task: TaskId,
    /// The wait for a slot after the previous task had ended (for the first task: after the start), in microseconds.
    pub waited: u64,
    /// The time from the start of its first attempt to its end, in microseconds. Includes retries and their waits.
    pub took: u64,
}

/// Returns the critical path, from first to last. Walks back from the task that ended last, each time to the upstream
/// task that ended last. In an unfinished execution, running tasks count as ending now.
#[must_use]
pub fn critical_path(state: &Execution) -> Vec<Step> {
    let end = |task: TaskIndex| {
        let slot = state.task(task);
        slot.started()?;
        Some(slot.ended().unwrap_or(state.last()))
    };
    // Of two tasks that ended at the same time, the later one in topological order may depend on the other.
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

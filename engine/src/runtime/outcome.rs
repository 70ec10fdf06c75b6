//! The outcome of an execution and of its tasks, and entries of the listing.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::StreamEntry;

pub use super::ids::{execution_of, stream_of};
pub use super::rebuild::{LogGraphs, RebuildError, rebuild};
use crate::core::codec::{self, DecodeError};
use crate::core::context::values;
use crate::core::event::{ExecutionId, Key, SkipReason, TaskError, TaskId};
use crate::core::graph::TaskIndex;
use crate::core::json::Json;
use crate::core::standing::{ExecutionStatus, Standing};
use crate::core::state::Execution;
use crate::core::time::Timestamp;

/// The final or current state of an execution.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Its status.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The final context; while it runs, the context that a task after all completed tasks would see.
    pub context: BTreeMap<Key, Json>,
    /// Why it failed (task, attempt, error, hint), or why it cannot go on and what to do.
    pub error: Option<String>,
    /// The task and attempt that made it fail.
    pub failed: Option<(TaskId, u32)>,
    /// All tasks, in the order of the definition.
    pub tasks: Vec<TaskOutcome>,
}

/// The final or current state of a task.
#[derive(Clone, Debug)]
pub struct TaskOutcome {
    /// The task.
    pub task: TaskId,
    /// Its state's name: `Pending Running WaitingRetry Completed Failed Skipped Cancelled`.
    pub state: &'static str,
    /// How many attempts were started.
    pub attempts: u32,
    /// The last error.
    pub error: Option<TaskError>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it was settled.
    pub ended: Option<Timestamp>,
}

/// An execution in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How many events it has.
    pub events: u64,
    /// Its status, the reason, and what to do.
    pub standing: Standing,
}

/// Returns the outcome of an execution in its current state.
#[must_use]
pub fn outcome(state: &Execution) -> Outcome {
    let is_final = state.status().is_final();
    let context = values(&state.context()).map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>();
    let failed = state.root_failures().and_then(|(task, _)| {
        let failure = state.task(task).failure()?;
        Some((state.graph().name(task).clone(), failure.attempt))
    });
    Outcome {
        execution: state.id(),
        workflow: state.workflow().clone(),
        status: Standing::of(state).status,
        started: state.started(),
        ended: is_final.then(|| state.last()),
        context,
        error: (is_final && !state.reason().is_empty()).then(|| state.reason().to_string()),
        failed,
        tasks: state.graph().tasks().map(|task| task_outcome(state, task)).collect(),
    }
}

fn task_outcome(state: &Execution, task: TaskIndex) -> TaskOutcome {
    let slot = state.task(task);
    let error = slot.failure().map(|failure| {
        let mut error = failure.error.clone();
        error.hint = state.failure_hint(task).map(Into::into);
        error
    });
    TaskOutcome {
        task: state.graph().name(task).clone(),
        state: slot.state().name(),
        attempts: slot.attempts(),
        error,
        skipped: slot.skipped().map(describe_skip),
        started: slot.started(),
        ended: slot.ended(),
    }
}

/// Describes why a task was skipped: the rule, and what decided it.
fn describe_skip(why: &SkipReason) -> String {
    let tasks = why.tasks.iter().map(|(task, settled)| format!("{task}: {settled:?}"));
    let keys = why.keys.iter().map(|key| format!("context '{key}'"));
    let decided: Vec<String> = tasks.chain(keys).collect();
    let by_failure = if why.failure { "skipped by failure: " } else { "" };
    format!("{by_failure}rule {} ({})", why.rule, decided.join(", "))
}

/// Decodes an entry of the listing. `known` is the standing that its engine keeps beyond the events, if any.
pub(crate) fn listed(entry: &StreamEntry, known: Option<Standing>) -> Result<Listed, DecodeError> {
    let label = codec::decode_label(&entry.label)?;
    Ok(Listed {
        execution: execution_of(entry.stream),
        workflow: label.workflow,
        // A standing of before its end is out of date.
        standing: known.filter(|_| label.ended.is_none()).unwrap_or_else(|| ExecutionStatus::from(label.status).into()),
        started: label.started,
        ended: label.ended,
        events: entry.records,
    })
}

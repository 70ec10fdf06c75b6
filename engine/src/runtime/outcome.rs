//! What an engine says of an execution: how it ended, or how it stands.

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

/// How an execution ended, or how it stands.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The final context; while it runs, what a task after all that has been done would see.
    pub context: BTreeMap<Key, Json>,
    /// Why it failed: which task, which attempt, which error, and the hint; or why it does not go on, and what to do.
    pub error: Option<String>,
    /// The attempt that made it fail.
    pub failed: Option<(TaskId, u32)>,
    /// Each task, in the order of the definition.
    pub tasks: Vec<TaskOutcome>,
}

/// How a task ended, or how it stands.
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
    /// How it stands, why, and what to do.
    pub standing: Standing,
}

/// What is told of an execution.
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

/// Why a task was skipped, in a sentence's half: the rule, and what decided it.
fn describe_skip(why: &SkipReason) -> String {
    let tasks = why.tasks.iter().map(|(task, settled)| format!("{task}: {settled:?}"));
    let keys = why.keys.iter().map(|key| format!("context '{key}'"));
    let decided: Vec<String> = tasks.chain(keys).collect();
    let by_failure = if why.failure { "skipped by failure: " } else { "" };
    format!("{by_failure}rule {} ({})", why.rule, decided.join(", "))
}

/// What the listing tells of an execution. `known` is how it stands, where its engine knows more than its events say.
pub(crate) fn listed(entry: &StreamEntry, known: Option<Standing>) -> Result<Listed, DecodeError> {
    let label = codec::decode_label(&entry.label)?;
    Ok(Listed {
        execution: execution_of(entry.stream),
        workflow: label.workflow,
        // What was known of it before its end is no longer so.
        standing: known.filter(|_| label.ended.is_none()).unwrap_or_else(|| ExecutionStatus::from(label.status).into()),
        started: label.started,
        ended: label.ended,
        events: entry.records,
    })
}

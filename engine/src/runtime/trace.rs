//! `tracing` output for events, emitted once they are durable. The final failure of a task is a warning; everything
//! else is info or debug.

use std::sync::Arc;

use crate::core::event::{Event, ExecutionId, Request, TaskFailed};
use crate::core::standing::Standing;

/// Named after executions rather than an engine module; `cloaca.engine.execution` in Python.
const TARGET: &str = "cloacina_engine::execution";

/// Logs an event.
pub(super) fn trace_event(execution: ExecutionId, workflow: &Arc<str>, event: &Event) {
    match event {
        Event::ExecutionStarted(_) => {
            tracing::info!(
            target: TARGET, %execution, %workflow, "execution {execution} of workflow '{workflow}' started");
        }
        Event::TaskStarted(start) => {
            let (task, attempt) = (&start.task, start.attempt);
            tracing::debug!(
            target: TARGET, %execution, %workflow, %task, attempt, "task '{task}' started, attempt {attempt}");
        }
        Event::TaskCompleted(end) => {
            let (task, attempt) = (&end.task, end.attempt);
            tracing::debug!(
            target: TARGET, %execution, %workflow, %task, attempt, "task '{task}' completed, attempt {attempt}");
        }
        Event::TaskFailed(failed) => trace_failed(execution, workflow, failed),
        Event::TaskSkipped(skipped) => {
            let (task, rule) = (&skipped.task, &skipped.why.rule);
            let by = if skipped.why.failure { "failure" } else { "its rule" };
            tracing::info!(
            target: TARGET, %execution, %workflow, %task, %rule, "task '{task}' was skipped by {by}: {rule}");
        }
        Event::TaskAbandoned(abandoned) => {
            let (task, attempt, why) = (&abandoned.task, abandoned.attempt, abandoned.why);
            tracing::info!(
            target: TARGET, %execution, %workflow, %task, attempt, ?why,
                "task '{task}', attempt {attempt}, was abandoned: {why:?}"
            );
        }
        Event::TaskDeferred(deferred) => {
            let (task, attempt) = (&deferred.task, deferred.attempt);
            tracing::debug!(
            target: TARGET, %execution, %workflow, %task, attempt, "task '{task}' deferred, waits without a slot, attempt {attempt}");
        }
        Event::TaskResumed(resumed) => {
            let (task, attempt) = (&resumed.task, resumed.attempt);
            tracing::debug!(
            target: TARGET, %execution, %workflow, %task, attempt, "task '{task}' resumed, attempt {attempt}");
        }
        Event::ExecutionCompleted(_) => trace_ended(execution, workflow, "completed"),
        Event::ExecutionFailed(_) => trace_ended(execution, workflow, "failed"),
        Event::ExecutionCancelled(_) => trace_ended(execution, workflow, "was cancelled"),
        Event::ExecutionRetried(retried) => {
            let Request { by, reason } = &retried.request;
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            tracing::info!(
            target: TARGET, %execution, %workflow, %by, "execution {execution} of workflow '{workflow}' is retried by {by}{why}");
        }
        Event::ContextWritten(_)
        | Event::ContextRemoved(_)
        | Event::ExecutionPaused(_)
        | Event::ExecutionUnpaused(_)
        | Event::CancelRequested(_)
        | Event::ExecutionRecovered(_) => {}
    }
}

/// Warns about executions that are held for the same reason, with the first one's next step. A user has to act.
pub(super) fn warn_held(ids: &[ExecutionId], standing: &Standing) {
    /// How many ids are named.
    const NAMED: usize = 5;
    let [first, others @ ..] = ids else { return };
    let status = standing.status.lowercase();
    let advice = standing.advice().unwrap_or_default();
    let more = match others.len() {
        0 => String::new(),
        count => {
            let named: Vec<String> = others.iter().take(NAMED).map(ToString::to_string).collect();
            let rest = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
            format!(" (so are {count} others: {}{rest})", named.join(", "))
        }
    };
    tracing::warn!(
        target: TARGET, execution = %first, %status,
        "execution {first} is unfinished and {status}: {advice}{more}"
    );
}

fn trace_failed(execution: ExecutionId, workflow: &Arc<str>, failed: &TaskFailed) {
    let TaskFailed { task, attempt, error, .. } = failed;
    let (kind, message) = (&error.kind, &error.message);
    if failed.retry_at.is_some() {
        tracing::info!(
            target: TARGET, %execution, %workflow, %task, attempt, error = %kind,
            "task '{task}' of workflow '{workflow}' failed in attempt {attempt} and will be retried: {kind}: {message}"
        );
    } else {
        tracing::warn!(
            target: TARGET, %execution, %workflow, %task, attempt, error = %kind,
            "task '{task}' of workflow '{workflow}' failed in attempt {attempt}: {kind}: {message} (replay {execution} explain {task})"
        );
    }
}

fn trace_ended(execution: ExecutionId, workflow: &Arc<str>, how: &str) {
    tracing::info!(
            target: TARGET, %execution, %workflow, "execution {execution} of workflow '{workflow}' {how}");
}

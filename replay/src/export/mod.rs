//! Exports of an execution's history for other programs.

pub mod chrome;
pub mod openlineage;
pub mod otlp;

use cloacina_engine::core::codec::sha256;
use cloacina_engine::core::event::{Attempt, Environment, ExecutionId, TaskId};
use cloacina_engine::core::time::Timestamp;

use crate::source::Head;
use crate::story::{AttemptRow, Outcome, Row, Story, TaskRow, What};

/// The execution to export.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'a> {
    /// Its entry in the index.
    pub head: &'a Head,
    /// Its events by task.
    pub story: &'a Story,
}

impl<'a> Exported<'a> {
    /// Returns when it started.
    fn start(&self) -> Timestamp {
        crate::reading::started(&self.head.entry)
    }

    /// Returns the time of its last known event.
    fn last(&self) -> Timestamp {
        Timestamp(self.head.entry.last.0)
    }

    fn tasks(&self) -> impl Iterator<Item = (&'a Row, &'a TaskRow)> {
        self.story.rows.iter().filter_map(|row| match &row.what {
            What::Task(task) => Some((row, task)),
            _ => None,
        })
    }

    /// Returns the processes that ran it, in order, each with the time when it began to.
    fn processes(&self) -> Vec<(Timestamp, &'a Environment)> {
        let rows = self.story.rows.iter().filter_map(|row| match &row.what {
            What::Started { environment, .. }
            | What::Recovered { environment, .. }
            | What::Retried { environment, .. } => Some((row.time, environment)),
            _ => None,
        });
        rows.collect()
    }

    /// Returns the tasks that are directly upstream of a task.
    fn upstream(&self, task: &TaskId) -> Vec<&'a TaskId> {
        let Some(state) = &self.story.state else { return Vec::new() };
        let graph = state.graph();
        let upstream = graph.find(task).map(|task| graph.upstream(task)).unwrap_or_default();
        upstream.iter().map(|up| graph.name(*up)).collect()
    }

    /// Returns when an attempt ended; for a running one, the time of the last known event.
    fn ended(&self, attempt: &AttemptRow) -> Timestamp {
        attempt.ended.unwrap_or(self.last()).max(attempt.since)
    }
}

/// Returns sixteen bytes that identify an attempt, the same in every export.
fn attempt_digest(id: ExecutionId, task: &str, attempt: Attempt) -> [u8; 16] {
    let mut bytes = id.0.to_vec();
    bytes.extend_from_slice(&attempt.to_be_bytes());
    bytes.extend_from_slice(task.as_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&sha256(&bytes)[..16]);
    digest
}

/// Returns the word for an attempt's outcome.
fn outcome(attempt: &AttemptRow) -> &'static str {
    match &attempt.outcome {
        Outcome::Running => "running",
        Outcome::Deferred => "deferred",
        Outcome::Left => "not running",
        Outcome::Completed => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::Abandoned(_) => "abandoned",
        Outcome::Cancelled => "cancelled",
    }
}

//! The events of an execution grouped into rows by task, with facts that need the whole history: hints, undeclared
//! reads, collisions. Both the terminal and the JSON output show a [`Story`], so they agree.

mod builder;

use cloacina_engine::core::event::{
    AbandonReason, Attempt, Cause, Environment, Key, Reads, Request, Seq, SkipReason, TaskError, TaskId,
};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::standing::{ExecutionStatus, Standing};
use cloacina_engine::core::state::{Execution, Status, TaskState};
use cloacina_engine::core::time::Timestamp;

use crate::reading::HistoryError;

pub use builder::tell;

/// The events of an execution by task, as far as they could be read.
#[derive(Debug, Default)]
pub struct Story {
    /// The rows, in the order of their first event.
    pub rows: Vec<Row>,
    /// How many events were read.
    pub events: u64,
    /// The state after the last event; `None` if not all events could be folded.
    pub state: Option<Execution>,
    /// Why reading or folding stopped.
    pub trouble: Option<HistoryError>,
    /// The tasks that a recovery with another graph removed, each with the event of that recovery.
    pub removed: Vec<(TaskId, Seq)>,
    /// Whether it is unfinished and nothing runs it.
    is_orphaned: bool,
}

impl Story {
    /// Applies the execution's standing: if nothing runs the execution, its open attempts are not running either.
    #[must_use]
    pub fn standing(mut self, standing: &Standing) -> Self {
        if !standing.status.is_orphaned() {
            return self;
        }
        for row in &mut self.rows {
            let What::Task(task) = &mut row.what else { continue };
            let unfinished =
                |attempt: &&mut AttemptRow| matches!(attempt.outcome, Outcome::Running | Outcome::Deferred);
            for attempt in task.attempts.iter_mut().filter(unfinished) {
                attempt.outcome = Outcome::Left;
            }
        }
        self.is_orphaned = true;
        self
    }

    /// Returns the tasks that failed without another retry, in the order of their failures.
    #[must_use]
    pub fn failures(&self) -> Vec<&TaskRow> {
        let failed = |row: &&Row| match &row.what {
            What::Task(task) => {
                let last = task.attempts.last().map(|last| &last.outcome);
                matches!(last, Some(Outcome::Failed { retry_at: None, .. })) && !task.retried && !task.cancelled
            }
            _ => false,
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(failed).collect();
        // The last event of such a task is its failure.
        rows.sort_by_key(|row| row.last);
        rows.into_iter().filter_map(Row::task).collect()
    }

    /// Returns the failure that made the execution fail, or else the first one. Every view names it first.
    #[must_use]
    pub fn first_failure(&self) -> Option<&TaskRow> {
        let state = self.state.as_ref().filter(|state| state.status() == Status::Failed);
        let root = state.and_then(|state| Some(state.graph().name(state.root_failures()?.0)));
        let failures = self.failures();
        failures.iter().find(|row| Some(&row.task) == root).or(failures.first()).copied()
    }

    /// Returns the row of the end; `None` if the execution has not ended, or was retried after its end.
    #[must_use]
    pub fn end(&self) -> Option<&Row> {
        let last = self.rows.iter().rfind(|row| matches!(row.what, What::Ended { .. } | What::Retried { .. }));
        last.filter(|row| matches!(row.what, What::Ended { .. }))
    }

    /// Whether the execution is unfinished and nothing runs it.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.is_orphaned
    }

    /// Returns the name of a task's state at the end: `NotRunning` for an open attempt if nothing runs the execution.
    #[must_use]
    pub fn state_name(&self, state: TaskState) -> &'static str {
        match state {
            TaskState::Running { .. } | TaskState::Deferred { .. } if self.is_orphaned => {
                ExecutionStatus::NotRunning.name()
            }
            other => other.name(),
        }
    }
}

/// A group of events.
#[derive(Debug)]
pub struct Row {
    /// The first event.
    pub first: Seq,
    /// The last event; events of other rows may be in between.
    pub last: Seq,
    /// The time of the first event.
    pub time: Timestamp,
    /// The content.
    pub what: What,
}

impl Row {
    /// Returns the task's row, if it is about a task.
    #[must_use]
    pub fn task(&self) -> Option<&TaskRow> {
        match &self.what {
            What::Task(task) => Some(task),
            _ => None,
        }
    }
}

/// The content of a row.
#[derive(Debug)]
pub enum What {
    /// The execution started.
    Started {
        /// The cause.
        cause: Cause,
        /// The process that started it.
        environment: Environment,
        /// The input.
        input: Vec<Change>,
    },
    /// All events of one task.
    Task(TaskRow),
    /// The execution was paused: no more attempts start.
    Paused(Request),
    /// The execution was unpaused.
    Unpaused(Request),
    /// The cancellation of the execution was requested.
    CancelRequested(Request),
    /// Another process resumed the execution.
    Recovered {
        /// That process.
        environment: Environment,
        /// The changes in the workflow, in words; empty if there are none.
        changes: Vec<String>,
    },
    /// The execution had failed or was cancelled, and continues from what failed.
    Retried {
        /// Who requested that, and why.
        request: Request,
        /// The process that continues it.
        environment: Environment,
        /// The changes in the workflow, in words; empty if there are none.
        changes: Vec<String>,
    },
    /// The execution ended.
    Ended {
        /// The final status.
        status: Status,
        /// The reason; empty if it completed.
        reason: String,
        /// The collisions at the join of the graph's leaves.
        collisions: Vec<NamedCollision>,
    },
    /// The body of the event was erased.
    Erased,
}

/// All events of one task.
#[derive(Debug)]
pub struct TaskRow {
    /// Its name.
    pub task: TaskId,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptRow>,
    /// Why it was skipped, if it was.
    pub skipped: Option<SkipReason>,
    /// If it was skipped: the keys that its rule looked up, each with the value seen, `None` if there was none.
    pub asked: Vec<(Key, Option<Json>)>,
    /// Whether the execution ended before the task.
    pub cancelled: bool,
    /// Whether a retry of the execution put the task back, and it has not started since.
    pub retried: bool,
    /// The collisions at the join of its dependencies.
    pub collisions: Vec<NamedCollision>,
}

impl TaskRow {
    /// Creates the row of a task without events.
    #[must_use]
    pub fn new(task: TaskId) -> Self {
        Self {
            task,
            attempts: Vec::new(),
            skipped: None,
            asked: Vec::new(),
            cancelled: false,
            retried: false,
            collisions: Vec::new(),
        }
    }

    /// Returns how long the task took: from its first attempt to the end of its last one. After a retry of the execution,
    /// counts from the first attempt after it.
    #[must_use]
    pub fn took(&self) -> Option<u64> {
        let first = self.attempts.iter().rfind(|attempt| attempt.after_retry.is_some()).or(self.attempts.first())?;
        Some(self.attempts.last()?.ended?.micros_since(first.since))
    }

    /// Returns the writes that took effect: those of the attempt that completed.
    #[must_use]
    pub fn effective_writes(&self) -> &[Change] {
        match self.attempts.last() {
            Some(last) if last.outcome == Outcome::Completed => &last.writes,
            _ => &[],
        }
    }
}

/// One attempt at a task.
#[derive(Debug)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: Attempt,
    /// The event that started it.
    pub started: Seq,
    /// The retry of the execution that it is the first attempt after, if any.
    pub after_retry: Option<Seq>,
    /// When it started.
    pub since: Timestamp,
    /// The slot that it ran in.
    pub worker: u32,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its outcome.
    pub outcome: Outcome,
    /// Its reads.
    pub reads: Reads,
    /// Its writes. They took effect only if the attempt completed.
    pub writes: Vec<Change>,
    /// Its reads from tasks that its own task does not depend on.
    pub undeclared: Vec<Undeclared>,
    /// Advice on how to avoid the failure or the undeclared read.
    pub hint: Option<String>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is running.
    Running,
    /// It waits for something outside, without a slot.
    Deferred,
    /// It has not ended, and nothing runs it: its process is gone, or does not run its execution.
    Left,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed {
        /// The error.
        error: TaskError,
        /// When the next attempt was due; `None` if there was none, so that the task has failed.
        retry_at: Option<Timestamp>,
    },
    /// It ended without an outcome.
    Abandoned(AbandonReason),
    /// Its execution ended before it.
    Cancelled,
}

/// A value that was written or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The event.
    pub seq: Seq,
    /// The key.
    pub key: Key,
    /// The value; `None` if it was removed.
    pub value: Option<Json>,
    /// Whether the writer could see a value of this key before.
    pub replaces: bool,
}

/// A read of a value that a task wrote that is not an ancestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// The key.
    pub key: Key,
    /// The write that was seen.
    pub seq: Seq,
    /// The task that wrote it.
    pub writer: Option<TaskId>,
}

/// A collision at a join, with the names of the writing tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCollision {
    /// The key.
    pub key: Key,
    /// The colliding writes, each with its task; `None` for the input.
    pub writes: Vec<(Seq, Option<TaskId>)>,
    /// The writes whose value was taken.
    pub taken: Vec<Seq>,
}

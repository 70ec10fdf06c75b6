//! What happened, task by task: the events of an execution gathered into rows, with what only the whole log tells
//! (hints, undeclared reads, collisions). The screen and the JSON say the same because both show this.

mod builder;

use cloacina_engine::core::event::{
    AbandonReason, Attempt, Cause, Environment, Key, Reads, Request, Seq, SkipReason, TaskError, TaskId,
};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::standing::{ExecutionStatus, Standing};
use cloacina_engine::core::state::{Execution, Status, TaskState};
use cloacina_engine::core::time::Timestamp;

use crate::reading::Trouble;

pub use builder::tell;

/// What happened in an execution, as far as it could be read.
#[derive(Debug, Default)]
pub struct Story {
    /// The rows, in the order of their first event.
    pub rows: Vec<Row>,
    /// How many events were read.
    pub events: u64,
    /// The state after the last of them; `None` if they could not all be folded.
    pub state: Option<Execution>,
    /// Why reading or folding stopped.
    pub trouble: Option<Trouble>,
    /// The tasks that a recovery with another graph took out, each with the event of that recovery.
    pub removed: Vec<(TaskId, Seq)>,
    /// Whether nothing runs it although it is unfinished.
    is_left: bool,
}

impl Story {
    /// The same, where the execution stands so at its end: an attempt that has not ended runs only if its execution does.
    #[must_use]
    pub fn standing(mut self, standing: &Standing) -> Self {
        if !standing.status.is_left() {
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
        self.is_left = true;
        self
    }

    /// The tasks that finally failed, in the order in which they did.
    #[must_use]
    pub fn failures(&self) -> Vec<&TaskRow> {
        let failed = |row: &&Row| match &row.what {
            What::Task(task) => {
                matches!(task.attempts.last().map(|last| &last.outcome), Some(Outcome::Failed { retry_at: None, .. }))
            }
            _ => false,
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(failed).collect();
        // The last event of a task that finally failed says that it did.
        rows.sort_by_key(|row| row.last);
        rows.into_iter().filter_map(Row::task).collect()
    }

    /// The failure that made the execution fail, or else the first one: what every view names first.
    #[must_use]
    pub fn first_failure(&self) -> Option<&TaskRow> {
        let state = self.state.as_ref().filter(|state| state.status() == Status::Failed);
        let root = state.and_then(|state| Some(state.graph().name(state.root_failures()?.0)));
        let failures = self.failures();
        failures.iter().find(|row| Some(&row.task) == root).or(failures.first()).copied()
    }

    /// Whether nothing runs it where this ends, although it is unfinished.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// The word for a task's state where this ends: one does not run whose execution does not.
    #[must_use]
    pub fn state_name(&self, state: TaskState) -> &'static str {
        match state {
            TaskState::Running { .. } | TaskState::Deferred { .. } if self.is_left => {
                ExecutionStatus::NotRunning.name()
            }
            other => other.name(),
        }
    }
}

/// Some events that belong together.
#[derive(Debug)]
pub struct Row {
    /// The first of them.
    pub first: Seq,
    /// The last of them; others may lie between.
    pub last: Seq,
    /// When the first happened.
    pub time: Timestamp,
    /// What they say.
    pub what: What,
}

impl Row {
    /// The task that it is about, if it is about one.
    #[must_use]
    pub fn task(&self) -> Option<&TaskRow> {
        match &self.what {
            What::Task(task) => Some(task),
            _ => None,
        }
    }
}

/// What a row is about.
#[derive(Debug)]
pub enum What {
    /// The execution started, with its input.
    Started {
        /// Why.
        cause: Cause,
        /// Where.
        environment: Environment,
        /// The input.
        input: Vec<Change>,
    },
    /// Everything that happened to one task.
    Task(TaskRow),
    /// No more attempts start.
    Paused(Request),
    /// Attempts start again.
    Unpaused(Request),
    /// Somebody asked for the execution to be cancelled.
    CancelRequested(Request),
    /// Another process took over.
    Recovered {
        /// That process.
        environment: Environment,
        /// What is different in the workflow since, in words; empty if nothing is.
        changes: Vec<String>,
    },
    /// The execution ended.
    Ended {
        /// How.
        status: Status,
        /// Why; empty when it completed.
        reason: String,
        /// What collided where the ends of the graph meet.
        collisions: Vec<Met>,
    },
    /// The body of the event was erased.
    Erased,
}

/// Everything that happened to one task.
#[derive(Debug)]
pub struct TaskRow {
    /// Its name.
    pub task: TaskId,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptRow>,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// What the keys were that its rule asked for, where it was skipped; `None` of one that was not there.
    pub asked: Vec<(Key, Option<Json>)>,
    /// Whether the execution ended before it did.
    pub cancelled: bool,
    /// What collided where its dependencies meet.
    pub collisions: Vec<Met>,
}

impl TaskRow {
    /// A task to which nothing has happened.
    #[must_use]
    pub fn new(task: TaskId) -> Self {
        Self { task, attempts: Vec::new(), skipped: None, asked: Vec::new(), cancelled: false, collisions: Vec::new() }
    }

    /// What the task wrote with effect: the writes of its attempt that completed.
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
    /// When it started.
    pub since: Timestamp,
    /// The slot that it ran in.
    pub worker: u32,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How.
    pub outcome: Outcome,
    /// What it read.
    pub reads: Reads,
    /// What it wrote. It took effect only if the attempt completed.
    pub writes: Vec<Change>,
    /// What it read from tasks that its own does not depend on.
    pub undeclared: Vec<Undeclared>,
    /// What to do about it, by what the whole log tells.
    pub hint: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Not yet.
    Running,
    /// Not yet: it waits for something outside, without a slot.
    Deferred,
    /// Not, and nothing runs it: its process is gone, or does not run its execution.
    Left,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed {
        /// Why.
        error: TaskError,
        /// When the next attempt was due; `None` if the task has finally failed.
        retry_at: Option<Timestamp>,
    },
    /// Without an outcome.
    Abandoned(AbandonReason),
    /// Its execution ended first.
    Cancelled,
}

/// A value that was written, or removed.
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

/// A read of what a task that is no ancestor wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// The key.
    pub key: Key,
    /// The write that was seen.
    pub seq: Seq,
    /// Who wrote it.
    pub writer: Option<TaskId>,
}

/// A collision, with the names of those who wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// The key.
    pub key: Key,
    /// The writes that met, and who made them.
    pub writes: Vec<(Seq, Option<TaskId>)>,
    /// The ones whose value was taken.
    pub taken: Vec<Seq>,
}

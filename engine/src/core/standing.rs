//! The status of an execution for users: one word, the reason, and the next step. The engine, Python and every view of
//! `replay` use these texts.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use super::event::{ExecutionId, TaskId};
use super::graph::TaskIndex;
use super::label::LabelStatus;
use super::state::{Execution, Status, Timer};
use super::time::Timestamp;

/// The status of an execution, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum ExecutionStatus {
    /// An attempt runs or is ready to run.
    Running,
    /// Unfinished, and nothing runs until a known time, or until a slot is free although none seems to become free.
    Waiting,
    /// Unfinished, and its attempts wait for something external without holding a slot.
    Deferred,
    /// Unfinished, and the engine that has the log open does not run it, for example because its workflow has changed
    /// or is not registered.
    Blocked,
    /// Unfinished, and its history is damaged.
    Damaged,
    /// Unfinished, and no process has the log open.
    NotRunning,
    /// No further attempt starts until it is unpaused.
    Paused,
    /// Ended without a failure at the end of the graph.
    Completed,
    /// Ended with a failure at the end of the graph, or timed out.
    Failed,
    /// Ended by cancellation.
    Cancelled,
}

impl ExecutionStatus {
    /// All statuses.
    pub const ALL: [Self; 10] = [
        Self::Running,
        Self::Waiting,
        Self::Deferred,
        Self::Blocked,
        Self::Damaged,
        Self::NotRunning,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns the name used in tables, JSON and Python.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Deferred => "Deferred",
            Self::Blocked => "Blocked",
            Self::Damaged => "Damaged",
            Self::NotRunning => "NotRunning",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Returns the word to use inside a sentence.
    #[must_use]
    pub fn lowercase(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Deferred => "deferred",
            Self::Blocked => "blocked",
            Self::Damaged => "damaged",
            Self::NotRunning => "not running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns whether the execution has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Returns whether the execution is unfinished but no process runs it. The process of any unfinished attempt has
    /// ended.
    #[must_use]
    pub fn is_orphaned(self) -> bool {
        matches!(self, Self::Blocked | Self::Damaged | Self::NotRunning)
    }
}

impl fmt::Display for ExecutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status '{0}'; the statuses are {all}", all = ExecutionStatus::ALL.map(ExecutionStatus::name).join(", "))]
pub struct UnknownStatus(String);

impl FromStr for ExecutionStatus {
    type Err = UnknownStatus;

    /// Parses the name of a status, ignoring case.
    fn from_str(name: &str) -> Result<Self, UnknownStatus> {
        let all = Self::ALL.into_iter();
        all.clone()
            .find(|status| status.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

impl From<LabelStatus> for ExecutionStatus {
    fn from(status: LabelStatus) -> Self {
        match status {
            LabelStatus::Running => Self::Running,
            LabelStatus::Paused => Self::Paused,
            LabelStatus::Completed => Self::Completed,
            LabelStatus::Failed => Self::Failed,
            LabelStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Status> for ExecutionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Paused => Self::Paused,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// The status of an execution. If it does not continue by itself, also the reason and the next step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Standing {
    /// The status.
    pub status: ExecutionStatus,
    /// The reason, without a final period; `None` if the status is clear by itself.
    pub reason: Option<String>,
    /// When it continues by itself, if known.
    pub until: Option<Timestamp>,
    /// What to do next; `None` if nothing has to be done.
    pub next: Option<String>,
}

impl From<ExecutionStatus> for Standing {
    fn from(status: ExecutionStatus) -> Self {
        Self { status, reason: None, until: None, next: None }
    }
}

impl Standing {
    fn because(status: ExecutionStatus, reason: String, next: impl Into<String>) -> Self {
        Self { status, reason: Some(reason), until: None, next: Some(next.into()) }
    }

    /// Returns the standing of an execution that an engine runs.
    #[must_use]
    pub fn of(state: &Execution) -> Self {
        match waits_for_retry(state) {
            Some((task, due)) => Self::waiting_for_retry(state.graph().name(task), due),
            None => ExecutionStatus::from(state.status()).into(),
        }
    }

    /// Waiting: nothing runs until the next attempt at a task is due.
    #[must_use]
    pub fn waiting_for_retry(task: &TaskId, due: Timestamp) -> Self {
        Self {
            status: ExecutionStatus::Waiting,
            reason: Some(format!("task '{task}' waits for its next attempt")),
            until: Some(due),
            next: None,
        }
    }

    /// Deferred: every attempt in progress waits for something external and holds no slot.
    #[must_use]
    pub fn deferred(tasks: &[&TaskId]) -> Self {
        const NAMED: usize = 3;
        let named: Vec<String> = tasks.iter().take(NAMED).map(|task| format!("'{task}'")).collect();
        let more = if tasks.len() > NAMED { format!(" and {} more", tasks.len() - NAMED) } else { String::new() };
        let noun = if tasks.len() == 1 { "task" } else { "tasks" };
        let verb = if tasks.len() == 1 { "waits" } else { "wait" };
        Self {
            status: ExecutionStatus::Deferred,
            reason: Some(format!("{noun} {}{more} {verb} for something outside", named.join(", "))),
            until: None,
            next: None,
        }
    }

    /// Waiting: the execution has had no slot for this many seconds. None will become free if the attempts that hold
    /// the slots wait for threads that wait for this execution.
    #[must_use]
    pub fn no_slot(slots: usize, holders: &str, seconds: u64) -> Self {
        Self::because(
            ExecutionStatus::Waiting,
            format!(
                "it has waited {seconds} s for a slot: each of the {slots} slots (max_concurrent_tasks) is held by a task \
                 that makes no progress ({holders}), while a thread outside any task waits for this execution"
            ),
            "if those tasks wait for that thread, they are deadlocked until they time out. Release the slot while a task \
             waits: execution = runner.submit(...); handle.defer_until(lambda: execution.done); execution.result(). Or \
             raise max_concurrent_tasks",
        )
    }

    /// Blocked: its workflow is not registered with the engine that has the log open.
    #[must_use]
    pub fn not_registered(id: ExecutionId, workflow: &str) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            format!("workflow '{workflow}' is not registered in the process that has the log open"),
            format!(
                "to resume it, register workflow '{workflow}' with the graph that it started with (import its module); \
                 or cancel it: runner.get_execution('{id}').cancel()"
            ),
        )
    }

    /// Blocked: the registered workflow of the same name has a different graph.
    #[must_use]
    pub fn other_graph(id: ExecutionId, workflow: &str, difference: &str) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            format!("the graph of workflow '{workflow}' has changed: {difference}"),
            format!(
                "register workflow '{workflow}' with the graph that it started with; or resume it with the new graph: \
                 runner.resume('{id}'); or cancel it: runner.get_execution('{id}').cancel()"
            ),
        )
    }

    /// Blocked: recovery is disabled in the engine that has the log open.
    #[must_use]
    pub fn recovery_is_off(id: ExecutionId) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            "recovery is disabled (enable_recovery=False) in the process that has the log open".to_owned(),
            format!("resume it: runner.resume('{id}'); or reopen the log with enable_recovery=True"),
        )
    }

    /// Blocked: the log rejected its new events.
    #[must_use]
    pub fn refused(error: &str) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            format!("the log rejected its new events: {error}"),
            "close and reopen the log: the next engine resumes it from the events that the log holds",
        )
    }

    /// Blocked: its history is intact but cannot be read or folded now.
    #[must_use]
    pub fn unreadable(error: &str, next: &str) -> Self {
        Self::because(ExecutionStatus::Blocked, error.to_owned(), next)
    }

    /// Damaged: its history is not what was written.
    #[must_use]
    pub fn damaged(id: ExecutionId, what: &str) -> Self {
        Self::because(
            ExecutionStatus::Damaged,
            what.to_owned(),
            format!(
                "it cannot be resumed; run `replay {id} verify` to see what is damaged. Restore the log from a backup, or \
                 start the work again under a new id. Other executions in the log are not affected"
            ),
        )
    }

    /// Not running: no process has the log open.
    #[must_use]
    pub fn not_running(workflow: &str) -> Self {
        Self::because(
            ExecutionStatus::NotRunning,
            "no process has the log open".to_owned(),
            format!(
                "to resume it, open the log with a runner that has workflow '{workflow}' registered with the same graph"
            ),
        )
    }

    /// Paused, and no process has the log open.
    #[must_use]
    pub fn paused_and_not_running(id: ExecutionId) -> Self {
        Self::because(
            ExecutionStatus::Paused,
            "no process has the log open".to_owned(),
            format!("open the log with a runner and unpause it: runner.get_execution('{id}').resume()"),
        )
    }

    /// Returns the reason and the next step as one text, `reason; next`. `None` if there is neither.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match (&self.reason, &self.next) {
            (Some(reason), Some(next)) => Some(format!("{reason}; {next}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }
}

/// Returns the task whose next attempt the execution waits for, and when it is due, if nothing else runs or is ready.
fn waits_for_retry(state: &Execution) -> Option<(TaskIndex, Timestamp)> {
    if state.status() != Status::Running || state.running().next().is_some() || state.ready().next().is_some() {
        return None;
    }
    state.timers().find_map(|(due, timer)| match timer {
        Timer::Retry(task) => Some((task, due)),
        Timer::TaskTimeout(_) | Timer::ExecutionTimeout => None,
    })
}

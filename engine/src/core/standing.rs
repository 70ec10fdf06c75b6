//! How an execution stands: one word, the reason, and the next step. The engine, Python and every view of `replay` take
//! their words from here.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use super::event::{ExecutionId, TaskId};
use super::graph::TaskIndex;
use super::label::LabelStatus;
use super::state::{Execution, Status, Timer};
use super::time::Timestamp;

/// The state of an execution, in the words that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum ExecutionStatus {
    /// An attempt runs, or one is ready to.
    Running,
    /// Unfinished, and nothing runs until a time, or until there is a slot that does not seem to come.
    Waiting,
    /// Unfinished, and its attempts wait for something outside, without a slot.
    Deferred,
    /// Unfinished, and the engine that has the log does not run it: its workflow is another one, or not registered.
    Blocked,
    /// Unfinished, and its history is not what was written.
    Damaged,
    /// Unfinished, and no process has the log.
    NotRunning,
    /// It starts no further attempts until it is unpaused.
    Paused,
    /// Over, without a failure at the end of the graph.
    Completed,
    /// Over, with one.
    Failed,
    /// Over, cancelled.
    Cancelled,
}

impl ExecutionStatus {
    /// All of them.
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

    /// Its name: the word in tables, JSON and Python.
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

    /// The same word inside a sentence.
    #[must_use]
    pub fn in_a_sentence(self) -> &'static str {
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

    /// Whether nothing more can happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether no process runs it, although it is unfinished: an attempt that has not ended is one whose process is gone.
    #[must_use]
    pub fn is_left(self) -> bool {
        matches!(self, Self::Blocked | Self::Damaged | Self::NotRunning)
    }
}

impl fmt::Display for ExecutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No status has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status '{0}'; the statuses are {all}", all = ExecutionStatus::ALL.map(ExecutionStatus::name).join(", "))]
pub struct UnknownStatus(String);

impl FromStr for ExecutionStatus {
    type Err = UnknownStatus;

    /// The status with this name, in any case.
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

/// How an execution stands: its state, and where it does not go on by itself, why and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Standing {
    /// The state.
    pub status: ExecutionStatus,
    /// Why, half a sentence; `None` where the state says it all.
    pub reason: Option<String>,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
    /// What makes it go on; `None` where nothing has to be done.
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

    /// The standing of an execution that an engine runs.
    #[must_use]
    pub fn of(state: &Execution) -> Self {
        match waits_for_retry(state) {
            Some((task, due)) => Self::waiting_for_retry(state.graph().name(task), due),
            None => ExecutionStatus::from(state.status()).into(),
        }
    }

    /// Nothing runs until the next attempt at a task is due.
    #[must_use]
    pub fn waiting_for_retry(task: &TaskId, due: Timestamp) -> Self {
        Self {
            status: ExecutionStatus::Waiting,
            reason: Some(format!("task '{task}' waits for its next attempt")),
            until: Some(due),
            next: None,
        }
    }

    /// All that has started and not ended waits for something outside, and has no slot meanwhile.
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

    /// It has waited for a slot for so many seconds, and none will get free if the attempts that hold them wait for threads
    /// which wait for this execution.
    #[must_use]
    pub fn no_slot(slots: usize, holders: &str, seconds: u64) -> Self {
        Self::because(
            ExecutionStatus::Waiting,
            format!(
                "it has waited {seconds} s for a slot: each of the {slots} slots (max_concurrent_tasks) is held by a task \
                 that makes no progress ({holders}), while a thread outside any task waits for this execution"
            ),
            "if those tasks wait for that thread, they are deadlocked until they time out. Release the slot while a task waits: \
             execution = runner.submit(...); handle.defer_until(lambda: execution.done); execution.result(). Or raise \
             max_concurrent_tasks",
        )
    }

    /// No workflow of its name is known to the engine that has the log.
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

    /// The workflow of its name that is registered has another graph.
    #[must_use]
    pub fn other_graph(id: ExecutionId, workflow: &str, difference: &str) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            format!("the graph of workflow '{workflow}' has changed: {difference}"),
            format!(
                "register the graph that it started with; or resume it with the new graph: runner.resume('{id}'); or \
                 cancel it: runner.get_execution('{id}').cancel()"
            ),
        )
    }

    /// The engine that has the log was told to recover nothing.
    #[must_use]
    pub fn recovery_is_off(id: ExecutionId) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            "recovery is disabled (enable_recovery=False) in the process that has the log open".to_owned(),
            format!("resume it: runner.resume('{id}'); or reopen the log with enable_recovery=True"),
        )
    }

    /// The log refused what was decided on it.
    #[must_use]
    pub fn refused(error: &str) -> Self {
        Self::because(
            ExecutionStatus::Blocked,
            format!("the log rejected its new events: {error}"),
            "close and reopen the log: the next engine resumes it from the events that the log holds",
        )
    }

    /// Its history cannot be read or folded now, although it is what was written.
    #[must_use]
    pub fn unreadable(error: &str, next: &str) -> Self {
        Self::because(ExecutionStatus::Blocked, error.to_owned(), next)
    }

    /// Its history is not what was written.
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

    /// No process has the log.
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

    /// Paused, and no process has the log.
    #[must_use]
    pub fn paused_and_not_running(id: ExecutionId) -> Self {
        Self::because(
            ExecutionStatus::Paused,
            "no process has the log open".to_owned(),
            format!("open the log with a runner and unpause it: runner.get_execution('{id}').resume()"),
        )
    }

    /// Reason and next step as one text: `reason; next`. `None` where there is neither.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match (&self.reason, &self.next) {
            (Some(reason), Some(next)) => Some(format!("{reason}; {next}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }
}

/// The task whose next attempt everything waits for, and when it is due.
fn waits_for_retry(state: &Execution) -> Option<(TaskIndex, Timestamp)> {
    if state.status() != Status::Running || state.running().next().is_some() || state.ready().next().is_some() {
        return None;
    }
    state.timers().find_map(|(due, timer)| match timer {
        Timer::Retry(task) => Some((task, due)),
        Timer::TaskTimeout(_) | Timer::ExecutionTimeout => None,
    })
}

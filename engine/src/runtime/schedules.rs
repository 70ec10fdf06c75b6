//! Schedules: creation, listing, errors, and history in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::{EventLog, LogReader, ReadError, StreamEntry};
use cloacina_store::record::{StreamId, StreamKind};

use super::cron::CronError;
use super::fault::LogFault;
use super::ids::stream_of;
use super::outcome::listed;
use super::streams::{read_page, streams};
use super::trigger::LONGEST_NAME;
use crate::core::codec::{self, ScheduleLabel};
use crate::core::event::{ExecutionId, Key};
use crate::core::json::Json;
use crate::core::schedule::{Catchup, Recorded, Schedule, ScheduleFired, ScheduleId, fold};
use crate::core::standing::ExecutionStatus;
use crate::core::time::Timestamp;

/// A schedule to create.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// The user's name for it, to distinguish schedules of the same workflow.
    pub name: Option<Arc<str>>,
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// When it fires: see [`CronExpression`](super::cron::CronExpression).
    pub expression: String,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// What to do about fires that were missed while no engine ran.
    pub catchup: Catchup,
    /// The input of its executions. The engine adds `schedule_id`, `schedule_expression`, `schedule_timezone` and
    /// `scheduled_time`.
    pub input: Vec<(Key, Json)>,
}

/// A schedule in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedSchedule {
    /// Its id.
    pub id: ScheduleId,
    /// Its state.
    pub label: ScheduleLabel,
    /// The user's name for it.
    pub name: Option<Arc<str>>,
    /// The input of its executions.
    pub input: Vec<(Key, Json)>,
    /// Whether its workflow is registered; otherwise it does not fire.
    pub is_registered: bool,
}

/// A fire in a schedule's history.
#[derive(Clone, Debug, PartialEq)]
pub struct PastFire {
    /// The scheduled time.
    pub scheduled: Timestamp,
    /// When it fired.
    pub fired: Timestamp,
    /// The execution that it started.
    pub execution: ExecutionId,
    /// The status of that execution.
    pub standing: Standing,
}

/// The status of the execution of a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log has it.
    Known {
        /// Its status.
        status: ExecutionStatus,
        /// When it ended.
        ended: Option<Timestamp>,
    },
    /// It was pruned from the log, so its end is unknown.
    Pruned,
    /// The log does not have it. A fire and its execution are appended atomically, so this must not happen.
    Missing,
}

impl Standing {
    /// When the execution ended, if that is known.
    #[must_use]
    pub fn ended(self) -> Option<Timestamp> {
        match self {
            Self::Known { ended, .. } => ended,
            Self::Pruned | Self::Missing => None,
        }
    }
}

/// Counts of the fires of all schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleStats {
    /// Number of fires, except those whose executions were pruned.
    pub total: u64,
    /// Number of fires whose execution completed.
    pub successful: u64,
    /// Number of fires whose execution is missing in the log. Always 0: a fire and its execution are appended
    /// atomically.
    pub lost: u64,
}

/// Why an operation on a schedule failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression or the time zone is invalid.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// There is no such schedule, or it was deleted.
    #[error("there is no schedule {0} in this log, or it was deleted")]
    NotFound(ScheduleId),
    /// The workflow's name is empty or too long.
    #[error("a workflow's name must have 1 to {LONGEST_NAME} bytes")]
    Name,
    /// The schedule's own name is empty or too long.
    #[error("a schedule's name must have 1 to {LONGEST_NAME} bytes")]
    ScheduleName,
    /// A value is too long.
    #[error("context key '{key}': the value has {bytes} bytes of JSON, more than max_value_bytes ({limit})")]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The schedule's state does not allow the operation.
    #[error("{0}")]
    Rejected(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

impl From<ReadError> for ScheduleError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

pub(super) fn past_fire(
    log: &dyn LogReader,
    time: Timestamp,
    fired: &ScheduleFired,
) -> Result<PastFire, ScheduleError> {
    let standing = fire_standing(log, fired.execution)?;
    Ok(PastFire { scheduled: fired.scheduled, fired: time, execution: fired.execution, standing })
}

/// Returns the status of a fire's execution.
pub(super) fn fire_standing(log: &dyn LogReader, execution: ExecutionId) -> Result<Standing, LogFault> {
    match log.stream(stream_of(execution)) {
        Ok(entry) => {
            let listed = listed(&entry, None)?;
            Ok(Standing::Known { status: listed.standing.status, ended: listed.ended })
        }
        Err(ReadError::Pruned { .. }) => Ok(Standing::Pruned),
        Err(ReadError::NoStream(_)) => Ok(Standing::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Number of records per read.
const PAGE: u64 = 512;

/// Iterates over the events of a schedule, newest first.
pub(super) struct NewestFirst<'a> {
    log: &'a dyn LogReader,
    stream: StreamId,
    /// Events before this `seq` remain to be read.
    before: u64,
    page: Vec<Recorded>,
}

impl<'a> NewestFirst<'a> {
    pub(super) fn over(log: &'a dyn LogReader, entry: &StreamEntry) -> Self {
        Self { log, stream: entry.stream, before: entry.records, page: Vec::new() }
    }
}

impl Iterator for NewestFirst<'_> {
    type Item = Result<Recorded, ScheduleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && self.before > 0 {
            let from = self.before.saturating_sub(PAGE);
            match read_events(self.log, self.stream, from, self.before - from) {
                Ok(page) => self.page = page,
                Err(error) => {
                    self.before = 0;
                    return Some(Err(error.into()));
                }
            }
            self.before = from;
        }
        self.page.pop().map(Ok)
    }
}

/// Reads up to `count` events of a schedule.
pub(super) fn read_events(
    log: &dyn LogReader,
    stream: StreamId,
    from: u64,
    count: u64,
) -> Result<Vec<Recorded>, LogFault> {
    read_page(log, stream, from, usize::try_from(count).unwrap_or(usize::MAX), codec::decode_schedule_event)
}

/// Rebuilds a schedule: reads its stream and folds it.
///
/// # Errors
/// [`ScheduleError::Log`] if the stream cannot be read, or is not the history of a schedule.
pub fn rebuild_schedule(log: &dyn LogReader, id: ScheduleId) -> Result<Schedule, ScheduleError> {
    let stream = StreamId::from_bytes(id.0);
    let mut state = None;
    let mut from = 0;
    loop {
        let page = read_events(log, stream, from, PAGE)?;
        let Some(last) = page.last() else { return state.ok_or(ScheduleError::NotFound(id)) };
        from = last.seq + 1;
        for recorded in page {
            let folded = fold(state, id, &recorded);
            state = Some(folded.map_err(|error| LogFault::Illegal { stream, error })?);
        }
    }
}

/// Loads the schedules of a log that are not deleted, each folded. Logs an error for one that cannot be, and skips it.
pub(super) fn load(log: &dyn EventLog) -> Result<BTreeMap<ScheduleId, Schedule>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in streams(log, StreamKind::Schedule, true)? {
        let id = ScheduleId(*entry.stream.as_bytes());
        match rebuild_schedule(log, id) {
            Ok(state) => drop(found.insert(id, state)),
            Err(error) => tracing::error!(schedule = %id, %error, "a schedule cannot be read; it does not fire"),
        }
    }
    Ok(found)
}

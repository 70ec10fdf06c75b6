//! Schedules: what a program asks of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::{EventLog, LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::record::{StreamId, StreamKind};

use super::cron::{CronError, CronExpression};
use super::engine::{Engine, ExecutionStatus, LISTING_PAGE};
use super::fault::LogFault;
use super::message::{Message, ScheduleRequest};
use super::outcome::{listed, stream_of};
use super::scheduler::LiveSchedule;
use super::trigger::LONGEST_NAME;
use crate::core::codec::{self, ScheduleLabel};
use crate::core::event::{ExecutionId, Key, Request};
use crate::core::json::Json;
use crate::core::schedule::{
    Catchup, Command, Recorded, Schedule, ScheduleCreated, ScheduleEvent, ScheduleFired, ScheduleId, fold,
};
use crate::core::time::Timestamp;

/// A schedule that is to be made.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// When it fires: see [`CronExpression`].
    pub expression: String,
    /// The IANA time zone that the expression is read in.
    pub timezone: String,
    /// What becomes of fires that nobody was there for.
    pub catchup: Catchup,
    /// The input of its executions. They get `schedule_id`, `schedule_expression`, `schedule_timezone` and
    /// `scheduled_time` too.
    pub input: Vec<(Key, Json)>,
}

/// A schedule in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedSchedule {
    /// Its id.
    pub id: ScheduleId,
    /// How it stands.
    pub label: ScheduleLabel,
}

/// A fire in a schedule's history.
#[derive(Clone, Debug, PartialEq)]
pub struct PastFire {
    /// The time that it fired for.
    pub scheduled: Timestamp,
    /// When it fired.
    pub fired: Timestamp,
    /// The execution that it started.
    pub execution: ExecutionId,
    /// How that stands.
    pub standing: Standing,
}

/// How the execution of a fire stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log has it.
    Known {
        /// How it stands.
        status: ExecutionStatus,
        /// When it ended.
        ended: Option<Timestamp>,
    },
    /// It was removed from the log on purpose, and how it ended with it.
    Pruned,
    /// The log does not have it, and nothing says why. A fire and its execution are one write, so this must not be.
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

/// How the fires of all schedules went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleStats {
    /// How many there were, apart from those whose executions were pruned.
    pub total: u64,
    /// How many executions of them have completed.
    pub successful: u64,
    /// How many executions of them are missing in the log. A fire and its execution are appended as one, so there are
    /// none.
    pub lost: u64,
}

/// Why something asked of a schedule was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression or the time zone is none.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// There is no such schedule, or it was deleted.
    #[error("there is no schedule {0} in this log, or it was deleted")]
    NotFound(ScheduleId),
    /// The name cannot be listed.
    #[error("a workflow's name has 1 to {LONGEST_NAME} bytes")]
    Name,
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
    /// The schedule cannot take it.
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

impl Engine {
    /// Makes a schedule. Returns its id once it is durable. It fires from now on, whenever its workflow is registered.
    ///
    /// # Errors
    /// See [`ScheduleError`]; nothing was made then.
    pub fn create_schedule(&self, new: NewSchedule) -> Result<ScheduleId, ScheduleError> {
        let calendar = CronExpression::parse(&new.expression, &new.timezone)?;
        if new.workflow.is_empty() || new.workflow.len() > LONGEST_NAME {
            return Err(ScheduleError::Name);
        }
        let limit = self.config.max_value_bytes;
        if let Some((key, value)) = new.input.iter().find(|(_, value)| value.as_str().len() > limit) {
            return Err(ScheduleError::ValueTooLarge { key: key.clone(), bytes: value.as_str().len(), limit });
        }
        let created = ScheduleCreated {
            workflow: new.workflow,
            expression: calendar.expression().clone(),
            timezone: calendar.timezone().clone(),
            catchup: new.catchup,
            input: new.input,
            next: None,
        };
        let id = ScheduleId(uuid::Uuid::now_v7().into_bytes());
        let request = |reply| ScheduleRequest::Create { id, created: Box::new(created), calendar, reply };
        self.ask(|reply| Message::Schedules(Box::new(request(reply)))).unwrap_or(Err(ScheduleError::ShutDown))
    }

    /// Gives a schedule another expression and time zone.
    ///
    /// # Errors
    /// See [`ScheduleError`]; the schedule is as it was.
    pub fn update_schedule(&self, id: ScheduleId, expression: &str, timezone: &str) -> Result<(), ScheduleError> {
        let calendar = CronExpression::parse(expression, timezone)?;
        let (expression, timezone) = (calendar.expression().clone(), calendar.timezone().clone());
        self.change_schedule(id, Command::Update { expression, timezone }, Some(calendar))
    }

    /// Lets a schedule fire, or not. What it would have fired for while it was disabled is not caught up with.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn enable_schedule(&self, id: ScheduleId, enabled: bool) -> Result<(), ScheduleError> {
        let request = Request { by: "user".into(), reason: None };
        self.change_schedule(id, if enabled { Command::Enable(request) } else { Command::Disable(request) }, None)
    }

    /// Deletes a schedule: it fires no more and is not listed. Its history stays in the log.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<(), ScheduleError> {
        self.change_schedule(id, Command::Delete(Request { by: "user".into(), reason: None }), None)
    }

    fn change_schedule(
        &self,
        id: ScheduleId,
        command: Command,
        calendar: Option<CronExpression>,
    ) -> Result<(), ScheduleError> {
        let request = |reply| ScheduleRequest::Change { id, command, calendar, reply };
        self.ask(|reply| Message::Schedules(Box::new(request(reply)))).unwrap_or(Err(ScheduleError::ShutDown))
    }

    /// The schedules that are not deleted, newest first. Reads the index.
    ///
    /// # Errors
    /// [`ScheduleError::Log`] if the listing cannot be read.
    pub fn schedules(&self) -> Result<Vec<ListedSchedule>, ScheduleError> {
        let entries = streams(&**self.log(), StreamKind::Schedule, true)?;
        entries.iter().map(listed_schedule).collect()
    }

    /// A schedule that is not deleted.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn schedule(&self, id: ScheduleId) -> Result<ListedSchedule, ScheduleError> {
        let entry = self.schedule_stream(id)?;
        if entry.open { listed_schedule(&entry) } else { Err(ScheduleError::NotFound(id)) }
    }

    fn schedule_stream(&self, id: ScheduleId) -> Result<StreamEntry, ScheduleError> {
        match self.log().stream(StreamId::from_bytes(id.0)) {
            Ok(entry) if entry.kind == StreamKind::Schedule => Ok(entry),
            Ok(_) | Err(ReadError::NoStream(_)) => Err(ScheduleError::NotFound(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// The fires of a schedule, the last one first: at most `limit`, after the first `offset`. Also of a deleted one.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn schedule_history(
        &self,
        id: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<PastFire>, ScheduleError> {
        let entry = self.schedule_stream(id)?;
        let fires = Backwards::over(&**self.log(), &entry).filter_map(|record| match record {
            Ok(Recorded { time, event: ScheduleEvent::Fired(fired), .. }) => Some(Ok((time, fired))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        let fires = fires.skip(offset).take(limit);
        fires.map(|fire| fire.and_then(|(time, fired)| past_fire(&**self.log(), time, &fired))).collect()
    }

    /// How the fires of all schedules since some time went, those of deleted ones too.
    ///
    /// # Errors
    /// [`ScheduleError::Log`] if the log cannot be read.
    pub fn schedule_stats(&self, since: Timestamp) -> Result<ScheduleStats, ScheduleError> {
        let mut stats = ScheduleStats::default();
        for entry in streams(&**self.log(), StreamKind::Schedule, false)? {
            for record in Backwards::over(&**self.log(), &entry) {
                let Recorded { time, event, .. } = record?;
                if time < since {
                    break;
                }
                let ScheduleEvent::Fired(fired) = event else { continue };
                let standing = how_it_stands(&**self.log(), fired.execution)?;
                stats.total += u64::from(standing != Standing::Pruned);
                stats.lost += u64::from(standing == Standing::Missing);
                let completed = matches!(standing, Standing::Known { status: ExecutionStatus::Completed, .. });
                stats.successful += u64::from(completed);
            }
        }
        Ok(stats)
    }
}

fn past_fire(log: &dyn LogReader, time: Timestamp, fired: &ScheduleFired) -> Result<PastFire, ScheduleError> {
    let standing = how_it_stands(log, fired.execution)?;
    Ok(PastFire { scheduled: fired.scheduled, fired: time, execution: fired.execution, standing })
}

/// How the execution of a fire stands.
pub(crate) fn how_it_stands(log: &dyn LogReader, execution: ExecutionId) -> Result<Standing, LogFault> {
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

fn listed_schedule(entry: &StreamEntry) -> Result<ListedSchedule, ScheduleError> {
    let label = codec::decode_schedule_label(&entry.label).map_err(LogFault::from)?;
    Ok(ListedSchedule { id: ScheduleId(*entry.stream.as_bytes()), label })
}

/// The streams of a kind, newest first.
pub(crate) fn streams(log: &dyn LogReader, kind: StreamKind, open_only: bool) -> Result<Vec<StreamEntry>, ReadError> {
    let mut found = Vec::new();
    let mut filter = StreamFilter { kind: Some(kind), open_only, before: None, limit: LISTING_PAGE };
    loop {
        let page = log.streams(&filter)?;
        let Some(last) = page.last() else { return Ok(found) };
        filter.before = Some(last.listing_key());
        found.extend(page);
    }
}

/// Records that are read at once.
const PAGE: u64 = 512;

/// The events of a schedule, the last one first.
struct Backwards<'a> {
    log: &'a dyn LogReader,
    stream: StreamId,
    /// Events before this place are still to be read.
    before: u64,
    page: Vec<Recorded>,
}

impl<'a> Backwards<'a> {
    fn over(log: &'a dyn LogReader, entry: &StreamEntry) -> Self {
        Self { log, stream: entry.stream, before: entry.records, page: Vec::new() }
    }
}

impl Iterator for Backwards<'_> {
    type Item = Result<Recorded, ScheduleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && self.before > 0 {
            let from = self.before.saturating_sub(PAGE);
            match read_page(self.log, self.stream, from, self.before - from) {
                Ok(page) => self.page = page,
                Err(error) => {
                    self.before = 0;
                    return Some(Err(error));
                }
            }
            self.before = from;
        }
        self.page.pop().map(Ok)
    }
}

fn read_page(log: &dyn LogReader, stream: StreamId, from: u64, count: u64) -> Result<Vec<Recorded>, ScheduleError> {
    let records = log.read(stream, from, usize::try_from(count).unwrap_or(usize::MAX))?;
    let mut page = Vec::with_capacity(records.len());
    for record in records {
        let seq = record.seq;
        let bytes = record.body.bytes().ok_or(LogFault::Erased { stream, seq })?;
        let event = codec::decode_schedule_event(bytes).map_err(|error| LogFault::Decode { stream, seq, error })?;
        page.push(Recorded { seq, time: Timestamp(record.time.0), event });
    }
    Ok(page)
}

/// Rebuilds a schedule: reads its stream, and folds it.
///
/// # Errors
/// [`ScheduleError::Log`] if the stream cannot be read, or is not the history of a schedule.
pub fn rebuild_schedule(log: &dyn LogReader, id: ScheduleId) -> Result<Schedule, ScheduleError> {
    let stream = StreamId::from_bytes(id.0);
    let mut state = None;
    let mut from = 0;
    loop {
        let page = read_page(log, stream, from, PAGE)?;
        let Some(last) = page.last() else { return state.ok_or(ScheduleError::NotFound(id)) };
        from = last.seq + 1;
        for recorded in page {
            let folded = fold(state, id, &recorded);
            state = Some(folded.map_err(|error| LogFault::Illegal { stream, error })?);
        }
    }
}

/// The schedules of a log that are not deleted, each folded. One that cannot be is left alone, with a word in the log.
pub(crate) fn found(log: &dyn EventLog) -> Result<BTreeMap<ScheduleId, LiveSchedule>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in streams(log, StreamKind::Schedule, true)? {
        let id = ScheduleId(*entry.stream.as_bytes());
        match rebuild_schedule(log, id) {
            Ok(state) => drop(found.insert(id, LiveSchedule::found(state))),
            Err(error) => tracing::error!(schedule = %id, %error, "a schedule cannot be read; it does not fire"),
        }
    }
    Ok(found)
}

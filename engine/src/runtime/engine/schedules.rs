//! Schedules: creating, changing, listing, history.

use cloacina_store::log::{ReadError, StreamEntry};
use cloacina_store::record::{StreamId, StreamKind};

use super::Engine;
use crate::core::codec;
use crate::core::event::Request;
use crate::core::schedule::{Command, Recorded, ScheduleCreated, ScheduleEvent, ScheduleId};
use crate::core::standing::ExecutionStatus;
use crate::core::time::Timestamp;
use crate::runtime::cron::CronExpression;
use crate::runtime::fault::LogFault;
use crate::runtime::message::{Message, ScheduleRequest};
use crate::runtime::schedules::{
    ListedSchedule, NewSchedule, NewestFirst, PastFire, ScheduleError, ScheduleStats, Standing, fire_standing,
    past_fire, read_events,
};
use crate::runtime::streams::streams;
use crate::runtime::trigger::LONGEST_NAME;

impl Engine {
    /// Creates a schedule. Returns its id once it is durable. It fires from now on, while its workflow is registered.
    ///
    /// # Errors
    /// See [`ScheduleError`]; nothing was created.
    pub fn create_schedule(&self, new: NewSchedule) -> Result<ScheduleId, ScheduleError> {
        let calendar = CronExpression::parse(&new.expression, &new.timezone)?;
        if new.workflow.is_empty() || new.workflow.len() > LONGEST_NAME {
            return Err(ScheduleError::Name);
        }
        let limit = self.config.max_value_bytes;
        if let Some((key, value)) = new.input.iter().find(|(_, value)| value.as_str().len() > limit) {
            return Err(ScheduleError::ValueTooLarge { key: key.clone(), bytes: value.as_str().len(), limit });
        }
        if new.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Err(ScheduleError::ScheduleName);
        }
        let created = ScheduleCreated {
            name: new.name,
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

    /// Changes the expression and time zone of a schedule.
    ///
    /// # Errors
    /// See [`ScheduleError`]; the schedule is unchanged.
    pub fn update_schedule(&self, id: ScheduleId, expression: &str, timezone: &str) -> Result<(), ScheduleError> {
        let calendar = CronExpression::parse(expression, timezone)?;
        let (expression, timezone) = (calendar.expression().clone(), calendar.timezone().clone());
        self.change_schedule(id, Command::Update { expression, timezone }, Some(calendar))
    }

    /// Enables or disables a schedule. Times that pass while it is disabled are not caught up.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn enable_schedule(&self, id: ScheduleId, enabled: bool) -> Result<(), ScheduleError> {
        let request = Request { by: "user".into(), reason: None };
        self.change_schedule(id, if enabled { Command::Enable(request) } else { Command::Disable(request) }, None)
    }

    /// Deletes a schedule: it no longer fires and is not listed. Its history stays in the log.
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

    /// Lists the schedules that are not deleted, newest first. Reads the index.
    ///
    /// # Errors
    /// [`ScheduleError::Log`] if the listing cannot be read.
    pub fn schedules(&self) -> Result<Vec<ListedSchedule>, ScheduleError> {
        let entries = streams(&**self.log(), StreamKind::Schedule, true)?;
        entries.iter().map(|entry| self.listed_schedule(entry)).collect()
    }

    /// Returns a schedule that is not deleted.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn schedule(&self, id: ScheduleId) -> Result<ListedSchedule, ScheduleError> {
        let entry = self.schedule_stream(id)?;
        if entry.open { self.listed_schedule(&entry) } else { Err(ScheduleError::NotFound(id)) }
    }

    fn listed_schedule(&self, entry: &StreamEntry) -> Result<ListedSchedule, ScheduleError> {
        let label = codec::decode_schedule_label(&entry.label).map_err(LogFault::from)?;
        let first = read_events(&**self.log(), entry.stream, 0, 1)?.into_iter().next();
        let (name, input) = match first.map(|recorded| recorded.event) {
            Some(ScheduleEvent::Created(created)) => (created.name, created.input),
            _ => (None, Vec::new()),
        };
        let is_registered = self.registry().find(&label.workflow).is_some();
        Ok(ListedSchedule { id: ScheduleId(*entry.stream.as_bytes()), label, name, input, is_registered })
    }

    fn schedule_stream(&self, id: ScheduleId) -> Result<StreamEntry, ScheduleError> {
        match self.log().stream(StreamId::from_bytes(id.0)) {
            Ok(entry) if entry.kind == StreamKind::Schedule => Ok(entry),
            Ok(_) | Err(ReadError::NoStream(_)) => Err(ScheduleError::NotFound(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the fires of a schedule, newest first: at most `limit`, after the first `offset`. Works for a deleted
    /// schedule, too.
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
        let fires = NewestFirst::over(&**self.log(), &entry).filter_map(|record| match record {
            Ok(Recorded { time, event: ScheduleEvent::Fired(fired), .. }) => Some(Ok((time, fired))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        let fires = fires.skip(offset).take(limit);
        fires.map(|fire| fire.and_then(|(time, fired)| past_fire(&**self.log(), time, &fired))).collect()
    }

    /// Counts the fires of all schedules since a time, and their results. Includes deleted schedules.
    ///
    /// # Errors
    /// [`ScheduleError::Log`] if the log cannot be read.
    pub fn schedule_stats(&self, since: Timestamp) -> Result<ScheduleStats, ScheduleError> {
        let mut stats = ScheduleStats::default();
        for entry in streams(&**self.log(), StreamKind::Schedule, false)? {
            for record in NewestFirst::over(&**self.log(), &entry) {
                let Recorded { time, event, .. } = record?;
                if time < since {
                    break;
                }
                let ScheduleEvent::Fired(fired) = event else { continue };
                let standing = fire_standing(&**self.log(), fired.execution)?;
                stats.total += u64::from(standing != Standing::Pruned);
                stats.lost += u64::from(standing == Standing::Missing);
                let completed = matches!(standing, Standing::Known { status: ExecutionStatus::Completed, .. });
                stats.successful += u64::from(completed);
            }
        }
        Ok(stats)
    }
}

//! Schedules: their alarms, and the executions that they start.

use cloacina_store::log::Listing;

use super::Scheduler;
use super::live::LiveSchedule;
use crate::core::codec;
use crate::core::event::{Cause, Key};
use crate::core::json::Json;
use crate::core::schedule::{
    Calendar, CatchupLimits, Command, Decision, Fire, Schedule, ScheduleEvent, ScheduleId, create, decide, label,
};
use crate::core::time::Timestamp;
use crate::runtime::cron::{CronExpression, isoformat};
use crate::runtime::message::{ScheduleRequest, Source};
use crate::runtime::schedules::ScheduleError;

impl Scheduler {
    /// Catches up with every schedule whose workflow is registered: missed fires are made up for or skipped.
    pub(super) fn catch_up_schedules(&mut self) {
        let waiting = self.schedules.iter().filter(|(_, live)| !live.caught_up).map(|(id, _)| *id);
        let waiting: Vec<ScheduleId> = waiting.collect();
        waiting.into_iter().for_each(|id| self.fire_schedule(id));
    }

    /// Fires for all due times, and sets the alarm for the next one.
    pub(super) fn fire_schedule(&mut self, id: ScheduleId) {
        if !self.services.config.cron || self.failed.is_some() || self.stopping.is_some() {
            return;
        }
        let limit = self.services.config.max_catchup;
        let now = self.wall;
        let Some(live) = self.schedules.get_mut(&id) else { return };
        let Some(workflow) = self.services.registry.find(live.state.workflow()) else {
            live.caught_up = false;
            let next = live.state.next();
            if next.is_none_or(|due| due > now) {
                // Warn when it is due.
                return self.arm(Source::Schedule(id), next);
            }
            let name = live.state.workflow().clone();
            let unknown = self.unknown_workflow(&name);
            tracing::warn!(
                schedule = %id,
                "a schedule is due and cannot fire: {unknown}. It fires once the workflow is registered"
            );
            return self.disarm(Source::Schedule(id));
        };
        let Some(calendar) = &live.calendar else { return };
        let limits = CatchupLimits { attended: live.caught_up, limit };
        live.caught_up = true;
        match decide(&mut live.state, Command::Fire(limits), calendar, now) {
            Ok(decision) => {
                let fires = decision.fires.clone();
                self.record_schedule(id, decision);
                for fire in fires {
                    self.start_fire(id, fire, workflow.clone());
                }
            }
            Err(rejection) => tracing::error!(schedule = %id, %rejection, "a schedule could not fire; this is a bug"),
        }
    }

    fn start_fire(&mut self, id: ScheduleId, fire: Fire, workflow: std::sync::Arc<crate::runtime::workflow::Workflow>) {
        let Some(live) = self.schedules.get_mut(&id) else { return };
        let input = input_of(&live.state, fire.scheduled);
        live.outbox.starts(fire.execution);
        let cause = Cause::Schedule { schedule: id.0, scheduled: fire.scheduled };
        if let Err(rejection) = self.begin(fire.execution, workflow, cause, input) {
            tracing::error!(schedule = %id, %rejection, "the execution of a schedule could not be started; this is a bug");
        }
    }

    /// Records a decision until the end of the turn, and sets the alarm.
    fn record_schedule(&mut self, id: ScheduleId, decision: Decision) {
        let Some(live) = self.schedules.get_mut(&id) else { return };
        let text = codec::encode_schedule_label(&label(&live.state));
        let listing = if live.state.is_deleted() { Listing::Closed(text) } else { Listing::Open(text) };
        let encode = |event: &ScheduleEvent| codec::encode_schedule_event(event);
        let events = decision.events.iter().map(|recorded| (recorded.seq, recorded.time, encode(&recorded.event)));
        live.outbox.record(events.collect(), listing);
        let next = live.state.next().filter(|_| live.caught_up);
        self.mark_dirty(Source::Schedule(id));
        let fires = self.services.config.cron;
        self.arm(Source::Schedule(id), next.filter(|_| fires));
    }

    pub(super) fn schedule_request(&mut self, request: ScheduleRequest) {
        match request {
            ScheduleRequest::Create { id, created, calendar, reply } => {
                if let Some(error) = self.refuses_schedules() {
                    return drop(reply.send(Err(error)));
                }
                match create(id, *created, &calendar, self.wall) {
                    Ok((state, decision)) => {
                        let caught_up = self.services.registry.find(state.workflow()).is_some();
                        if !caught_up {
                            let unknown = self.unknown_workflow(state.workflow());
                            tracing::warn!(
                                schedule = %id,
                                "{unknown}. The schedule fires once the workflow is registered"
                            );
                        }
                        let live =
                            LiveSchedule { calendar: Some(calendar), caught_up, ..LiveSchedule::from_log(state) };
                        self.schedules.insert(id, live);
                        self.record_schedule(id, decision);
                        self.answer_schedule(id, move |result| drop(reply.send(result.map(|()| id))));
                    }
                    Err(rejection) => drop(reply.send(Err(ScheduleError::Rejected(rejection.to_string())))),
                }
            }
            ScheduleRequest::Change { id, command, calendar, reply } => match self.change(id, command, calendar) {
                Ok(()) => self.answer_schedule(id, move |result| drop(reply.send(result))),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn refuses_schedules(&self) -> Option<ScheduleError> {
        match &self.failed {
            Some(error) => Some(ScheduleError::Log(error.clone().into())),
            None => self.stopping.as_ref().map(|_| ScheduleError::ShutDown),
        }
    }

    fn change(
        &mut self,
        id: ScheduleId,
        command: Command,
        calendar: Option<CronExpression>,
    ) -> Result<(), ScheduleError> {
        if let Some(error) = self.refuses_schedules() {
            return Err(error);
        }
        if matches!(command, Command::Update { .. } | Command::Disable(_) | Command::Delete(_)) {
            self.settle_due(id, &command);
        }
        let now = self.wall;
        let live = self.schedules.get_mut(&id).ok_or(ScheduleError::NotFound(id))?;
        let never = |_: Timestamp| None;
        let decided = match (&calendar, &live.calendar) {
            (Some(calendar), _) | (None, Some(calendar)) => decide(&mut live.state, command, calendar, now),
            (None, None) => decide(&mut live.state, command, &never, now),
        };
        let decision = decided.map_err(|rejection| match rejection {
            crate::core::schedule::Rejection::Deleted => ScheduleError::NotFound(id),
            other => ScheduleError::Rejected(other.to_string()),
        })?;
        if calendar.is_some() {
            live.calendar = calendar;
        }
        self.record_schedule(id, decision);
        Ok(())
    }

    /// Fires or skips all due times before the schedule is changed. Both go to the log in one batch.
    fn settle_due(&mut self, id: ScheduleId, change: &Command) {
        let now = self.wall;
        let Some(live) = self.schedules.get_mut(&id) else { return };
        if live.state.next().is_none_or(|due| due > now) {
            return;
        }
        let can_fire = self.services.config.cron && self.services.registry.find(live.state.workflow()).is_some();
        if can_fire && live.calendar.is_some() {
            return self.fire_schedule(id);
        }
        if let Command::Update { expression, timezone } = change
            && (expression, timezone) == (live.state.expression(), live.state.timezone())
        {
            return;
        }
        let never = |_: Timestamp| None;
        let calendar: &dyn Calendar = live.calendar.as_ref().map_or(&never, |calendar| calendar);
        match decide(&mut live.state, Command::Skip, calendar, now) {
            Ok(decision) => self.record_schedule(id, decision),
            Err(rejection) => {
                tracing::error!(schedule = %id, %rejection, "due times could not be skipped; this is a bug")
            }
        }
    }

    /// Answers once all events of a schedule so far are durable.
    fn answer_schedule(&mut self, id: ScheduleId, answer: impl FnOnce(Result<(), ScheduleError>) + Send + 'static) {
        self.mark_dirty(Source::Schedule(id));
        let Some(live) = self.schedules.get_mut(&id) else { return answer(Err(ScheduleError::NotFound(id))) };
        live.outbox.answer(Box::new(move |durable| {
            answer(durable.map_err(|error| ScheduleError::Log(error.into())));
        }));
    }

    /// Removes deleted schedules, after the deletion was handed to the log.
    pub(super) fn forget_deleted_schedules(&mut self) {
        let deleted = self.schedules.iter().filter(|(_, live)| live.state.is_deleted()).map(|(id, _)| *id);
        for id in deleted.collect::<Vec<_>>() {
            self.disarm(Source::Schedule(id));
            self.schedules.remove(&id);
        }
    }
}

/// The input of an execution: the schedule's input, and keys that describe the fire.
fn input_of(schedule: &Schedule, scheduled: Timestamp) -> Vec<(Key, Json)> {
    let fire_keys = [
        ("schedule_id", schedule.id().to_string()),
        ("schedule_expression", schedule.expression().to_string()),
        ("schedule_timezone", schedule.timezone().to_string()),
        ("scheduled_time", isoformat(scheduled)),
    ];
    let own = schedule.input().iter().filter(|(key, _)| fire_keys.iter().all(|(name, _)| **key != **name)).cloned();
    let fire_keys =
        fire_keys.iter().map(|(name, text)| ((*name).into(), Json::from(serde_json::Value::from(text.as_str()))));
    own.chain(fire_keys).collect()
}

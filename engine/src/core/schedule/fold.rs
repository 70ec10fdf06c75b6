//! The fold: the one place where the state of a schedule changes.
//!
//! | state | Updated | Enabled | Disabled | Deleted | Fired, Skipped |
//! |---|---|---|---|---|---|
//! | enabled | enabled | - | disabled | deleted | enabled |
//! | disabled | disabled | enabled | - | deleted | - |
//! | deleted | - | - | - | - | - |
//!
//! A fire or a skip always starts with the time that was due next. So no time fires twice, and none is silently left
//! out.

use std::sync::Arc;

use super::event::{Catchup, ScheduleCreated, ScheduleEvent, ScheduleId};
use crate::core::envelope::{IllegalEvent, StreamEnd};
use crate::core::event::{Key, Seq};
use crate::core::json::Json;
use crate::core::time::Timestamp;

/// A schedule's event with its `seq` and its time.
pub type Recorded = crate::core::envelope::Recorded<ScheduleEvent>;

/// The state of a schedule after the events folded so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    id: ScheduleId,
    name: Option<Arc<str>>,
    workflow: Arc<str>,
    expression: Arc<str>,
    timezone: Arc<str>,
    catchup: Catchup,
    input: Vec<(Key, Json)>,
    enabled: bool,
    deleted: bool,
    next: Option<Timestamp>,
    last_run: Option<Timestamp>,
    created: Timestamp,
    updated: Timestamp,
    fires: u64,
    end: StreamEnd,
}

/// Applies one event to the state so far (`None` before the first event) and returns the new state.
///
/// # Errors
/// [`IllegalEvent`]; the state is dropped.
pub fn fold(state: Option<Schedule>, id: ScheduleId, recorded: &Recorded) -> Result<Schedule, IllegalEvent> {
    match state {
        None => Schedule::begin(id, recorded),
        Some(mut state) => state.apply(recorded).map(|()| state),
    }
}

impl Schedule {
    fn begin(id: ScheduleId, recorded: &Recorded) -> Result<Self, IllegalEvent> {
        let ScheduleEvent::Created(created) = &recorded.event else {
            return Err(recorded.illegal("cannot be the first event; expected ScheduleCreated"));
        };
        let end = StreamEnd::after_first(recorded)?;
        let ScheduleCreated { name, workflow, expression, timezone, catchup, input, next } = created.clone();
        let time = recorded.time;
        Ok(Self {
            id,
            name,
            workflow,
            expression,
            timezone,
            catchup,
            input,
            enabled: true,
            deleted: false,
            next,
            last_run: None,
            created: time,
            updated: time,
            fires: 0,
            end,
        })
    }

    /// Folds one event after the first.
    pub(super) fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        self.end.check(recorded)?;
        if self.deleted {
            return Err(recorded.illegal("comes after the schedule was deleted"));
        }
        self.change(recorded.time, &recorded.event).map_err(|what| recorded.illegal(what))?;
        self.end.advance(recorded);
        Ok(())
    }

    /// Makes the change that belongs to each event. Every check comes before the first change.
    fn change(&mut self, time: Timestamp, event: &ScheduleEvent) -> Result<(), String> {
        match event {
            ScheduleEvent::Created(_) => return Err("occurs a second time".to_owned()),
            ScheduleEvent::Updated(updated) => {
                self.expression = updated.expression.clone();
                self.timezone = updated.timezone.clone();
                self.next = updated.next;
                self.updated = time;
            }
            ScheduleEvent::Enabled(enabled) => {
                self.set_enabled(true)?;
                self.next = enabled.next;
                self.updated = time;
            }
            ScheduleEvent::Disabled(_) => {
                self.set_enabled(false)?;
                self.updated = time;
            }
            ScheduleEvent::Deleted(_) => {
                self.deleted = true;
                self.updated = time;
            }
            ScheduleEvent::Fired(fired) => {
                self.advance_past(fired.scheduled, fired.scheduled, fired.next, time)?;
                self.last_run = Some(time);
                self.fires += 1;
            }
            ScheduleEvent::Skipped(skipped) => self.advance_past(skipped.first, skipped.until, skipped.next, time)?,
        }
        Ok(())
    }

    fn set_enabled(&mut self, enabled: bool) -> Result<(), String> {
        if self.enabled == enabled {
            return Err(format!("comes while already {}", if enabled { "enabled" } else { "disabled" }));
        }
        self.enabled = enabled;
        Ok(())
    }

    /// Moves past the times from `first` to `until`, which were fired for or skipped.
    fn advance_past(
        &mut self,
        first: Timestamp,
        until: Timestamp,
        next: Option<Timestamp>,
        time: Timestamp,
    ) -> Result<(), String> {
        if !self.enabled {
            return Err("comes while the schedule is disabled".to_owned());
        }
        if self.next != Some(first) {
            let due = self.next.map_or("nothing".to_owned(), |due| due.0.to_string());
            return Err(format!("is for {}, but {due} is due next", first.0));
        }
        if until < first || time < until {
            return Err(format!("covers {} to {}, but was recorded at {}", first.0, until.0, time.0));
        }
        if next.is_some_and(|next| next <= until) {
            return Err("names a next fire time that is already covered".to_owned());
        }
        self.next = next;
        Ok(())
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> ScheduleId {
        self.id
    }

    /// Returns the name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// Returns the workflow that it starts.
    #[must_use]
    pub fn workflow(&self) -> &Arc<str> {
        &self.workflow
    }

    /// Returns the cron expression.
    #[must_use]
    pub fn expression(&self) -> &Arc<str> {
        &self.expression
    }

    /// Returns the time zone of the expression.
    #[must_use]
    pub fn timezone(&self) -> &Arc<str> {
        &self.timezone
    }

    /// Returns how missed fires are handled.
    #[must_use]
    pub fn catchup(&self) -> Catchup {
        self.catchup
    }

    /// Returns the input of its executions, without the values that describe the fire.
    #[must_use]
    pub fn input(&self) -> &[(Key, Json)] {
        &self.input
    }

    /// Returns whether it is enabled and not deleted.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled && !self.deleted
    }

    /// Returns whether it was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Returns the next fire time; `None` if it does not fire.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.next.filter(|_| self.is_enabled())
    }

    /// Returns when it last fired.
    #[must_use]
    pub fn last_run(&self) -> Option<Timestamp> {
        self.last_run
    }

    /// Returns when it was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Returns when it was last changed. A fire is not a change.
    #[must_use]
    pub fn updated(&self) -> Timestamp {
        self.updated
    }

    /// Returns how often it has fired.
    #[must_use]
    pub fn fires(&self) -> u64 {
        self.fires
    }

    /// Returns the `seq` of the next event.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.end.next_seq
    }

    /// Returns the time of the last event.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.end.last
    }
}
